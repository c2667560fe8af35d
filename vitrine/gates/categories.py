"""No category much worse: each is tested, corrected for how many were (Holm 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitrine.gates.evidence import Category, Evidence, Tagging
from vitrine.gates.quality import FIRST, compare, missing
from vitrine.gates.settings import GateSettings
from vitrine.ports import Verdict
from vitrine.significance import holm, means_below

_SHOWN = 20


def categories(evidence: Evidence, settings: GateSettings) -> Verdict:
    """No category with enough queries may be shown to be worse by more than the margin."""
    gate = "no worse category"
    if evidence.incumbent is None:
        return Verdict(gate, "not applicable", FIRST)
    if evidence.missing or not evidence.categories:
        return missing(gate, evidence) if evidence.missing else Verdict(gate, "failed", "no category was compared")
    return _judged(gate, evidence.categories, settings)


def _judged(gate: str, found: Sequence[Category], settings: GateSettings) -> Verdict:
    enough = [one for one in found if one.queries >= settings.min_category_queries and len(one.sums.sums) > 1]
    few = len(found) - len(enough)
    if not enough:
        return Verdict(
            gate,
            "not applicable",
            f"none of {len(found)} categories has {settings.min_category_queries} queries (gates.min_category_queries) of "
            "two products or more",
            {"categories": 0, "too_few": few, "worst": []},
        )
    values = worse_by_more(enough, settings.category_margin)
    rows = [_row(one, p_holm) for one, p_holm in zip(enough, values, strict=True)]
    rows.sort(key=lambda row: (row["p_holm"], row["difference"], row["category"]))
    bad = [row for row in rows if row["p_holm"] <= settings.family_error]
    numbers = {
        "categories": len(enough),
        "too_few": few,
        "margin": settings.category_margin,
        "family_error": settings.family_error,
        "worst": rows[:_SHOWN],
    }
    return Verdict(gate, "failed" if bad else "passed", _told(bad or rows[:1], numbers, failed=bool(bad)), numbers)


def _row(one: Category, p_holm: float) -> dict[str, Any]:
    return {
        "dataset": one.dataset,
        "metric": one.metric,
        "category": one.name,
        "queries": one.queries,
        "units": len(one.sums.sums),
        "unit": one.unit,
        "difference": one.sums.mean,
        "candidate": one.candidate,
        "incumbent": one.incumbent,
        "p_holm": p_holm,
    }


def _told(rows: Sequence[dict[str, Any]], numbers: dict[str, Any], *, failed: bool) -> str:
    named = "; ".join(
        f"{row['category']} on {row['dataset']} {row['difference']:+.4f} {row['metric']} over {row['queries']} queries "
        f"(p {row['p_holm']:.4f})"
        for row in rows[:5]
    )
    rest = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    few = (
        f"; {numbers['too_few']} with too few queries, or of a single product, were not tested"
        if numbers["too_few"]
        else ""
    )
    shown = "worse by more than" if failed else "none is shown to be worse by more than"
    head = f"of {numbers['categories']} categories, " + (f"{len(rows)} {shown}" if failed else shown)
    return (
        f"{head} {numbers['margin']:g} after Holm's correction: {'' if failed else 'the lowest is '}{named}{rest}{few}"
    )


def worse_by_more(found: Sequence[Category], margin: float) -> list[float]:
    """P-values, corrected by Holm, of "no worse than by `margin`", one a category: small where it is worse.

    Every dataset and metric has a spread of its own; a category whose mean is not below still counts in the correction.
    """
    values = [1.0] * len(found)
    kinds = [(one.dataset, one.metric) for one in found]
    for kind in set(kinds):
        rows = [row for row, one in enumerate(kinds) if one == kind]
        tested = means_below([found[row].sums for row in rows], -margin)
        for row, value in zip(rows, tested, strict=True):
            values[row] = value
    return holm(values)


def tagging(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The classifier must not get worse, over all and in no category; a version that stops answering is refused."""
    gate = "tagging"
    if evidence.incumbent is None:
        return Verdict(gate, "not applicable", FIRST)
    if evidence.missing or not evidence.tagging:
        return missing(gate, evidence)
    lost = [one.dataset for one in evidence.tagging if one.incumbent and not one.candidate]
    if lost:
        return Verdict(
            gate,
            "failed",
            f"{evidence.incumbent} answers with labels on {', '.join(lost)}, {evidence.candidate} does not: Classify would stop",
        )
    both = [one for one in evidence.tagging if one.incumbent and one.candidate]
    if not both:
        return Verdict(gate, "not applicable", f"{evidence.incumbent} has no classifier of its own to compare with")
    return _tagging_verdict(gate, both, evidence, settings)


def _tagging_verdict(gate: str, both: Sequence[Tagging], evidence: Evidence, settings: GateSettings) -> Verdict:
    absent = [one.dataset for one in both if one.quality is None]
    if absent:
        return Verdict(
            gate, "failed", f"the classifiers' answers on {', '.join(absent)} cannot be paired; evaluate again"
        )
    compared = [compare(one.quality, evidence, settings.tagging_margin) for one in both if one.quality is not None]
    by_label = _judged(gate, [category for one in both for category in one.categories], settings)
    failed = [one["reason"] for one in compared if one["outcome"] != "passed"]
    if by_label.outcome == "failed":
        failed.append(by_label.reason)
    fine = f"{compared[0]['reason']}; {by_label.reason}"
    numbers = {"compared": compared, **by_label.numbers}
    return Verdict(gate, "failed" if failed else "passed", "; ".join(failed) or fine, numbers)
