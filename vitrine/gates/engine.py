"""What runs the version: does it answer as its reference does, fast enough, and does the index find the neighbours?"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from vitrine.bundle import Parity
from vitrine.gates.evidence import Engine, Evidence, Quality
from vitrine.gates.quality import allowance, decide, less, sample_advice, unit_count, units_to_pass
from vitrine.gates.settings import GateSettings
from vitrine.ports import Verdict

HALF = ("fp16", "bf16")
JUDGED_BY_COSINE = ("fp32", *HALF)
"""Precisions fine enough that near-equal vectors mean near-equal answers."""


def parity(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The exported graph and every engine built from it must give the reference's embeddings, as far as the precision can.

    fp32: worst cosine and neighbours; fp16 and bf16: worst cosine, neighbours only told; coarser ones, such as int8: no
    cosine says enough, so the metrics themselves may not get worse.
    """
    gate = "parity"
    if evidence.parity is None:
        return Verdict(gate, "failed", "no parity was measured; register the version again so that it is")
    checked = [_checked(engine, evidence, settings) for engine in (Engine(evidence.parity), *evidence.engines)]
    failed = [reason for passed, reason in checked if not passed]
    numbers: dict[str, Any] = dataclasses.asdict(evidence.parity)
    if evidence.engines:
        numbers["engines"] = [_numbers(engine) for engine in evidence.engines]
    told = "; ".join(failed or [reason for _, reason in checked])
    return Verdict(gate, "failed" if failed else "passed", told, numbers)


def _numbers(engine: Engine) -> dict[str, Any]:
    found = dataclasses.asdict(engine.parity)
    paired = [(one, one.difference) for one in engine.quality if one.difference is not None]
    metrics = [
        {
            "dataset": one.dataset,
            "metric": one.metric,
            "difference": difference.value,
            "ci95": [difference.low, difference.high],
            "units": difference.units,
            "allowance": allowance(one.sums),
        }
        for one, difference in paired
    ]
    return {**found, "metrics": metrics} if metrics else found


def _checked(engine: Engine, evidence: Evidence, settings: GateSettings) -> tuple[bool, str]:
    found = engine.parity
    if found.precision == "fp32":
        passed = found.min_cosine >= settings.min_cosine and found.top10_overlap >= settings.min_overlap
        return passed, _told(found, settings.min_cosine, f" (at least {settings.min_overlap})")
    if found.precision in HALF:
        return found.min_cosine >= settings.min_cosine_half, _told(found, settings.min_cosine_half, "")
    return _quantised(engine, evidence, settings)


def _told(found: Parity, least: float, overlap: str) -> str:
    texts = f" and {found.texts} texts" if found.texts else ""
    return (
        f"{found.engine} {found.precision} against {found.reference} on {found.images} photos{texts}: worst cosine "
        f"{found.min_cosine:.6f} (at least {least}), ten nearest agree to {found.top10_overlap:.3f}{overlap}"
    )


def _quantised(engine: Engine, evidence: Evidence, settings: GateSettings) -> tuple[bool, str]:
    name = f"{engine.parity.engine} {engine.parity.precision}"
    if not engine.quality:
        return False, (
            f"{name}: a cosine cannot judge this precision, and no metric could be compared with the reference's; evaluate the "
            f"version first: vitrine evaluate {evidence.candidate} --dataset NAME --via exact"
        )
    found = [_engine_metric(name, quality, settings.margin) for quality in engine.quality]
    failed = [reason for passed, reason in found if not passed]
    return not failed, "; ".join(failed or [reason for _, reason in found])


def _engine_metric(name: str, quality: Quality, margin: float) -> tuple[bool, str]:
    difference = quality.difference
    if difference is None or not math.isfinite(difference.low):
        return False, f"{name}: no paired comparison of {quality.metric} on {quality.dataset} with the reference"
    allowed = allowance(quality.sums)
    outcome = decide(difference, margin, allowed)
    reason = (
        f"{name} minus reference, {quality.metric} on {quality.dataset}: {difference.value:+.4f}, 95 % interval "
        f"[{difference.low:+.4f}, {difference.high:+.4f}] over {unit_count(difference)} "
        f"(the lower end{less(allowed)} must be at least {-margin:+.4f})"
    )
    if outcome == "undecided":
        reason += sample_advice(difference, units_to_pass(quality.sums, margin))
    return outcome == "passed", reason


def latency(evidence: Evidence, settings: GateSettings) -> Verdict:
    """One photo, decoded and embedded alone on the serving engine, stays within the budget."""
    gate, budget, found = "latency budget", settings.max_latency_ms, evidence.serving
    if budget is None:
        return Verdict(gate, "not applicable", "no budget is set; gates.max_latency_ms sets one")
    if found is None or not math.isfinite(found.latency_ms):
        return Verdict(gate, "failed", _untimed("latency", evidence))
    reason = (
        f"95 of 100 single photos take at most {found.latency_ms:.1f} ms on {found.engine} with {_threads(found.threads)} "
        f"(budget {budget:g} ms, {found.photos} timed)"
    )
    return Verdict(gate, "passed" if found.latency_ms <= budget else "failed", reason, dataclasses.asdict(found))


def throughput(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Photos a second in batches on the serving engine reach the budget."""
    gate, budget, found = "throughput budget", settings.min_photos_per_s, evidence.serving
    if budget is None:
        return Verdict(gate, "not applicable", "no budget is set; gates.min_photos_per_s sets one")
    if found is None or not math.isfinite(found.photos_per_s):
        return Verdict(gate, "failed", _untimed("throughput", evidence))
    reason = (
        f"{found.photos_per_s:.1f} photos a second in batches of {found.batch} on {found.engine} with "
        f"{_threads(found.threads)} (at least {budget:g})"
    )
    return Verdict(gate, "passed" if found.photos_per_s >= budget else "failed", reason, dataclasses.asdict(found))


def _untimed(what: str, evidence: Evidence) -> str:
    return (
        f"the {what} on the serving engine was not measured: {evidence.untimed or 'promote from a machine that serves'}"
    )


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


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
