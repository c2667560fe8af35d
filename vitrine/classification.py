"""Classifying with embeddings: scores, two probes on frozen vectors, and how far a confidence can be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput
from vitrine.ranking import nearest

Floats = NDArray[np.float64]
PROBE_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one classifier on one set of items.

    Attributes:
        accuracy: share of right answers.
        precision_macro: mean over the labels of right answers / answers with that label (0 where never answered).
        recall_macro: mean over the labels of right answers / items with that label (0 where none).
        f1_macro: mean over the labels of their harmonic mean.
        n: items scored.
        correct: bool (n,), per item.
    """

    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    n: int
    correct: NDArray[np.bool_]

    def named(self, prefix: str) -> dict[str, float]:
        """The four scores under `prefix/`, as result files name them."""
        names = ("accuracy", "precision_macro", "recall_macro", "f1_macro")
        return {f"{prefix}/{name}": float(getattr(self, name)) for name in names}


def score_predictions(
    true: Sequence[str], predicted: Sequence[str], labels: Sequence[str] | None = None
) -> ClassificationScores:
    """Score answers; an answer outside `labels` (such as "" for an abstention) is simply wrong.

    Args:
        true: n labels.
        predicted: n answers.
        labels: what the macro means run over; None for every label that occurs on either side.

    Raises:
        BadInput: lengths differ, or there is nothing to score.
    """
    if len(true) != len(predicted) or not len(true):
        raise BadInput(f"{len(true)} true labels and {len(predicted)} predictions; give one of each an item")
    truth, answers = np.asarray(true, dtype=str), np.asarray(predicted, dtype=str)
    names = sorted({*true, *predicted} if labels is None else set(labels))
    correct = truth == answers
    hits, asked, answered = (_counts(side, names) for side in (truth[correct], truth, answers))
    precision = hits / np.maximum(answered, 1)
    recall = hits / np.maximum(asked, 1)
    f1 = 2 * hits / np.maximum(asked + answered, 1)
    macro = [float(column.mean()) for column in (precision, recall, f1)]
    return ClassificationScores(float(correct.mean()), macro[0], macro[1], macro[2], len(truth), correct)


def _counts(side: NDArray[np.str_], names: Sequence[str]) -> Floats:
    found = dict(zip(*np.unique(side, return_counts=True), strict=True))
    return np.array([found.get(name, 0) for name in names], np.float64)


def knn_predict(
    train_vectors: NDArray[np.floating], train_labels: Sequence[str], vectors: NDArray[np.floating], k: int = 5
) -> list[str]:
    """Labels by a vote of the k nearest training items, each weighing its cosine (at least 1e-6).

    Equal votes go to the label with the nearer neighbour, equal neighbours to the lower training row.

    Args:
        train_vectors: (N, D), unit length.
        train_labels: N labels.
        vectors: (Q, D), unit length.
        k: voters; fewer where there are fewer training items.

    Raises:
        BadInput: nothing to learn from, or shapes do not fit.
    """
    _check_training(train_vectors, train_labels)
    if k < 1:
        raise BadInput(f"k={k}: at least one neighbour must vote", field="k")
    names, codes = np.unique(np.asarray(train_labels, dtype=str), return_inverse=True)
    winners: list[str] = []
    for block in nearest(vectors, train_vectors, depth=k):
        voters = codes[block.rows]
        weights = np.maximum(block.scores, 1e-6).astype(np.float64)
        votes = ((voters[:, :, None] == voters[:, None, :]) * weights[:, None, :]).sum(axis=2)
        best = votes.argmax(axis=1)
        winners.extend(str(names[code]) for code in voters[np.arange(len(voters)), best])
    return winners


@dataclass(frozen=True)
class Probe:
    """A linear probe's answers.

    Attributes:
        predicted: Q labels.
        strength: the inverse regularisation that validation chose.
        val_accuracy: its accuracy there; NaN without validation items.
    """

    predicted: list[str]
    strength: float
    val_accuracy: float


def linear_probe(
    train_vectors: NDArray[np.floating],
    train_labels: Sequence[str],
    val_vectors: NDArray[np.floating],
    val_labels: Sequence[str],
    vectors: NDArray[np.floating],
) -> Probe:
    """Multinomial logistic regression on frozen vectors; its strength is chosen on validation, never on test.

    Args:
        train_vectors: (N, D), unit length.
        train_labels: N labels.
        val_vectors: (V, D); with V = 0 the strength is 1.
        val_labels: V labels.
        vectors: (Q, D), what to label.

    Raises:
        BadInput: nothing to learn from, or shapes do not fit.
    """
    _check_training(train_vectors, train_labels)
    names = np.unique(np.asarray(train_labels, dtype=str))
    if len(names) == 1:  # nothing to separate
        share = float(np.mean([label == names[0] for label in val_labels])) if len(val_labels) else float("nan")
        return Probe([str(names[0])] * len(vectors), 1.0, share)
    best: tuple[float, float, Any] | None = None
    for strength in PROBE_STRENGTHS if len(val_labels) else (1.0,):
        model = _fit_logistic(train_vectors, train_labels, strength)
        hits = model.predict(val_vectors) == np.asarray(val_labels, dtype=str) if len(val_labels) else [np.nan]
        accuracy = float(np.mean(hits))
        if best is None or accuracy > best[0]:  # equal: the simpler model, tried first, stays
            best = (accuracy, strength, model)
    assert best is not None
    predicted = best[2].predict(vectors) if len(vectors) else []
    return Probe([str(label) for label in predicted], best[1], best[0])


def _fit_logistic(vectors: NDArray[np.floating], labels: Sequence[str], strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # a probe that stops at max_iter is a probe all the same
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=300, tol=1e-3)
        return model.fit(np.asarray(vectors, np.float32), np.asarray(labels, dtype=str))


def _check_training(vectors: NDArray[np.floating], labels: Sequence[str]) -> None:
    if not len(labels) or len(vectors) != len(labels):
        raise BadInput(f"{len(vectors)} training vectors and {len(labels)} labels; give at least one, one label each")


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Probabilities of logits (n, C) divided by `temperature`, float64 (n, C)."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def fit_temperature(logits: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """The temperature in [0.02, 50] that makes the true classes most likely.

    Args:
        logits: (n, C), of held-out items.
        y: int (n,), their classes.

    Raises:
        BadInput: shapes do not fit or there is nothing to fit on.
    """
    _check_classes(logits, y)
    low, high = np.log(0.02), np.log(50.0)  # the loss has one valley in log(temperature): golden section finds it
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = _nll(logits, y, left), _nll(logits, y, right)
    for _ in range(60):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = _nll(logits, y, left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = _nll(logits, y, right)
    return float(np.exp((low + high) / 2))


def _nll(logits: NDArray[np.floating], y: NDArray[np.integer], log_temperature: float) -> float:
    scaled = np.asarray(logits, np.float64) / np.exp(log_temperature)
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(y)), y]))


def expected_calibration_error(probabilities: NDArray[np.floating], y: NDArray[np.integer], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of the top probability, weighted by size.

    Args:
        probabilities: (n, C).
        y: int (n,), true classes.
        bins: how many bins; the upper edge belongs to a bin.

    Raises:
        BadInput: shapes do not fit or there is nothing to measure.
    """
    _check_classes(probabilities, y)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=confidence, minlength=bins) - np.bincount(place, weights=right, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


def choose_abstain(probabilities: NDArray[np.floating], y: NDArray[np.integer], precision: float = 0.9) -> float:
    """The lowest top probability from which on answers are right at the asked rate; choose it on validation.

    If no threshold reaches `precision`, the one of the highest accuracy that still accepts 5 % of the items.

    Args:
        probabilities: (n, C).
        y: int (n,), true classes.
        precision: share of right answers asked for among the accepted ones.

    Raises:
        BadInput: shapes do not fit or there is nothing to choose on.
    """
    _check_classes(probabilities, y)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    order = np.argsort(-confidence, kind="stable")
    thresholds, hits = confidence[order], np.cumsum(right[order])
    last = np.append(thresholds[1:] != thresholds[:-1], True)  # equal confidences are accepted together
    accepted = np.arange(1, len(order) + 1)[last]
    thresholds, accuracy = thresholds[last], hits[last] / accepted
    reached = np.flatnonzero(accuracy >= precision)
    if len(reached):
        return float(thresholds[reached[-1]])
    allowed = np.flatnonzero(accepted >= 0.05 * len(order))
    return float(thresholds[allowed[accuracy[allowed].argmax()]])


def _check_classes(values: NDArray[np.floating], y: NDArray[np.integer]) -> None:
    if values.ndim != 2 or len(values) != len(y) or not len(y):
        raise BadInput(f"values of shape {values.shape} for {len(y)} classes; give (n, C) and (n,) with n >= 1")
