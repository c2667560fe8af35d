"""Is the candidate good enough: against the version in production, or, without one, on its own?"""

from __future__ import annotations

import math
from typing import Any

from vitrine.gates.evidence import Evidence, Quality
from vitrine.gates.settings import GateSettings
from vitrine.ports import Verdict
from vitrine.significance import UnitSums, needed_units
from vitrine.stats import Interval

FIRST = "not applicable: first version, there is no incumbent to compare with"
POWER = 0.8
"""With which a sample of the size that is told would let an equally good version pass."""
_SKEW = 1.5
"""Of differences summed by unit, as found on photos (1.3 on grocery-store): few units lose much, and a small sample misses
them, so that its lower end lies too high."""


def quality_against_incumbent(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Non-inferiority: on every dataset and metric the paired interval's lower end may not lie below the margin.

    All of them must hold, so none needs a correction for their number: the chance of passing a version that is worse by
    the margin on any of them stays at 2.5 % (an intersection-union test: Berger 1982).
    """
    gate = "quality against incumbent"
    if evidence.incumbent is None:
        return Verdict(gate, "not applicable", FIRST)
    if evidence.missing or not evidence.quality:
        return missing(gate, evidence)
    found = [compare(quality, evidence, settings.margin) for quality in evidence.quality]
    failed = [one for one in found if one["outcome"] != "passed"]
    worst = min(failed or found, key=_low)
    told = "; ".join(str(one["reason"]) for one in failed or [worst])
    return Verdict(gate, "failed" if failed else "passed", told, {**worst, "compared": found})


def _low(one: dict[str, Any]) -> float:
    ends = one["ci95"]
    return ends[0] if ends else -math.inf


def compare(quality: Quality, evidence: Evidence, margin: float) -> dict[str, Any]:
    """One metric on one dataset: its numbers, its outcome and the reason in words."""
    difference = quality.difference
    said = {"dataset": quality.dataset, "metric": quality.metric, "margin": margin}
    if difference is None or not math.isfinite(difference.value):
        return {
            **said,
            "outcome": "failed",
            "ci95": None,
            "reason": f"no paired comparison of {quality.metric} on {quality.dataset}: evaluate both versions on the "
            f"same data first: vitrine evaluate {evidence.incumbent} --dataset {quality.dataset}",
        }
    allowed = allowance(quality.sums)
    outcome = decide(difference, margin, allowed)
    needed = units_to_pass(quality.sums, margin) if outcome == "undecided" else None
    reason = (
        f"{quality.metric} on {quality.dataset}: {evidence.candidate} minus {evidence.incumbent} = "
        f"{difference.value:+.4f}, 95 % interval [{difference.low:+.4f}, {difference.high:+.4f}] over "
        f"{unit_count(difference)}; the lower end{less(allowed)} must be at least {-margin:+.4f}"
    )
    return {
        **said,
        "outcome": outcome,
        "difference": difference.value,
        "ci95": [difference.low, difference.high],
        "units": difference.units,
        "unit": difference.unit,
        "queries": difference.queries,
        "needed_units": needed,
        "allowance": allowed,
        "reason": reason + (sample_advice(difference, needed) if outcome == "undecided" else ""),
    }


def decide(difference: Interval, margin: float, allowed: float = 0.0) -> str:
    """`passed`, `worse` (the whole interval lies below the margin) or `undecided` (it reaches across)."""
    if difference.low - allowed >= -margin:
        return "passed"
    return "worse" if difference.high < -margin else "undecided"


def unit_words(difference: Interval) -> str:
    """What was resampled, in words: `products` or `labels`."""
    return f"{difference.unit.removesuffix('_id')}s"


def unit_count(difference: Interval) -> str:
    """How many of what was resampled."""
    return f"{difference.units} {unit_words(difference)}"


def allowance(sums: UnitSums | None) -> float:
    """How far a lower end may lie too high because units that lose much are rare; it shrinks with the number of units.

    The first term that a normal limit leaves out: (2 z^2 + 1) / 6 x skewness / sqrt(G) standard errors (Hall 1992, The
    Bootstrap and Edgeworth Expansion, section 3.10), at a skewness that photos have. Without it a version worse by the margin
    passes in 4 to 5 of 100 cases with 45 labels instead of 2.5; with it in 2 with 54 (benchmarks/gates.md).
    """
    if sums is None or len(sums.sums) < 2:
        return 0.0
    return _SKEW * (2 * 1.96**2 + 1) / 6 * sums.standard_error / math.sqrt(len(sums.sums))


def less(allowed: float) -> str:
    """The allowance in words; nothing where there is none."""
    return f", less {allowed:.4f} for rare losses that so few units may miss," if allowed else ""


def sample_advice(difference: Interval, needed: int | None) -> str:
    """What to do about an interval that reaches across the margin."""
    if needed is None:
        return f". These queries cannot decide: too few {unit_words(difference)}; evaluate on more"
    more = (
        f"about {needed} {unit_words(difference)} like these" if needed > difference.units else "a sample of this size"
    )
    return f". These queries cannot decide: {more} would let an equally good version pass 8 times in 10"


def units_to_pass(sums: UnitSums | None, margin: float) -> int | None:
    """Units like these that would let a version without any true difference pass with `POWER`."""
    if sums is None or margin <= 0:
        return None
    found = needed_units(sums, margin, power=POWER)
    for _ in range(20):  # the allowance depends on the number of units: each step starts from the last
        room = margin - allowance(sums) * len(sums.sums) / found if found else 0.0
        again = needed_units(sums, room, power=POWER) if room > 0 else None
        if again is None or again == found:
            break
        found = again
    return found


def superiority(evidence: Evidence, settings: GateSettings) -> Verdict:
    """If asked for: the primary metric's paired interval on the catalogue must lie above 0."""
    gate = "better than incumbent"
    if not settings.superiority:
        return Verdict(gate, "not applicable", "not asked for; gates.superiority: true asks for it")
    if evidence.incumbent is None:
        return Verdict(gate, "not applicable", FIRST)
    if evidence.missing or not evidence.quality:
        return missing(gate, evidence)
    found = compare(evidence.quality[0], evidence, 0.0)
    difference = evidence.quality[0].difference
    if difference is None or found["ci95"] is None:
        return Verdict(gate, "failed", found["reason"])
    passed = difference.low - found["allowance"] > 0
    reason = (
        f"{found['metric']} on {found['dataset']}: {evidence.candidate} minus {evidence.incumbent} = "
        f"{difference.value:+.4f}, 95 % interval [{difference.low:+.4f}, {difference.high:+.4f}] over "
        f"{unit_count(difference)}; the lower end{less(found['allowance'])} must be above 0"
    )
    sums = evidence.quality[0].sums
    needed = needed_units(sums, difference.value) if sums is not None and difference.value > 0 and not passed else None
    if needed is not None:
        reason += f"; about {needed} {unit_words(difference)} like these would show a difference of this size"
    numbers = {**found, "outcome": "passed" if passed else "failed", "reason": reason, "needed_units": needed}
    return Verdict(gate, "passed" if passed else "failed", reason, {**numbers, "compared": [numbers]})


def quality_floor(evidence: Evidence, settings: GateSettings) -> Verdict:
    """A first version must clear an absolute floor and be clearly better than random order."""
    gate = "quality floor"
    if evidence.incumbent is not None:
        return Verdict(gate, "not applicable", f"{evidence.incumbent} is in production; the comparison with it decides")
    if evidence.missing or not evidence.quality:
        return missing(gate, evidence)
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


def missing(gate: str, evidence: Evidence) -> Verdict:
    """A refusal that says what was not measured."""
    return Verdict(gate, "failed", "; ".join(evidence.missing) or "no evaluation of the candidate")
