"""Intervals of classification scores: whole units are resampled, and each score is made again from sums over units.

Dim names: n items, G units, L labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrine.stats import Interval, bootstrap_means, expanded_tail, unit_draws

if TYPE_CHECKING:
    from vitrine.classification import ClassificationScores

Floats = NDArray[np.float64]

RESAMPLES = 1000
MOST_CELLS = 20_000_000
"""Units x labels up to which averages over labels get an interval; beyond it the sums would fill gigabytes."""


def score_intervals(
    true: Sequence[str], scores: ClassificationScores, units: Sequence[str], *, unit: str
) -> dict[str, Interval]:
    """95 % intervals of every score of one classifier, by the score's name; see `vitrine.stats.bootstrap_mean`.

    Args:
        true: n labels.
        scores: of the same items.
        units: the unit of each item, n of them.
        unit: what the units are. Where they are labels, a label drawn twice counts twice in an average over labels.
    """
    per_item = {"accuracy": scores.correct.astype(np.float64), **scores.per_item}
    bins = {name: column for name, column in per_item.items() if name in scores.bins}
    found = bootstrap_means({name: column for name, column in per_item.items() if name not in bins}, units, unit=unit)
    names, codes = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    if len(names) < 2:
        return found
    counts = np.bincount(codes).astype(np.float64)
    tail = expanded_tail(0.95, counts)
    drawn: dict[str, Floats] = {}
    for name, gaps in bins.items():
        drawn[name] = _calibration(gaps, scores.bins[name], codes, counts)
    drawn |= _averages(true, scores.answers, codes, len(names), by_label=unit == "label")
    values = {**scores.confidence, **scores.averages()}
    for name, column in drawn.items():
        low, high = (float(end) for end in np.quantile(column, (tail, 1 - tail)))
        found[name] = Interval(values[name], low, high, len(names), len(codes), unit)
    return found


def _calibration(gaps: Floats, bins: NDArray[np.int64], codes: NDArray[np.int64], counts: Floats) -> Floats:
    """The calibration error of each resample (R,): gaps (n,) between confidence and truth, added up by bin."""
    size = int(bins.max()) + 1
    table = np.bincount(codes * size + bins, weights=gaps, minlength=len(counts) * size).reshape(len(counts), size)
    parts = [np.abs(drawn @ table).sum(axis=1) / (drawn @ counts) for drawn in unit_draws(len(counts), RESAMPLES, 0)]
    return np.concatenate(parts)


def _averages(
    true: Sequence[str], answers: Sequence[str], codes: NDArray[np.int64], units: int, *, by_label: bool
) -> dict[str, Floats]:
    """Macro and weighted precision, recall and F1 of each resample, (R,) each; empty where it would take too much."""
    names, both = np.unique(np.asarray([*true, *answers], dtype=str), return_inverse=True)
    if units * len(names) > MOST_CELLS:
        return {}
    truth, answered = both[: len(true)], both[len(true) :]

    def table(labels: NDArray[np.int64], chosen: NDArray[np.bool_] | slice = slice(None)) -> Floats:
        places = codes[chosen] * len(names) + labels[chosen]
        return np.bincount(places, minlength=units * len(names)).reshape(units, len(names)).astype(np.float64)

    hits, asked, said = table(truth, truth == answered), table(truth), table(answered)
    parts = [_resampled(drawn, hits, asked, said, by_label) for drawn in unit_draws(units, RESAMPLES, 0)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _resampled(drawn: Floats, hits: Floats, asked: Floats, said: Floats, by_label: bool) -> dict[str, Floats]:
    """The six averages for some resamples: `drawn` (R, G) times tables (G, L)."""
    right, of, as_said = drawn @ hits, drawn @ asked, drawn @ said
    present = (of + as_said) > 0
    often = drawn @ (asked > 0) if by_label else np.ones_like(of)
    columns = {
        "precision": right / np.maximum(as_said, 1),
        "recall": right / np.maximum(of, 1),
        "f1": 2 * right / np.maximum(of + as_said, 1),
    }
    found = {}
    for mean, weights in (("macro", present * np.maximum(often, 1)), ("weighted", of)):
        for name, column in columns.items():
            found[f"{name}_{mean}"] = (column * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    return found
