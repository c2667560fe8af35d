"""Probabilities of classes: how often they are right, how far they can be trusted, and when to keep silent."""

from __future__ import annotations

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


def expected_calibration_error(probabilities: NDArray[np.floating], y: NDArray[np.integer], bins: int = BINS) -> float:
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


def adaptive_calibration_error(probabilities: NDArray[np.floating], y: NDArray[np.integer], bins: int = BINS) -> float:
    """As `expected_calibration_error`, over bins that hold equally many items (Nixon et al. 2019, section 3.2).

    Where most answers are confident, bins of equal width say everything about one bin and nothing about the rest.

    Args:
        probabilities: (n, C).
        y: int (n,), true classes.
        bins: how many bins; fewer where there are fewer items.

    Raises:
        BadInput: shapes do not fit or there is nothing to measure.
    """
    _check_classes(probabilities, y)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    order = np.argsort(confidence, kind="stable")
    gaps = confidence[order].astype(np.float64) - right[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, min(bins, len(y)))) / len(y))


def brier_score(probabilities: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean squared distance from the probabilities to the truth, in [0, 2] (Brier 1950, all classes summed).

    Args:
        probabilities: (n, C).
        y: int (n,), true classes; -1 for a class that has no column.

    Raises:
        BadInput: shapes do not fit or there is nothing to measure.
    """
    _check_classes(probabilities, y)
    given = np.asarray(probabilities, np.float64)
    at_truth = np.where(y >= 0, given[np.arange(len(y)), np.maximum(y, 0)], 0.0)
    return float(np.mean((given**2).sum(axis=1) - 2 * at_truth + 1))


def top_k_accuracy(probabilities: NDArray[np.floating], y: NDArray[np.integer], k: int = 5) -> float:
    """Share of items whose class is among the k most probable; equal ones count in the order of the columns.

    Args:
        probabilities: (n, C).
        y: int (n,), true classes; -1 for a class that has no column.
        k: how many answers are allowed.

    Raises:
        BadInput: shapes do not fit or there is nothing to measure.
    """
    _check_classes(probabilities, y)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == y[:, None]).any(axis=1).mean())


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
