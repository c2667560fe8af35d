from __future__ import annotations

import numpy as np
import pytest

from vitrine.calibration import measure_confidence
from vitrine.classification import score_predictions
from vitrine.score_intervals import RESAMPLES, score_intervals
from vitrine.stats import expanded_tail, unit_draws

NAMES = ["cup", "mug", "pot", "vase"]


def scored(seed, products=40, photos=4, skill=0.7):
    """A classifier that is right more often on some products than on others, with its probabilities."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 4, products), photos)
    units = [f"p{unit}" for unit in np.repeat(np.arange(products), photos)]
    right = rng.random(len(labels)) < np.repeat(np.clip(rng.normal(skill, 0.15, products), 0, 1), photos)
    answers = np.where(right, labels, (labels + rng.integers(1, 4, len(labels))) % 4)
    probabilities = rng.random((len(labels), 4)) * 0.2
    probabilities[np.arange(len(labels)), answers] += rng.uniform(0.3, 1.5, len(labels))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = measure_confidence(probabilities, labels)
    import dataclasses

    true = [NAMES[label] for label in labels]
    scores = dataclasses.replace(
        score_predictions(true, [NAMES[answer] for answer in probabilities.argmax(axis=1)]),
        confidence=found.scores,
        per_item=found.per_item,
        bins=found.bins,
    )
    return true, scores, units


def test_every_score_has_an_interval_around_it():
    true, scores, units = scored(0)
    found = score_intervals(true, scores, units, unit="product_id")
    named = {name.partition("/")[2]: value for name, value in scores.named("own").items()}
    assert set(found) == set(named)
    for name, interval in found.items():
        assert interval.value == pytest.approx(named[name]), name
        assert interval.low <= interval.high, name
    for name in ("accuracy", "f1_macro", "precision_weighted", "brier"):
        assert found[name].low < named[name] < found[name].high, name


def test_a_macro_average_is_made_again_from_the_items_of_the_drawn_products():
    """The slow twin: gather the items of every draw and score them afresh."""
    true, scores, units = scored(1, products=12)
    found = score_intervals(true, scores, units, unit="product_id")["f1_macro"]
    names, codes = np.unique(np.array(units), return_inverse=True)
    values = []
    for drawn in unit_draws(len(names), RESAMPLES, 0):
        for line in drawn.astype(int):
            rows = np.repeat(np.arange(len(true)), line[codes])
            again = score_predictions([true[row] for row in rows], [scores.answers[row] for row in rows])
            values.append(again.f1_macro)
    tail = expanded_tail(0.95, np.bincount(codes).astype(float))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (tail, 1 - tail))))


def test_a_calibration_error_is_made_again_from_the_items_of_the_drawn_products():
    true, scores, units = scored(2, products=12)
    found = score_intervals(true, scores, units, unit="product_id")["ece"]
    names, codes = np.unique(np.array(units), return_inverse=True)
    gaps, bins, values = scores.per_item["ece"], scores.bins["ece"], []
    for drawn in unit_draws(len(names), RESAMPLES, 0):
        for line in drawn.astype(int):
            rows = np.repeat(np.arange(len(true)), line[codes])
            values.append(sum(abs(gaps[rows][bins[rows] == place].sum()) for place in set(bins[rows])) / len(rows))
    tail = expanded_tail(0.95, np.bincount(codes).astype(float))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (tail, 1 - tail))))


def test_intervals_of_the_macro_f1_cover_the_truth():
    truth = np.mean([scored(1000 + seed, products=400)[1].f1_macro for seed in range(40)])
    covered = 0
    for seed in range(200):
        interval = score_intervals(*scored(seed), unit="product_id")["f1_macro"]
        covered += interval.low <= truth <= interval.high
    assert covered / 200 >= 0.9


def test_one_unit_leaves_the_averages_without_an_interval():
    true, scores, _ = scored(3, products=2)
    found = score_intervals(true, scores, ["p"] * len(true), unit="product_id")
    assert "f1_macro" not in found
    assert found["accuracy"].low == -np.inf
