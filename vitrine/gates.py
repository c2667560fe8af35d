"""Promotion gates: pure functions from evidence and settings to a verdict with its numbers.

Add a gate: write a function here, put it into `GATES`. A missing number never passes.
Relative gates compare with the incumbent (the version in production); without one they say
`not applicable: first version` and the absolute gates decide.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vitrine.bundle import Parity
from vitrine.errors import BadInput
from vitrine.ports import Verdict
from vitrine.stats import Interval

FIRST = "not applicable: first version, there is no incumbent to compare with"


@dataclass(frozen=True)
class GateSettings:
    """Thresholds, read from `gates` in params.yaml.

    Attributes:
        metrics: ranking metrics that must not get worse; the first one is the primary.
        margin: how much worse the lower end of the paired 95 % interval may be.
        floor: the least that the lower end of a first version's own interval may be.
        times_chance: that lower end must also reach this many times the score of random order.
        min_cosine, min_overlap: parity of the exported graph with its reference.
        min_effective_rank, max_mean_cosine, max_duplicate_share: health of the embedding.
        min_ann_recall: share of the exact ten nearest that the Qdrant engine also finds.
    """

    metrics: tuple[str, ...] = ("mmp@5",)
    margin: float = 0.01
    floor: float = 0.0
    times_chance: float = 1.0
    min_cosine: float = 0.9999
    min_overlap: float = 0.99
    min_effective_rank: float = 4.0
    max_mean_cosine: float = 0.98
    max_duplicate_share: float = 0.2
    min_ann_recall: float = 0.98

    @staticmethod
    def read(raw: Mapping[str, Any] | None) -> GateSettings:
        """Settings from a mapping.

        Raises:
            BadInput: an unknown key or a value that is no number.
        """
        known = {item.name for item in dataclasses.fields(GateSettings)}
        if not isinstance(raw or {}, Mapping):
            raise BadInput(f"gates must be a mapping of settings, not {raw!r}; see gates in params.yaml")
        values = dict(raw or {})
        unknown = sorted(set(values) - known)
        if unknown:
            raise BadInput(f"gates has unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        named = values.pop("metrics", GateSettings.metrics)
        metrics = (named,) if isinstance(named, str) else tuple(named)
        try:
            numbers = {key: float(value) for key, value in values.items()}
        except (TypeError, ValueError) as error:
            raise BadInput(f"a gate setting is no number: {error}; see gates in params.yaml") from error
        if not metrics:
            raise BadInput("gates.metrics is empty; name at least one metric, such as mmp@5")
        return GateSettings(metrics=metrics, **numbers)


@dataclass(frozen=True)
class Quality:
    """One metric on one dataset.

    Attributes:
        own: the candidate's own value with its interval.
        difference: candidate minus incumbent, paired; None where there is no incumbent or where
            the incumbent was never evaluated on the same queries.
        chance: what random order would score.
    """

    dataset: str
    metric: str
    own: Interval
    difference: Interval | None
    chance: float


@dataclass(frozen=True)
class Evidence:
    """Everything that the gates look at; None where a measurement is missing."""

    candidate: str
    incumbent: str | None
    quality: tuple[Quality, ...] = ()
    parity: Parity | None = None
    health: Mapping[str, Any] | None = None
    qdrant: Mapping[str, Any] | None = None
    retired: bool = False
    missing: tuple[str, ...] = field(default=())


def quality_against_incumbent(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Non-inferiority: the paired interval's lower end may not lie below the margin on any metric."""
    gate = "quality against incumbent"
    if evidence.incumbent is None:
        return Verdict(gate, "not applicable", FIRST)
    if not evidence.quality:
        return _missing(gate, evidence)
    worst: tuple[float, Quality] | None = None
    for quality in evidence.quality:
        if quality.difference is None:
            return Verdict(
                gate,
                "failed",
                f"no paired comparison of {quality.metric} on {quality.dataset}: evaluate both versions on the "
                f"same data first: vitrine evaluate {evidence.incumbent} --dataset {quality.dataset}",
            )
        low = quality.difference.low
        if not math.isfinite(low):
            return Verdict(
                gate,
                "failed",
                f"{quality.metric} on {quality.dataset} has too few {quality.difference.unit}s to compare",
            )
        if worst is None or low < worst[0]:
            worst = (low, quality)
    assert worst is not None  # quality is not empty
    return _difference_verdict(gate, worst[1], evidence, settings)


def _difference_verdict(gate: str, quality: Quality, evidence: Evidence, settings: GateSettings) -> Verdict:
    difference = quality.difference
    assert difference is not None
    passed = difference.low >= -settings.margin
    reason = (
        f"{quality.metric} on {quality.dataset}: {evidence.candidate} minus {evidence.incumbent} = "
        f"{difference.value:+.4f}, 95 % interval [{difference.low:+.4f}, {difference.high:+.4f}] over "
        f"{difference.units} {difference.unit}s; the lower end must be at least {-settings.margin:+.4f}"
    )
    numbers = {
        "dataset": quality.dataset,
        "metric": quality.metric,
        "difference": difference.value,
        "ci95": [difference.low, difference.high],
        "margin": settings.margin,
        "units": difference.units,
        "queries": difference.queries,
    }
    return Verdict(gate, "passed" if passed else "failed", reason, numbers)


def quality_floor(evidence: Evidence, settings: GateSettings) -> Verdict:
    """A first version must clear an absolute floor and be clearly better than random order."""
    gate = "quality floor"
    if evidence.incumbent is not None:
        return Verdict(gate, "not applicable", f"{evidence.incumbent} is in production; the comparison with it decides")
    if not evidence.quality:
        return _missing(gate, evidence)
    quality = min(evidence.quality, key=lambda q: q.own.low - _needed(q, settings))
    needed = _needed(quality, settings)
    passed = math.isfinite(quality.own.low) and quality.own.low >= needed
    reason = (
        f"{quality.metric} on {quality.dataset} = {quality.own.value:.4f}, 95 % interval "
        f"[{quality.own.low:.4f}, {quality.own.high:.4f}]; the lower end must be at least {needed:.4f} "
        f"(floor {settings.floor:.4f}, {settings.times_chance:g} x random order {quality.chance:.4f})"
    )
    numbers = {
        "dataset": quality.dataset,
        "metric": quality.metric,
        "value": quality.own.value,
        "ci95": [quality.own.low, quality.own.high],
        "needed": needed,
        "chance": quality.chance,
    }
    return Verdict(gate, "passed" if passed else "failed", reason, numbers)


def _needed(quality: Quality, settings: GateSettings) -> float:
    return max(settings.floor, settings.times_chance * quality.chance)


def parity(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The exported graph must give the reference's embeddings."""
    gate, found = "parity", evidence.parity
    if found is None:
        return Verdict(gate, "failed", "no parity was measured; register the version again so that it is")
    passed = found.min_cosine >= settings.min_cosine and found.top10_overlap >= settings.min_overlap
    texts = f" and {found.texts} texts" if found.texts else ""
    reason = (
        f"{found.engine} {found.precision} against {found.reference} on {found.images} photos{texts}: worst cosine "
        f"{found.min_cosine:.6f} (at least {settings.min_cosine}), ten nearest agree to {found.top10_overlap:.3f} "
        f"(at least {settings.min_overlap})"
    )
    return Verdict(gate, "passed" if passed else "failed", reason, dataclasses.asdict(found))


def health(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Embeddings must be finite, of unit length, spread out, and not collapsed onto each other."""
    gate, found = "embedding health", evidence.health
    if found is not None and found.get("finite") is False:
        return Verdict(gate, "failed", "some embeddings are not finite", {"finite": False})
    needed = ("finite", "norm_min", "norm_max", "effective_rank", "mean_cosine", "duplicate_share")
    absent = [name for name in needed if found is None or found.get(name) is None]
    if found is None or absent:
        return Verdict(gate, "failed", f"not measured: {', '.join(absent)}; evaluate the version again")
    faults = [text for bad, text in _health_faults(found, settings) if bad]
    fine = (
        f"finite, unit length, effective rank {found['effective_rank']:.1f}, mean cosine {found['mean_cosine']:.3f}, "
        f"duplicates {found['duplicate_share']:.3f}"
    )
    return Verdict(
        gate, "failed" if faults else "passed", "; ".join(faults) or fine, {key: found[key] for key in needed}
    )


def _health_faults(found: Mapping[str, Any], settings: GateSettings) -> list[tuple[bool, str]]:
    # Written so that a NaN counts as a fault.
    return [
        (
            not (found["norm_min"] > 0.999 and found["norm_max"] < 1.001),
            f"lengths reach from {found['norm_min']:.4f} to {found['norm_max']:.4f}, they must be 1",
        ),
        (
            not found["effective_rank"] >= settings.min_effective_rank,
            f"effective rank {found['effective_rank']:.2f} is below {settings.min_effective_rank}: the space collapsed",
        ),
        (
            not found["mean_cosine"] <= settings.max_mean_cosine,
            f"mean cosine {found['mean_cosine']:.3f} is above {settings.max_mean_cosine}: everything looks alike",
        ),
        (
            not found["duplicate_share"] <= settings.max_duplicate_share,
            f"a share of {found['duplicate_share']:.3f} repeats another, at most {settings.max_duplicate_share} may",
        ),
    ]


def qdrant(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The version must have been measured through a real Qdrant engine, and lose little there."""
    gate, found = "qdrant evaluation", evidence.qdrant
    recall = None if found is None else found.get("recall_against_exact@10")
    if found is None or recall is None:
        return Verdict(
            gate,
            "failed",
            f"{evidence.candidate} was never evaluated through Qdrant on this data: "
            f"vitrine evaluate {evidence.candidate} --dataset NAME --via qdrant",
        )
    passed = recall >= settings.min_ann_recall
    reason = (
        f"{found.get('engine', 'qdrant')} finds {recall:.4f} of the exact ten nearest "
        f"(at least {settings.min_ann_recall}); graph: {found.get('graph', 'unknown')}"
    )
    return Verdict(gate, "passed" if passed else "failed", reason, {"recall_against_exact@10": recall})


def not_retired(evidence: Evidence, settings: GateSettings) -> Verdict:
    """A retired version stays out of production."""
    del settings
    if evidence.retired:
        return Verdict("not retired", "failed", f"{evidence.candidate} is retired; register or promote another version")
    return Verdict("not retired", "passed", f"{evidence.candidate} is not retired")


def _missing(gate: str, evidence: Evidence) -> Verdict:
    what = "; ".join(evidence.missing) or "no evaluation of the candidate"
    return Verdict(gate, "failed", what)


Gate = Callable[[Evidence, GateSettings], Verdict]

GATES: Mapping[str, Gate] = {
    "not retired": not_retired,
    "quality against incumbent": quality_against_incumbent,
    "quality floor": quality_floor,
    "parity": parity,
    "embedding health": health,
    "qdrant evaluation": qdrant,
}


def run_gates(evidence: Evidence, settings: GateSettings) -> tuple[Verdict, ...]:
    """Every gate's verdict, in the order of `GATES`."""
    return tuple(gate(evidence, settings) for gate in GATES.values())
