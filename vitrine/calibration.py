"""Probabilities of classes: how often they are right, how far they can be trusted, and when to keep silent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput

Floats = NDArray[np.float64]
BINS = 15
_GOLDEN = (np.sqrt(5) - 1) / 2


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


@dataclass(frozen=True)
class Confidence:
    """How far probabilities can be trusted, with what each score is made of.

    Attributes:
        scores: `top5_accuracy`, `ece`, `ece_adaptive`, `brier`.
        per_item: (n,) each; the mean is the score, but for those in `bins`.
        bins: int64 (n,), the bin of each item; the score is the sum of the bins' absolute sums, over n.
    """

    scores: dict[str, float]
    per_item: dict[str, Floats]
    bins: dict[str, NDArray[np.int64]]


def measure_confidence(
    probabilities: NDArray[np.floating], y: NDArray[np.integer], *, k: int = 5, bins: int = BINS
) -> Confidence:
    """All scores that need probabilities.

    `ece` is the mean gap between confidence and accuracy over bins of equal width of the top probability, weighted
    by size; `ece_adaptive` the same over bins that hold equally many items (Nixon et al. 2019, section 3.2): where most
    answers are confident, bins of equal width say everything about one bin and nothing about the rest. `brier` is the
    mean squared distance from the probabilities to the truth, in [0, 2] (Brier 1950, all classes summed).

    Args:
        probabilities: (n, C).
        y: int (n,), true classes; -1 for a class that has no column.
        k: answers allowed in `top5_accuracy` and its like.
        bins: of both calibration errors; fewer where there are fewer items.

    Raises:
        BadInput: shapes do not fit or there is nothing to measure.
    """
    _check_classes(probabilities, y)
    gaps = probabilities.max(axis=1).astype(np.float64) - (probabilities.argmax(axis=1) == y)
    places = {"ece": _equal_width(probabilities, bins), "ece_adaptive": _equal_size(probabilities, bins)}
    per_item = {
        f"top{k}_accuracy": _among_first(probabilities, y, k),
        "brier": _squared_distance(probabilities, y),
        "ece": gaps,
        "ece_adaptive": gaps,
    }
    scores = {name: float(np.abs(np.bincount(place, weights=gaps)).sum() / len(y)) for name, place in places.items()}
    scores |= {name: float(column.mean()) for name, column in per_item.items() if name not in places}
    return Confidence(scores, per_item, places)


def _equal_width(probabilities: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """The bin of each item's top probability, int64 (n,); the upper edge belongs to a bin."""
    return np.asarray(np.clip(np.ceil(probabilities.max(axis=1) * bins) - 1, 0, bins - 1), np.int64)


def _equal_size(probabilities: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Bins of equally many items by rising top probability, int64 (n,); fewer where there are fewer items."""
    order = np.argsort(probabilities.max(axis=1), kind="stable")
    place = np.empty(len(order), np.int64)
    for number, rows in enumerate(np.array_split(order, min(bins, len(order)))):
        place[rows] = number
    return place


def _among_first(probabilities: NDArray[np.floating], y: NDArray[np.integer], k: int) -> Floats:
    """1 where the class is among the k most probable; equal ones count in the order of the columns."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return np.asarray((best == y[:, None]).any(axis=1), np.float64)


def _squared_distance(probabilities: NDArray[np.floating], y: NDArray[np.integer]) -> Floats:
    given = np.asarray(probabilities, np.float64)
    at_truth = np.where(y >= 0, given[np.arange(len(y)), np.maximum(y, 0)], 0.0)
    return np.asarray((given**2).sum(axis=1) - 2 * at_truth + 1, np.float64)


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
