from __future__ import annotations

import numpy as np
import pytest

from vitrine.classification import knn_predict, linear_probe, score_predictions
from vitrine.encoder import normalise
from vitrine.label_curve import Labelled, label_curve
from vitrine.sampling import stratified_rows


def clouds(count, seed, spread=0.9):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(5, 8))
    codes = rng.integers(0, 5, count)
    return Labelled(normalise(centres[codes] + spread * rng.normal(size=(count, 8))), [f"c{code}" for code in codes])


SIDES = clouds(300, 0), clouds(100, 1), clouds(200, 2)


@pytest.fixture(scope="module")
def curve():
    return label_curve(*SIDES, k=5)


def test_each_point_is_the_mean_over_draws_made_by_hand(curve):
    train, val, queries = SIDES
    knn, probe = [], []
    for seed in range(3):
        some = train.part(stratified_rows(train.labels, 0.05, seed))
        near = knn_predict(some.vectors, some.labels, queries.vectors, 5)
        line = linear_probe(some.vectors, some.labels, val.vectors, val.labels, queries.vectors).predicted
        knn.append(score_predictions(queries.labels, near).accuracy)
        probe.append(score_predictions(queries.labels, line).accuracy)
    point = curve[1]
    assert (point.share, point.draws) == (0.05, 3)
    assert (point.knn, point.knn_spread) == (pytest.approx(np.mean(knn)), pytest.approx(np.std(knn, ddof=1)))
    assert (point.probe, point.probe_spread) == (pytest.approx(np.mean(probe)), pytest.approx(np.std(probe, ddof=1)))


def test_one_in_a_hundred_labels_is_still_one_of_each(curve):
    assert curve[0].items == 5


def test_more_labels_make_a_better_classifier(curve):
    assert curve[0].probe < curve[-1].probe
    assert curve[0].knn < curve[-1].knn


def test_a_single_draw_has_no_spread():
    point = label_curve(*SIDES, k=5, shares=(0.25,), seeds=1)[0]
    assert (point.knn_spread, point.probe_spread) == (None, None)
