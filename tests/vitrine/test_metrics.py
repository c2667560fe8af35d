from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional.retrieval as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.metrics import METRICS, ranking_metrics, resolve_metric

UNGRADED = [name for name, metric in METRICS.items() if not metric.needs_grades]


def loop_metrics(relevant: list[bool], n: int) -> dict[str, float]:
    """The definitions again, one query, plain loops, full depth."""
    if n == 0:
        return dict.fromkeys(UNGRADED, math.nan)

    def hits(k: int) -> int:
        return sum(1 for place, hit in enumerate(relevant) if hit and place < k)

    def precisions(k: int) -> float:
        return sum(hits(place + 1) / (place + 1) for place, hit in enumerate(relevant) if hit and place < k)

    def gain(k: int) -> float:
        return sum(1 / math.log2(place + 2) for place, hit in enumerate(relevant) if hit and place < k)

    def best(k: int) -> float:
        return sum(1 / math.log2(place + 2) for place in range(min(n, k)))

    values = {
        "mmp@5": hits(min(5, n)) / min(5, n),
        "mr@1": hits(1),
        "map@10[/min(R,k)]": precisions(10) / min(n, 10),
        "map[/R]": precisions(len(relevant)) / n,
        "map@R[/R]": precisions(n) / n,
        "r_precision": hits(n) / n,
        "mrr": next((1 / (place + 1) for place, hit in enumerate(relevant) if hit), 0.0),
        "ndcg@10": gain(10) / best(10),
        "ndcg": gain(len(relevant)) / best(n),
        "map@5[/min(R,k)]": precisions(5) / min(n, 5),
        "map@10[/R]": precisions(10) / n,
        "precision@5[/k]": hits(5) / 5,
        "precision@10[/k]": hits(10) / 10,
    }
    for k in (1, 5, 10):
        values[f"hit_rate@{k}"] = min(1, hits(k))
        values[f"recall@{k}[/R]"] = hits(k) / n
    return values


rankings = st.integers(0, 25).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=6)
)


@settings(max_examples=200, deadline=None)
@given(rankings)
def test_every_metric_equals_its_plain_loop(lists):
    relevant = np.array(lists, bool).reshape(len(lists), -1)
    columns = ranking_metrics(relevant, relevant.sum(axis=1), full=True)
    assert set(columns) == set(UNGRADED)
    for row, hits in enumerate(lists):
        expected = loop_metrics(hits, sum(hits))
        for name, column in columns.items():
            np.testing.assert_allclose(column[row], expected[name], rtol=1e-12, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=10, max_size=30).filter(any))
def test_torchmetrics_agrees_where_it_defines_the_same(hits):
    target = torch.tensor(hits)
    scores = torch.arange(len(hits), 0, -1, dtype=torch.float64) / len(hits)
    ours = {
        name: column[0] for name, column in ranking_metrics(np.array([hits]), np.array([sum(hits)]), full=True).items()
    }
    theirs = {
        "mrr": reference.retrieval_reciprocal_rank(scores, target),
        "map[/R]": reference.retrieval_average_precision(scores, target),
        "r_precision": reference.retrieval_r_precision(scores, target),
        "ndcg@10": reference.retrieval_normalized_dcg(scores, target, top_k=10),
        "mr@1": reference.retrieval_precision(scores, target, top_k=1),
    }
    for k in (1, 5, 10):
        theirs[f"hit_rate@{k}"] = reference.retrieval_hit_rate(scores, target, top_k=k)
        theirs[f"recall@{k}[/R]"] = reference.retrieval_recall(scores, target, top_k=k)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), abs=1e-6), name


def test_map_at_10_differs_from_the_definition_that_divides_by_hits():
    relevant = np.zeros((1, 20), bool)
    relevant[0, 0] = relevant[0, 15] = True
    ours = ranking_metrics(relevant, np.array([2]), full=True)["map@10[/min(R,k)]"][0]
    theirs = reference.retrieval_average_precision(torch.arange(20, 0, -1.0), torch.from_numpy(relevant[0]), top_k=10)
    assert (ours, float(theirs)) == (0.5, 1.0)


def test_a_rare_label_can_reach_a_perfect_modified_precision():
    relevant = np.array([[True, True, False, False, False, False]])
    assert ranking_metrics(relevant, np.array([2]), full=False)["mmp@5"][0] == 1.0


def test_hits_after_the_first_r_answers_do_not_count_for_modified_precision():
    relevant = np.array([[False, False, True, True, False]])
    assert ranking_metrics(relevant, np.array([2]), full=False)["mmp@5"][0] == 0.0


def test_a_query_with_nothing_to_find_is_nan_in_every_column():
    columns = ranking_metrics(np.zeros((2, 12), bool), np.array([0, 1]), full=True)
    assert all(np.isnan(column[0]) and not np.isnan(column[1]) for column in columns.values())


def test_a_cut_list_leaves_out_what_it_cannot_know():
    columns = ranking_metrics(np.zeros((1, 10), bool), np.array([30]), full=False)
    assert set(METRICS) - set(columns) == {"map[/R]", "map@R[/R]", "mrr", "r_precision", "ndcg", "ndcg@10[tree]"}


def test_a_short_cut_list_leaves_out_the_deeper_cut_offs_too():
    columns = ranking_metrics(np.zeros((1, 3), bool), np.array([30]), full=False)
    assert set(columns) == {"mr@1", "hit_rate@1", "recall@1[/R]"}


def test_r_precision_needs_a_list_as_long_as_the_largest_r():
    relevant = np.zeros((2, 10), bool)
    assert "r_precision" in ranking_metrics(relevant, np.array([10, 3]), full=False)
    assert "r_precision" not in ranking_metrics(relevant, np.array([11, 3]), full=False)


def test_a_small_gallery_counts_as_filled_up_with_wrong_answers():
    columns = ranking_metrics(np.array([[False, True]]), np.array([1]), full=True)
    assert columns["hit_rate@10"][0] == 1.0
    assert columns["recall@10[/R]"][0] == 1.0
    assert columns["ndcg@10"][0] == pytest.approx(1 / math.log2(3))


def test_no_queries_give_empty_columns():
    columns = ranking_metrics(np.zeros((0, 10), bool), np.zeros(0, int), full=True)
    assert all(column.shape == (0,) for column in columns.values())


def test_more_hits_than_relevant_items_is_refused():
    with pytest.raises(BadInput, match="query 0 has 2 hits but n_relevant says 1"):
        ranking_metrics(np.array([[True, True]]), np.array([1]), full=True)


def test_a_list_of_the_wrong_shape_is_refused():
    with pytest.raises(BadInput, match=r"give \(queries, ranks\)"):
        ranking_metrics(np.zeros((2, 3), bool), np.array([1]), full=True)


@pytest.mark.parametrize(("text", "name"), [("map@10", "map@10[/min(R,k)]"), ("map", "map[/R]"), ("mmp@5", "mmp@5")])
def test_a_short_name_resolves_to_the_full_one(text, name):
    assert resolve_metric(text) == name


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(BadInput, match=r"no metric 'recall@7'; the metrics are mmp@5, mr@1, hit_rate@1"):
        resolve_metric("recall@7")
