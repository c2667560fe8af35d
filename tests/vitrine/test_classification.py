from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from vitrine.classification import (
    choose_abstain,
    expected_calibration_error,
    fit_temperature,
    knn_predict,
    linear_probe,
    score_predictions,
    softmax,
)
from vitrine.errors import BadInput

answers = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(answers, st.one_of(st.none(), st.just(list("abcdf"))))
def test_scores_equal_scikit_learn(pairs, labels):
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ours = score_predictions(true, predicted, labels)
    theirs = precision_recall_fscore_support(true, predicted, labels=labels, average="macro", zero_division=0)
    np.testing.assert_allclose((ours.precision_macro, ours.recall_macro, ours.f1_macro), theirs[:3])
    assert ours.accuracy == pytest.approx(accuracy_score(true, predicted))


@settings(max_examples=100, deadline=None)
@given(answers)
def test_scores_equal_counting_by_hand(pairs):
    ours = score_predictions([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    labels = sorted({label for pair in pairs for label in pair})
    recalls = []
    for label in labels:
        asked = [given for true, given in pairs if true == label]
        recalls.append(asked.count(label) / len(asked) if asked else 0.0)
    assert ours.recall_macro == pytest.approx(sum(recalls) / len(labels))
    assert ours.correct.tolist() == [true == given for true, given in pairs]


def test_an_abstention_is_a_wrong_answer():
    scores = score_predictions(["a", "b"], ["a", ""], ["a", "b"])
    assert (scores.accuracy, scores.recall_macro, scores.n) == (0.5, 0.5, 2)


def test_scores_are_named_as_in_result_files():
    assert set(score_predictions(["a"], ["a"]).named("knn")) == {
        "knn/accuracy",
        "knn/precision_macro",
        "knn/recall_macro",
        "knn/f1_macro",
    }


def test_nothing_to_score_is_refused():
    with pytest.raises(BadInput, match="give one of each an item"):
        score_predictions([], [])


def loop_knn(train, labels, query, k):
    order = sorted(range(len(train)), key=lambda row: (-float(train[row] @ query), row))[:k]
    votes: dict[str, float] = {}
    for row in order:  # insertion order is nearness, and max keeps the first of equals
        votes[labels[row]] = votes.get(labels[row], 0.0) + max(float(train[row] @ query), 1e-6)
    return max(votes, key=lambda label: votes[label])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.tuples(*[st.integers(-2, 2)] * 2), st.sampled_from("abc")), min_size=1, max_size=12),
    st.tuples(*[st.integers(-2, 2)] * 2),
    st.integers(1, 6),
)
def test_neighbours_vote_as_the_plain_loop_does(pairs, query, k):
    train, labels = np.array([pair[0] for pair in pairs], "f4"), [pair[1] for pair in pairs]
    vector = np.array([query], "f4")
    assert knn_predict(train, labels, vector, k) == [loop_knn(train, labels, vector[0], k)]


def clouds(count: int, seed: int, spread: float = 0.4) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(4, 8))
    codes = rng.integers(0, 4, count)
    vectors = centres[codes] + spread * rng.normal(size=(count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype("f4"), [f"class-{code}" for code in codes]


def test_both_probes_learn_separate_clouds():
    train, val, test = clouds(200, 0), clouds(80, 1), clouds(100, 2)
    probe = linear_probe(*train, *val, test[0])
    assert score_predictions(test[1], probe.predicted).accuracy > 0.95
    assert score_predictions(test[1], knn_predict(*train, test[0])).accuracy > 0.95
    assert probe.val_accuracy > 0.95


def test_a_probe_gives_the_same_answer_twice():
    train, val, test = clouds(100, 0, 1.0), clouds(40, 1, 1.0), clouds(50, 2, 1.0)
    assert linear_probe(*train, *val, test[0]) == linear_probe(*train, *val, test[0])


def test_one_class_needs_no_fit():
    probe = linear_probe(np.eye(2), ["a", "a"], np.eye(2), ["a", "b"], np.eye(2))
    assert (probe.predicted, probe.val_accuracy) == (["a", "a"], 0.5)


def test_no_training_items_are_refused():
    with pytest.raises(BadInput, match="0 training vectors and 0 labels"):
        knn_predict(np.zeros((0, 4)), [], np.zeros((1, 4)))


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
