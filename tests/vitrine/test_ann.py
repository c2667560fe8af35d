import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.ann import most_excluded, recall_at_10, truth_in_parts, without_excluded
from vitrine.encoder import normalise
from vitrine.items import EvalProtocol, Item
from vitrine.qdrant_plan import parts_of
from vitrine.ranking import measure
from vitrine.relevance import relevance_of
from vitrine.retrieval import Retrieval

TWELVE_TWINS = np.eye(2, dtype=np.float32)[[0] * 12]


def drawn_task(gallery=90, queries=25, dim=6, seed=0, own=True):
    """A protocol with random vectors; with `own`, the queries are the gallery's first items, some of them twice there."""
    draw = np.random.default_rng(seed)
    vectors = normalise(draw.normal(size=(gallery, dim)))
    asked = vectors[:queries] if own else normalise(draw.normal(size=(queries, dim)))
    labels = [str(label) for label in draw.integers(0, 4, gallery)]
    ids = [f"g{row:03d}" for row in range(gallery)]
    query_ids = ids[:queries] if own else [f"q{row:03d}" for row in range(queries)]
    copies = (query_ids, [query_ids[row % queries] if row % 7 == 3 else ids[row] for row in range(gallery)])
    relevance = relevance_of(query_ids, ids, labels[:queries], labels, copies=copies if own else None)
    return Retrieval(
        dataset=None,
        protocol=EvalProtocol("default", ("test",), ("test",)),
        queries=[Item(name, (), label, "test") for name, label in zip(query_ids, labels[:queries], strict=True)],
        gallery=[Item(name, (), label, "test") for name, label in zip(ids, labels, strict=True)],
        query_vectors=asked,
        gallery_vectors=vectors,
        query_keys=labels[:queries],
        gallery_keys=labels,
        relevance=relevance,
        exact=measure(asked, vectors, relevance),
        seconds=0,
    )


def forbidden(task, query):
    queries, rows = task.excluded()
    return set(rows[queries == query].tolist())


def test_the_own_row_is_taken_out_wherever_it_stands():
    rows = np.array([[4, 2, 0], [1, 3, -1]])
    assert without_excluded(rows, (np.array([0]), np.array([2])), 3).tolist() == [[4, 0, -1], [1, 3, -1]]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_no_answer_is_left_out_as_a_loop_would(data):
    count, depth = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 8))
    lists = [data.draw(st.permutations(range(8))) for _ in range(count)]
    out = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, 7)), unique=True))
    pairs = tuple(np.array([pair[side] for pair in out], np.int64) for side in (0, 1))
    expected = [[row for row in rows if (query, row) not in out][:depth] for query, rows in enumerate(lists)]
    found = without_excluded(np.array(lists), pairs, depth)
    assert [[row for row in rows if row >= 0] for rows in found.tolist()] == expected


def test_an_answer_as_near_as_the_tenth_counts_as_found():
    truth = np.arange(10)[None]  # twelve twins: any ten are right
    assert recall_at_10(np.arange(2, 12)[None], truth, TWELVE_TWINS, TWELVE_TWINS[:1]).tolist() == [1.0]


def test_a_list_of_nothing_finds_nothing():
    assert recall_at_10(np.full((1, 10), -1), np.arange(10)[None], TWELVE_TWINS, TWELVE_TWINS[:1]).tolist() == [0.0]


def test_a_query_with_nothing_near_is_left_out():
    assert np.isnan(recall_at_10(np.arange(10)[None], np.full((1, 10), -1), TWELVE_TWINS, TWELVE_TWINS[:1])).all()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("parts", [1, 3, 10, 40])
def test_the_truth_behind_a_filter_is_that_of_a_loop(parts, own):
    task = drawn_task(own=own)
    found, numbers = truth_in_parts(task, parts), parts_of(len(task.gallery))
    for query in range(len(task.queries)):
        out = forbidden(task, query)
        rows = [row for row in range(len(numbers)) if numbers[row] % parts == query % parts and row not in out]
        scores = task.gallery_vectors @ task.query_vectors[query]
        best = sorted(rows, key=lambda row: (-float(scores[row]), row))[:10]
        assert found.rows[query, : len(best)].tolist() == best
        assert (found.rows[query, len(best) :] == -1).all()
        assert found.n_relevant[query] == sum(task.gallery_keys[row] == task.query_keys[query] for row in rows)


def test_without_a_filter_the_truth_is_the_exact_ranking():
    task = drawn_task()
    found = truth_in_parts(task, 1)
    np.testing.assert_array_equal(found.rows, task.exact.top_rows)
    np.testing.assert_array_equal(found.n_relevant, task.exact.n_relevant)


def test_the_most_excluded_places_are_those_of_one_query():
    task = drawn_task()
    assert most_excluded(task.excluded()) == max(len(forbidden(task, query)) for query in range(len(task.queries))) > 1
