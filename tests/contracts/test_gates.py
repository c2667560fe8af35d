"""Contract of every gate in `vitrine.gates.GATES`; a new gate is covered by being listed there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrine.gates import GATES, Evidence, GateSettings, run_gates


@pytest.mark.parametrize("incumbent", [None, "shop-search@1"])
@pytest.mark.parametrize("gate", sorted(set(GATES) - {"not retired"}))
def test_no_gate_passes_on_missing_numbers(gate: str, incumbent: str | None) -> None:
    nothing = Evidence(candidate="shop-search@2", incumbent=incumbent)

    assert GATES[gate](nothing, GateSettings()).outcome in {"failed", "not applicable"}


@pytest.mark.parametrize("incumbent", [None, "shop-search@1"])
def test_without_any_evidence_a_promotion_is_refused(incumbent: str | None) -> None:
    nothing = Evidence(candidate="shop-search@2", incumbent=incumbent)

    assert any(not verdict.lets_pass for verdict in run_gates(nothing, GateSettings()))


@pytest.mark.parametrize("gate", sorted(GATES))
def test_a_verdict_names_its_gate_and_gives_a_reason(gate: str) -> None:
    verdict = GATES[gate](Evidence(candidate="shop-search@2", incumbent=None), GateSettings())

    assert verdict.gate == gate
    assert len(verdict.reason) > 10


def test_every_gate_is_explained_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs/promotion.md").read_text()

    assert [gate for gate in GATES if f"**{gate}**" not in text] == []
