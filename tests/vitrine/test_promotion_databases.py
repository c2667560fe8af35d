"""A promotion, a change of the catalogue and a rollback, the same on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.factories import photo, tiny_bundle
from vitrine.catalogue import open_catalogue
from vitrine.collection import open_collection
from vitrine.events import RolledBack
from vitrine.gates import GateSettings
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.promotion_rollback import roll_back
from vitrine.registry import open_registry


def promote(home: Home, version: int) -> None:
    live = open_registry(home).state().model("shop-search").production
    collection = f"shop--shop-search--{version}"
    plan = Plan("shop-search", version, live, "shop", collection, 4, 4, 0.0, Disk(1, 1, 0, 0, 10**9), ())
    Promotion(open_registry(home), home, GateSettings(), threads=1).carry_out(plan)


def test_a_promotion_a_change_and_a_rollback_hold_on_every_database(tmp_path: Path, database_url: str) -> None:
    for number in range(4):
        folder = tmp_path / "photos" / ("mug" if number % 2 else "jug")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(photo(number))
    found = find_home({"VITRINE_HOME": str(tmp_path / "home"), "VITRINE_DATASETS": str(tmp_path / "data")})
    home = replace(found, registry_url=database_url)
    registry = open_registry(home)
    for seed in (1, 2):
        registry.register("shop-search", tiny_bundle(tmp_path / str(seed), seed=seed))
    import_dataset("image-folder", tmp_path / "photos", "shop", home.datasets / "shop", {"holdout": 0})

    promote(home, 1)
    promote(home, 2)
    catalogue = open_catalogue(home, "shop")
    _, items = catalogue.snapshot()
    catalogue.delete([items[0].item_id])
    live = roll_back(Promotion(open_registry(home), home, GateSettings(), threads=1), "shop-search")

    assert (live.version, registry.resolve("shop-search@production").number) == (1, 1)
    assert isinstance(registry.log.read()[-1], RolledBack)
    deltas = catalogue.deltas.read(live.collection, open_collection(home.collections / live.collection).info.seq)
    assert [(delta.item_id, delta.vector) for delta in deltas] == [(items[0].item_id, None)]
    assert registry.verify() == []
