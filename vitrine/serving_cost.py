"""What photos cost on the engine that will serve: one alone, and many in batches; decoding included."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from vitrine.dataset import Dataset
from vitrine.encoder import Encoder
from vitrine.errors import BadInput
from vitrine.gates.evidence import Serving
from vitrine.items import Item
from vitrine.progress import Track, quiet
from vitrine.sampling import sample_rows

_PHOTOS, _ROUNDS, _BATCH = 32, 4, 16
"""Different photos, how often each is timed alone, and how many make a batch."""


def measure_serving(
    encoder: Encoder, dataset: Dataset, items: Sequence[Item], threads: int, track: Track = quiet
) -> Serving:
    """Time a seeded sample of the catalogue's photos, after a few untimed ones; as many threads decode as the engine has.

    Raises:
        BadInput: no item has a photo.
    """
    names = [item.images[0] for item in items if item.images]
    if not names:
        raise BadInput(f"dataset {dataset.name} has no photos to time; see: vitrine data check {dataset.name}")
    photos = [dataset.photo(names[row]) for row in sample_rows(len(names), _PHOTOS)]
    for photo in photos[:4]:
        encoder.embed([photo])
    rounds = [photo for _ in range(_ROUNDS) for photo in photos]
    alone = [_seconds(encoder, [photo], threads) for photo in track(rounds, "timing photos alone", len(rounds))]
    batches = [(photos * _BATCH)[start : start + _BATCH] for start in range(0, len(photos), _BATCH)]
    _seconds(encoder, batches[0], threads)
    rates = [len(batch) / _seconds(encoder, batch, threads) for _ in range(_ROUNDS) for batch in batches]
    return Serving(
        engine=f"{encoder.engine.name} {encoder.engine.precision}",
        threads=threads,
        latency_ms=1000 * float(np.quantile(alone, 0.95)),
        photos_per_s=float(np.median(rates)),
        photos=len(rounds),
        batch=_BATCH,
    )


def _seconds(encoder: Encoder, photos: Sequence[bytes], threads: int) -> float:
    began = time.perf_counter()
    encoder.embed(photos, workers=threads)
    return time.perf_counter() - began
