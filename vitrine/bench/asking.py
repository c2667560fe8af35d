"""Requests as bytes and the channels they go through: the generator's own share of the work stays small."""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from vitrine.bench.offering import Call
from vitrine.errors import BadInput, NotFound
from vitrine.images import FORMATS
from vitrine.v1 import common_pb2, embedding_pb2, search_pb2

METHODS = {
    "embed": "/vitrine.v1.Embedding/Embed",
    "classify": "/vitrine.v1.Embedding/Classify",
    "search": "/vitrine.v1.Search/Search",
}
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def made_photos(count: int, side: int = 400, seed: int = 0) -> list[bytes]:
    """JPEGs (quality 90) of soft shapes under grain: about as large as a shop's photos of that size."""
    generator = np.random.default_rng(seed)
    return [_jpeg(generator, side) for _ in range(count)]


def _jpeg(generator: np.random.Generator, side: int) -> bytes:
    coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    grain = generator.normal(0, 3.5, (side, side, 1)).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def read_photos(folder: Path, most: int = 256) -> list[bytes]:
    """The first photos of a folder, by name.

    Raises:
        NotFound: no such folder, or no photo in it.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)[:most]
    if not files:
        raise NotFound(f"no photos in {folder}; a folder with {', '.join(FORMATS[:3])} files is needed")
    return [path.read_bytes() for path in files]


def requests(method: str, photos: Sequence[bytes], k: int = 10) -> list[bytes]:
    """One request a photo, serialised.

    Raises:
        BadInput: an unknown method.
    """
    if method not in METHODS:
        raise BadInput(f"{method!r} is no method to load; choose: {', '.join(METHODS)}", field="method")
    return [_request(method, photo, k).SerializeToString() for photo in photos]


def _request(
    method: str, photo: bytes, k: int
) -> embedding_pb2.EmbedRequest | embedding_pb2.ClassifyRequest | search_pb2.SearchRequest:
    item = common_pb2.Item(images=[common_pb2.Image(data=photo)])
    if method == "embed":
        return embedding_pb2.EmbedRequest(items=[item])
    if method == "classify":
        return embedding_pb2.ClassifyRequest(items=[item])
    return search_pb2.SearchRequest(item=item, limit=k)


@asynccontextmanager
async def calling(
    server: str, method: str, bodies: Sequence[bytes], *, connections: int = 8, timeout_s: float = 5.0
) -> AsyncIterator[Call]:
    """A call that goes through the connections in turn, and through the requests in turn."""
    async with AsyncExitStack() as stack:
        stubs = []
        for number in range(connections):
            options = [("grpc.use_local_subchannel_pool", 1), ("vitrine.connection", number)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server, options))
            stubs.append(channel.unary_unary(METHODS[method]))
        turns = itertools.cycle(stubs)

        async def call(number: int) -> str:
            try:
                await next(turns)(bodies[number % len(bodies)], timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"

        yield call
