"""Eight processes that register, name, promote and measure at once, on both databases."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import team
from tests.factories import tiny_bundle
from tests.postgres import postgres_server
from vitrine.events import AliasMoved, Evaluated, Promoted, Registered
from vitrine.home import Home
from vitrine.lifecycle import fold
from vitrine.registry import Registry, open_registry

MEMBERS = 8


@dataclass(frozen=True)
class Day:
    """What eight members did: the registry afterwards, and what each was told."""

    registry: Registry
    told: dict[str, dict[int, Any]]

    def winner(self, act: str) -> int:
        (won,) = [member for member, lost in self.told[act].items() if lost == ""]
        return won

    def losers(self, act: str) -> list[str]:
        return [lost for lost in self.told[act].values() if lost]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("team")
    if request.param == "sqlite":
        yield at_work(folder, f"sqlite:///{folder}/registry.db")
        return
    with postgres_server() as server:
        yield at_work(folder, server.database())


def at_work(folder: Path, url: str) -> Day:
    tiny_bundle(folder / "bundles/same", seed=100)
    for number in range(MEMBERS):
        tiny_bundle(folder / f"bundles/own-{number}", seed=number)
    (folder / "bundles/per-query.parquet").write_bytes(b"any table")
    home = Home(folder / "home", url, folder / "data")
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(MEMBERS, timeout=120), spawn.Queue()
    members = [
        spawn.Process(target=team.work, args=(home, folder / "bundles", number, start, results))
        for number in range(MEMBERS)
    ]
    for member in members:
        member.start()
    told: dict[str, dict[int, Any]] = {}
    for _ in range(MEMBERS * 6):
        number, act, outcome = results.get(timeout=120)
        told.setdefault(act, {})[number] = outcome
    for member in members:
        member.join(timeout=60)
    assert [member.exitcode for member in members] == [0] * MEMBERS
    return Day(open_registry(home), told)


def test_the_same_content_is_registered_once_and_everybody_gets_its_number(day: Day) -> None:
    versions = set(day.told["same"].values())

    assert len(versions) == 1
    registered = [e for e in day.registry.log.read() if isinstance(e, Registered)]
    assert [e.version for e in registered if e.version in versions] == list(versions)


def test_different_content_gets_a_number_each_without_a_gap(day: Day) -> None:
    numbers = {*day.told["own"].values(), *day.told["same"].values()}

    assert numbers == set(range(1, MEMBERS + 2))


def test_an_alias_moves_once_and_the_losers_are_told_by_whom(day: Day) -> None:
    winner = day.winner("alias")

    (moved,) = [e for e in day.registry.log.read() if isinstance(e, AliasMoved) and e.alias == "stable"]
    assert (moved.actor, moved.version) == (f"member-{winner}", day.told["own"][winner])
    assert len(day.losers("alias")) == MEMBERS - 1
    assert all(f"somebody else was first: member-{winner} moved shop@stable" in lost for lost in day.losers("alias"))


def test_production_is_switched_once_and_the_losers_are_told_by_whom(day: Day) -> None:
    winner = day.winner("switch")

    (switched,) = [e for e in day.registry.log.read() if isinstance(e, Promoted)]
    assert day.registry.resolve("shop@production").number == switched.version == day.told["own"][winner]
    assert len(day.losers("switch")) == MEMBERS - 1
    assert all(f"member-{winner} promoted shop@{switched.version} on c" in lost for lost in day.losers("switch"))


def test_an_expected_number_has_one_winner(day: Day) -> None:
    winner = day.winner("seq")

    assert len(day.losers("seq")) == MEMBERS - 1
    assert all(f"somebody else was first: member-{winner} moved shop@claim-" in lost for lost in day.losers("seq"))


def test_no_event_is_lost_and_the_numbers_have_no_gap(day: Day) -> None:
    events = day.registry.log.read()

    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    own_aliases = [e for e in events if isinstance(e, AliasMoved) and e.alias.startswith("own-")]
    assert len(own_aliases) == MEMBERS  # nobody else moves it, so nobody loses
    assert len([e for e in events if isinstance(e, Evaluated)]) == MEMBERS
    assert len(events) == (MEMBERS + 1) + MEMBERS + MEMBERS + len({"stable", "switch", "claim"})
    assert fold(events) == day.registry.state()
    assert day.registry.verify() == []
