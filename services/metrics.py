"""Every instrument of the server in one place; BentoML's `/metrics` shows them.

Labels have few values: methods, gRPC codes, stages, lanes, and the version that answered. A hot path
looks its label children up once (`Stages`, `Method`), and queue depths are sampled once a second
instead of being counted at each step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from services import tracing

STAGES = ("decode", "tokenize", "wait", "engine", "index", "encode")
SAMPLED_EVERY_S = 1.0
_FINE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CALLS = Counter("vitrine_grpc_requests_total", "gRPC calls by outcome", ["method", "code"])
SECONDS = Histogram("vitrine_grpc_seconds", "Seconds in a gRPC handler", ["method"], buckets=_FINE)
IN_FLIGHT = Gauge("vitrine_grpc_in_flight", "gRPC calls in progress", multiprocess_mode="livesum")
REFUSED = Counter("vitrine_refused_total", "Calls refused because the server was full", ["by"])
STAGE_SECONDS = Histogram(
    "vitrine_stage_seconds",
    "Seconds in a stage: decode and tokenize of one input, engine of one batch, wait of a batch's first input, "
    "index and encode of one request",
    ["version", "stage"],
    buckets=_FINE,
)
BATCH_SIZE = Histogram(
    "vitrine_batch_size", "Inputs in one run of the model", ["version", "lane"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
PLACES = Gauge("vitrine_places_taken", "Inputs inside the server", ["lane"], multiprocess_mode="livesum")
QUEUE = Gauge("vitrine_queue_depth", "Inputs that wait for the model", ["lane"], multiprocess_mode="livesum")
SERVING = Gauge("vitrine_serving", "1 for the version that answers now", ["version"], multiprocess_mode="livemax")
SHADOW = Counter("vitrine_shadow_searches_total", "Live searches offered to a candidate", ["version", "outcome"])
SHADOW_OVERLAP = Histogram(
    "vitrine_shadow_overlap",
    "Share of the live ten nearest that the candidate finds too",
    ["version"],
    buckets=[place / 10 for place in range(11)],
)
SHADOW_SECONDS = Histogram(
    "vitrine_shadow_seconds", "Seconds of a search that both answered", ["version", "side"], buckets=_FINE
)


class Stages:
    """Where the time of one version's requests goes: into the histograms, and into spans where tracing is on."""

    def __init__(self, version: str) -> None:
        self._seconds = {stage: STAGE_SECONDS.labels(version, stage) for stage in STAGES}
        self._sizes = {lane: BATCH_SIZE.labels(version, lane) for lane in ("images", "titles")}
        self._version = version

    def seen(self, stage: str, seconds: float, parent: tracing.Parent = None) -> None:
        """`seconds` of a stage have just ended; `parent` is the request's `tracing.current()`."""
        self._seconds[stage].observe(seconds)
        if parent is not None:
            tracing.record(parent, stage, seconds, version=self._version)

    def batch(self, lane: str, waits_s: list[float], engine_s: float, parents: list[tracing.Parent]) -> None:
        """A batch has just left the model.

        Args:
            lane: "images" or "titles".
            waits_s: how long each input waited for the model, in the order of the batch.
            engine_s: seconds in the model.
            parents: the request's `tracing.current()` of each input.
        """
        self._sizes[lane].observe(len(waits_s))
        self._seconds["wait"].observe(max(waits_s))
        self._seconds["engine"].observe(engine_s)
        for waited_s, parent in zip(waits_s, parents, strict=True):
            if parent is not None:
                tracing.record(parent, "wait", waited_s, ago_s=engine_s, version=self._version)
                tracing.record(parent, "engine", engine_s, version=self._version, lane=lane, batch=len(waits_s))


@cache
def stages(version: str) -> Stages:
    """The one `Stages` of a version, such as `shop-search@2`."""
    return Stages(version)


class Method:
    """The instruments of one RPC, looked up once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seconds = SECONDS.labels(name)
        self._codes: dict[str, Any] = {}

    def ended(self, code: str, seconds: float) -> None:
        """A call has ended with this gRPC code."""
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = CALLS.labels(self._name, code)
        counter.inc()
        self._seconds.observe(seconds)


class Sampler:
    """Sets the gauges from `look` once a second: lane -> (places taken, queue depth)."""

    def __init__(self, look: Callable[[], tuple[str, Mapping[str, tuple[int, int]]]]) -> None:
        self._look = look
        self._version = ""
        self._told: Mapping[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sample on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Sample no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def sample(self) -> None:
        """Set the gauges now."""
        version, lanes = self._look()
        if version != self._version:
            if self._version:
                SERVING.labels(self._version).set(0)
            if version:
                SERVING.labels(version).set(1)
            self._version = version
        if lanes == self._told:  # as most of the time on an idle server
            return
        self._told = lanes
        for lane, (places, depth) in lanes.items():
            PLACES.labels(lane).set(places)
            QUEUE.labels(lane).set(depth)

    async def _run(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(SAMPLED_EVERY_S)
