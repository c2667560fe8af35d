"""Seeded samples of rows, for measurements that would take too long on everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrine.errors import BadInput

Rows = NDArray[np.int64]


def sample_rows(count: int, most: int, seed: int = 0) -> Rows:
    """At most `most` of the rows 0 to count - 1, ascending; all of them where they are few."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def stratified_rows(labels: Sequence[str], share: float, seed: int = 0) -> Rows:
    """A share of the rows of each label, at least one of each, ascending.

    Args:
        labels: one a row.
        share: above 0, up to 1; a label of n rows keeps round(share * n) of them, drawn without replacement.
        seed: the same seed gives the same rows.

    Raises:
        BadInput: `share` is out of range.
    """
    if not 0 < share <= 1:
        raise BadInput(f"share is {share}; it must be above 0 and at most 1", field="share")
    rng = np.random.default_rng(seed)
    _, codes, counts = np.unique(np.asarray(labels, dtype=str), return_inverse=True, return_counts=True)
    shuffled = rng.permutation(len(codes))
    ordered = shuffled[np.argsort(codes[shuffled], kind="stable")]  # by label, shuffled within
    place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.maximum(1, np.rint(share * counts)).astype(np.int64)
    return np.asarray(np.sort(ordered[place < np.repeat(kept, counts)]), np.int64)
