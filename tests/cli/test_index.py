"""`vitrine index` on a small shop that was promoted twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.factories import tiny_bundle
from tests.living import MODEL, Shop, listing, make_shop, open_shop
from tests.runner import Ran, run_vitrine
from vitrine import files
from vitrine.artifacts import ArtifactStore
from vitrine.catchup import catch_up
from vitrine.collection import open_collection
from vitrine.collection_content import content
from vitrine.collection_roles import collections_in_use
from vitrine.compaction import compact
from vitrine.encoder import load_encoder
from vitrine.events import IndexBuilt, Promoted, PromotionStarted, Retired, RolledBack
from vitrine.files import replacing_folder
from vitrine.lifecycle import Production
from vitrine.ports import Delta
from vitrine.registry import open_registry

Vitrine = Callable[..., Ran]
LIVE, BEFORE, OLD = (f"shop--{MODEL}--{number}" for number in (3, 2, 1))


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions, promoted one after the other."""
    root = tmp_path_factory.mktemp("promoted")
    found = make_shop(root)
    registry = open_registry(found.home)
    for number in (1, 2, 3):
        bundle = tiny_bundle(root / f"bundle-{number}", dim=8, seed=number)
        registry.register(MODEL, bundle)
        name = replace(found, bundle=bundle, encoder=load_encoder(bundle, threads=1)).collect(number).info.name
        registry.append(Promoted(model=MODEL, version=number, catalogue="shop", collection=name, **registry.stamp()))
    return root


@pytest.fixture
def shop(promoted: Path, tmp_path: Path) -> Shop:
    shutil.copytree(promoted, tmp_path, dirs_exist_ok=True)
    return open_shop(tmp_path)


@pytest.fixture
def vitrine(tmp_path: Path, shop: Shop) -> Vitrine:
    return lambda *arguments: run_vitrine(tmp_path, *arguments)


def age(*paths: Path) -> None:
    long_ago = time.time() - 48 * 3600
    for path in paths:
        os.utime(path, (long_ago, long_ago))


def told(ran: Ran) -> Any:
    assert ran.err == ""
    return json.loads(ran.out)


def removed(ran: Ran) -> set[tuple[str, str]]:
    return {(one["kind"], one["name"]) for one in told(ran)["removed"]}


def test_ls_tells_what_each_collection_is_needed_for_and_how_far_behind_it_is(shop: Shop, vitrine: Vitrine) -> None:
    shop.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    found = {one["collection"]: one for one in told(vitrine("index", "ls", "--json"))["collections"]}

    assert {name: one["role"] for name, one in found.items()} == {LIVE: "live", BEFORE: "rollback", OLD: "none"}
    assert {one["lag"] for one in found.values()} == {1}
    assert {one["items"] for one in found.values()} == {shop.catalogue.seq - 1}
    assert all(one["size"] > 0 for one in found.values())


def test_ls_without_collections_says_what_makes_one(tmp_path: Path) -> None:
    assert "vitrine promote NAME@N" in run_vitrine(tmp_path, "index", "ls").out


def test_sync_brings_live_and_rollback_collections_up_to_date(shop: Shop, vitrine: Vitrine) -> None:
    _, items = shop.catalogue.snapshot()
    shop.catalogue.upsert([listing("new", 900)[0], replace(items[0], price=2.0)], listing("new", 900)[1])
    shop.catalogue.delete([items[1].item_id])
    done = told(vitrine("index", "sync", "--json"))["catalogues"]

    assert [one["catalogue"] for one in done] == ["shop"]
    assert {one["collection"]: one["caught_up"]["embedded"] for one in done[0]["collections"]} == {LIVE: 1, BEFORE: 1}
    lags = {one["collection"]: one["lag"] for one in told(vitrine("index", "ls", "--json"))["collections"]}
    assert lags == {LIVE: 0, BEFORE: 0, OLD: 3}
    assert vitrine("index", "verify", LIVE).code == vitrine("index", "verify", BEFORE).code == 0


def test_sync_again_says_that_there_was_nothing_to_do(shop: Shop, vitrine: Vitrine) -> None:
    out = vitrine("index", "sync", "shop").out

    assert "nothing new in the dataset" in out
    assert f"{LIVE} (live): 0 embedded, 0 with a new payload, 0 deleted" in out


def test_sync_of_what_is_not_there_is_not_found(shop: Shop, vitrine: Vitrine) -> None:
    ran = vitrine("index", "sync", "toys")

    assert ran.code == 4
    assert "no catalogue 'toys'" in ran.err


def test_many_changes_are_folded_into_new_files(shop: Shop, vitrine: Vitrine) -> None:
    sent = [listing(f"new-{n:03d}", 900 + n % 3) for n in range(256)]
    photos = {name: data for _, some in sent for name, data in some.items()}
    shop.catalogue.upsert([item for item, _ in sent], photos)
    done = told(vitrine("index", "sync", "--json"))["catalogues"][0]["collections"]

    assert [one["compacted"] for one in done] == [True, True]
    assert open_collection(shop.home.collections / LIVE).info.seq == shop.catalogue.seq
    assert vitrine("index", "verify").code == 0


def test_verify_is_content_with_what_was_just_made(vitrine: Vitrine) -> None:
    ran = vitrine("index", "verify", "--json")

    assert ran.code == 0
    assert told(ran) == {"collections": [OLD, BEFORE, LIVE], "problems": []}


def test_verify_names_a_file_that_was_changed(shop: Shop, vitrine: Vitrine) -> None:
    file = open_collection(shop.home.collections / LIVE).folder / "vectors.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    ran = vitrine("index", "verify")

    assert ran.code == 1
    assert f"{LIVE}: vectors.npy of collection {LIVE} is missing or was changed" in ran.out
    assert BEFORE not in ran.out


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ("DELETE FROM catalogue_items WHERE item_id = 'jug-train-0'", "1 items are in no catalogue"),
        ("UPDATE catalogue_items SET record = NULL WHERE item_id = 'jug-train-0'", "were deleted from the catalogue"),
        ("UPDATE catalogue_items SET item_id = 'x' WHERE item_id = 'jug-train-0'",
         "1 items are missing"),
        ("UPDATE catalogue_items SET record = replace(record, '\"price\":null', '\"price\":3.0') WHERE item_id = 'jug-train-0'",
         "1 items have another payload"),
    ],
)  # fmt: skip
def test_verify_compares_with_the_catalogue(shop: Shop, vitrine: Vitrine, break_it: str, words: str) -> None:
    with sqlite3.connect(shop.home.root / "registry.db") as database:
        database.execute(break_it)
    ran = vitrine("index", "verify", LIVE)

    assert ran.code == 1
    assert words in ran.out


def test_verify_of_an_unknown_collection_is_not_found(vitrine: Vitrine) -> None:
    assert vitrine("index", "verify", "nothing").code == 4


def test_gc_drops_what_is_neither_live_nor_the_way_back(shop: Shop, vitrine: Vitrine) -> None:
    planned = vitrine("index", "gc", "--dry-run", "--json")
    assert removed(planned) == {("collection", OLD)}
    assert (shop.home.collections / OLD).is_dir()

    assert removed(vitrine("index", "gc", "--json")) == {("collection", OLD)}
    assert sorted(path.name for path in shop.home.collections.iterdir()) == [BEFORE, LIVE]
    assert vitrine("index", "gc").out.strip() == "Nothing to remove."


def test_gc_takes_the_deltas_of_a_dropped_collection_along(shop: Shop, vitrine: Vitrine) -> None:
    shop.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    catch_up(open_collection(shop.home.collections / OLD), shop.catalogue, shop.encoder)
    vitrine("index", "gc")

    assert OLD not in shop.catalogue.deltas.collections()


def test_gc_removes_old_segments_and_folded_deltas_after_a_day(shop: Shop, vitrine: Vitrine) -> None:
    old = open_collection(shop.home.collections / LIVE)
    shop.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    catch_up(old, shop.catalogue, load_encoder(open_registry(shop.home).open(f"{MODEL}@3"), threads=1))
    new = compact(old, shop.catalogue.deltas)
    assert removed(vitrine("index", "gc", "--json")) == {("collection", OLD)}

    age(new.root / "collection.json", old.folder)
    went = removed(vitrine("index", "gc", "--json"))
    assert went == {("segment", f"{LIVE}/{old.info.segment}"), ("deltas", LIVE)}
    assert not old.folder.exists()
    assert shop.catalogue.deltas.count(LIVE, 0) == 0
    assert vitrine("index", "verify", LIVE).code == 0


def test_gc_clears_what_cut_off_commands_left_when_it_is_a_day_old(
    shop: Shop, vitrine: Vitrine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "JUST_MADE_S", 0.0)  # the system's own time of a change cannot be set back
    store = ArtifactStore(shop.home.artifacts)
    store.put_bytes(b"something")
    left = [
        shop.home.collections / ".half",
        shop.home.collections / LIVE / ".segment.1234",
        shop.home.artifacts / "incoming" / "half",
        shop.home.root / "building" / "shop--gone--1",
        shop.home.collections / "shop--gone--1",
        shop.home.datasets / ".shop.0123abcd",
    ]
    for path in left:
        path.mkdir(parents=True)
    assert removed(vitrine("index", "gc", "--json")) == {("collection", OLD)}

    age(*left, shop.home.collections / LIVE / "collection.json")
    vitrine("index", "gc")
    assert [path for path in left if path.exists()] == []
    assert vitrine("index", "verify").code == 0


def test_gc_leaves_a_dataset_that_is_being_imported(
    shop: Shop, vitrine: Vitrine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "JUST_MADE_S", 0.0)
    with replacing_folder(shop.home.datasets / "other") as draft:
        age(draft)
        assert draft.name not in {name for _, name in removed(vitrine("index", "gc", "--json"))}
        assert draft.is_dir()


@pytest.fixture
def past_the_gc(shop: Shop, vitrine: Vitrine) -> Shop:
    """Two rollbacks away from a collection that a clean-up took after the last promotion."""
    vitrine("index", "gc")
    registry = open_registry(shop.home)
    registry.append(
        RolledBack(model=MODEL, version=2, catalogue="shop", collection=BEFORE, previous=3, **registry.stamp())
    )
    return shop


def test_sync_follows_no_collection_that_a_clean_up_took(past_the_gc: Shop, vitrine: Vitrine) -> None:
    past_the_gc.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    (synced,) = told(vitrine("index", "sync", "--json"))["catalogues"]

    assert [one["collection"] for one in synced["collections"]] == [BEFORE]
    assert (
        "new" in content(open_collection(past_the_gc.home.collections / BEFORE), past_the_gc.catalogue.deltas).item_ids
    )


def test_an_item_is_forgotten_though_a_clean_up_took_the_way_back(past_the_gc: Shop, vitrine: Vitrine) -> None:
    item_id = past_the_gc.catalogue.snapshot()[1][0].item_id
    assert vitrine("data", "forget", item_id, "--catalogue", "shop", "--reason", "asked").code == 0

    assert vitrine("index", "verify").code == 0
    assert item_id not in open_collection(past_the_gc.home.collections / BEFORE).item_ids


def test_a_rollback_past_the_clean_up_says_that_a_promotion_brings_it_back(past_the_gc: Shop, vitrine: Vitrine) -> None:
    refused = vitrine("rollback", MODEL)

    assert refused.code == 4
    assert (
        f"the collection of {MODEL}@1 is not there: a clean-up keeps that of one version before the live one"
        in refused.err
    )
    assert f"embed it again: vitrine promote {MODEL}@1 --catalogue shop" in refused.err


def test_gc_keeps_what_a_promotion_of_a_version_whose_collection_went_has_embedded(
    past_the_gc: Shop, vitrine: Vitrine
) -> None:
    registry = open_registry(past_the_gc.home)
    registry.append(PromotionStarted(model=MODEL, **WHERE, **registry.stamp()))
    building = past_the_gc.home.root / "building" / OLD
    building.mkdir(parents=True)
    age(building)
    vitrine("index", "gc")

    assert building.is_dir()


def test_a_begun_promotion_of_a_version_whose_collection_went_must_be_finished_before_forgetting(
    past_the_gc: Shop, vitrine: Vitrine
) -> None:
    registry = open_registry(past_the_gc.home)
    registry.append(PromotionStarted(model=MODEL, **WHERE, **registry.stamp()))
    item_id = past_the_gc.catalogue.snapshot()[1][0].item_id

    refused = vitrine("data", "forget", item_id, "--catalogue", "shop", "--reason", "asked")
    assert refused.code == 5
    assert f"{MODEL}@1 is being embedded for shop; finish that first: vitrine promote {MODEL}@1" in refused.err


@pytest.mark.parametrize("place", ["index.gc.index", "index.gc.moved"])
def test_a_killed_gc_is_finished_by_the_next(shop: Shop, vitrine: Vitrine, tmp_path: Path, place: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", "from vitrine.cli import main; main()", "index", "gc"],
        cwd=tmp_path,
        env={**os.environ, "VITRINE_CRASH_AT": place, "PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert vitrine("index", "gc", "--older-than", "0").code == 0

    assert sorted(path.name for path in shop.home.collections.iterdir()) == [BEFORE, LIVE]
    assert OLD not in shop.catalogue.deltas.collections()


def uses(shop: Shop, *events: tuple[type, dict[str, object]]) -> dict[str, str]:
    registry = open_registry(shop.home)
    for kind, fields in events:
        registry.append(kind(model=MODEL, **fields, **registry.stamp()))
    return {name: use.role for name, use in collections_in_use(registry.log.read()).items()}


WHERE = {"version": 1, "catalogue": "shop", "collection": OLD}
BUILT = {**WHERE, "catalogue_digest": "", "items": 1}
THIRD = {"version": 3, "catalogue": "shop", "collection": LIVE}


def test_a_promotion_that_began_keeps_its_collection(shop: Shop) -> None:
    assert uses(shop, (PromotionStarted, WHERE)) == {LIVE: "live", BEFORE: "rollback", OLD: "promotion"}


def test_what_was_built_to_be_tried_is_kept(shop: Shop) -> None:
    assert uses(shop, (IndexBuilt, BUILT))[OLD] == "promotion"


def test_a_promotion_that_was_given_up_by_retiring_keeps_nothing(shop: Shop) -> None:
    assert OLD not in uses(shop, (PromotionStarted, WHERE), (Retired, {"version": 1}))


def test_building_the_live_version_anew_leaves_no_promotion_open(shop: Shop) -> None:
    gone = {"version": 2, "catalogue": "shop", "collection": BEFORE}
    built = {**THIRD, "catalogue_digest": "", "items": 1}
    found = uses(shop, (PromotionStarted, THIRD), (IndexBuilt, built), (RolledBack, {**gone, "previous": 3}))

    assert found == {BEFORE: "live", OLD: "rollback"}


def test_a_production_names_its_collection(shop: Shop) -> None:
    found = collections_in_use(open_registry(shop.home).log.read())

    assert found[LIVE].production == Production(3, "shop", LIVE)


def test_json_of_every_command_is_one_object(vitrine: Vitrine) -> None:
    for command in (["ls"], ["sync"], ["verify"], ["gc", "--dry-run"]):
        assert isinstance(json.loads(vitrine("index", *command, "--json").out), dict)


def test_vectors_of_the_wrong_length_are_told(shop: Shop, vitrine: Vitrine) -> None:
    start = open_collection(shop.home.collections / LIVE).info.seq
    item = shop.catalogue.snapshot()[1][0]
    shop.catalogue.deltas.write(LIVE, [Delta(start + 1, item.item_id, np.full(8, 2, np.float32), item.payload())])
    ran = vitrine("index", "verify", LIVE)

    assert ran.code == 1
    assert f"1 vectors are not of length 1, the first is that of item '{item.item_id}'" in ran.out
