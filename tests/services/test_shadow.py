"""A candidate answers live searches too; whatever becomes of it, live answers stay what they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import wiring
from services.comparison import Comparison, overlap
from services.config import Settings
from services.shadow import Shadowing
from services.snapshot import Snapshot
from tests.factories import photo, tiny_bundle
from tests.living import MODEL as SHOP_MODEL
from tests.living import listing, make_shop
from tests.services.conftest import MODEL, Running, running
from vitrine.client import VitrineClient
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, NotFound, Refused, Unavailable
from vitrine.events import Promoted
from vitrine.home import Home
from vitrine.items import Item
from vitrine.promotion_shadow import start_shadow, stop_shadow
from vitrine.registry import open_registry


@pytest.fixture
def two(home: Home, promoted: Callable[..., int]) -> Home:
    """Version 2 was live and its collection is there; version 1 is live again."""
    promoted(seed=1), promoted(seed=2)
    registry = open_registry(home)
    where = {"catalogue": "shop", "collection": f"shop--{MODEL}--1"}
    registry.append(Promoted(model=MODEL, version=1, previous=2, **where, **registry.stamp()))
    return home


def shadowed(server: Running, home: Home, load: Callable[..., Snapshot] | None = None, **options: object) -> Shadowing:
    """The running server's follower with a shadow; returned once it was told of the candidate."""
    usual = lambda wanted: wiring.load_candidate(server.registry, home, wanted, Settings())  # noqa: E731
    made = server.do(_make(server, load or usual, options))
    server.follower._shadow = made
    server.live.observe = made.offer
    return made


async def _make(server: Running, load: Callable[..., Snapshot], options: dict[str, object]) -> Shadowing:
    return Shadowing(server.live, load, **options)  # type: ignore[arg-type]


def until(met: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def served(two: Home) -> Iterator[tuple[Running, VitrineClient]]:
    with running(two) as server, VitrineClient(server.address) as client:
        yield server, client


def test_a_candidate_is_compared_with_what_was_answered(served: tuple[Running, VitrineClient], two: Home) -> None:
    server, client = served
    shadow = shadowed(server, two)
    start_shadow(server.registry, two, f"{MODEL}@2", 1.0)
    until(lambda: shadow.report()["running"])

    answers = [client.search(photo(number), k=3) for number in range(4)]
    until(lambda: shadow.report()["compared"] == 4)

    found = shadow.report()
    assert {str(answer.version) for answer in answers} == {f"{MODEL}@1"}
    assert (found["candidate"], found["live"]) == (f"{MODEL}@2", f"{MODEL}@1")
    assert 1 / 3 <= found["overlap@10"] <= 1  # each photo is in the catalogue, so both find at least that one
    assert found["latency_ms"]["candidate"]["p50"] > 0


def test_the_candidates_collection_follows_the_catalogue(tmp_path: Path) -> None:
    """What changed before it was loaded and while it is tried, by its own vectors."""
    shop = make_shop(tmp_path)
    registry = open_registry(shop.home)
    live = registry.register(SHOP_MODEL, shop.bundle).version
    where = {"catalogue": "shop", "collection": shop.collect(live).info.name}
    registry.append(Promoted(model=SHOP_MODEL, version=live, **where, **registry.stamp()))
    shop.bundle = tiny_bundle(tmp_path / "candidate", dim=8, seed=2)
    shop.encoder = load_encoder(shop.bundle, threads=1)
    candidate = registry.register(SHOP_MODEL, shop.bundle).version
    collection = shop.collect(candidate)
    shop.catalogue.upsert(*_one("before", 901))

    loaded: list[Snapshot] = []

    def load(wanted: wiring.ShadowTarget) -> Snapshot:
        loaded.append(wiring.load_candidate(registry, shop.home, wanted, Settings()))
        return loaded[0]

    with running(shop.home) as server:
        shadowed(server, shop.home, load, refresh=server.keeper.refresh_here)
        start_shadow(registry, shop.home, f"{SHOP_MODEL}@{candidate}", 1.0)
        until(lambda: loaded and finds(loaded[0], "before"))
        shop.catalogue.upsert(*_one("meanwhile", 902))
        until(lambda: finds(loaded[0], "meanwhile"))
        shop.catalogue.delete(["before"])
        until(lambda: not finds(loaded[0], "before"))

    assert shop.problems(collection) == []


def _one(item_id: str, seed: int) -> tuple[list[Item], dict[str, bytes]]:
    item, photos = listing(item_id, seed)
    return [item], photos


def finds(candidate: Snapshot, item_id: str) -> bool:
    assert candidate.index is not None
    try:
        candidate.index.vectors([item_id])
    except NotFound:
        return False
    return True


def test_a_version_beside_itself_agrees_in_every_answer(served: tuple[Running, VitrineClient], two: Home) -> None:
    """The same version as candidate, put there by hand: the commands refuse it."""
    server, client = served
    target = wiring.choose(server.registry.state(), "")
    assert isinstance(target, wiring.Target)
    shadow = shadowed(server, two)
    server.do(server.follower.stop())
    shadow = server.do(
        _make(server, lambda wanted: wiring.load_candidate(server.registry, two, wanted, Settings()), {})
    )
    server.live.observe = shadow.offer
    server.do(shadow.follow(wiring.ShadowTarget(target, 1.0)))

    client.search(photo(1), k=5)
    client.search(item_id="item-2", k=3)
    until(lambda: shadow.report()["compared"] == 2)

    assert shadow.report()["overlap@10"] == 1
    assert shadow.report()["same_answer"] == 1
    server.do(shadow.stop())


def test_a_candidate_that_fails_is_a_number_and_no_live_answer_fails(
    served: tuple[Running, VitrineClient], two: Home
) -> None:
    server, client = served

    def broken(wanted: wiring.ShadowTarget) -> Snapshot:
        return replace(wiring.load_candidate(server.registry, two, wanted, Settings()), index=None)

    shadow = shadowed(server, two, broken)
    start_shadow(server.registry, two, f"{MODEL}@2", 1.0)
    until(lambda: shadow.report()["running"])

    assert len(client.search(photo(1), k=3).hits) == 3
    until(lambda: shadow.report()["failed"] == 1)


def test_a_candidate_that_cannot_be_loaded_leaves_the_server_following(
    served: tuple[Running, VitrineClient], two: Home
) -> None:
    server, client = served

    def broken(wanted: wiring.ShadowTarget) -> Snapshot:
        raise Unavailable("no such engine here")

    shadow = shadowed(server, two, broken)
    start_shadow(server.registry, two, f"{MODEL}@2", 1.0)
    until(lambda: "no such engine here" in shadow.report().get("waiting_for", ""))

    where = {"catalogue": "shop", "collection": f"shop--{MODEL}--2"}
    server.registry.append(Promoted(model=MODEL, version=2, previous=1, **where, **server.registry.stamp()))
    until(lambda: client.info().version.version == 2)


def test_what_the_candidate_has_no_time_for_is_dropped_and_counted(
    served: tuple[Running, VitrineClient], two: Home
) -> None:
    server, client = served
    slow = threading.Event()

    def load(wanted: wiring.ShadowTarget) -> Snapshot:
        snapshot = wiring.load_candidate(server.registry, two, wanted, Settings())
        decode = snapshot.encoder.decode

        def waiting(data: bytes) -> object:
            slow.wait(10)
            return decode(data)

        snapshot.encoder.decode = waiting  # type: ignore[method-assign, assignment]
        return snapshot

    shadow = shadowed(server, two, load)
    start_shadow(server.registry, two, f"{MODEL}@2", 1.0)
    until(lambda: shadow.report()["running"])

    for _ in range(30):
        client.search(photo(1), k=1)
    dropped = shadow.report()["dropped"]
    slow.set()
    until(lambda: shadow.report()["compared"] == 30 - dropped)

    assert dropped >= 10


def test_a_busy_server_bears_no_shadow(served: tuple[Running, VitrineClient], two: Home) -> None:
    server, client = served
    shadow = shadowed(server, two, busy=lambda: True)
    start_shadow(server.registry, two, f"{MODEL}@2", 1.0)
    until(lambda: shadow.report()["running"])

    client.search(photo(1), k=1)

    assert (shadow.report()["dropped"], shadow.report()["compared"]) == (1, 0)


def test_a_share_of_the_searches_is_offered_and_none_after_the_stop(
    served: tuple[Running, VitrineClient], two: Home
) -> None:
    server, client = served
    shadow = shadowed(server, two)
    start_shadow(server.registry, two, f"{MODEL}@2", 0.3)
    until(lambda: shadow.report()["running"])

    for _ in range(40):
        client.search(photo(1), k=1)
        time.sleep(0.002)
    found = shadow.report()
    stop_shadow(server.registry, MODEL)
    until(lambda: not shadow.report()["running"])
    client.search(photo(1), k=1)

    assert 4 <= found["compared"] + found["dropped"] <= 20  # 12 expected; the draw is seeded
    assert shadow.report() == {
        "running": False,
        "waiting_for": "no candidate is tried; begin: vitrine shadow start NAME@N",
    }


ids = st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True)


@given(ids, ids)
def test_overlap_is_the_shared_share_of_the_longer_answer(live: list[str], candidate: list[str]) -> None:
    shared = sum(item in candidate for item in live)
    longest = max(len(live), len(candidate))

    assert overlap(live, candidate) == (shared / longest if longest else 1.0)
    assert overlap(live, candidate) == overlap(candidate, live)


def test_a_comparison_without_searches_has_no_figures() -> None:
    found = Comparison("m@2", "m@1", 0.1).as_json()
    assert found["overlap@10"] is None
    assert found["latency_ms"] == {"live": {"p50": None, "p99": None}, "candidate": {"p50": None, "p99": None}}


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_out_of_range_is_refused(two: Home, share: float) -> None:
    with pytest.raises(BadInput, match=r"it must be above 0 and at most 1, such as 0\.1"):
        start_shadow(open_registry(two), two, f"{MODEL}@2", share)


def test_what_is_live_is_not_tried_beside_itself(two: Home) -> None:
    with pytest.raises(Refused, match=f"{MODEL}@1 is live; try another version beside it"):
        start_shadow(open_registry(two), two, f"{MODEL}@1", 0.1)


def test_a_candidate_without_a_collection_is_told_how_to_get_one(two: Home, tmp_path: Path) -> None:
    open_registry(two).register(MODEL, tiny_bundle(tmp_path / "third", seed=3))
    with pytest.raises(NotFound, match=f"vitrine promote {MODEL}@3 --catalogue shop --build-only"):
        start_shadow(open_registry(two), two, f"{MODEL}@3", 0.1)


def test_stopping_what_is_not_tried_says_how_to_begin(two: Home) -> None:
    with pytest.raises(NotFound, match=f"no candidate of {MODEL} is tried; begin: vitrine shadow start {MODEL}@N"):
        stop_shadow(open_registry(two), MODEL)
