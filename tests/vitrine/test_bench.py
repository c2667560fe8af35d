"""The load generator: arrivals, latencies, the search for saturation, and the command against a real server."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from vitrine.bench import asking
from vitrine.bench.latencies import histogram, summarise
from vitrine.bench.offering import Offered, arrivals, keep_asking, offer, send_when_due
from vitrine.bench.processes import listening_on, usage
from vitrine.bench.report import bars, run_of
from vitrine.bench.saturation import Goal, saturate, sustained
from vitrine.errors import BadInput, NotFound, Unavailable

seconds = st.lists(st.floats(1e-4, 100), min_size=1, max_size=200)


def test_arrivals_come_at_the_asked_rate_and_are_the_same_for_a_seed() -> None:
    times = list(arrivals(200, 50, seed=1))

    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert times == sorted(times) == list(arrivals(200, 50, seed=1))
    assert times != list(arrivals(200, 50, seed=2))


def test_gaps_between_arrivals_are_exponential() -> None:
    times = list(arrivals(100, 200, seed=0))
    gaps = [after - before for before, after in itertools.pairwise(times)]

    assert sum(gap > 0.01 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.02)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_no_request_leaves_before_it_is_due(run: Callable[[Coroutine[None, None, float]], float]) -> None:
    early = []

    async def send(_: int, due: float) -> None:
        early.append(time.monotonic() < due)

    late_s = run(send_when_due(send, list(arrivals(300, 0.5, seed=3))))

    assert early
    assert not any(early)
    assert late_s > 0


def test_a_request_that_fails_unexpectedly_is_told_and_the_collector_sees_everything_again() -> None:
    async def send(number: int, _: float) -> None:
        if number == 2:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(send_when_due(send, [0.0, 0.01, 0.02, 0.03]))

    assert isinstance(failed.value.exceptions[0], ZeroDivisionError)
    assert gc.get_freeze_count() == 0


@given(seconds)
def test_a_percentile_is_the_lowest_latency_that_covers_its_share(values: list[float]) -> None:
    found = summarise(values)

    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99), (0.999, found.p999)):
        slow = sorted(values)[math.ceil(share * len(values) - 1e-9) - 1] * 1000
        assert value == pytest.approx(slow)
    assert found.worst == pytest.approx(max(values) * 1000)


@given(seconds)
def test_a_histogram_counts_every_latency_once_in_the_bucket_it_lies_in(values: list[float]) -> None:
    buckets = histogram(values)

    assert sum(bucket.count for bucket in buckets) == len(values)
    for bucket in buckets:
        inside = sum(bucket.low * (1 - 1e-9) <= value * 1000 < bucket.high * (1 + 1e-9) for value in values)
        assert bucket.count <= inside


def test_nothing_measured_has_no_percentiles() -> None:
    assert summarise([]).p99 is None
    assert histogram([]) == []


def test_a_latency_begins_when_the_request_was_due_not_when_it_left() -> None:
    async def stalling(number: int) -> str:
        if number == 0:
            time.sleep(0.2)  # noqa: ASYNC251 -- the generator itself stalls
        return "OK"

    offered = asyncio.run(offer(stalling, 200, 0.4))

    assert sum(latency > 0.05 for latency in offered.latencies) >= 10
    assert offered.late_s > 0.05


def test_failed_requests_are_counted_by_status_and_have_no_latency() -> None:
    async def every_third_fails(number: int) -> str:
        return "UNAVAILABLE" if number % 3 == 0 else "OK"

    offered = asyncio.run(keep_asking(every_third_fails, 3, 0.05))

    assert offered.outcomes["UNAVAILABLE"] > 0
    assert len(offered.latencies) == offered.succeeded == offered.outcomes["OK"]


class Simulated:
    """A server of known capacity: beyond it every request is slow."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity

    async def run(self, rate: float) -> Offered:
        latency = 0.01 if rate <= self.capacity else 3.0
        return Offered(rate, 10.0, [latency] * 100, Counter({"OK": 100}))


@given(st.floats(0.5, 5000), st.floats(1, 200))
def test_the_search_finds_the_capacity_to_three_sixteenths_at_worst(capacity: float, start: float) -> None:
    if capacity < start / 25:
        return
    goal = Goal(p99_ms=100)
    best = sustained(asyncio.run(saturate(Simulated(capacity).run, goal, start=start)), goal)

    assert best is not None
    assert best.rate <= capacity < best.rate * (1 + 3 / 16)


def test_a_server_that_sustains_nothing_is_told_with_its_answers() -> None:
    async def refusing(rate: float) -> Offered:
        return Offered(rate, 1.0, [], Counter({"RESOURCE_EXHAUSTED": 9}))

    with pytest.raises(Unavailable, match="RESOURCE_EXHAUSTED"):
        asyncio.run(saturate(refusing, Goal(), start=10))


def test_a_share_of_failures_over_the_goal_is_not_sustained() -> None:
    offered = Offered(10, 1.0, [0.01] * 98, Counter({"OK": 98, "INTERNAL": 2}))

    assert not Goal(failing=0.01).met(offered)
    assert Goal(failing=0.05).met(offered)


def test_made_photos_are_jpegs_of_a_shops_size() -> None:
    photos = asking.made_photos(3)

    assert all(photo[:2] == b"\xff\xd8" and 20_000 < len(photo) < 60_000 for photo in photos)
    assert photos == asking.made_photos(3)


def test_a_folder_without_photos_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no photos in"):
        asking.read_photos(tmp_path)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="embed, classify, search"):
        asking.requests("destroy", [b""])


def test_cpu_of_a_process_is_counted_with_its_children() -> None:
    before = usage(os.getpid()).cpu_s
    sum(range(3_000_000))

    assert usage(os.getpid()).cpu_s > before


def test_a_missing_process_is_told() -> None:
    with pytest.raises(BadInput, match="there is no process"):
        usage(2**22 - 1)


def test_an_address_elsewhere_has_no_process_here() -> None:
    assert listening_on("shop.example:50051") is None
    with pytest.raises(BadInput, match="HOST:PORT"):
        listening_on("localhost")


def test_the_row_of_a_run_names_what_failed() -> None:
    offered = Offered(10, 1.0, [0.01] * 9, Counter({"OK": 9, "DEADLINE_EXCEEDED": 1}))
    found = run_of(offered, 0.018, 10_000_000)

    assert found.cpu_ms == pytest.approx(2.0)
    assert found.row()[-1] == "1 DEADLINE_EXCEEDED"
    assert sum(int(line.rsplit(None, 1)[1]) for line in bars(found)) == 9
