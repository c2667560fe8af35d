"""What every index promises: exact search, Qdrant's local mode, its engine, and a server where QDRANT_URL is set."""

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.edge_client import EdgeClient
from tests.indexed import COUNT, DIM, Twin, delete, found, make, queries, upsert
from vitrine import plugins
from vitrine.encoder import normalise
from vitrine.errors import BadInput, NotFound
from vitrine.ports import Condition, Delta

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

SERVER = os.environ.get("QDRANT_URL", "")
KINDS = {
    "exact": ("exact", {}),
    "qdrant-local": ("qdrant", {"location": ":memory:"}),
    "qdrant-engine": ("qdrant", {"client": EdgeClient()}),
} | ({"qdrant-server": ("qdrant", {"url": SERVER, "optimizers": {"indexing_threshold": 1}})} if SERVER else {})


def test_every_index_is_under_the_contract():
    assert {key for key, _ in KINDS.values()} == set(plugins.names("indexes"))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.skipif(not SERVER, reason="QDRANT_URL names no server: the contract ran over the engine and local mode")
def test_the_contract_also_runs_over_a_server():
    assert "qdrant-server" in KINDS


@pytest.fixture
def collection(tmp_path):
    return make(tmp_path / "c")


@pytest.fixture
def opened(kind):
    """Build and open; everything is dropped at the end."""
    module, options = plugin(kind)
    made = []

    def build_and_open(collection):
        module.build(collection, options)
        index = module.open(collection, options)
        made.append((collection, index))
        return index

    yield build_and_open
    for collection, index in made:
        index.close()
        module.drop(collection, options)


@pytest.fixture
def index(opened, collection):
    return opened(collection)


def plugin(kind):
    key, options = KINDS[kind]
    return plugins.load("indexes", key), options


def test_answers_equal_a_loop_over_all_rows(index, collection):
    asked = queries(9)
    for query, hits in zip(asked, index.search(asked, 10, exact=True), strict=True):
        assert found(hits) == Twin(collection).search(query, 10)


def test_scores_are_cosines_and_fall(index, collection):
    query = queries(1)
    hits = index.search(query, 20)[0]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(
            float(collection.vectors[collection.row_of[hit.item_id]] @ query[0]), abs=1e-5
        )


def test_hits_carry_the_payload_and_nothing_else(index, collection):
    hit = index.search(queries(1), 1)[0][0]
    assert dict(hit.payload) == collection.payloads[collection.row_of[hit.item_id]]


def test_more_hits_than_rows_gives_every_row(index):
    assert len(index.search(queries(1), COUNT + 50)[0]) == COUNT


def test_no_query_gives_no_answer(index):
    assert index.search(np.zeros((0, DIM), np.float32), 3) == []


def test_values_of_text_fields_filter(index, collection):
    query = queries(1)
    where = (Condition("label", any_of=("jug", "pan")),)
    expected = Twin(collection).search(query[0], 15, lambda payload: payload["label"] in ("jug", "pan"))
    assert found(index.search(query, 15, where, exact=True)[0]) == expected


def test_a_list_field_passes_if_it_holds_one_of_the_values(index, collection):
    query = queries(1)
    expected = Twin(collection).search(query[0], 15, lambda payload: "b" in payload["category"])
    assert found(index.search(query, 15, (Condition("category", any_of=("b",)),), exact=True)[0]) == expected


def test_ranges_hold_both_ends_and_items_without_the_number_never_pass(index):
    hits = index.search(queries(1), COUNT, (Condition("price", low=11.0, high=16.0),))[0]
    assert sorted(hit.payload["price"] for hit in hits) == [11.0, 12.0, 13.0, 14.0, 16.0]


def test_all_conditions_must_hold(index):
    where = (Condition("label", any_of=("mug",)), Condition("price", high=20.0))
    hits = index.search(queries(1), COUNT, where)[0]
    assert sorted(hit.payload["price"] for hit in hits) == [1.0, 4.0, 7.0, 13.0, 16.0, 19.0]


def test_a_filter_that_nothing_passes_gives_an_empty_list(index):
    assert index.search(queries(2), 3, (Condition("label", any_of=("none",)),)) == [[], []]


def test_an_unknown_filter_field_lists_the_known_ones(index):
    with pytest.raises(
        BadInput, match=r"no item has a field 'colour'; filter on one of: category, label, price, product_id"
    ):
        index.search(queries(1), 3, (Condition("colour", any_of=("red",)),))


def test_a_range_on_text_is_refused(index):
    with pytest.raises(BadInput, match="'label' holds text"):
        index.search(queries(1), 3, (Condition("label", low=1.0),))


def test_values_on_numbers_are_refused(index):
    with pytest.raises(BadInput, match="'price' holds numbers"):
        index.search(queries(1), 3, (Condition("price", any_of=("7",)),))


def test_an_empty_condition_is_refused(index):
    with pytest.raises(BadInput, match="either values or a range"):
        index.search(queries(1), 3, (Condition("price"),))


def test_a_vector_of_another_length_is_refused(index):
    with pytest.raises(BadInput, match=rf"shape \(1, 5\), this collection takes \(Q, {DIM}\)"):
        index.search(np.ones((1, 5), np.float32), 3)


def test_less_than_one_hit_is_refused(index):
    with pytest.raises(BadInput, match="ask for 1 or more"):
        index.search(queries(1), 0)


def test_stored_vectors_come_in_the_order_asked_for(index, collection):
    picked = index.vectors(["i0007", "i0003", "i0007"])
    np.testing.assert_array_equal(picked, collection.vectors[[7, 3, 7]])


def test_unknown_items_are_named(index):
    with pytest.raises(NotFound, match="holds no item nobody"):
        index.vectors(["i0003", "nobody"])


def test_it_counts_its_rows(index):
    assert index.count() == COUNT


def test_threads_get_the_same_answers(index):
    asked = queries(16)
    alone = [found(hits) for hits in index.search(asked, 5, exact=True)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: found(index.search(asked[row : row + 1], 5, exact=True)[0]), range(16)))
    assert together == alone


def test_building_again_changes_nothing(kind, index, collection):
    module, options = plugin(kind)
    module.build(collection, options)
    assert index.count() == COUNT


def test_dropping_twice_is_fine(kind, collection):
    module, options = plugin(kind)
    module.build(collection, options)
    module.drop(collection, options)
    module.drop(collection, options)

    collection.verify()  # raises Tampered if dropping an index had touched the collection's own files
    module.build(collection, options)
    again = module.open(collection, options)
    assert again.count() == COUNT
    again.close()


def test_equal_vectors_come_by_item_id_wherever_the_list_is_cut(opened, tmp_path):
    index = opened(make(tmp_path / "twins", vectors=np.repeat(queries(4, seed=5), 6, axis=0)))
    for depth in (1, 4, 6):
        answers = index.search(queries(4, seed=5), depth, exact=True)
        assert [found(hits) for hits in answers] == [[f"i{6 * n + m:04d}" for m in range(depth)] for n in range(4)]


def test_a_changed_item_keeps_its_place_among_equals(opened, tmp_path):
    same = np.repeat(queries(1, seed=5), 6, axis=0)
    index = opened(make(tmp_path / "twins", vectors=same))
    index.apply([upsert(1, "i0003", same[0]), upsert(2, "i0001b", same[0])])
    assert found(index.search(same[:1], 5, exact=True)[0]) == ["i0000", "i0001", "i0001b", "i0002", "i0003"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), low=st.floats(0, 120), label=st.sampled_from(["jug", "mug"]))
def test_filtered_answers_equal_the_loop(index, collection, seed, k, low, label):
    query = queries(1, seed=seed)
    where = (Condition("price", low=low), Condition("label", any_of=(label,)))
    expected = Twin(collection).search(
        query[0], k, lambda payload: payload.get("price", -1) >= low and payload["label"] == label
    )
    assert found(index.search(query, k, where, exact=True)[0]) == expected


# --- by product --------------------------------------------------------------------------------------


def test_a_search_by_product_finds_the_best_item_of_each(index, collection):
    for query, hits in zip(queries(5), index.search(queries(5), 8, exact=True, by_product=True), strict=True):
        assert found(hits) == Twin(collection).search(query, 8, by_product=True)


def test_items_without_a_product_count_as_one_each(index, collection):
    hits = index.search(queries(1), COUNT, exact=True, by_product=True)[0]
    alone = [
        item
        for item, payload in zip(collection.item_ids, collection.payloads, strict=True)
        if "product_id" not in payload
    ]
    assert set(alone) <= set(found(hits))
    assert len(hits) == len(alone) + len({p["product_id"] for p in collection.payloads if "product_id" in p})


def test_a_product_with_very_many_items_does_not_push_the_others_out(opened, tmp_path):
    collection = make(tmp_path / "c")
    index, query = opened(collection), queries(1)
    near = normalise(query + 0.01 * np.random.default_rng(3).normal(size=(60, DIM)))
    crowd = [upsert(n + 1, f"crowd{n}", vector, product_id="crowd") for n, vector in enumerate(near)]
    twin = Twin(collection)
    index.apply(crowd)
    twin.apply(crowd)
    assert found(index.search(query, 5, exact=True, by_product=True)[0]) == twin.search(query[0], 5, by_product=True)


def test_the_best_of_a_product_among_equals_is_the_first_by_id(opened, tmp_path):
    index = opened(make(tmp_path / "twins", vectors=np.repeat(queries(1, seed=5), 8, axis=0)))
    assert found(index.search(queries(1, seed=5), 3, exact=True, by_product=True)[0]) == ["i0000", "i0001", "i0004"]


def test_products_are_filtered_first(index, collection):
    where = (Condition("label", any_of=("mug",)),)
    hits = index.search(queries(1), 10, where, exact=True, by_product=True)[0]
    assert found(hits) == Twin(collection).search(
        queries(1)[0], 10, lambda payload: payload["label"] == "mug", by_product=True
    )


# --- changes -----------------------------------------------------------------------------------------


def test_an_added_item_is_found_with_its_payload(index):
    query = queries(1)
    index.apply([upsert(1, "new", query[0], price=3.5)])
    hit = index.search(query, 1)[0][0]
    assert (hit.item_id, dict(hit.payload)) == ("new", {"label": "new", "price": 3.5})
    assert index.count() == COUNT + 1


def test_a_replaced_item_is_found_by_its_new_vector_alone(index, collection):
    query = queries(1)
    index.apply([upsert(1, "i0005", query[0])])
    hits = index.search(query, COUNT, exact=True)[0]
    assert found(hits)[0] == "i0005"
    assert len(hits) == index.count() == COUNT
    np.testing.assert_array_equal(index.vectors(["i0005"]), query)


def test_a_deleted_item_is_not_found_and_not_counted(index, collection):
    query = collection.vectors[5:6]
    index.apply([delete(1, "i0005")])
    assert "i0005" not in found(index.search(query, COUNT, exact=True)[0])
    assert index.count() == COUNT - 1
    with pytest.raises(NotFound, match="holds no item i0005"):
        index.vectors(["i0005"])


def test_a_change_of_payload_alone_keeps_the_vector(index, collection):
    index.apply([Delta(1, "i0005", np.array(collection.vectors[5]), {"label": "jug", "price": 7.25})])
    where = (Condition("price", low=7.25, high=7.25),)
    assert found(index.search(queries(1), 5, where)[0]) == ["i0005"]
    np.testing.assert_array_equal(index.vectors(["i0005"]), collection.vectors[5:6])


def test_filters_see_what_changed_and_not_what_was(index):
    index.apply([upsert(1, "i0004", queries(1)[0], category=["b"], label="jug")])
    was = index.search(queries(1), COUNT, (Condition("category", any_of=("a",)),))[0]
    now = index.search(queries(1), COUNT, (Condition("category", any_of=("b",)), Condition("label", any_of=("jug",))))[
        0
    ]
    assert "i0004" not in found(was)
    assert "i0004" in found(now)


def test_a_field_that_came_with_a_change_can_be_filtered_on(index):
    index.apply([upsert(1, "new", queries(1)[0], colour="red"), upsert(2, "other", queries(1)[0], weight=2.0)])
    assert found(index.search(queries(1), 5, (Condition("colour", any_of=("red",)),))[0]) == ["new"]
    assert found(index.search(queries(1), 5, (Condition("weight", low=1.0),))[0]) == ["other"]


def test_a_product_that_came_with_a_change_is_one_with_the_items_it_joins(index, collection):
    query = collection.vectors[5:6]  # of product p1
    index.apply([upsert(1, "joined", query[0], product_id="p1"), upsert(2, "x", query[0], product_id="q")])
    hits = found(index.search(query, 3, exact=True, by_product=True)[0])
    assert hits[:2] == ["i0005", "x"]
    assert "joined" not in hits


def test_a_change_that_an_item_is_past_is_ignored(index):
    query = queries(1)
    index.apply([upsert(5, "new", query[0]), delete(5, "i0003")])
    index.apply([delete(4, "new"), upsert(3, "i0003", query[0])])
    assert found(index.search(query, 2, exact=True)[0])[0] == "new"
    with pytest.raises(NotFound):
        index.vectors(["i0003"])
    assert index.count() == COUNT


def test_changes_that_the_files_have_already_are_ignored(opened, tmp_path):
    index = opened(make(tmp_path / "c", seq=10))
    index.apply([delete(10, "i0003"), delete(9, "i0004"), delete(11, "i0005")])
    assert index.count() == COUNT - 1
    assert len(index.vectors(["i0003", "i0004"])) == 2


def test_a_deleted_item_can_come_back(index):
    index.apply([delete(1, "i0003")])
    index.apply([upsert(2, "i0003", queries(1)[0])])
    assert found(index.search(queries(1), 1)[0]) == ["i0003"]
    assert index.count() == COUNT


def test_of_several_changes_of_an_item_in_one_call_the_last_counts_whatever_their_order(index):
    index.apply([upsert(3, "i0003", queries(1)[0]), delete(2, "i0003"), upsert(1, "a", queries(1)[0]), delete(2, "a")])
    assert found(index.search(queries(1), 1)[0]) == ["i0003"]
    assert index.count() == COUNT


def test_no_change_changes_nothing(index):
    index.apply([])
    assert index.count() == COUNT


def test_a_changed_vector_of_another_length_is_refused(index):
    with pytest.raises(BadInput, match=rf"change 4 of item 'x' has shape \(3,\), this collection takes \({DIM},\)"):
        index.apply([upsert(4, "x", np.ones(3))])


def test_a_changed_vector_that_is_not_finite_is_refused(index):
    with pytest.raises(BadInput, match="the vector of change 4 of item 'x' is not finite"):
        index.apply([upsert(4, "x", np.full(DIM, np.nan))])


def test_half_a_deletion_is_refused(index):
    with pytest.raises(BadInput, match="a deletion has neither"):
        index.apply([Delta(1, "x", None, {"label": "jug"})])


def in_order(hits):
    """Local mode's item ids, best first, equal ones by id: numpy's sums differ in the last bit by where a vector lies."""
    assert all(one.score >= other.score - 1e-6 for one, other in itertools.pairwise(hits))
    return [hit.item_id for hit in sorted(hits, key=lambda hit: (-round(hit.score, 5), hit.item_id))]


CHANGES = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(["i0000", "i0001", "i0007", "i0008", "a", "z"]),
        st.sampled_from(["delete", "jug", "mug"]),
        st.integers(0, 5),
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(CHANGES, max_size=3))
@example(batches=[[(4, "i0000", "jug", 0), (4, "a", "delete", 0), (4, "z", "jug", 0)]])
def test_after_any_changes_answers_equal_the_loop(kind, tmp_path, batches):
    module, options = plugin(kind)
    collection = make(tmp_path / "c", count=20, seq=3)
    module.build(collection, options)
    index, twin, seen = module.open(collection, options), Twin(collection), set()
    ids = in_order if kind == "qdrant-local" else found
    for batch in batches:
        deltas = [
            delete(seq, item)
            if what == "delete"
            else upsert(seq, item, queries(6, seed=9)[place], label=what, product_id="p0")
            for seq, item, what, place in batch
            if (seq, item) not in seen and not seen.add((seq, item))  # a number is given out once
        ]
        index.apply(deltas)
        twin.apply(deltas)
    try:
        assert index.count() == len(twin.items)
        for by_product in (False, True):
            hits = index.search(queries(2), 25, exact=True, by_product=by_product)
            assert [ids(one) for one in hits] == [twin.search(query, 25, by_product=by_product) for query in queries(2)]
        only = index.search(queries(1), 25, (Condition("label", any_of=("jug",)),), exact=True)[0]
        assert ids(only) == twin.search(queries(1)[0], 25, lambda payload: payload["label"] == "jug")
    finally:
        index.close()
        module.drop(collection, options)


# --- several collections, several callers ------------------------------------------------------------


def test_two_collections_do_not_see_each_other(opened, tmp_path):
    one, other = opened(make(tmp_path / "a")), opened(make(tmp_path / "b", seed=4, version=8))
    one.apply([delete(1, "i0003"), upsert(2, "new", queries(1)[0])])
    assert other.count() == COUNT
    assert "new" not in found(other.search(queries(1), COUNT)[0])


def test_searches_while_items_change_see_each_before_or_after(index, collection):
    query, done = queries(1), threading.Event()
    step = max(1, COUNT // 24)

    def change():
        for turn in range(24):
            index.apply([upsert(turn + 1, f"i{turn * step:04d}", query[0])])
        done.set()

    with ThreadPoolExecutor(3) as pool:
        changing = pool.submit(change)
        while not done.is_set():
            hits = index.search(query, COUNT, exact=True)[0]
            assert len(set(found(hits))) == len(hits) == COUNT
        changing.result()
    assert [hit.score for hit in index.search(query, 24, exact=True)[0]] == pytest.approx([1.0] * 24, abs=1e-5)


def test_a_collection_opened_again_takes_the_same_changes(kind, index, collection):
    module, options = plugin(kind)
    deltas = [upsert(1, "new", queries(1)[0]), delete(2, "i0003")]
    index.apply(deltas)
    again = module.open(collection, options)
    again.apply(deltas)
    assert again.count() == index.count() == COUNT
    assert found(again.search(queries(1), 3)[0]) == found(index.search(queries(1), 3)[0])
    again.close()


def test_publishing_a_collection_changes_no_answer(kind, index, collection):
    module, options = plugin(kind)
    module.publish(collection, options)
    module.publish(collection, options)
    assert index.count() == COUNT


def test_a_forgotten_item_leaves_nothing_not_even_its_number(kind, index, collection):
    module, options = plugin(kind)
    index.apply([delete(5, "i0003")])
    module.forget(collection, ["i0003", "nobody"], options)
    assert index.count() == COUNT - 1
    if kind != "exact":  # its changes lie in memory alone
        index.apply([upsert(4, "i0003", queries(1)[0])])
        assert found(index.search(queries(1), 1)[0]) == ["i0003"]
