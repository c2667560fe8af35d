"""What the server answers from: one version with its collection, held together and swapped as a whole.

A request leases the live snapshot and keeps it to its end, so no answer mixes two versions. One more version
may stand by, loaded and warm, so that the way back takes no loading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

from services import metrics
from services.batching import BatchLimits
from services.lanes import Lanes, Pools
from vitrine.collection import Collection
from vitrine.encoder import Encoder
from vitrine.errors import Unavailable
from vitrine.ports import Index, Vectors
from vitrine.v1 import common_pb2, search_pb2

log = logging.getLogger("vitrine.serving")


@dataclass(eq=False)
class Following:
    """How far an open index follows the living catalogue.

    Attributes:
        files: the collection that it was opened over.
        seq: the index has every change up to this number; None as long as it was not told of any.
    """

    files: Collection
    seq: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """A version in service; `index` is None where there is no collection to search.

    Attributes:
        following: how far `index` follows the catalogue; None without one.
    """

    model: str
    version: int
    encoder: Encoder
    index: Index | None = None
    collection: str = ""
    items: int = 0
    following: Following | None = None

    @cached_property
    def name(self) -> str:
        """The version's reference."""
        return f"{self.model}@{self.version}"

    @cached_property
    def info(self) -> common_pb2.VersionInfo:
        """Who answers, as every answer says it; made once and copied into each."""
        manifest = self.encoder.manifest
        return common_pb2.VersionInfo(
            model=self.model,
            version=self.version,
            digest=self.digest,
            modalities=manifest.modalities,
            dim=manifest.dim,
            labels=len(self.encoder.label_names),
        )

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest, computed once and not per request."""
        return self.encoder.manifest.digest

    def warm_up(self, sizes: Sequence[int] = (1,)) -> None:
        """Run grey photos and words in batches of these sizes and search once, so that first requests find all ready.

        Engines choose algorithms and take memory by the size of a batch, and a mapped collection is read from disk
        when it is first searched.
        """
        for size in sizes:
            found = self._run(size)
        if self.index is not None:
            self.index.search(found[:1], 1)

    def _run(self, size: int) -> Vectors:
        spec = self.encoder.manifest.image
        found: Vectors = np.zeros((0, self.encoder.manifest.dim), np.float32)
        if self.encoder.reads_text:
            found = self.encoder.warm_texts(size)
        if spec is not None:
            found = self.encoder.run(np.full((size, spec.height, spec.width, 3), 128, np.uint8)).vectors
        return found

    def close(self) -> None:
        """Let go of the index."""
        if self.index is not None:
            self.index.close()


def warm_sizes(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `max_batch` itself."""
    return (*(2**power for power in range((max_batch - 1).bit_length())), max_batch)


Observer = Callable[[search_pb2.SearchRequest, search_pb2.SearchResponse, float], None]
"""Told of every answered search and its seconds; returns at once and never raises."""


@dataclass(eq=False)
class InService:
    """A snapshot with its lanes and the number of requests that use it: a request is a `with` block over it."""

    snapshot: Snapshot
    lanes: Lanes
    leases: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        self.leases += 1
        self.idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.leases -= 1
        if not self.leases:
            self.idle.set()


class Live:
    """The one reference that requests read and the follower swaps, and the version that stands by."""

    def __init__(self, pools: Pools, limits: BatchLimits) -> None:
        self._pools, self._limits = pools, limits
        self._current: InService | None = None
        self._standby: InService | None = None
        self.waiting_for = "no version has been loaded yet"
        self.observe: Observer | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """What is live now."""
        return self._current.snapshot if self._current else None

    @property
    def standby(self) -> Snapshot | None:
        """What is kept loaded beside it."""
        return self._standby.snapshot if self._standby else None

    def busy(self) -> bool:
        """Whether the live version has so much to do that a shadow would be felt: more than half a batch is inside."""
        return self._current is not None and self._current.lanes.places.taken > self._limits.max_batch / 2

    def lease(self) -> InService:
        """Hold the live snapshot for one request: `with live.lease() as service`.

        Raises:
            Unavailable: nothing is live; says what is waited for.
        """
        if self._current is None:
            raise Unavailable(f"nothing is served yet: {self.waiting_for}")
        return self._current

    async def swap(self, snapshot: Snapshot | None, *, standby: Snapshot | None = None) -> None:
        """Put a loaded snapshot in service, and let `standby` stand by from now on.

        What neither serves nor stands by any more is closed when its last request has ended; this waits for it.
        """
        before = [self._current, self._standby]
        self._current, self._standby = self._service(snapshot), self._service(standby)
        if snapshot:
            log.info("serving", extra={"version": snapshot.name, "collection": snapshot.collection})
        await self._retire_all(before)

    async def stand_by(self, snapshot: Snapshot) -> None:
        """Keep a loaded snapshot beside the live one, in the place of what stood by before."""
        before = self._standby
        self._standby = self._service(snapshot)
        log.info("standing by", extra={"version": snapshot.name, "collection": snapshot.collection})
        await self._retire_all([before])

    def _service(self, snapshot: Snapshot | None) -> InService | None:
        """The snapshot with the lanes that it has, or with new ones."""
        if snapshot is None:
            return None
        for service in (self._current, self._standby):
            if service is not None and service.snapshot is snapshot:
                return service
        service = InService(
            snapshot, Lanes(snapshot.encoder, self._pools, self._limits, observer=metrics.stages(snapshot.name))
        )
        service.idle.set()
        return service

    async def _retire_all(self, services: Sequence[InService | None]) -> None:
        gone = [one for one in services if one is not None and one not in (self._current, self._standby)]
        await asyncio.gather(*(self._retire(one) for one in gone))

    @staticmethod
    async def _retire(old: InService) -> None:
        await old.idle.wait()
        await old.lanes.stop()
        old.snapshot.close()
        log.info("retired", extra={"version": old.snapshot.name})
