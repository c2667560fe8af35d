"""What the gates look at: measured facts of a candidate and of its comparison with the version in production."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitrine.bundle import Parity
from vitrine.manifest import Licences
from vitrine.significance import UnitSums
from vitrine.stats import Interval


@dataclass(frozen=True)
class Quality:
    """One metric on one dataset.

    Attributes:
        own: the candidate's own value with its interval.
        difference: candidate minus incumbent, paired; None where there is no incumbent or where
            the incumbent was never evaluated on the same queries.
        chance: what random order would score.
        sums: the paired differences by unit, for sample sizes; None where they are not known.
    """

    dataset: str
    metric: str
    own: Interval
    difference: Interval | None
    chance: float
    sums: UnitSums | None = None


@dataclass(frozen=True)
class Category:
    """One metric within one category: candidate minus incumbent, paired.

    Attributes:
        unit: what `sums` adds up over: products where items have one, else queries.
        sums: the differences by unit.
        candidate, incumbent: mean of each.
    """

    dataset: str
    metric: str
    name: str
    unit: str
    sums: UnitSums
    candidate: float
    incumbent: float

    @property
    def queries(self) -> int:
        """How many queries of this category both answered."""
        return int(self.sums.counts.sum())


@dataclass(frozen=True)
class Tagging:
    """The classifiers of both versions on one dataset.

    Attributes:
        candidate, incumbent: whether the version answers with labels of its own there.
        quality: accuracy, compared; None unless both do.
        categories: the same by label.
    """

    dataset: str
    candidate: bool
    incumbent: bool
    quality: Quality | None = None
    categories: tuple[Category, ...] = ()


@dataclass(frozen=True)
class Serving:
    """What one photo and many cost on the engine that will serve, decoding included.

    Attributes:
        engine: name and precision, such as `onnxruntime fp32`.
        threads: that it was given.
        latency_ms: 95th percentile of a photo alone.
        photos_per_s: in batches of `batch`.
        photos: calls with one photo that were timed.
    """

    engine: str
    threads: int
    latency_ms: float
    photos_per_s: float
    photos: int
    batch: int


@dataclass(frozen=True)
class Engine:
    """An engine that a version was compiled to.

    Attributes:
        parity: against the reference on photos.
        quality: each metric, the engine's minus the reference's, paired; for precisions that cosines cannot judge.
    """

    parity: Parity
    quality: tuple[Quality, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Everything that the gates look at; None where a measurement is missing.

    Attributes:
        quality: one entry a dataset and metric.
        untimed: why the serving engine could not be loaded to time it.
        leakage: dataset -> what its evaluation says of copies: the counts, or a reason in words.
        missing: what could not be found, each with the command that makes it.
    """

    candidate: str
    incumbent: str | None
    quality: tuple[Quality, ...] = ()
    categories: tuple[Category, ...] = ()
    tagging: tuple[Tagging, ...] = ()
    serving: Serving | None = None
    untimed: str = ""
    parity: Parity | None = None
    engines: tuple[Engine, ...] = ()
    health: Mapping[str, Any] | None = None
    qdrant: Mapping[str, Any] | None = None
    leakage: Mapping[str, Any] | None = None
    licences: Licences | None = None
    retired: bool = False
    missing: tuple[str, ...] = ()
