"""Is the version sound, whatever its score: a space that did not collapse, queries it never saw, licences that allow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrine.gates.evidence import Evidence
from vitrine.gates.settings import GateSettings
from vitrine.ports import Verdict


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


def leakage(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Queries whose photos were trained on measure memory; their share must be small, and known."""
    gate, found = "leakage", evidence.leakage
    if not found:
        return Verdict(gate, "failed", f"copies of the queries were not looked for; {_again(evidence)}")
    told, failed, numbers = [], False, {}
    for dataset, one in sorted(found.items()):
        passed, reason, numbers[dataset] = _leaked(dataset, one, evidence, settings)
        failed = failed or not passed
        told.append(reason)
    if all(isinstance(one, str) and one.startswith("not applicable") for one in found.values()):
        return Verdict(gate, "not applicable", "; ".join(told), numbers)
    return Verdict(gate, "failed" if failed else "passed", "; ".join(told), numbers)


def _leaked(dataset: str, found: Any, evidence: Evidence, settings: GateSettings) -> tuple[bool, str, Any]:
    if isinstance(found, str):
        fine = found.startswith("not applicable")
        return fine, f"{dataset}: {found}" + ("" if fine else _to_know(dataset, evidence)), found
    asked, exact, near = _counts(found)
    if asked is None or exact is None or near is None or asked <= 0:
        return False, f"{dataset}: copies of the queries were not looked for; {_again(evidence)}", None
    shares = exact / asked, near / asked
    passed = shares[0] <= settings.max_leaked and shares[1] <= settings.max_leaked_looks
    reason = (
        f"{dataset}: {exact} of {asked} queries have a photo of the training split (a share of at most "
        f"{settings.max_leaked:g}), {near} one that looks like it (at most {settings.max_leaked_looks:g})"
    )
    return passed, reason, {"asked": asked, "exact": exact, "near": near}


def _counts(found: Any) -> tuple[int | None, int | None, int | None]:
    if not isinstance(found, Mapping):
        return None, None, None
    kinds = [found.get(kind) for kind in ("exact", "near")]
    exact, near = (kind.get("queries") if isinstance(kind, Mapping) else None for kind in kinds)
    return found.get("asked"), exact, near


def _to_know(dataset: str, evidence: Evidence) -> str:
    return (
        ". Import it under that name (vitrine data import FORMAT PATH --name NAME) and evaluate again (vitrine evaluate "
        f"{evidence.candidate} --dataset {dataset}); or, if you know that it shares no photo with the queries, promote with "
        '--override leakage --reason "why you know"'
    )


def _again(evidence: Evidence) -> str:
    return f"evaluate again: vitrine evaluate {evidence.candidate} --dataset NAME"


def licences(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Weights and training data must be under licences that somebody allowed."""
    gate, found = "licences", evidence.licences
    if found is None:
        return Verdict(gate, "failed", "the version's licences are not known; register it again")
    allowed = {name.lower() for name in settings.licences}
    stated = {"weights": found.weights, "data": found.data}
    bad = [f"{what} are under {name!r}" for what, name in stated.items() if name.lower() not in allowed]
    if bad:
        advice = "read them, and if your use is allowed add their names to gates.licences in params.yaml"
        return Verdict(gate, "failed", f"{', '.join(bad)}, not among gates.licences; {advice}", stated)
    return Verdict(gate, "passed", f"weights {found.weights}, data {found.data}", stated)


def not_retired(evidence: Evidence, settings: GateSettings) -> Verdict:
    """A retired version stays out of production."""
    del settings
    if evidence.retired:
        return Verdict("not retired", "failed", f"{evidence.candidate} is retired; register or promote another version")
    return Verdict("not retired", "passed", f"{evidence.candidate} is not retired")
