"""What one member of a team does in a process of its own: it registers, names, promotes and measures with all others.

A module of its own, so that a process starts quickly: nothing heavy is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrine.bundle import read_bundle
from vitrine.errors import Conflict
from vitrine.events import AliasMoved, Promoted
from vitrine.home import Home
from vitrine.registry import Registry, open_registry


def work(home: Home, bundles: Path, number: int, start: Any, results: Any) -> None:
    """Everything at once with the others; `results` gets (number, what, what came of it) of each act."""
    registry = open_registry(home)
    registry.actor = f"member-{number}"
    same, own = read_bundle(bundles / "same"), read_bundle(bundles / f"own-{number}")
    start.wait()
    results.put((number, "same", registry.register("shop", same).version))
    mine = registry.register("shop", own).version
    results.put((number, "own", mine))
    table = bundles / "per-query.parquet"
    results.put((number, "measured", measure(registry, mine, table)))
    for what, act in (("alias", name), ("switch", promote), ("seq", claim)):
        start.wait()
        seen = registry.state().seq
        start.wait()
        results.put((number, what, outcome(act, registry, mine, seen)))


def measure(registry: Registry, version: int, table: Path) -> int:
    """Record an evaluation of one's own version."""
    event = registry.record_evaluation(
        "shop",
        version,
        dataset="shop",
        dataset_digest="d",
        protocol="default",
        via="exact",
        metrics={"mmp@5": 0.5},
        queries=1,
        gallery=2,
        per_query_path=table,
        details={},
    )
    return event.seq


def name(registry: Registry, version: int, seen: int) -> None:
    """Move the alias that everybody moves."""
    registry.set_alias("shop", f"own-{version}", version)  # nobody else's: this one always succeeds
    registry.set_alias("shop", "stable", version, since=seen)


def promote(registry: Registry, version: int, seen: int) -> None:
    """Make one's own version live."""
    live = {"catalogue": "c", "collection": f"c--shop--{version}"}
    registry.switch(Promoted(model="shop", version=version, **live, **registry.stamp()), since=seen)


def claim(registry: Registry, version: int, seen: int) -> None:
    """Append at exactly the next number."""
    event = AliasMoved(model="shop", alias=f"claim-{version}", version=version, **registry.stamp())
    registry.append(event, expected_seq=seen)


def outcome(act: Any, registry: Registry, version: int, seen: int) -> str:
    """Why it was lost, "" if it was won."""
    try:
        act(registry, version, seen)
    except Conflict as error:
        return str(error)
    return ""
