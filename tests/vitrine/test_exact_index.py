"""Exact search beyond the contract: blocks, an overlay that is compacted, several processes on one file."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from tests.indexed import COUNT, DIM, Twin, delete, found, make, queries, upsert
from vitrine.collection import open_collection
from vitrine.encoder import normalise
from vitrine.indexes import exact
from vitrine.ports import Condition


@pytest.fixture
def collection(tmp_path):
    return make(tmp_path / "c")


def test_answers_do_not_depend_on_how_many_queries_share_a_product(collection, monkeypatch):
    index, asked = exact.open(collection, {}), queries(30)
    together = index.search(asked, 7)
    monkeypatch.setattr(exact, "_SCORES_IN_MEMORY", 3 * COUNT)
    assert [found(hits) for hits in index.search(asked, 7)] == [found(hits) for hits in together]


@pytest.mark.parametrize("share", [0.0, 1.1], ids=["in place", "copied together"])
def test_both_ways_to_filter_give_the_same(collection, monkeypatch, share):
    monkeypatch.setattr(exact, "_COPIED_SHARE", share)
    index, twin = exact.open(collection, {}), Twin(collection)
    deltas = [
        upsert(1, "a", queries(1)[0], price=50.0),
        delete(2, "i0051"),
        upsert(3, "i0052", queries(1)[0], price=1.0),
    ]
    index.apply(deltas)
    twin.apply(deltas)
    hits = index.search(queries(3), 30, (Condition("price", low=40.0, high=70.0),))
    assert [found(one) for one in hits] == [
        twin.search(query, 30, lambda payload: 40 <= payload.get("price", -1) <= 70) for query in queries(3)
    ]


def test_an_item_that_changes_again_and_again_takes_no_more_room(collection):
    index, draw = exact.open(collection, {}), np.random.default_rng(2)
    for turn in range(1000):
        index.apply([upsert(turn + 1, f"i{turn % 5:04d}", normalise(draw.normal(size=(1, DIM)))[0])])
    assert index.count() == COUNT
    assert len(index._view) < COUNT + 100


def test_answers_after_the_overlay_was_compacted_equal_the_loop(collection):
    index, twin, draw = exact.open(collection, {}), Twin(collection), np.random.default_rng(2)
    for turn in range(300):
        item_id = f"i{draw.integers(0, 40):04d}"
        vector = normalise(draw.normal(size=(1, DIM)))[0]
        delta = delete(turn + 1, item_id) if turn % 4 == 3 else upsert(turn + 1, item_id, vector)
        index.apply([delta])
        twin.apply([delta])
    assert index.count() == len(twin.items)
    assert [found(hits) for hits in index.search(queries(4), 20)] == [twin.search(query, 20) for query in queries(4)]
    some = sorted(twin.items)[::7]
    np.testing.assert_array_equal(index.vectors(some), np.stack([twin.items[item_id][0] for item_id in some]))


def test_a_search_that_began_before_a_change_still_sees_its_own_view(collection):
    index = exact.open(collection, {})
    index.apply([upsert(1, "new", queries(1)[0])])
    before = index._view
    for turn in range(200):  # beyond the room that both share
        index.apply([upsert(turn + 2, f"more{turn}", queries(1, seed=3)[0])])
    assert len(before) == COUNT + 1
    np.testing.assert_array_equal(before.overlay.vectors, queries(1))


def test_without_files_it_is_not_found(collection):
    (collection.folder / "vectors.npy").unlink()
    with pytest.raises(exact.NotFound, match=r"vectors of collection .* are missing; make them again: vitrine promote"):
        exact.open(open_collection(collection.root), {})


def search_in_a_process(root: Path) -> list[list[str]]:
    index = exact.open(open_collection(root), {})
    index.apply([delete(1, "i0003")])
    return [found(hits) for hits in index.search(queries(5), 10)]


def test_several_processes_search_one_collection(collection):
    alone = search_in_a_process(collection.root)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(search_in_a_process, [collection.root] * 2) == [alone] * 2
