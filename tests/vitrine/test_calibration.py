from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, top_k_accuracy_score

from vitrine.calibration import (
    choose_abstain,
    fit_temperature,
    measure_confidence,
    softmax,
)
from vitrine.errors import BadInput


def expected_calibration_error(probabilities, y, bins=15):
    return measure_confidence(probabilities, y, bins=bins).scores["ece"]


def adaptive_calibration_error(probabilities, y, bins=15):
    return measure_confidence(probabilities, y, bins=bins).scores["ece_adaptive"]


def brier_score(probabilities, y):
    return measure_confidence(probabilities, y).scores["brier"]


def top_k_accuracy(probabilities, y, k=5):
    return measure_confidence(probabilities, y, k=k).scores[f"top{k}_accuracy"]


def test_temperature_recovers_the_scale_of_the_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 5)) * 2
    y = np.array([rng.choice(5, p=row) for row in softmax(logits)])
    assert fit_temperature(logits * 3, y) == pytest.approx(3, rel=0.05)


def test_temperature_is_as_good_as_the_best_of_a_fine_grid():
    rng = np.random.default_rng(1)
    logits, y = rng.normal(size=(300, 4)) * 4, rng.integers(0, 4, 300)
    logits[np.arange(300), y] += 4

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits, temperature)[np.arange(300), y] + 1e-300).mean())

    assert loss(fit_temperature(logits, y)) <= min(loss(t) for t in np.geomspace(0.02, 50, 400)) + 1e-9


def test_calibration_error_equals_the_binned_loop():
    rng = np.random.default_rng(2)
    probabilities, y = softmax(rng.normal(size=(200, 3))), rng.integers(0, 3, 200)
    total = 0.0
    for place in range(15):
        rows = [row for row in range(200) if place / 15 < probabilities[row].max() <= (place + 1) / 15]
        if rows:
            confidence = np.mean([probabilities[row].max() for row in rows])
            accuracy = np.mean([probabilities[row].argmax() == y[row] for row in rows])
            total += len(rows) / 200 * abs(confidence - accuracy)
    assert expected_calibration_error(probabilities, y) == pytest.approx(total)


def test_perfect_confident_answers_have_no_calibration_error():
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0.0


def binary(confidences: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    top = np.array(confidences)
    return np.stack([top, 1 - top], axis=1), np.array([0 if hit else 1 for hit in right])


def test_abstention_takes_the_lowest_threshold_that_is_right_often_enough():
    values = binary([0.99, 0.9, 0.8, 0.7, 0.6], [True, True, False, True, False])
    assert choose_abstain(*values, precision=0.75) == pytest.approx(0.7)
    assert choose_abstain(*values, precision=0.9) == pytest.approx(0.9)


def test_equal_confidences_are_accepted_together():
    values = binary([0.9, 0.9, 0.6], [True, False, False])
    assert choose_abstain(*values, precision=1.0) == pytest.approx(0.9)


def test_out_of_reach_abstention_takes_the_best_that_still_answers_one_in_twenty():
    confidences = [0.999] + [0.9] * 10 + [0.6] * 89
    right = [False] + [True] * 5 + [False] * 5 + [False] * 89
    assert choose_abstain(*binary(confidences, right), precision=0.95) == pytest.approx(0.9)


def test_calibration_without_items_is_refused():
    with pytest.raises(BadInput, match="n >= 1"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def drawn(seed: int, classes: int = 7, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return softmax(rng.normal(size=(count, classes)) * 2), rng.integers(0, classes, count)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_top_k_accuracy_equals_scikit_learns(seed, k):
    probabilities, y = drawn(seed)
    theirs = top_k_accuracy_score(y, probabilities, k=k, labels=range(7))
    assert top_k_accuracy(probabilities, y, k) == pytest.approx(theirs)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_the_brier_score_equals_scikit_learns(seed):
    probabilities, y = drawn(seed)
    theirs = brier_score_loss(y, probabilities, labels=range(7), scale_by_half=False)
    assert brier_score(probabilities, y) == pytest.approx(theirs)


def test_a_class_without_a_column_is_answered_wrongly_by_everybody():
    probabilities, unknown = np.array([[0.75, 0.25]]), np.array([-1])
    assert top_k_accuracy(probabilities, unknown, 2) == 0
    assert brier_score(probabilities, unknown) == pytest.approx(0.75**2 + 0.25**2 + 1)
    assert expected_calibration_error(probabilities, unknown) == pytest.approx(0.75)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80))
def test_the_adaptive_calibration_error_equals_the_loop_over_equal_bins(seed, bins):
    probabilities, y = drawn(seed)
    order = sorted(range(60), key=lambda row: probabilities[row].max())
    number, total, begin = min(bins, 60), 0.0, 0
    for place in range(number):
        size = 60 // number + (place < 60 % number)
        rows = order[begin : begin + size]
        begin += size
        confidence = np.mean([probabilities[row].max() for row in rows])
        accuracy = np.mean([probabilities[row].argmax() == y[row] for row in rows])
        total += size / 60 * abs(confidence - accuracy)
    assert adaptive_calibration_error(probabilities, y, bins) == pytest.approx(total)


def test_equal_bins_see_what_bins_of_equal_width_cancel():
    """One wide bin holds an over- and an under-confident half, whose errors cancel; equally filled ones tell them apart."""
    top = np.concatenate([np.full(50, 0.95), np.full(50, 0.96)])
    probabilities = np.stack([top, 1 - top], axis=1)
    y = np.array([0] * 50 + [1] * 5 + [0] * 45)
    assert expected_calibration_error(probabilities, y, 5) == pytest.approx(0.005)
    assert adaptive_calibration_error(probabilities, y, 2) == pytest.approx((0.05 + 0.06) / 2)
