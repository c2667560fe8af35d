"""What the server answers from: one version with its collection, held together and swapped as a whole.

A request leases the live snapshot and keeps it to its end, so no answer mixes two versions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.batching import BatchLimits, MicroBatcher
from vitrine.encoder import Encoder, Output
from vitrine.errors import BadInput, Unavailable
from vitrine.ports import Index

log = logging.getLogger("vitrine.serving")


@dataclass(frozen=True)
class Photo:
    """An encoded image and the request field that it came in."""

    field: str
    data: bytes


@dataclass(frozen=True)
class Pools:
    """The server's threads: some that decode, one that runs the model."""

    decode: ThreadPoolExecutor
    model: ThreadPoolExecutor

    @staticmethod
    def make(threads: int) -> Pools:
        """`threads` for decoding and one for the model."""
        return Pools(ThreadPoolExecutor(threads, "decode"), ThreadPoolExecutor(1, "model"))

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self.decode.shutdown(cancel_futures=True)
        self.model.shutdown(cancel_futures=True)


_Row = tuple[NDArray[np.float32], NDArray[np.float32] | None]


@dataclass(frozen=True)
class Snapshot:
    """A version in service; `index` is None where there is no collection to search."""

    model: str
    version: int
    encoder: Encoder
    index: Index | None = None
    collection: str = ""
    items: int = 0

    @property
    def name(self) -> str:
        """The version's reference."""
        return f"{self.model}@{self.version}"

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest, computed once and not per request."""
        return self.encoder.manifest.digest

    def warm_up(self) -> None:
        """Run a grey photo, so that the first real request finds the engine ready."""
        spec = self.encoder.manifest.image
        if spec is not None:
            self.encoder.run(np.full((1, spec.height, spec.width, 3), 128, np.uint8))

    def close(self) -> None:
        """Let go of the index."""
        if self.index is not None:
            self.index.close()


@dataclass
class InService:
    """A snapshot with its batcher and the number of requests that use it."""

    snapshot: Snapshot
    batcher: MicroBatcher[Photo, NDArray[np.uint8], _Row]
    leases: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, photos: list[Photo]) -> Output:
        """Vectors (B, D) and logits (B, C) of the photos, in order.

        Raises:
            BadInput: a photo cannot be read; `field` says which.
            Overloaded: the queue is full.
        """
        rows = await self.batcher.submit(photos)
        logits = [row for _, row in rows if row is not None]
        return Output(np.stack([vector for vector, _ in rows]), np.stack(logits) if logits else None)


class Live:
    """The one reference that requests read and the follower swaps."""

    def __init__(self, pools: Pools, limits: BatchLimits) -> None:
        self._pools, self._limits = pools, limits
        self._current: InService | None = None
        self.waiting_for = "no version has been loaded yet"

    @property
    def snapshot(self) -> Snapshot | None:
        """What is live now."""
        return self._current.snapshot if self._current else None

    @contextmanager
    def lease(self) -> Iterator[InService]:
        """Hold the live snapshot for one request.

        Raises:
            Unavailable: nothing is live; says what is waited for.
        """
        current = self._current
        if current is None:
            raise Unavailable(f"nothing is served yet: {self.waiting_for}")
        current.leases += 1
        current.idle.clear()
        try:
            yield current
        finally:
            current.leases -= 1
            if not current.leases:
                current.idle.set()

    async def swap(self, snapshot: Snapshot | None) -> None:
        """Put a loaded snapshot in service; the old one is closed when its last request has ended."""
        old, self._current = self._current, self._put(snapshot) if snapshot else None
        if snapshot:
            log.info("serving", extra={"version": snapshot.name, "collection": snapshot.collection})
        if old is not None:
            await self._retire(old)

    def _put(self, snapshot: Snapshot) -> InService:
        encoder = snapshot.encoder

        def decode(photo: Photo) -> NDArray[np.uint8]:
            try:
                return encoder.decode(photo.data)
            except BadInput as error:
                raise BadInput(f"{photo.field}: {error}", field=photo.field) from error

        def run(pixels: list[NDArray[np.uint8]]) -> list[_Row]:
            output = encoder.run(np.stack(pixels))
            logits = output.logits if output.logits is not None else [None] * len(pixels)
            return list(zip(output.vectors, logits, strict=True))

        batcher = MicroBatcher(decode, run, self._limits, workers=self._pools.decode, model_thread=self._pools.model)
        batcher.start()
        service = InService(snapshot, batcher)
        service.idle.set()
        return service

    @staticmethod
    async def _retire(old: InService) -> None:
        await old.idle.wait()
        await old.batcher.stop()
        old.snapshot.close()
        log.info("retired", extra={"version": old.snapshot.name})
