"""Each gate says yes, says no with its numbers, and says no where a number is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from vitrine.bundle import Parity
from vitrine.errors import BadInput
from vitrine.gates import (
    Evidence,
    GateSettings,
    Quality,
    health,
    not_retired,
    parity,
    qdrant,
    quality_against_incumbent,
    quality_floor,
    run_gates,
)
from vitrine.stats import Interval

SETTINGS = GateSettings()
GOOD_HEALTH = {
    "finite": True,
    "norm_min": 1.0,
    "norm_max": 1.0,
    "effective_rank": 40.0,
    "mean_cosine": 0.2,
    "duplicate_share": 0.0,
}


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high, units=30, queries=300, unit="label")


def quality(difference: Interval | None = None, own: Interval | None = None) -> Quality:
    return Quality("shop", "mmp@5", own or interval(0.5, 0.45, 0.55), difference, chance=0.1)


GOOD = Evidence(
    candidate="shop-search@2",
    incumbent="shop-search@1",
    quality=(quality(interval(0.05, 0.02, 0.08)),),
    parity=Parity("torch", "onnxruntime", "fp32", 64, 0.99999, 1.0),
    health=GOOD_HEALTH,
    qdrant={"recall_against_exact@10": 0.999, "engine": "qdrant-edge 0.9.0", "graph": "built"},
)


def test_good_evidence_passes_every_gate() -> None:
    assert all(verdict.lets_pass for verdict in run_gates(GOOD, SETTINGS))


def test_a_lower_end_below_the_margin_is_refused_with_its_interval() -> None:
    verdict = quality_against_incumbent(replace(GOOD, quality=(quality(interval(-0.2, -0.25, -0.15)),)), SETTINGS)

    assert verdict.outcome == "failed"
    assert "-0.2000, 95 % interval [-0.2500, -0.1500] over 30 labels" in verdict.reason
    assert verdict.numbers["ci95"] == [-0.25, -0.15]


def test_a_lower_end_exactly_at_the_margin_passes() -> None:
    edge = quality(interval(0.0, -0.01, 0.01))

    assert quality_against_incumbent(replace(GOOD, quality=(edge,)), SETTINGS).outcome == "passed"


def test_the_worst_of_several_metrics_decides() -> None:
    both = (quality(interval(0.1, 0.05, 0.2)), quality(interval(-0.1, -0.2, 0.0)))

    assert quality_against_incumbent(replace(GOOD, quality=both), SETTINGS).outcome == "failed"


def test_a_missing_paired_comparison_is_refused_and_says_what_to_run() -> None:
    verdict = quality_against_incumbent(replace(GOOD, quality=(quality(None),)), SETTINGS)

    assert verdict.outcome == "failed"
    assert "vitrine evaluate shop-search@1 --dataset shop" in verdict.reason


def test_an_interval_that_is_not_finite_is_refused() -> None:
    open_ended = quality(interval(0.1, -math.inf, math.inf))

    assert quality_against_incumbent(replace(GOOD, quality=(open_ended,)), SETTINGS).outcome == "failed"


def test_the_first_version_is_not_compared() -> None:
    verdict = quality_against_incumbent(replace(GOOD, incumbent=None), SETTINGS)

    assert verdict.outcome == "not applicable"
    assert "first version" in verdict.reason


def test_the_first_version_must_beat_random_order() -> None:
    poor = replace(GOOD, incumbent=None, quality=(quality(own=interval(0.12, 0.08, 0.14)),))

    verdict = quality_floor(poor, SETTINGS)

    assert verdict.outcome == "failed"
    assert "random order 0.1000" in verdict.reason


def test_the_first_version_passes_above_the_floor() -> None:
    assert quality_floor(replace(GOOD, incumbent=None), SETTINGS).outcome == "passed"


def test_the_floor_leaves_a_later_version_to_the_comparison() -> None:
    assert quality_floor(GOOD, SETTINGS).outcome == "not applicable"


@pytest.mark.parametrize("bad", [{"min_cosine": 0.99}, {"top10_overlap": 0.9}, {"min_cosine": math.nan}])
def test_poor_parity_is_refused(bad: dict[str, float]) -> None:
    assert GOOD.parity is not None
    assert parity(replace(GOOD, parity=replace(GOOD.parity, **bad)), SETTINGS).outcome == "failed"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("finite", False, "not finite"),
        ("norm_max", 1.2, "lengths reach"),
        ("effective_rank", 1.1, "the space collapsed"),
        ("mean_cosine", 0.999, "everything looks alike"),
        ("duplicate_share", 0.9, "repeats another"),
        ("effective_rank", math.nan, "the space collapsed"),
    ],
)
def test_an_unhealthy_embedding_is_refused(field: str, value: float, said: str) -> None:
    verdict = health(replace(GOOD, health={**GOOD_HEALTH, field: value}), SETTINGS)

    assert verdict.outcome == "failed"
    assert said in verdict.reason


def test_a_health_number_that_was_not_measured_is_refused_by_name() -> None:
    partial = {key: value for key, value in GOOD_HEALTH.items() if key != "effective_rank"}

    assert "effective_rank" in health(replace(GOOD, health=partial), SETTINGS).reason


def test_a_version_without_a_qdrant_evaluation_is_refused() -> None:
    verdict = qdrant(replace(GOOD, qdrant=None), SETTINGS)

    assert verdict.outcome == "failed"
    assert "never evaluated through Qdrant" in verdict.reason


def test_a_low_ann_recall_is_refused() -> None:
    low = {"recall_against_exact@10": 0.9, "engine": "qdrant-edge 0.9.0", "graph": "built"}

    assert qdrant(replace(GOOD, qdrant=low), SETTINGS).outcome == "failed"


def test_a_retired_version_is_refused() -> None:
    assert not_retired(replace(GOOD, retired=True), SETTINGS).outcome == "failed"


def test_an_unknown_gate_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown settings marginn; known are .*margin"):
        GateSettings.read({"marginn": 0.1})


def test_a_gate_setting_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadInput, match="no number"):
        GateSettings.read({"margin": "lots"})


def test_settings_without_any_are_the_defaults() -> None:
    assert GateSettings.read(None) == GateSettings()


def test_one_metric_may_be_named_without_a_list() -> None:
    assert GateSettings.read({"metrics": "mr@1"}).metrics == ("mr@1",)


def test_settings_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(BadInput, match="gates must be a mapping"):
        GateSettings.read(["margin"])
