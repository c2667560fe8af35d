"""Each gate says yes, says no with its numbers, and says no where a number is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vitrine.bundle import Parity
from vitrine.errors import BadInput
from vitrine.gates import GATES, Category, Engine, Evidence, GateSettings, Quality, Serving, Tagging, run_gates
from vitrine.gates.categories import categories, tagging, worse_by_more
from vitrine.gates.engine import latency, parity, qdrant, throughput
from vitrine.gates.quality import allowance, quality_against_incumbent, quality_floor, superiority
from vitrine.gates.soundness import health, leakage, licences, not_retired
from vitrine.manifest import Licences
from vitrine.ports import Verdict
from vitrine.significance import UnitSums
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


def quality(
    difference: Interval | None = None, own: Interval | None = None, *, sums: UnitSums | None = None
) -> Quality:
    return Quality("shop", "mmp@5", own or interval(0.5, 0.45, 0.55), difference, chance=0.1, sums=sums)


def category(name: str, differences: list[float], metric: str = "mmp@5") -> Category:
    sums = UnitSums.of(np.array(differences), [str(row) for row in range(len(differences))])
    return Category("shop", metric, name, "query", sums, candidate=0.5 + sums.mean, incumbent=0.5)


LEAKAGE = {"asked": 300, "exact": {"queries": 0}, "near": {"queries": 3}}
SERVING = Serving("onnxruntime fp32", 2, latency_ms=12.5, photos_per_s=210.0, photos=128, batch=16)


GOOD = Evidence(
    candidate="shop-search@2",
    incumbent="shop-search@1",
    quality=(quality(interval(0.05, 0.02, 0.08)),),
    parity=Parity("torch", "onnxruntime", "fp32", 64, 0.99999, 1.0),
    health=GOOD_HEALTH,
    qdrant={"recall_against_exact@10": 0.999, "engine": "qdrant-edge 0.9.0", "graph": "built"},
    categories=(category("mug", [0.01, -0.02] * 20),),
    tagging=(Tagging("shop", candidate=False, incumbent=False),),
    leakage={"shop": LEAKAGE},
    licences=Licences("MIT", "CC0-1.0"),
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


# --- quality: samples that cannot decide, several datasets, superiority -------------------------


def spread(per_unit: list[float], each: int = 4) -> UnitSums:
    return UnitSums(np.array(per_unit) * each, np.full(len(per_unit), float(each)))


def test_an_interval_across_the_margin_tells_the_sample_that_would_decide() -> None:
    noisy = spread([0.3, -0.3] * 15)
    verdict = quality_against_incumbent(
        replace(GOOD, quality=(quality(interval(0.0, -0.11, 0.11), sums=noisy),)), SETTINGS
    )

    needed = verdict.numbers["needed_units"]
    assert verdict.outcome == "failed"
    assert (
        f"These queries cannot decide: about {needed} labels like these would let an equally good version"
        in verdict.reason
    )
    # 30 units have a standard error of 0.0557; (t(0.975) + t(0.8)) x error = margin at about 30 x (2.9 x 5.57)^2 units
    assert 7_000 < needed < 8_600


def test_a_version_that_is_worse_for_sure_is_not_told_to_measure_more() -> None:
    verdict = quality_against_incumbent(
        replace(GOOD, quality=(quality(interval(-0.2, -0.25, -0.15), sums=spread([-0.2, -0.1])),)), SETTINGS
    )

    assert "cannot decide" not in verdict.reason
    assert verdict.numbers["needed_units"] is None


def test_without_a_known_spread_the_advice_names_no_number() -> None:
    verdict = quality_against_incumbent(replace(GOOD, quality=(quality(interval(0.0, -0.1, 0.1)),)), SETTINGS)

    assert "These queries cannot decide: too few labels; evaluate on more" in verdict.reason


def test_products_are_called_products() -> None:
    difference = replace(interval(0.0, -0.1, 0.1), unit="product_id")
    noisy = replace(quality(difference, sums=spread([0.3, -0.3] * 15)))

    verdict = quality_against_incumbent(replace(GOOD, quality=(noisy,)), SETTINGS)

    assert "over 30 products; the lower end, less 0.0" in verdict.reason
    assert "products like these would let" in verdict.reason


def test_the_allowance_for_rare_losses_shrinks_with_the_number_of_units() -> None:
    few, many = (allowance(spread([0.3, -0.3] * count)) for count in (10, 1000))

    assert few == pytest.approx(100 * many, rel=0.05)
    assert allowance(None) == allowance(spread([0.1])) == 0.0


def test_an_interval_that_passes_by_less_than_the_allowance_decides_nothing() -> None:
    sums = spread([0.3, -0.3] * 15)
    within = quality(interval(0.1, -SETTINGS.margin + 0.9 * allowance(sums), 0.2), sums=sums)
    beyond = quality(interval(0.1, -SETTINGS.margin + 1.1 * allowance(sums), 0.2), sums=sums)

    outcomes = [quality_against_incumbent(replace(GOOD, quality=(one,)), SETTINGS).outcome for one in (within, beyond)]

    assert outcomes == ["failed", "passed"]


def test_every_dataset_and_metric_that_fails_is_named() -> None:
    bad = interval(-0.2, -0.25, -0.15)
    three = (
        quality(interval(0.05, 0.02, 0.08)),
        replace(quality(bad), dataset="other"),
        replace(quality(bad), metric="mr@1"),
    )

    verdict = quality_against_incumbent(replace(GOOD, quality=three), SETTINGS)

    assert "mmp@5 on other" in verdict.reason
    assert "mr@1 on shop" in verdict.reason
    assert [one["outcome"] for one in verdict.numbers["compared"]] == ["passed", "worse", "worse"]


def test_a_dataset_of_the_settings_that_was_not_evaluated_refuses_although_the_catalogue_was() -> None:
    partly = replace(GOOD, missing=("shop-search@2 was not evaluated on other as it is now",))

    refused = {verdict.gate for verdict in run_gates(partly, SETTINGS) if not verdict.lets_pass}

    assert "quality against incumbent" in refused


@pytest.mark.parametrize(("low", "outcome"), [(0.001, "passed"), (0.0, "failed"), (-0.005, "failed")])
def test_superiority_asks_for_an_interval_above_zero(low: float, outcome: str) -> None:
    wanted = GateSettings(superiority=True)

    verdict = superiority(replace(GOOD, quality=(quality(interval(0.02, low, 0.04)),)), wanted)

    assert verdict.outcome == outcome
    assert verdict.numbers["ci95"] == [low, 0.04]


def test_superiority_tells_the_sample_that_would_show_the_difference_that_was_found() -> None:
    sums = spread([0.3, -0.28] * 15)
    verdict = superiority(
        replace(GOOD, quality=(quality(interval(sums.mean, -0.1, 0.12), sums=sums),)), GateSettings(superiority=True)
    )

    assert "labels like these would show a difference of this size" in verdict.reason


def test_superiority_takes_off_what_so_few_units_may_miss() -> None:
    sums = UnitSums(np.tile([0.3, -0.25], 20), np.ones(40))
    missed = allowance(sums)
    outcomes = [
        superiority(
            replace(GOOD, quality=(quality(interval(0.03, low, 0.06), sums=sums),)), GateSettings(superiority=True)
        ).outcome
        for low in (missed * 0.9, missed * 1.1)
    ]

    assert outcomes == ["failed", "passed"]


def test_superiority_does_not_take_another_dataset_for_a_catalogue_that_was_not_evaluated() -> None:
    found = replace(GOOD, missing=("shop-search@2 was not evaluated on shop as it is now",))

    assert superiority(found, GateSettings(superiority=True)).outcome == "failed"


def test_superiority_is_not_asked_for_by_default() -> None:
    assert superiority(GOOD, SETTINGS).outcome == "not applicable"


def test_superiority_without_a_comparison_is_refused() -> None:
    verdict = superiority(replace(GOOD, quality=(quality(None),)), GateSettings(superiority=True))

    assert verdict.outcome == "failed"
    assert "vitrine evaluate shop-search@1 --dataset shop" in verdict.reason


# --- categories and tagging ----------------------------------------------------------------------


def test_one_bad_category_refuses_a_version_that_is_fine_over_all() -> None:
    bad = category("jug", [-0.6, -0.4] * 15)

    verdict = categories(replace(GOOD, categories=(*GOOD.categories, bad)), SETTINGS)

    assert verdict.outcome == "failed"
    assert (
        "of 2 categories, 1 worse by more than 0.1 after Holm's correction: jug on shop -0.5000 mmp@5" in verdict.reason
    )
    assert verdict.numbers["worst"][0]["category"] == "jug"


def test_a_category_with_few_queries_is_counted_and_not_tested() -> None:
    few = category("jug", [-1.0] * 9)

    verdict = categories(replace(GOOD, categories=(*GOOD.categories, few)), SETTINGS)

    assert verdict.outcome == "passed"
    assert verdict.numbers["too_few"] == 1
    assert "1 with too few queries, or of a single product, were not tested" in verdict.reason


def test_a_category_of_a_single_product_is_counted_and_not_tested() -> None:
    one = Category("shop", "mmp@5", "jug", "product_id", UnitSums(np.array([-12.0]), np.array([20.0])), 0.2, 0.8)

    verdict = categories(replace(GOOD, categories=(*GOOD.categories, one)), SETTINGS)

    assert (verdict.outcome, verdict.numbers["categories"], verdict.numbers["too_few"]) == ("passed", 1, 1)
    assert categories(replace(GOOD, categories=(one,)), SETTINGS).outcome == "not applicable"


def test_no_category_with_enough_queries_is_not_applicable_and_says_so() -> None:
    verdict = categories(replace(GOOD, categories=(category("mug", [0.0] * 5),)), SETTINGS)

    assert verdict.outcome == "not applicable"
    assert "none of 1 categories has 10 queries" in verdict.reason


def test_holm_needs_more_evidence_of_one_category_among_many() -> None:
    rng = np.random.default_rng(3)
    bad = category("bad", (rng.normal(-0.25, 0.3, 25)).tolist())
    others = [category(f"c{number}", [0.0] * 25) for number in range(60)]

    alone, among = (worse_by_more(found, 0.1)[0] for found in ([bad], [bad, *others]))

    assert alone < 0.05 < among
    assert among == pytest.approx(61 * alone)


def test_each_metric_has_a_spread_of_its_own() -> None:
    steady = category("mug", [-0.2, -0.22] * 15)
    wild = category("mug", [-1.0, 1.0] * 15, metric="own/accuracy")

    assert worse_by_more([steady, wild], 0.1)[0] == pytest.approx(2 * worse_by_more([steady], 0.1)[0])


def tag(difference: Interval | None, *found: Category) -> tuple[Tagging, ...]:
    compared = Quality("shop", "own/accuracy", interval(0.8, 0.75, 0.85), difference, 0.0)
    return (Tagging("shop", candidate=True, incumbent=True, quality=compared, categories=found),)


def test_worse_labels_over_all_are_refused() -> None:
    verdict = tagging(replace(GOOD, tagging=tag(interval(-0.1, -0.15, -0.05))), SETTINGS)

    assert verdict.outcome == "failed"
    assert "own/accuracy on shop: shop-search@2 minus shop-search@1 = -0.1000" in verdict.reason


def test_worse_labels_in_one_category_are_refused() -> None:
    bad = category("jug", [-1.0, 0.0] * 20, "own/accuracy")

    verdict = tagging(replace(GOOD, tagging=tag(interval(0.0, -0.01, 0.01), bad)), SETTINGS)

    assert verdict.outcome == "failed"
    assert "jug on shop -0.5000 own/accuracy over 40 queries" in verdict.reason


def test_labels_as_good_as_before_pass() -> None:
    found = tag(interval(0.0, -0.01, 0.01), category("jug", [0.0] * 40, "own/accuracy"))

    assert tagging(replace(GOOD, tagging=found), SETTINGS).outcome == "passed"


def test_a_version_that_stops_answering_with_labels_is_refused() -> None:
    verdict = tagging(replace(GOOD, tagging=(Tagging("shop", candidate=False, incumbent=True),)), SETTINGS)

    assert verdict.outcome == "failed"
    assert "Classify would stop" in verdict.reason


def test_classifiers_that_cannot_be_paired_are_refused() -> None:
    verdict = tagging(replace(GOOD, tagging=(Tagging("shop", candidate=True, incumbent=True),)), SETTINGS)

    assert verdict.outcome == "failed"
    assert "cannot be paired" in verdict.reason


# --- engines and their speed ---------------------------------------------------------------------


def engine(precision: str, cosine: float, overlap: float = 0.9, *found: Quality) -> Engine:
    return Engine(Parity("onnxruntime fp32", "tensorrt", precision, 64, cosine, overlap), found)


@pytest.mark.parametrize(
    ("built", "outcome"),
    [
        (engine("fp16", 0.9995), "passed"),
        (engine("bf16", 0.9985), "failed"),
        (engine("fp16", math.nan), "failed"),
        (engine("fp32", 0.9999, 0.98), "failed"),
        (engine("int8", 0.97), "failed"),
        (engine("int8", 0.97, 0.8, quality(interval(-0.001, -0.006, 0.004))), "passed"),
        (engine("int8", 0.97, 0.8, quality(interval(-0.03, -0.04, -0.02))), "failed"),
        (engine("int8", 0.97, 0.8, quality(None)), "failed"),
    ],
)
def test_an_engine_is_judged_by_what_its_precision_can(built: Engine, outcome: str) -> None:
    assert parity(replace(GOOD, engines=(built,)), SETTINGS).outcome == outcome


def test_an_int8_engine_that_was_never_ranked_says_how_to_measure_it() -> None:
    verdict = parity(replace(GOOD, engines=(engine("int8", 0.97),)), SETTINGS)

    assert verdict.reason.endswith(
        "tensorrt int8: a cosine cannot judge this precision, and no metric could be compared with the reference's; evaluate "
        "the version first: vitrine evaluate shop-search@2 --dataset NAME --via exact"
    )
    assert verdict.numbers["engines"][0]["precision"] == "int8"


def test_no_budget_is_not_applicable() -> None:
    assert latency(GOOD, SETTINGS).outcome == throughput(GOOD, SETTINGS).outcome == "not applicable"


@pytest.mark.parametrize(("budget", "outcome"), [(12.5, "passed"), (12.4, "failed")])
def test_the_latency_budget_names_engine_and_threads(budget: float, outcome: str) -> None:
    verdict = latency(replace(GOOD, serving=SERVING), GateSettings(max_latency_ms=budget))

    assert verdict.outcome == outcome
    assert "at most 12.5 ms on onnxruntime fp32 with 2 threads" in verdict.reason


@pytest.mark.parametrize(("budget", "outcome"), [(210, "passed"), (211, "failed")])
def test_the_throughput_budget_names_engine_and_threads(budget: float, outcome: str) -> None:
    verdict = throughput(replace(GOOD, serving=replace(SERVING, threads=1)), GateSettings(min_photos_per_s=budget))

    assert verdict.outcome == outcome
    assert "210.0 photos a second in batches of 16 on onnxruntime fp32 with 1 thread" in verdict.reason


@pytest.mark.parametrize("serving", [None, replace(SERVING, latency_ms=math.nan, photos_per_s=math.nan)])
def test_a_budget_without_a_measurement_is_refused(serving: Serving | None) -> None:
    found, settings = replace(GOOD, serving=serving), GateSettings(max_latency_ms=100, min_photos_per_s=1)

    assert latency(found, settings).outcome == throughput(found, settings).outcome == "failed"


def test_an_engine_that_could_not_be_loaded_is_told_by_both_budgets() -> None:
    untimed = "no onnxruntime int8 engine is built; build it: vitrine engine build NAME@N --precision int8"
    found, settings = replace(GOOD, untimed=untimed), GateSettings(max_latency_ms=100, min_photos_per_s=1)

    assert latency(found, settings).reason == f"the latency on the serving engine was not measured: {untimed}"
    assert throughput(found, settings).reason == f"the throughput on the serving engine was not measured: {untimed}"


# --- leakage and licences ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (LEAKAGE, "passed"),
        ({**LEAKAGE, "exact": {"queries": 1}}, "failed"),
        ({**LEAKAGE, "near": {"queries": 31}}, "failed"),
        ({"asked": 300}, "failed"),
        ({**LEAKAGE, "asked": 0}, "failed"),
        (None, "failed"),
        ("unknown: dataset d, which the version was trained on, is not here", "failed"),
        ("not applicable: the queries are titles", "not applicable"),
    ],
)
def test_leakage_must_be_known_and_small(found: object, outcome: str) -> None:
    assert leakage(replace(GOOD, leakage={"shop": found}), SETTINGS).outcome == outcome


def test_unknown_leakage_says_what_to_import_and_run_or_how_to_override() -> None:
    found = "unknown: dataset mugs, which the version was trained on, is not here"

    verdict = leakage(replace(GOOD, leakage={"shop": found}), SETTINGS)

    assert verdict.reason == (
        "shop: unknown: dataset mugs, which the version was trained on, is not here. Import it under that name (vitrine data "
        f"import FORMAT PATH --name NAME) and evaluate again (vitrine evaluate {GOOD.candidate} --dataset shop); or, if you "
        'know that it shares no photo with the queries, promote with --override leakage --reason "why you know"'
    )


def test_leakage_on_any_dataset_refuses() -> None:
    both = {"shop": LEAKAGE, "other": {**LEAKAGE, "exact": {"queries": 9}}}

    verdict = leakage(replace(GOOD, leakage=both), SETTINGS)

    assert verdict.outcome == "failed"
    assert "other: 9 of 300 queries have a photo of the training split" in verdict.reason


def test_a_licence_that_nobody_allowed_is_refused_and_says_how_to_allow_it() -> None:
    verdict = licences(replace(GOOD, licences=Licences("CC-BY-NC-4.0", "mit")), SETTINGS)

    assert verdict.outcome == "failed"
    assert "weights are under 'CC-BY-NC-4.0'" in verdict.reason
    assert "gates.licences in params.yaml" in verdict.reason


def test_a_licence_allowed_for_fetched_weights_is_allowed_here() -> None:
    settings = GateSettings.from_params({"licences": {"CC-BY-NC-4.0": "research only, asked legal"}})

    assert licences(replace(GOOD, licences=Licences("CC-BY-NC-4.0", "MIT")), settings).outcome == "passed"


def test_a_shop_that_insists_refuses_unstated_licences() -> None:
    assert (
        licences(replace(GOOD, licences=Licences("MIT", "unknown")), GateSettings(licences=("MIT",))).outcome
        == "failed"
    )


# --- overrides -----------------------------------------------------------------------------------


def of(verdicts: tuple[Verdict, ...], gate: str) -> Verdict:
    return next(verdict for verdict in verdicts if verdict.gate == gate)


def test_an_override_lets_a_failed_gate_pass_and_keeps_what_it_said() -> None:
    worse = replace(GOOD, quality=(quality(interval(-0.2, -0.25, -0.15)),))
    plain = of(run_gates(worse, SETTINGS), "quality against incumbent")

    found = of(
        run_gates(worse, SETTINGS, {"quality against incumbent": " the old one may not be used any more "}), plain.gate
    )

    assert (found.outcome, found.override) == ("overridden", "the old one may not be used any more")
    assert (found.reason, found.numbers) == (plain.reason, plain.numbers)
    assert found.lets_pass


def test_an_override_that_is_not_needed_is_kept_to_no_effect() -> None:
    found = of(run_gates(GOOD, SETTINGS, {"parity": "seen on the device"}), "parity")

    assert (found.outcome, found.override) == ("passed", "seen on the device")


def test_an_override_of_one_gate_leaves_the_others() -> None:
    worse = replace(GOOD, quality=(quality(interval(-0.2, -0.25, -0.15)),), qdrant=None)

    refused = [v.gate for v in run_gates(worse, SETTINGS, {"qdrant evaluation": "no Qdrant here"}) if not v.lets_pass]

    assert refused == ["quality against incumbent"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"qality": "x"}, "there is no gate 'qality' to override; gates are: not retired, "),
        ({"parity": "  "}, "an override of 'parity' needs a reason"),
        ({"not retired": "please"}, "the gate 'not retired' cannot be overridden; register the content"),
    ],
)
def test_an_override_that_cannot_be_is_refused(override: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        run_gates(GOOD, SETTINGS, override)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"margin": -0.1}, "gates.margin is -0.1, it must not be below 0"),
        ({"margin": math.nan}, "margin is no number"),
        ({"margin": True}, "margin is no number"),
        ({"superiority": "yes"}, "gates.superiority is 'yes'; it must be true or false"),
        ({"min_category_queries": 2.5}, "must be a whole number from 0"),
        ({"datasets": [1]}, "gates.datasets is .* it must be a list of names"),
        ({"metrics": []}, "gates.metrics is empty"),
        ({"family_error": 0}, "must lie between 0 and 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(raw: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        GateSettings.read(raw)


def test_settings_are_read_in_their_own_kinds() -> None:
    raw = {
        "datasets": "other",
        "max_latency_ms": 40,
        "min_category_queries": 30.0,
        "superiority": True,
        "licences": ["MIT"],
    }

    found = GateSettings.read(raw)

    assert (found.datasets, found.max_latency_ms, found.superiority, found.licences) == (
        ("other",),
        40.0,
        True,
        ("MIT",),
    )
    assert repr(found.min_category_queries) == "30"


@pytest.mark.parametrize("gate", sorted(GATES))
def test_gates_do_not_change_their_evidence(gate: str) -> None:
    before = repr(GOOD)

    GATES[gate](GOOD, SETTINGS)

    assert repr(GOOD) == before
