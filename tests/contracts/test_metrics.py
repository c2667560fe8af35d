"""What every metric keeps to; a new entry of `METRICS` is covered without an edit here."""

from __future__ import annotations

import numpy as np
import pytest

from vitrine.metrics import METRICS, Answers, compute_metrics, ranking_metrics, resolve_metric

names = pytest.mark.parametrize("name", METRICS)


def column(relevant: np.ndarray, counts: np.ndarray, name: str) -> np.ndarray:
    """A graded metric gets grades of 0 and 1, which any graded metric must take."""
    if not METRICS[name].needs_grades:
        return ranking_metrics(relevant, counts, full=True)[name]
    ranks = np.array([[*np.flatnonzero(row) + 1.0, *[np.inf] * int((~row).sum())] for row in relevant])
    ideal = np.arange(10) < counts[:, None]
    return compute_metrics(Answers(ranks, counts, relevant[:, :10].astype(float), ideal.astype(float)))[name]


def random_lists(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    relevant = rng.random((40, 30)) < rng.random((40, 1))
    relevant[:, 3] = True
    return relevant


@names
def test_it_lies_between_zero_and_one(name):
    relevant = random_lists()
    values = column(relevant, relevant.sum(axis=1), name)
    assert values.dtype == np.float64
    assert values.min() >= 0
    assert values.max() <= 1 + 1e-12


@names
def test_a_perfect_ranking_of_one_relevant_item_scores_one(name):
    relevant = np.zeros((1, 30), bool)
    relevant[0, 0] = True
    best = 1 / METRICS[name].depth if name.startswith("precision") else 1.0  # k places, one of them filled
    assert column(relevant, np.array([1]), name)[0] == pytest.approx(best)


@names
def test_moving_a_hit_up_never_lowers_it(name):
    relevant = random_lists(1)
    better = relevant.copy()
    for row in better:
        place = np.flatnonzero(row)[-1]
        wrong = np.flatnonzero(~row[:place])
        if len(wrong):
            row[[wrong[0], place]] = True, False
    counts = relevant.sum(axis=1)
    assert (column(better, counts, name) >= column(relevant, counts, name) - 1e-12).all()


@names
def test_a_cut_list_gives_the_full_value_or_none(name):
    relevant = random_lists(2)
    counts = relevant.sum(axis=1)
    cut = ranking_metrics(relevant[:, :10], counts, full=False)
    if name in cut:
        np.testing.assert_allclose(cut[name], column(relevant, counts, name))


@names
def test_it_says_what_it_is(name):
    metric = METRICS[name]
    assert metric.name == name == resolve_metric(name)
    assert metric.definition.endswith(".")
    assert metric.needs_full_depth != bool(metric.depth)
