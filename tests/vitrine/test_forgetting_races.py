"""Erasing wins: over promotions begun meanwhile, on both kinds of database, and nothing of the item is in any table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests.factories import tiny_bundle
from tests.living import MODEL, Shop, listing, make_shop
from vitrine import failpoints, promotion
from vitrine.catchup import catch_up
from vitrine.collection import Collection, open_collection
from vitrine.collection_content import content
from vitrine.collection_roles import collections_in_use
from vitrine.connection import open_engine, parse_url
from vitrine.encoder import load_encoder
from vitrine.erased import strip_erased
from vitrine.errors import Conflict, Unavailable
from vitrine.events import IndexBuilt, Promoted, PromotionStarted
from vitrine.forgetting import eraser
from vitrine.gates import GateSettings
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.registry import open_registry

TITLE = "a jug nobody else has"


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Shop:
    """Version 1 is live; `gone` came with an upsert after the collection's files were written."""
    shop = make_shop(tmp_path, database_url)
    registry = open_registry(shop.home)
    registry.register(MODEL, shop.bundle)
    collection = shop.collect(1)
    where = {"catalogue": "shop", "collection": collection.info.name}
    registry.append(Promoted(model=MODEL, version=1, **where, **registry.stamp()))
    item, photos = listing("gone", 987, title=TITLE)
    shop.catalogue.upsert([item], photos)
    catch_up(collection, shop.catalogue, shop.encoder)
    registry.register(MODEL, tiny_bundle(tmp_path / "version-2", dim=8, seed=2))
    return shop


def forget(shop: Shop, item_id: str) -> None:
    eraser(open_registry(shop.home), shop.home, item_id, "shop", grace_s=0).erase()


def promote(shop: Shop, number: int = 2) -> None:
    work = Promotion(open_registry(shop.home), shop.home, GateSettings(), threads=1)
    live = work.registry.state().model(MODEL).production
    name, room = f"shop--{MODEL}--{number}", Disk(1, 1, 0, 0, 10**9)
    work.carry_out(Plan(MODEL, number, live, "shop", name, 27, 27, 0.0, room, ()))


def collection(shop: Shop, number: int) -> Collection:
    return open_collection(shop.home.collections / f"shop--{MODEL}--{number}")


def held(shop: Shop, number: int) -> set[str]:
    return set(content(collection(shop, number), shop.catalogue.deltas).item_ids)


def tables(url: str) -> bytes:
    """Everything in the database, as one heap of bytes."""
    with open_engine(parse_url(url)).connect() as connection:
        names = sa.inspect(connection).get_table_names()
        rows = [row for name in names for row in connection.execute(sa.text(f'SELECT * FROM "{name}"'))]
    return b"\n".join(
        bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode() for r in rows for cell in r
    )


def at(monkeypatch: pytest.MonkeyPatch, place: str, act: Callable[[], None]) -> None:
    """Do something once, at the moment when a promotion passes a point."""
    todo = [act]

    def reach(name: str) -> None:
        if name == place and todo:
            todo.pop()()

    monkeypatch.setattr(failpoints, "reach", reach)


def test_no_table_holds_anything_of_an_erased_item(shop: Shop, database_url: str) -> None:
    vector = np.array(shop.catalogue.deltas.at(f"shop--{MODEL}--1", ["gone"])["gone"].vector).tobytes()
    photo = listing("gone", 987)[0].images[0].partition(".")[0].encode()
    assert all(needle in tables(database_url) for needle in (b'"gone"', TITLE.encode(), vector, photo))

    forget(shop, "gone")

    found = tables(database_url)
    assert [needle for needle in (b"gone", TITLE.encode(), vector, photo) if needle in found] == []
    assert shop.problems(collection(shop, 1)) == []


@pytest.mark.parametrize("item_id", ["gone", "jug-train-0"])
@pytest.mark.parametrize("place", [promotion.WRITTEN, promotion.INDEXED])
def test_a_promotion_that_embedded_the_item_before_does_not_bring_it_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, place: str, item_id: str
) -> None:
    at(monkeypatch, place, lambda: forget(shop, item_id))
    try:
        promote(shop)
    except Unavailable as error:
        assert "promote again" in str(error)  # noqa: PT017 -- either way is right
        promote(shop)

    assert item_id not in held(shop, 1) | held(shop, 2)
    for number in (1, 2):
        assert [path for path in collection(shop, number).root.glob("*/rows.parquet") if item_id in names(path)] == []


def names(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = pq.read_table(path)["item_id"].to_pylist()
    return found


def test_a_promotion_begun_before_the_deletion_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the deletion: its files may come from before it, so the tombstone stays."""
    work = eraser(open_registry(shop.home), shop.home, "gone", "shop", grace_s=0)
    assert work._living is not None
    delete = work._living.delete

    def begin_first(item_ids: list[str]) -> object:
        registry = open_registry(shop.home)
        where = {"catalogue": "shop", "collection": f"shop--{MODEL}--2"}
        registry.append(PromotionStarted(model=MODEL, version=2, verdicts=(), **where, **registry.stamp()))
        return delete(item_ids)

    monkeypatch.setattr(work._living, "delete", begin_first)
    with pytest.raises(Conflict, match=f"{MODEL}@2 is being embedded for shop; finish that first"):
        work.erase()
    assert "gone" not in {item.item_id for item in shop.catalogue.snapshot()[1]}
    monkeypatch.undo()

    promote(shop)
    forget(shop, "gone")
    assert "gone" not in held(shop, 1) | held(shop, 2) | shop.catalogue.known_ids()


def test_files_written_from_before_an_erasure_lose_the_item_and_nothing_else(shop: Shop) -> None:
    shop.encoder = load_encoder(open_registry(shop.home).open(f"{MODEL}@2"), threads=1)
    late = shop.collect(2)
    before = set(late.item_ids)
    with shop.catalogue._database.writing() as connection:
        connection.execute(sa.text("DELETE FROM catalogue_items WHERE item_id = 'gone'"))

    clean = strip_erased(late, shop.catalogue)

    assert set(clean.item_ids) == before - {"gone"}
    assert not late.folder.exists()
    assert shop.problems(clean) == []


def test_servers_are_told_to_load_the_clean_files_and_gc_needs_nothing_more(shop: Shop) -> None:
    before = len(open_registry(shop.home).log.read())
    forget(shop, "gone")
    registry = open_registry(shop.home)
    (built,) = [event for event in registry.log.read()[before:] if isinstance(event, IndexBuilt)]

    assert (built.collection, built.segment) == (f"shop--{MODEL}--1", collection(shop, 1).info.segment)
    assert {name: use.role for name, use in collections_in_use(registry.log.read()).items()} == {
        f"shop--{MODEL}--1": "live"
    }
