"""Shadow mode: a candidate answers a share of the live searches too; callers never see its answers.

The live answer goes out first. What is offered here afterwards waits in a short queue and is searched one at a time
by a thread of lower priority; when the queue is full or the live version is busy, it is dropped and counted. Whatever
goes wrong with the candidate is a number in the report.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services import codec
from services.comparison import Comparison
from services.priority import background_thread
from services.snapshot import Live, Snapshot
from services.wiring import ShadowTarget
from vitrine.encoder import Encoder, fuse, pool_images
from vitrine.ports import Hit, Index, Vectors
from vitrine.v1 import search_pb2

log = logging.getLogger("vitrine.serving")

_QUEUE = 16
_RETRY_S = 30.0


def _nothing(snapshot: Snapshot) -> None:
    del snapshot


@dataclass(frozen=True)
class Offer:
    """A search that was answered: what was asked, the items found, and how long that took."""

    request: search_pb2.SearchRequest
    found: tuple[str, ...]
    seconds: float
    live: str


class Shadowing:
    """Offers a seeded share of live searches to a candidate. Make it in a thread of normal priority.

    Args:
        live: whose load decides what is dropped.
        load: makes a snapshot of the candidate; called in a thread of lower priority, so its engine gets one thread.
        refresh: takes what changed in the catalogue into its collection; called there too, at every look. Searches of
            the candidate wait for it.
        busy: whether the live version has more to do than to bear a shadow.
    """

    def __init__(
        self,
        live: Live,
        load: Callable[[ShadowTarget], Snapshot],
        *,
        refresh: Callable[[Snapshot], None] = _nothing,
        busy: Callable[[], bool] = lambda: False,
        seed: int = 0,
    ) -> None:
        self._live, self._load, self._refresh, self._busy = live, load, refresh, busy
        self._draw = random.Random(seed)
        self._thread = background_thread("shadow")
        self._queue: asyncio.Queue[Offer] = asyncio.Queue(_QUEUE)
        self._wanted: ShadowTarget | None = None
        self._candidate: Snapshot | None = None
        self._comparison: Comparison | None = None
        self._task: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self.waiting_for = "no candidate is tried; begin: vitrine shadow start NAME@N"

    # --- the hot path ---------------------------------------------------------------------------

    def offer(self, request: search_pb2.SearchRequest, answer: search_pb2.SearchResponse, seconds: float) -> None:
        """Take an answered search in, or drop it; returns at once and never raises."""
        if self._candidate is None or self._wanted is None or self._draw.random() >= self._wanted.share:
            return
        live = f"{answer.version.model}@{answer.version.version}"
        comparison = self._against(live, self._candidate, self._wanted.share)
        if self._queue.full() or self._busy():
            comparison.drop()
            return
        self._queue.put_nowait(Offer(request, tuple(hit.item_id for hit in answer.hits), seconds, live))

    def report(self) -> dict[str, Any]:
        """What was found so far of the present candidate beside the present live version."""
        if self._comparison is not None:
            return {"running": True, **self._comparison.as_json()}
        if self._candidate is not None and self._wanted is not None:
            live = self._live.snapshot.name if self._live.snapshot else ""
            return {"running": True, **Comparison(self._candidate.name, live, self._wanted.share).as_json()}
        return {"running": False, "waiting_for": self.waiting_for}

    # --- following the registry -------------------------------------------------------------------

    async def follow(self, wanted: ShadowTarget | None) -> None:
        """Load what is wanted if that is new, bring it up to date, or stop. Never raises; a failed load is tried again."""
        if wanted == self._wanted:
            await self._bring_up_to_date()
            return
        if wanted is None:
            await self._let_go()
            self.waiting_for = "no candidate is tried; begin: vitrine shadow start NAME@N"
            return
        if time.monotonic() < self._retry_at:
            return
        await self._let_go()
        try:
            loop = asyncio.get_running_loop()
            loaded = await loop.run_in_executor(self._thread, self._load, wanted)
            await loop.run_in_executor(self._thread, self._refresh, loaded)
        except Exception as error:  # noqa: BLE001 -- live answers go on whatever becomes of a candidate
            self._retry_at = time.monotonic() + _RETRY_S
            self.waiting_for = f"the candidate cannot be loaded: {error}"
            log.warning("a candidate cannot be loaded", extra={"reason": f"{type(error).__name__}: {error}"})
            return
        self._candidate, self._wanted = loaded, wanted
        self._task = loop.create_task(self._work(loaded))
        log.info("trying", extra={"version": loaded.name, "share": wanted.share})

    async def stop(self) -> None:
        """Stop and let go of the candidate and the thread."""
        await self._let_go()
        self._thread.shutdown(cancel_futures=True)

    async def _bring_up_to_date(self) -> None:
        if self._candidate is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._refresh, self._candidate)

    async def _let_go(self) -> None:
        task, candidate = self._task, self._candidate
        self._task = self._candidate = self._wanted = self._comparison = None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait()
        if candidate is not None:  # in its own thread, so after whatever it is searching for
            await asyncio.get_running_loop().run_in_executor(self._thread, candidate.close)

    # --- beside the hot path ------------------------------------------------------------------------

    async def _work(self, candidate: Snapshot) -> None:
        loop = asyncio.get_running_loop()
        while True:
            offer = await self._queue.get()
            share = self._wanted.share if self._wanted else 0.0
            comparison = self._against(offer.live, candidate, share)
            try:
                found, seconds = await loop.run_in_executor(self._thread, _timed, candidate, offer.request)
            except Exception as error:  # noqa: BLE001 -- counted; the caller has the live answer
                comparison.fail()
                log.debug("the candidate failed", extra={"reason": f"{type(error).__name__}: {error}"})
            else:
                comparison.add(offer.found, offer.seconds, found, seconds)

    def _against(self, live: str, candidate: Snapshot, share: float) -> Comparison:
        """The running comparison; a new one when another version is live."""
        if self._comparison is None or self._comparison.live != live:
            self._comparison = Comparison(candidate.name, live, share)
        return self._comparison


def _timed(candidate: Snapshot, request: search_pb2.SearchRequest) -> tuple[tuple[str, ...], float]:
    """The candidate's item ids for a live request, and its seconds."""
    began = time.perf_counter()
    hits = _search(candidate, request)
    return tuple(hit.item_id for hit in hits), time.perf_counter() - began


def _search(candidate: Snapshot, request: search_pb2.SearchRequest) -> list[Hit]:
    index, limit = candidate.index, codec.limit(request)
    assert index is not None  # a candidate is loaded with its collection
    itself = request.item_id if request.WhichOneof("query") == "item_id" else None
    query = _query(candidate, index, request)
    depth = limit + (itself is not None)
    found = index.search(
        query, depth, codec.conditions(request.filter), exact=request.exact, by_product=request.by_product
    )[0]
    return [hit for hit in found if hit.item_id != itself][:limit]


def _query(candidate: Snapshot, index: Index, request: search_pb2.SearchRequest) -> Vectors:
    """The candidate's own vector of the query, (1, D)."""
    if request.WhichOneof("query") == "item_id":
        return index.vectors([request.item_id])
    query = codec.query(request.item, candidate)
    return _embed(candidate.encoder, [photo.data for photo in query.photos], query.title)


def _embed(encoder: Encoder, photos: Sequence[bytes], title: str) -> Vectors:
    images = texts = None
    if photos:
        images = pool_images(encoder.run(np.stack([encoder.decode(data) for data in photos])).vectors, [len(photos)])
    if title:
        texts = encoder.embed_texts([title])
    if images is not None and texts is not None:
        return fuse(images, texts)
    found = images if images is not None else texts
    assert found is not None  # the codec refused an empty query
    return found
