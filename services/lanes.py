"""Photos and titles on their way into one version: two lanes, each a micro-batcher of its own.

    photos -> decode   -> batch -> image graph \
                                                > one vector an item
    titles -> tokenize -> batch -> text graph  /

The lanes share places, the threads that prepare and the one thread that runs the model; who may use the model next goes
in turn, so a flood of titles does not hold photos up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.batching import BatchLimits, MicroBatcher
from services.places import Part, Places
from services.preparing import Aside, Preparer
from services.tracing import Observer
from vitrine.encoder import Encoder, Output, fuse, normalise, pool_images
from vitrine.errors import BadInput
from vitrine.images import MAX_PIXELS, Large
from vitrine.ports import Vectors

LARGE_PIXELS = 4_000_000
"""A photo of more decoded pixels is decoded in a thread of its own, one at a time: fifty million take 150 to 400 MB."""


class Photo(NamedTuple):
    """An encoded image and the request field that it came in."""

    field: str
    data: bytes


class Query(NamedTuple):
    """What a version can use of one item; at least one of the two is there."""

    photos: tuple[Photo, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Pools:
    """The server's threads: some that decode and tokenize, one for large photos, and one that runs models in turn."""

    prepare: ThreadPoolExecutor
    large: ThreadPoolExecutor
    model: ThreadPoolExecutor
    preparer: Preparer
    turn: asyncio.Lock

    @staticmethod
    def make(threads: int) -> Pools:
        """`threads` for preparing, one for large photos and one for the model."""
        prepare, large = ThreadPoolExecutor(threads, "prepare"), ThreadPoolExecutor(1, "large")
        turn = asyncio.Lock()
        preparer = Preparer(prepare, threads, turn.locked, aside=Preparer(large, 1))
        return Pools(prepare, large, ThreadPoolExecutor(1, "model"), preparer, turn)

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self.prepare.shutdown(cancel_futures=True)
        self.large.shutdown(cancel_futures=True)
        self.model.shutdown(cancel_futures=True)


_Row = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class Lanes:
    """The two micro-batchers of a version. They belong to the event loop that made them."""

    def __init__(
        self, encoder: Encoder, pools: Pools, limits: BatchLimits, *, observer: Observer | None = None
    ) -> None:
        self._encoder = encoder
        self.places = Places(limits)
        shared: Any = {"preparer": pools.preparer, "model": pools.model, "turn": pools.turn, "observer": observer}
        self.photos = MicroBatcher[Photo, NDArray[np.uint8], _Row]("images", self._decode, self._see, limits, **shared)
        self.titles = MicroBatcher[str, NDArray[np.int64], NDArray[np.float32]](
            "titles", self._tokenize, self._read, limits, **shared
        )
        self.photos.start()
        self.titles.start()

    async def embed(self, queries: Sequence[Query], *, within_s: float | None = None) -> Vectors:
        """One unit vector an item, (items, D), in order: of its photos, its title, or both (`vitrine.encoder.fuse`).

        Args:
            queries: the items.
            within_s: seconds until the caller gives up; None where it never does.

        Raises:
            BadInput: a photo cannot be read; `field` says which.
            Overloaded: no places are left, or the answer would come too late.
        """
        if len(queries) == 1 and len(queries[0].photos) == 1 and not queries[0].title:  # most requests
            row: _Row = (await self.places.serve([(self.photos, queries[0].photos)], within_s=within_s))[0]
            return row[0][None]
        return self._combined(queries, await self.places.serve(self._parts(queries), within_s=within_s))

    async def embed_bulk(self, queries: Sequence[Query]) -> tuple[Vectors, dict[int, Exception]]:
        """As `embed`, after single calls, and it waits for places; an item that fails is a row of zeros.

        Returns:
            Vectors (items, D), and what went wrong by the item's place.

        Raises:
            BadInput: more than bulk may hold at a time.
            Unavailable: the version is being taken out of service.
        """
        results = await self.places.serve_bulk(self._parts(queries))
        failed = _failures(queries, results)
        sound = [place for place in range(len(queries)) if place not in failed]
        vectors = np.zeros((len(queries), self._encoder.manifest.dim), np.float32)
        if sound:
            kept = [result for result, place in zip(results, _owners(queries), strict=True) if place not in failed]
            vectors[sound] = self._combined([queries[place] for place in sound], kept)
        return vectors, failed

    async def see(self, photos: Sequence[Photo], *, within_s: float | None = None) -> Output:
        """Vectors (B, D) and logits (B, C) of photos, in order.

        Raises:
            BadInput: a photo cannot be read; `field` says which.
            Overloaded: no places are left, or the answer would come too late.
        """
        rows: list[_Row] = await self.places.serve([(self.photos, photos)], within_s=within_s)
        logits = [row for _, row in rows if row is not None]
        return Output(np.stack([vector for vector, _ in rows]), np.stack(logits) if logits else None)

    async def stop(self) -> None:
        """Refuse newcomers, finish what is inside."""
        await self.places.stop()
        await asyncio.gather(self.photos.stop(), self.titles.stop())

    def _parts(self, queries: Sequence[Query]) -> list[Part]:
        photos = [photo for query in queries for photo in query.photos]
        return [(self.photos, photos), (self.titles, [query.title for query in queries if query.title])]

    def _combined(self, queries: Sequence[Query], results: Sequence[Any]) -> Vectors:
        """One vector an item from the results of `_parts`: rows of the photos, then vectors of the titles."""
        seen = [place for place, query in enumerate(queries) if query.photos]
        titled = [place for place, query in enumerate(queries) if query.title]
        both = [place for place in titled if queries[place].photos]
        of_photos, of_titles = (np.zeros((len(queries), self._encoder.manifest.dim), np.float32) for _ in range(2))
        counts = [len(queries[place].photos) for place in seen]
        rows, read = results[: sum(counts)], results[sum(counts) :]
        if seen:
            of_photos[seen] = pool_images(np.stack([vector for vector, _ in rows]), counts)
        if titled:
            of_titles[titled] = np.stack(read)
        result = of_photos + of_titles  # one of the two is zero, except for those with both
        if both:
            result[both] = fuse(of_photos[both], of_titles[both])
        return result

    def _decode(self, photo: Photo, most_pixels: int = LARGE_PIXELS) -> NDArray[np.uint8]:
        try:
            return self._encoder.decode(photo.data, most_pixels=most_pixels)
        except Large:
            raise Aside(partial(self._decode, photo, MAX_PIXELS)) from None
        except BadInput as error:
            raise BadInput(f"{photo.field}: {error}", field=photo.field) from error

    def _tokenize(self, title: str) -> NDArray[np.int64]:
        tokens: NDArray[np.int64] = self._encoder.tokenize([title])[0]
        return tokens

    def _see(self, pixels: list[NDArray[np.uint8]]) -> list[_Row]:
        output = self._encoder.run(np.stack(pixels))
        # Unit length to the last bit, as an item of one photo has it in a collection; once a batch, not once a request.
        vectors = normalise(output.vectors)
        logits = output.logits if output.logits is not None else [None] * len(pixels)
        return list(zip(vectors, logits, strict=True))

    def _read(self, tokens: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        return list(self._encoder.run_tokens(np.stack(tokens)))


def _owners(queries: Sequence[Query]) -> list[int]:
    """The item of each result of `Lanes._parts`."""
    photos = [place for place, query in enumerate(queries) for _ in query.photos]
    return photos + [place for place, query in enumerate(queries) if query.title]


def _failures(queries: Sequence[Query], results: Sequence[Any]) -> dict[int, Exception]:
    """Item -> the first thing that went wrong with it."""
    found: dict[int, Exception] = {}
    for place, result in zip(_owners(queries), results, strict=True):
        if isinstance(result, Exception):
            found.setdefault(place, result)
    return found
