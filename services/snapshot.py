"""What the server answers from: one version with its collection, held together and swapped as a whole.

A request leases the live snapshot and keeps it to its end, so no answer mixes two versions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from services.batching import BatchLimits
from services.lanes import Lanes, Pools
from vitrine.encoder import Encoder
from vitrine.errors import Unavailable
from vitrine.ports import Index

log = logging.getLogger("vitrine.serving")


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
        """Run a grey photo and a word, so that the first real requests find the engine ready."""
        spec = self.encoder.manifest.image
        if spec is not None:
            self.encoder.run(np.full((1, spec.height, spec.width, 3), 128, np.uint8))
        if self.encoder.reads_text:
            self.encoder.embed_texts(["a photo"])

    def close(self) -> None:
        """Let go of the index."""
        if self.index is not None:
            self.index.close()


@dataclass
class InService:
    """A snapshot with its lanes and the number of requests that use it."""

    snapshot: Snapshot
    lanes: Lanes
    leases: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


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

    def fill(self) -> dict[str, tuple[int, int]]:
        """Lane -> (inputs inside, inputs that wait for the model), of what is live now."""
        if self._current is None:
            return {}
        lanes = self._current.lanes
        return {
            "images": (lanes.photos.places_taken, lanes.photos.waiting),
            "titles": (lanes.titles.places_taken, lanes.titles.waiting),
        }

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
        service = InService(snapshot, Lanes(snapshot.encoder, self._pools, self._limits))
        service.idle.set()
        return service

    @staticmethod
    async def _retire(old: InService) -> None:
        await old.idle.wait()
        await old.lanes.stop()
        old.snapshot.close()
        log.info("retired", extra={"version": old.snapshot.name})
