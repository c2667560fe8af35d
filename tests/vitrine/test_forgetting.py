"""Erasing an item: nothing of it is left under the home, the data or the work folder, wherever it was kept."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.catalogue import tiny_dataset
from tests.factories import photo
from tests.living import MODEL, make_shop
from tests.runner import run_vitrine
from vitrine.catchup import catch_up
from vitrine.collection import open_collection
from vitrine.dataset import find_dataset, load_dataset
from vitrine.errors import BadInput, Conflict, NotFound, Unavailable
from vitrine.events import Forgotten, PromotionStarted
from vitrine.files import sha256_bytes, write_json
from vitrine.forgetting import Eraser, eraser
from vitrine.indexes import exact
from vitrine.registry import open_registry
from vitrine.storing import photo_name

TITLE = "a jug nobody else has"


@pytest.fixture
def shop(tmp_path):
    """Two versions' collections, results, features; `new-1` was upserted, the others come from the dataset."""
    shop = make_shop(tmp_path)
    registry = open_registry(shop.home)
    registry.register(MODEL, shop.bundle)
    shop.collect(1)
    add_upserted(shop)
    for version in (1, 2):
        collection = (
            shop.collect(version) if version == 2 else open_collection(shop.home.collections / f"shop--{MODEL}--1")
        )
        catch_up(collection, shop.catalogue, shop.encoder)
    evaluate(shop, registry)
    cache_features(shop)
    return shop


def add_upserted(shop):
    data = photo(987)
    first = shop.catalogue.snapshot()[1][0]
    item = replace(first, item_id="new-1", images=(photo_name(data),), title=TITLE)
    shop.catalogue.upsert([item], {photo_name(data): data})


def evaluate(shop, registry):
    ids = sorted(["new-1", *(item.item_id for item in find_dataset(shop.home, "shop").items)])
    rows = [
        {"query_id": one, "unit": "p", "title": TITLE, "hits": ids, "mrr": place / 10} for place, one in enumerate(ids)
    ]
    folder = shop.home.datasets.parent / "work" / "evaluations" / "top--mini--shop"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "exact.parquet")
    details = {"leakage": {"examples": [[ids[0], ids[1]], ["new-1", ids[2]]]}}
    write_json(folder / "exact.json", {"details": details, "metrics": {"mrr": 0.5}})
    registry.record_evaluation(
        MODEL, 1, dataset="shop", dataset_digest="d", protocol="default", via="exact", metrics={"mrr": 0.5}, queries=3,
        gallery=3, per_query_path=folder / "exact.parquet", details=details,
    )  # fmt: skip


def cache_features(shop):
    dataset = find_dataset(shop.home, "shop")
    folder = shop.home.datasets.parent / "work" / "features" / "mini--shop"
    folder.mkdir(parents=True)
    names = sorted({image for item in dataset.items for image in item.images})
    np.save(folder / "features.npy", np.arange(len(names) * 2, dtype=np.float32).reshape(-1, 2))
    write_json(folder / "images.json", names)


def forget(shop, item_id, **options):
    return eraser(open_registry(shop.home), shop.home, item_id, "shop", grace_s=0, **options).erase()


def anywhere(shop, *needles):
    """Files that hold one of these bytes, by content or name; parquet is looked into."""
    found = []
    for path in sorted(shop.home.datasets.parent.rglob("*")):
        if "bundle" in str(path) or not path.is_file():
            continue
        data = path.read_bytes() + str(path).encode()
        if data[:4] == b"PAR1":
            data += json.dumps(pq.read_table(io.BytesIO(path.read_bytes())).to_pylist(), default=str).encode()
        found += [path for needle in needles if needle in data]
    return found


def some_item(shop):
    return find_dataset(shop.home, "shop").catalogue_items()[0]


def test_nothing_of_an_item_of_the_dataset_is_left(shop):
    item = some_item(shop)
    photos = [shop.catalogue.photo(image) for image in item.images]
    names = [image.partition(".")[0].encode() for image in item.images]
    collection = open_collection(shop.home.collections / f"shop--{MODEL}--1")
    vector = np.array(collection.vectors[collection.row_of[item.item_id]]).tobytes()
    needles = (item.item_id.encode(), vector, *photos, *names)
    assert anywhere(shop, *needles)
    forget(shop, item.item_id)
    assert anywhere(shop, *needles) == []


def test_nothing_of_an_upserted_item_is_left(shop):
    sha = sha256_bytes(photo(987)).encode()
    assert anywhere(shop, b"new-1", photo(987), sha, TITLE.encode())
    forget(shop, "new-1")
    assert anywhere(shop, b"new-1", photo(987), sha) == []


def test_everything_else_stays_whole(shop):
    item = some_item(shop)
    before = {one.item_id for one in shop.catalogue.snapshot()[1]}
    forget(shop, item.item_id, why="asked by its owner")
    registry, dataset = open_registry(shop.home), load_dataset(shop.home.datasets / "shop")
    assert {one.item_id for one in shop.catalogue.snapshot()[1]} == before - {item.item_id}
    assert [len(dataset.photo(image)) > 0 for one in dataset.items for image in one.images]
    assert registry.verify() == []
    for version in (1, 2):
        collection = open_collection(shop.home.collections / f"shop--{MODEL}--{version}")
        collection.verify()
        assert shop.problems(collection) == []


def test_numbers_of_results_stay_under_a_pseudonym_and_the_history_says_so(shop):
    item, registry = some_item(shop), open_registry(shop.home)
    old = registry.resolve(f"{MODEL}@1").evaluation("shop", "default", "exact").per_query
    before = pq.read_table(io.BytesIO(registry.artifacts.read(old))).to_pylist()
    forget(shop, item.item_id, why="asked by its owner")
    (event,) = [one for one in open_registry(shop.home).history(MODEL) if isinstance(one, Forgotten)]
    new = open_registry(shop.home).resolve(f"{MODEL}@1").evaluation("shop", "default", "exact").per_query
    after = pq.read_table(io.BytesIO(registry.artifacts.read(new))).to_pylist()
    assert (event.results, event.why) == ({old: new}, "asked by its owner")
    assert not registry.artifacts.has(old)
    assert [row["mrr"] for row in after] == [row["mrr"] for row in before]
    (pseudonym,) = {row["query_id"] for row in after} - {row["query_id"] for row in before}
    assert pseudonym.startswith("forgotten-")
    assert all(pseudonym in row["hits"] for row in after)
    work = shop.home.datasets.parent / "work" / "evaluations" / "top--mini--shop" / "exact.parquet"
    assert sha256_bytes(work.read_bytes()) == new  # the pipeline's file is the registry's: a sync is no new fact


def test_the_first_command_says_that_nothing_is_kept_once_all_is_gone(shop):
    forget(shop, "new-1")
    with pytest.raises(NotFound, match="nothing is kept of an item 'new-1' of shop; was it erased before"):
        forget(shop, "new-1")


def test_a_photo_that_another_item_shows_stays(shop):
    item = some_item(shop)
    twin = replace(item, item_id="twin")
    shop.catalogue.upsert([twin])
    forget(shop, item.item_id)
    assert shop.catalogue.photo(twin.images[0])


def test_a_plan_changes_nothing(shop):
    item = some_item(shop)
    plan = eraser(open_registry(shop.home), shop.home, item.item_id, "shop").plan()
    assert [line.partition(":")[0] for line in plan.erased] == [
        "catalogue",
        "dataset",
        "features",
        "collections",
        "stored results",
    ]
    assert item in find_dataset(shop.home, "shop").items
    assert shop.catalogue.find([item.item_id])
    assert not (shop.home.root / "forgetting").exists()


def test_an_open_index_loses_the_item_with_the_changes_that_servers_read(shop):
    item = some_item(shop)
    collection = open_collection(shop.home.collections / f"shop--{MODEL}--1")
    collection.load()  # as servers do
    index = exact.open(collection, {})
    seen = []

    def look(opened, _item_id):
        seen.append(shop.catalogue.deltas.at(opened.info.name, [item.item_id])[item.item_id])

    Eraser(open_registry(shop.home), shop.home, "shop", item.item_id, look, grace_s=0).erase()
    index.apply(seen[:1])
    assert item.item_id not in {hit.item_id for hit in index.search(collection.vectors[:1], 100)[0]}


def test_an_item_may_come_back_with_other_content(shop):
    item = some_item(shop)
    forget(shop, item.item_id)
    shop.catalogue.upsert([replace(item, images=(photo_name(photo(555)),))], {photo_name(photo(555)): photo(555)})
    collection = open_collection(shop.home.collections / f"shop--{MODEL}--1")
    catch_up(collection, shop.catalogue, shop.encoder)
    assert shop.problems(collection) == []


def test_while_a_collection_is_being_embedded_it_is_refused(shop):
    registry = open_registry(shop.home)
    registry.append(
        PromotionStarted(model=MODEL, version=1, catalogue="shop", collection="shop--other--1", **registry.stamp())
    )
    with pytest.raises(Conflict, match=rf"{MODEL}@1 is being embedded for shop; finish that first: vitrine promote"):
        forget(shop, some_item(shop).item_id)
    assert shop.catalogue.find([some_item(shop).item_id])


def test_an_unknown_item_is_not_found(shop):
    with pytest.raises(NotFound, match="nothing is kept of an item 'nobody' in any catalogue: shop"):
        eraser(open_registry(shop.home), shop.home, "nobody")


def test_an_unknown_catalogue_is_not_found(shop):
    with pytest.raises(NotFound, match="there is no dataset 'other'"):
        eraser(open_registry(shop.home), shop.home, "x", "other")


POINTS = ["journal", "tombstone", "dataset", "artifacts", "features", "collections", "renamed", "results", "purged"]
RUN = """
import sys
from vitrine.forgetting import Eraser, eraser
from vitrine.home import find_home
from vitrine.registry import open_registry
home = find_home()
eraser(open_registry(home), home, sys.argv[1], "shop", grace_s=0).erase()
"""


@pytest.mark.parametrize("moment", POINTS)
def test_a_killed_command_is_finished_by_the_same_command(shop, moment):
    item_id = "new-1" if POINTS.index(moment) % 2 else some_item(shop).item_id
    photos = [shop.catalogue.photo(image) for image in shop.catalogue.find([item_id])[item_id].images]
    environment = os.environ | {
        "VITRINE_HOME": str(shop.home.root),
        "VITRINE_DATASETS": str(shop.home.datasets),
        "VITRINE_REGISTRY_URL": shop.home.registry_url,
        "VITRINE_CRASH_AT": f"forget.{moment}",
    }
    killed = subprocess.run([sys.executable, "-c", RUN, item_id], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert open_registry(shop.home).verify() == []
    forget(shop, item_id)
    assert anywhere(shop, item_id.encode(), *photos) == []
    assert open_registry(shop.home).verify() == []


def test_an_id_that_is_also_a_label_leaves_the_label_alone(shop):
    shop.catalogue.upsert([replace(some_item(shop), item_id="jug")])
    before = find_dataset(shop.home, "shop").digest
    forget(shop, "jug")
    assert {item.label for item in find_dataset(shop.home, "shop").items} == {"jug", "mug", "pan"}
    assert find_dataset(shop.home, "shop").digest == before


def test_an_item_of_several_catalogues_needs_the_name_of_one(shop):
    tiny_dataset(shop.home.datasets / "other", name="other")
    registry, item_id = open_registry(shop.home), some_item(shop).item_id
    with pytest.raises(
        BadInput, match=rf"item '{item_id}' is in several catalogues: other, shop; say which with --cat"
    ):
        eraser(registry, shop.home, item_id)
    eraser(registry, shop.home, item_id, "shop", grace_s=0).erase()
    assert item_id in {item.item_id for item in find_dataset(shop.home, "other").items}


def test_the_command_says_what_it_erases_and_what_it_cannot_reach(shop, monkeypatch):
    monkeypatch.setenv("VITRINE_HOME", str(shop.home.root))
    monkeypatch.setenv("VITRINE_DATASETS", str(shop.home.datasets))
    monkeypatch.delenv("QDRANT_URL", raising=False)
    root = shop.home.datasets.parent
    plan = run_vitrine(root, "data", "forget", "new-1", "--dry-run", "--json")
    assert (plan.code, json.loads(plan.out)["dry_run"]) == (0, True)
    done = run_vitrine(root, "data", "forget", "new-1", "--catalogue", "shop", "--reason", "asked for")
    assert done.code == 0
    assert "Erased new-1 of shop" in done.out
    assert "dvc gc -w" in done.out
    again = run_vitrine(root, "data", "forget", "new-1")
    assert (again.code, "nothing is kept of an item 'new-1'" in again.err) == (4, True)


def test_somebody_who_reads_the_database_all_the_time_is_told_of_and_the_repeated_command_finishes(shop, monkeypatch):
    monkeypatch.setattr("vitrine.connection.BUSY_TIMEOUT_S", 0.1)
    database = shop.home.root / "registry.db"
    found = eraser(open_registry(shop.home), shop.home, "new-1", grace_s=0)
    with closing(sqlite3.connect(database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        with pytest.raises(
            Unavailable, match=r"may still hold the item \(somebody is reading it\); run the command again"
        ):
            found.erase()
        assert TITLE.encode() in database.read_bytes()

    eraser(open_registry(shop.home), shop.home, "new-1", grace_s=0).erase()

    assert TITLE.encode() not in database.read_bytes()
