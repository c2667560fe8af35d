"""A shop on a Qdrant server, over the wire: promoted, changed, taken back, folded, cleared up, erased from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.factories import tiny_bundle
from tests.living import MODEL, Shop, listing, make_shop
from tests.qdrant_engine import EngineServer, engine_server
from tests.runner import Ran, run_vitrine
from vitrine import compaction
from vitrine.catchup import catch_up, refresh
from vitrine.collection import Collection, open_collection
from vitrine.collection_content import content
from vitrine.encoder import load_encoder
from vitrine.errors import Unavailable
from vitrine.gates import GateSettings
from vitrine.index_choice import open_index
from vitrine.indexes._qdrant_points import point_id
from vitrine.lifecycle import Production
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.registry import open_registry

ALIAS, FIRST, SECOND = f"shop--{MODEL}", f"shop--{MODEL}--1", f"shop--{MODEL}--2"


@dataclass
class Searched:
    """A shop of two versions whose commands find a Qdrant server."""

    root: Path
    shop: Shop
    server: EngineServer
    vitrine: Callable[..., Ran]

    def promote(self, number: int) -> Production:
        work = Promotion(open_registry(self.shop.home), self.shop.home, GateSettings(), index="qdrant", threads=1)
        live = work.registry.state().model(MODEL).production
        name, room = f"shop--{MODEL}--{number}", Disk(1, 1, 0, 0, 10**9)
        return work.carry_out(Plan(MODEL, number, live, "shop", name, 27, 27, 0.0, room, ()))

    def upsert(self, item_id: str, *seeds: int) -> None:
        item, photos = listing(item_id, *seeds)
        self.shop.catalogue.upsert([item], photos)

    def collection(self, name: str) -> Collection:
        return open_collection(self.shop.home.collections / name)

    def alias(self) -> str | None:
        return self.server.engine._aliases.get(ALIAS)

    def problems(self, name: str) -> list[str]:
        """In what the server's collection differs from the catalogue embedded anew by its version, the slow way."""
        number = int(name.rpartition("--")[2])
        shop = replace(
            self.shop, encoder=load_encoder(open_registry(self.shop.home).open(f"{MODEL}@{number}"), threads=1)
        )
        collection = self.collection(name)
        found = shop.problems(collection)
        held = content(collection, shop.catalogue.deltas)
        index = open_index(collection, self.shop.home, "qdrant")
        try:
            if index.count() != len(held.item_ids):
                found.append(f"{index.count()} of {len(held.item_ids)} points")
            there = index.vectors(list(held.item_ids))
            found += [] if abs(there - held.vectors).max() < 1e-5 else ["vectors differ"]
        finally:
            index.close()
        return found


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Searched]:
    with engine_server() as (server, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        shop = make_shop(tmp_path)
        shop = replace(shop, home=replace(shop.home, qdrant_url=environment["QDRANT_URL"]))
        for seed in (1, 2):
            open_registry(shop.home).register(MODEL, tiny_bundle(tmp_path / f"version-{seed}", dim=8, seed=seed))
        yield Searched(tmp_path, shop, server, lambda *arguments: run_vitrine(tmp_path, *arguments))


def test_after_each_switch_searches_and_the_alias_lead_to_the_whole_catalogue(searched: Searched) -> None:
    searched.promote(1)
    assert (searched.alias(), searched.problems(FIRST)) == (FIRST, [])

    searched.upsert("new-1", 901)
    searched.promote(2)
    assert (searched.alias(), searched.problems(SECOND)) == (SECOND, [])

    searched.upsert("new-2", 902)
    searched.shop.catalogue.delete(["new-1", "jug-train-0"])
    ran = searched.vitrine("rollback", MODEL)
    assert ran.code == 0, ran.err
    assert (searched.alias(), searched.problems(FIRST)) == (FIRST, [])


def test_a_sync_brings_both_collections_up_to_date_and_folds_many_changes(
    searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_LEAST", 2)
    searched.promote(1), searched.promote(2)
    before = {name: searched.collection(name).info.segment for name in (FIRST, SECOND)}
    for number in range(4):
        searched.upsert(f"new-{number}", 900 + number)
    searched.shop.catalogue.delete(["new-3", "jug-train-0"])

    ran = searched.vitrine("index", "sync")

    assert ran.code == 0, ran.err
    assert ran.out.count("files written anew") == 2
    for name in (FIRST, SECOND):
        assert searched.collection(name).info.segment != before[name]
        assert searched.problems(name) == []
    assert searched.vitrine("index", "verify").code == 0


def test_a_fold_that_was_killed_before_the_server_had_the_files_is_finished_by_a_sync(searched: Searched) -> None:
    searched.promote(1)
    searched.upsert("new-1", 901)
    collection, catalogue = searched.collection(FIRST), searched.shop.catalogue
    encoder = load_encoder(open_registry(searched.shop.home).open(f"{MODEL}@1"), threads=1)
    catch_up(collection, catalogue, encoder)  # written, but the index was not told
    compaction.compact(collection, catalogue.deltas)

    ran = searched.vitrine("index", "verify")
    assert ran.code == 1
    assert "was filled from other files of it; bring it up to date: vitrine index sync shop" in ran.out.replace(
        "\n", " "
    )
    assert searched.vitrine("index", "sync").code == 0
    assert searched.problems(FIRST) == []


def test_gc_drops_what_is_not_needed_on_the_server_too(searched: Searched) -> None:
    searched.promote(1), searched.promote(2)
    open_registry(searched.shop.home).register(MODEL, tiny_bundle(searched.root / "version-3", dim=8, seed=3))
    searched.promote(3)

    ran = searched.vitrine("index", "gc")

    assert ran.code == 0, ran.err
    assert not searched.server.engine.collection_exists(FIRST)
    assert searched.server.engine.collection_exists(SECOND)
    assert searched.problems(f"shop--{MODEL}--3") == []


def test_an_erased_item_leaves_no_point_on_the_server(searched: Searched) -> None:
    searched.promote(1), searched.promote(2)
    searched.upsert("new-1", 901)
    assert searched.vitrine("index", "sync").code == 0
    assert payloads(searched, FIRST, "new-1")
    assert payloads(searched, SECOND, "jug-train-0")

    for item_id in ("new-1", "jug-train-0"):
        ran = searched.vitrine("data", "forget", item_id, "--catalogue", "shop")
        assert ran.code == 0, ran.err

    for name in (FIRST, SECOND):
        assert payloads(searched, name, "new-1") + payloads(searched, name, "jug-train-0") == []
        assert searched.problems(name) == []


def payloads(searched: Searched, name: str, item_id: str) -> list[object]:
    """The item's points on the server, also one that marks it as deleted."""
    return list(searched.server.engine.retrieve(name, [point_id(item_id)]))


def test_a_switch_stays_when_the_server_goes_away_before_the_alias_follows(
    searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrine.indexes._qdrant_client._TIMEOUT_S", 0.1)
    searched.promote(1)
    switch = Promotion._switch

    def switch_then_lose_it(self: Promotion, plan: Plan) -> None:
        switch(self, plan)
        searched.server.down = True

    monkeypatch.setattr(Promotion, "_switch", switch_then_lose_it)
    with pytest.raises(Unavailable, match=f"{MODEL}@2 is live, but other programs' name"):
        searched.promote(2)
    live = open_registry(searched.shop.home).state().model(MODEL).production
    assert (live.version if live else None, searched.alias()) == (2, FIRST)

    searched.server.down = False
    assert searched.vitrine("index", "sync").code == 0
    assert searched.alias() == SECOND


def test_two_programs_over_one_server_see_each_others_changes(searched: Searched) -> None:
    searched.promote(1)
    here, there = (open_index(searched.collection(FIRST), searched.shop.home, "qdrant") for _ in range(2))
    searched.upsert("new-1", 901)
    encoder = load_encoder(open_registry(searched.shop.home).open(f"{MODEL}@1"), threads=1)
    catch_up(searched.collection(FIRST), searched.shop.catalogue, encoder, here)

    assert there.count() == len(searched.shop.catalogue.snapshot()[1])
    refresh(there, searched.collection(FIRST), searched.shop.catalogue.deltas)
    assert there.count() == len(searched.shop.catalogue.snapshot()[1])
    here.close(), there.close()


@pytest.mark.parametrize("port", ["grpc", "0", "70000"])
def test_a_port_that_is_none_is_refused(searched: Searched, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    searched.promote(1)
    monkeypatch.setenv("QDRANT_GRPC_PORT", port)
    ran = searched.vitrine("rollback", MODEL)
    assert ran.code == 4  # nothing to go back to
    ran = searched.vitrine("index", "verify")
    assert (ran.code, f"QDRANT_GRPC_PORT is {port!r}; it must be a port from 1 to 65535" in ran.err + ran.out) == (
        1,
        True,
    )
