from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from vitrine import classification
from vitrine.classification import Confusion, confusions, knn_predict, linear_probe, score_predictions
from vitrine.errors import BadInput, Unsupported

answers = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(answers, st.one_of(st.none(), st.just(list("abcdf"))))
def test_scores_equal_scikit_learn(pairs, labels):
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ours = score_predictions(true, predicted, labels)
    theirs = precision_recall_fscore_support(true, predicted, labels=labels, average="macro", zero_division=0)
    np.testing.assert_allclose((ours.precision_macro, ours.recall_macro, ours.f1_macro), theirs[:3])
    theirs = precision_recall_fscore_support(true, predicted, labels=labels, average="weighted", zero_division=0)
    np.testing.assert_allclose((ours.precision_weighted, ours.recall_weighted, ours.f1_weighted), theirs[:3])
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
    scores = dataclasses.replace(score_predictions(["a"], ["a"]), confidence={"ece": 0.25})
    means = [f"{kind}_{mean}" for kind in ("precision", "recall", "f1") for mean in ("macro", "weighted")]
    assert set(scores.named("knn")) == {f"knn/{name}" for name in ("accuracy", "ece", *means)}
    assert scores.named("knn")["knn/ece"] == 0.25


@settings(max_examples=100, deadline=None)
@given(answers)
def test_confusions_are_the_confusion_matrix_off_its_diagonal(pairs):
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    matrix, names = confusion_matrix(true, predicted, labels=list("abcde")), "abcde"
    theirs = [
        Confusion(names[row], names[column], int(matrix[row, column]))
        for row in range(5)
        for column in range(5)
        if row != column and matrix[row, column]
    ]
    assert confusions(true, predicted) == sorted(theirs, key=lambda one: (-one.count, one.label, one.answer))


def test_confusions_of_unequal_lengths_are_refused():
    with pytest.raises(BadInput, match="2 true labels and 1 predictions"):
        confusions(["a", "b"], ["a"])


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
    first, second = (linear_probe(*train, *val, test[0]) for _ in range(2))
    assert (first.predicted, first.strength) == (second.predicted, second.strength)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_a_probe_is_multinomial_logistic_regression():
    train, test = clouds(150, 0, 1.0), clouds(60, 2, 1.0)
    probe = linear_probe(*train, np.zeros((0, 8)), [], test[0])
    theirs = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(train[0].astype(float), train[1])
    np.testing.assert_allclose(probe.probabilities, theirs.predict_proba(test[0].astype(float)), atol=0.03)
    assert probe.names == list(theirs.classes_)
    assert (probe.strength, probe.converged, probe.items) == (1.0, True, 150)


def test_validation_chooses_the_probes_strength():
    train, val, test = clouds(60, 0, 1.5), clouds(300, 1, 1.5), clouds(5, 2)
    right = {}
    for strength in classification.PROBE_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=5000).fit(*train)
        right[strength] = model.score(*val)
    probe = linear_probe(*train, *val, test[0])
    assert right[probe.strength] == pytest.approx(max(right.values()), abs=0.01)
    assert probe.val_accuracy == pytest.approx(right[probe.strength], abs=0.01)


def test_a_probe_that_ran_out_of_steps_says_so(monkeypatch):
    monkeypatch.setattr(classification, "_MOST_STEPS", 2)
    train, test = clouds(100, 0, 1.0), clouds(5, 2)
    assert not linear_probe(*train, *clouds(20, 1), test[0]).converged


def test_a_probe_learns_from_a_sample_where_there_is_too_much(monkeypatch):
    monkeypatch.setattr(classification, "PROBE_WORK", 8 * 4 * 50)  # dimensions, labels, items
    train, test = clouds(400, 0), clouds(100, 2)
    probe = linear_probe(*train, *clouds(50, 1), test[0])
    assert 46 <= probe.items <= 54
    assert score_predictions(test[1], probe.predicted).accuracy > 0.9


def test_too_many_labels_for_a_probe_are_unsupported(monkeypatch):
    monkeypatch.setattr(classification, "PROBE_WORK", 8 * 4 * 3)
    with pytest.raises(Unsupported, match="4 labels of 8 dimensions are too many for a linear probe"):
        linear_probe(*clouds(100, 0), *clouds(5, 1), clouds(5, 2)[0])


def test_one_class_needs_no_fit():
    probe = linear_probe(np.eye(2), ["a", "a"], np.eye(2), ["a", "b"], np.eye(2))
    assert (probe.predicted, probe.val_accuracy) == (["a", "a"], 0.5)


def test_no_training_items_are_refused():
    with pytest.raises(BadInput, match="0 training vectors and 0 labels"):
        knn_predict(np.zeros((0, 4)), [], np.zeros((1, 4)))
