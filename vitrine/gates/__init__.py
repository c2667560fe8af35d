"""Promotion gates: pure functions from evidence and settings to a verdict with its numbers.

Add a gate: write a function in one of the modules here, put it into `GATES`. A missing number never passes.
Relative gates compare with the incumbent (the version in production); without one they say
`not applicable: first version` and the absolute gates decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from vitrine.errors import BadInput
from vitrine.gates.categories import categories, tagging
from vitrine.gates.engine import latency, parity, qdrant, throughput
from vitrine.gates.evidence import Category, Engine, Evidence, Quality, Serving, Tagging
from vitrine.gates.quality import quality_against_incumbent, quality_floor, superiority
from vitrine.gates.settings import GateSettings
from vitrine.gates.soundness import health, leakage, licences, not_retired
from vitrine.ports import Verdict

__all__ = [
    "FIRM",
    "GATES",
    "Category",
    "Engine",
    "Evidence",
    "GateSettings",
    "Quality",
    "Serving",
    "Tagging",
    "run_gates",
]

Gate = Callable[[Evidence, GateSettings], Verdict]

GATES: Mapping[str, Gate] = {
    "not retired": not_retired,
    "licences": licences,
    "leakage": leakage,
    "quality against incumbent": quality_against_incumbent,
    "better than incumbent": superiority,
    "no worse category": categories,
    "tagging": tagging,
    "quality floor": quality_floor,
    "parity": parity,
    "embedding health": health,
    "qdrant evaluation": qdrant,
    "latency budget": latency,
    "throughput budget": throughput,
}

FIRM = ("not retired",)
"""Gates that nobody may override: what was retired on purpose is registered anew, under another name, to be live again."""


def run_gates(
    evidence: Evidence, settings: GateSettings, overrides: Mapping[str, str] | None = None
) -> tuple[Verdict, ...]:
    """Every gate's verdict, in the order of `GATES`.

    Args:
        evidence: what was measured.
        settings: the thresholds.
        overrides: gate -> why it may fail. A failed gate becomes `overridden` and keeps its reason and numbers; one that
            did not fail keeps its outcome. Both carry the reason that was given.

    Raises:
        BadInput: an override of an unknown gate, of one that is firm, or without a reason.
    """
    given = overrides or {}
    _check_overrides(given)
    return tuple(_overridden(gate(evidence, settings), given.get(name)) for name, gate in GATES.items())


def _check_overrides(given: Mapping[str, str]) -> None:
    for name, reason in given.items():
        if name not in GATES:
            raise BadInput(f"there is no gate {name!r} to override; gates are: {', '.join(GATES)}", field="override")
        if name in FIRM:
            raise BadInput(
                f"the gate {name!r} cannot be overridden; register the content under another name to promote it",
                field="override",
            )
        if not reason.strip():
            raise BadInput(
                f"an override of {name!r} needs a reason, which is kept for ever: --reason TEXT", field="reason"
            )


def _overridden(verdict: Verdict, reason: str | None) -> Verdict:
    if reason is None:
        return verdict
    outcome = "overridden" if verdict.outcome == "failed" else verdict.outcome
    return dataclasses.replace(verdict, outcome=outcome, override=reason.strip())
