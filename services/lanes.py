"""Photos and titles on their way into one version: two lanes, each a micro-batcher of its own.

    photos -> decode   -> batch -> image graph \
                                                > one vector an item
    titles -> tokenize -> batch -> text graph  /

The lanes share the threads that prepare and the one thread that runs the model. Each has its own queue, so
a flood of titles does not refuse photos.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.batching import BatchLimits, MicroBatcher
from vitrine.encoder import Encoder, Output, fuse, pool_images
from vitrine.errors import BadInput
from vitrine.ports import Vectors

One = TypeVar("One")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Photo:
    """An encoded image and the request field that it came in."""

    field: str
    data: bytes


@dataclass(frozen=True)
class Query:
    """What a version can use of one item; at least one of the two is there."""

    photos: tuple[Photo, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Pools:
    """The server's threads: some that decode and tokenize, one that runs the model."""

    prepare: ThreadPoolExecutor
    model: ThreadPoolExecutor

    @staticmethod
    def make(threads: int) -> Pools:
        """`threads` for preparing and one for the model."""
        return Pools(ThreadPoolExecutor(threads, "prepare"), ThreadPoolExecutor(1, "model"))

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self.prepare.shutdown(cancel_futures=True)
        self.model.shutdown(cancel_futures=True)


_Row = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class Lanes:
    """The two micro-batchers of a version. They belong to the event loop that made them."""

    def __init__(self, encoder: Encoder, pools: Pools, limits: BatchLimits) -> None:
        self._encoder = encoder
        self.photos = MicroBatcher[Photo, NDArray[np.uint8], _Row](
            self._decode, self._see, limits, workers=pools.prepare, model_thread=pools.model, unit="images"
        )
        self.titles = MicroBatcher[str, NDArray[np.int64], NDArray[np.float32]](
            self._tokenize, self._read, limits, workers=pools.prepare, model_thread=pools.model, unit="titles"
        )
        self.photos.start()
        self.titles.start()

    async def embed(self, queries: Sequence[Query]) -> Vectors:
        """One unit vector an item, (items, D), in order: of its photos, its title, or both (`vitrine.encoder.fuse`).

        Raises:
            BadInput: a photo cannot be read; `field` says which.
            Overloaded: a queue is full.
        """
        photos = [photo for query in queries for photo in query.photos]
        titles = [query.title for query in queries if query.title]
        rows, read = await _together(self.photos.submit(photos), self.titles.submit(titles))
        return self._combined(queries, rows, read)

    def _combined(self, queries: Sequence[Query], rows: Sequence[_Row], read: Sequence[NDArray[np.float32]]) -> Vectors:
        seen = [place for place, query in enumerate(queries) if query.photos]
        titled = [place for place, query in enumerate(queries) if query.title]
        both = [place for place in titled if queries[place].photos]
        of_photos, of_titles = (np.zeros((len(queries), self._encoder.manifest.dim), np.float32) for _ in range(2))
        if seen:
            counts = [len(queries[place].photos) for place in seen]
            of_photos[seen] = pool_images(np.stack([vector for vector, _ in rows]), counts)
        if titled:
            of_titles[titled] = np.stack(read)
        result = of_photos + of_titles  # one of the two is zero, except for those with both
        if both:
            result[both] = fuse(of_photos[both], of_titles[both])
        return result

    async def see(self, photos: Sequence[Photo]) -> Output:
        """Vectors (B, D) and logits (B, C) of photos, in order.

        Raises:
            BadInput: a photo cannot be read; `field` says which.
            Overloaded: the queue is full.
        """
        rows = await self.photos.submit(photos)
        logits = [row for _, row in rows if row is not None]
        return Output(np.stack([vector for vector, _ in rows]), np.stack(logits) if logits else None)

    async def stop(self) -> None:
        """Refuse newcomers, finish what is inside."""
        await asyncio.gather(self.photos.stop(), self.titles.stop())

    def _decode(self, photo: Photo) -> NDArray[np.uint8]:
        try:
            return self._encoder.decode(photo.data)
        except BadInput as error:
            raise BadInput(f"{photo.field}: {error}", field=photo.field) from error

    def _tokenize(self, title: str) -> NDArray[np.int64]:
        tokens: NDArray[np.int64] = self._encoder.tokenize([title])[0]
        return tokens

    def _see(self, pixels: list[NDArray[np.uint8]]) -> list[_Row]:
        output = self._encoder.run(np.stack(pixels))
        logits = output.logits if output.logits is not None else [None] * len(pixels)
        return list(zip(output.vectors, logits, strict=True))

    def _read(self, tokens: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        return list(self._encoder.run_tokens(np.stack(tokens)))


async def _together(one: Coroutine[Any, Any, One], other: Coroutine[Any, Any, Other]) -> tuple[One, Other]:
    """Both at once; when one fails or the caller gives up, the other is cancelled and leaves its queue."""
    loop = asyncio.get_running_loop()
    tasks = loop.create_task(one), loop.create_task(other)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
