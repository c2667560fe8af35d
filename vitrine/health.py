"""Whether an embedding space is usable: spread out, close where it should be, free of collapse.

Lengths, the mean cosine and copies are measured on every vector. What costs more, the spectrum and the distances, is
measured on a seeded sample where there are many, and the result says how many. Memory is bounded by a block and the sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vitrine.items import Item
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.sampling import sample_rows

Floats = NDArray[np.float64]

SAMPLE = 20_000
"""Most items that the effective rank and the alignment are measured on."""

PAIRED = 4_096
"""Most items that the uniformity is measured on, over all their pairs."""

_ROWS = 8_192
_HEAT = 2.0


def health(
    vectors: Vectors, items: Sequence[Item], *, track: Track = quiet
) -> dict[str, float | bool | int | str | None]:
    """State of a space, from (N, D) vectors of items; items that share all photos count once.

    Args:
        vectors: float32 (N, D).
        items: N of them.
        track: progress over blocks of vectors.

    Returns:
        `finite`, `items`, `sampled` (items of the sample), `norm_min`, `norm_max`, `mean_cosine` (over pairs),
        `duplicate_share` (vectors that repeat another to six decimals),
        `effective_rank` (Roy and Vetterli 2007: exponential of the entropy of the normalised singular values),
        `uniformity` and `alignment` (Wang and Isola 2020: logarithm of the mean of exp(-2 d^2) over pairs, and mean d^2
        over pairs of one kind, d the distance) and `aligned_by`, the kind: product_id where two items share one, else
        label. `alignment` is None where no two items are of a kind.
        Where a value is not finite, only `finite` and `items` are given.
    """
    first = {item.images or item.item_id: row for row, item in reversed(list(enumerate(items)))}
    rows = np.fromiter(sorted(first.values()), np.int64, len(first))
    with threadpool_limits(1, "blas"):  # the same with any number; products this small only wait for more
        return _state(vectors, rows, items, track)


def _state(
    vectors: Vectors, rows: NDArray[np.int64], items: Sequence[Item], track: Track
) -> dict[str, float | bool | int | str | None]:
    found = _lengths(vectors, rows, track)
    if found is None:
        return {"finite": False, "items": len(rows)}
    chosen = rows[sample_rows(len(rows), SAMPLE)]
    sample, kinds = vectors[chosen], [items[row] for row in chosen]
    return {
        "finite": True,
        "items": len(rows),
        "sampled": len(chosen),
        **found,
        "effective_rank": _effective_rank(sample),
        "uniformity": _uniformity(sample[sample_rows(len(sample), PAIRED)]),
        **_alignments(sample, kinds),
    }


def _lengths(vectors: Vectors, rows: NDArray[np.int64], track: Track) -> dict[str, float] | None:
    """What one pass over all vectors tells; None without a vector or with one that is not finite."""
    total, squares = np.zeros(vectors.shape[1]), 0.0
    shortest, longest = np.inf, 0.0
    known: set[bytes] = set()
    for block in track(_blocks(vectors, rows), "looking at the vectors", -(-len(rows) // _ROWS)):
        norms = np.linalg.norm(block, axis=1)
        if not np.isfinite(norms).all():
            return None
        total += block.sum(axis=0)
        squares += float((norms**2).sum())
        shortest, longest = min(shortest, float(norms.min())), max(longest, float(norms.max()))
        rounded = (block.round(6) + 0.0).astype(np.float32)  # + 0.0: minus zero is zero
        known.update(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rounded)
    if not len(rows):
        return None
    pairs = len(rows) * (len(rows) - 1)
    return {
        "norm_min": shortest,
        "norm_max": longest,
        "mean_cosine": (float(total @ total) - squares) / pairs if pairs else 0.0,
        "duplicate_share": 1 - len(known) / len(rows),
    }


def _blocks(vectors: Vectors, rows: NDArray[np.int64]) -> Iterator[Floats]:
    for start in range(0, len(rows), _ROWS):
        yield vectors[rows[start : start + _ROWS]].astype(np.float64)


def _effective_rank(vectors: Vectors) -> float:
    gram = np.zeros((vectors.shape[1],) * 2)
    for block in _blocks(vectors, np.arange(len(vectors))):
        gram += block.T @ block
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _uniformity(vectors: Vectors) -> float | None:
    """Over unordered pairs of different items, block by block; None for fewer than two."""
    if len(vectors) < 2:
        return None
    given = vectors.astype(np.float64)
    squares = (given**2).sum(axis=1)
    total = 0.0
    for start in range(0, len(given), 512):
        block = given[start : start + 512]
        distances = squares[start : start + 512, None] + squares - 2 * (block @ given.T)
        total += float(np.exp(-_HEAT * np.maximum(distances, 0)).sum())
    pairs = len(given) * (len(given) - 1)
    itself = float(len(given))  # exp(0) for each item with itself
    return float(np.log(max((total - itself) / pairs, 1e-300)))


def _alignments(vectors: Vectors, items: Sequence[Item]) -> dict[str, float | str | None]:
    by_product = alignment(vectors, [item.product_id for item in items])
    if by_product is not None:
        return {"alignment": by_product, "aligned_by": "product_id"}
    return {"alignment": alignment(vectors, [item.label for item in items]), "aligned_by": "label"}


def alignment(vectors: Vectors, kinds: Sequence[str | None]) -> float | None:
    """Mean squared distance over all pairs of one kind; None where there is no pair.

    Args:
        vectors: (N, D).
        kinds: N of them; None belongs to no pair.
    """
    known = [row for row, kind in enumerate(kinds) if kind is not None]
    _, codes, counts = np.unique(np.array([str(kinds[row]) for row in known]), return_inverse=True, return_counts=True)
    pairs = float((counts * (counts - 1)).sum())
    if not pairs:
        return None
    order = np.argsort(codes, kind="stable")
    total = 0.0
    for begin, count in zip(np.cumsum(counts) - counts, counts, strict=True):
        if count > 1:  # over ordered pairs: 2 n sum |x|^2 - 2 |sum x|^2
            group = vectors[np.asarray(known)[order[begin : begin + count]]].astype(np.float64)
            total += 2 * count * float((group**2).sum()) - 2 * float((group.sum(axis=0) ** 2).sum())
    return max(0.0, float(total) / pairs)
