from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from vitrine.errors import BadInput
from vitrine.stats import (
    Interval,
    bootstrap_mean,
    bootstrap_means,
    decision,
    paired_bootstrap,
    student_quantile,
    wilson,
)


def loop_bootstrap(values, units, resamples, seed):
    """Resample whole units one by one, pool their queries, take the mean."""
    names = sorted(set(units))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        pooled = []
        for drawn in rng.integers(0, len(names), len(names)):
            pooled += [value for value, unit in zip(values, units, strict=True) if unit == names[drawn]]
        means.append(np.mean(pooled))
    sizes = np.array([units.count(name) for name in names])
    effective = max(2.0, sizes.sum() ** 2 / (sizes**2).sum())
    tail = norm.cdf(-np.sqrt(effective / (effective - 1)) * student_quantile(0.975, effective - 1))
    return np.quantile(means, (tail, 1 - tail))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=2), min_size=8, max_size=12))
def test_the_interval_equals_pooling_the_queries_of_resampled_units(by_unit):
    values = [value for group in by_unit for value in group]
    units = [f"{number:02d}" for number, group in enumerate(by_unit) for _ in group]
    interval = bootstrap_mean(np.array(values), units, resamples=50, seed=3)
    assert interval.value == pytest.approx(np.mean(values))
    np.testing.assert_allclose((interval.low, interval.high), loop_bootstrap(values, units, 50, 3), atol=1e-9)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_interval_of_a_few_units_is_students(count):
    rng = np.random.default_rng(count)
    means = rng.normal(0.5, 0.1, count)
    interval = bootstrap_mean(np.repeat(means, 3), [str(unit) for unit in range(count) for _ in range(3)])
    expected = student.interval(0.95, count - 1, loc=means.mean(), scale=means.std(ddof=1) / np.sqrt(count))
    assert (interval.low, interval.high) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 10])
def test_intervals_of_a_few_units_cover_the_truth_too(count):
    rng, covered = np.random.default_rng(count), 0
    units = [str(unit) for unit in range(count) for _ in range(3)]
    for _ in range(1000):
        values = np.repeat(rng.normal(0, 1, count), 3) + rng.normal(0, 0.3, 3 * count)
        interval = bootstrap_mean(values, units, resamples=500)
        covered += interval.low <= 0 <= interval.high
    assert covered / 1000 >= 0.93


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(0)
    values, units = rng.random(200), [str(number % 20) for number in range(200)]
    assert bootstrap_mean(values, units, seed=5) == bootstrap_mean(values, units, seed=5)
    assert bootstrap_mean(values, units, seed=5) != bootstrap_mean(values, units, seed=6)


def test_queries_that_share_a_unit_widen_the_interval():
    values = np.repeat(np.random.default_rng(1).random(20), 10)
    by_unit = bootstrap_mean(values, [str(number // 10) for number in range(200)])
    by_query = bootstrap_mean(values, [str(number) for number in range(200)])
    assert by_unit.high - by_unit.low > 2 * (by_query.high - by_query.low)


SIZES = {
    "one query a unit": lambda rng, units: np.ones(units, int),
    "ten queries a unit": lambda rng, units: np.full(units, 10),
    "uneven units": lambda rng, units: rng.geometric(0.1, units),
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("paired", [False, True])
def test_95_percent_intervals_cover_the_truth_in_93_to_97_percent_of_1000_experiments(sizes, paired):
    """Hit rates of clustered queries: every unit has its own difficulty, all its queries share it."""
    rng, covered = np.random.default_rng(5), 0
    truth = 0.05 * 0.6 if paired else 0.6
    for _ in range(1000):
        counts = SIZES[sizes](rng, 60)
        difficulty = rng.beta(3, 2, 60)
        units = [str(unit) for unit in np.repeat(np.arange(60), counts)]
        a = (rng.random(len(units)) < np.repeat(difficulty, counts)).astype(float)
        b = (rng.random(len(units)) < np.repeat(difficulty * (1 - 0.1 * rng.random(60)), counts)).astype(float)
        interval = paired_bootstrap(a, b if paired else np.zeros_like(a), units, resamples=1000)
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 20, 300])
def test_the_students_quantile_is_scipys(freedom):
    assert student_quantile(0.975, freedom) == pytest.approx(student.ppf(0.975, freedom), rel=0.01)


def test_a_system_against_itself_shows_no_difference():
    values = np.random.default_rng(3).random(60)
    interval = paired_bootstrap(values, values, [str(number % 6) for number in range(60)])
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert decision(interval) == "no difference shown"


def test_pairs_with_a_nan_are_left_out_and_counted():
    a, b = np.array([1.0, np.nan, 0.5, 1.0]), np.array([0.0, 1.0, np.nan, 0.5])
    interval = paired_bootstrap(a, b, ["x", "x", "y", "y"])
    assert (interval.value, interval.queries, interval.units, interval.dropped) == (0.75, 2, 2, 2)


def test_one_unit_leaves_the_interval_open():
    interval = bootstrap_mean(np.array([0.2, 0.4]), ["x", "x"], unit="product_id")
    assert (interval.low, interval.high, interval.units, interval.unit) == (-np.inf, np.inf, 1, "product_id")


def test_no_query_left_is_unknown():
    interval = bootstrap_mean(np.array([np.nan]), ["x"])
    assert np.isnan(interval.value)
    assert (interval.queries, interval.dropped) == (0, 1)
    assert decision(interval) == "no difference shown"


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.01, 0.02, 0.0, "better"),
        (-0.02, -0.01, 0.0, "worse"),
        (-0.01, 0.02, 0.0, "no difference shown"),
        (0.005, 0.02, 0.01, "no difference shown"),
        (-0.02, -0.005, 0.01, "no difference shown"),
    ],
)
def test_a_decision_needs_the_whole_interval_beyond_the_margin(low, high, margin, verdict):
    assert decision(Interval(0.0, low, high, 5, 50, "label"), margin) == verdict


def test_unpaired_lengths_are_refused():
    with pytest.raises(BadInput, match="a has 2 values and b 1"):
        paired_bootstrap(np.zeros(2), np.zeros(1), ["x", "y"])


def test_a_missing_unit_is_refused():
    with pytest.raises(BadInput, match="one unit a query"):
        bootstrap_mean(np.zeros(2), ["x"])


@given(data=st.data(), trials=st.integers(1, 400), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilsons_interval_is_scipys(data, trials, confidence):
    successes = data.draw(st.integers(0, trials))
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_no_trials_is_refused(successes, trials):
    with pytest.raises(BadInput, match=f"{successes} of {trials} is no share"):
        wilson(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_wilsons_confidence_lies_between_0_and_1(confidence):
    with pytest.raises(BadInput, match="must be between 0 and 1"):
        wilson(1, 2, confidence)


def test_columns_measured_together_have_the_intervals_they_have_alone():
    rng = np.random.default_rng(7)
    units = [f"u{row // 3}" for row in range(120)]
    columns = {name: rng.random(120) for name in ("a", "b", "c")}
    columns["c"][5] = np.nan
    together = bootstrap_means(columns, units)
    for name, values in columns.items():
        alone = bootstrap_mean(values, units)
        assert together[name].value == alone.value
        assert (together[name].low, together[name].high) == pytest.approx((alone.low, alone.high))
        assert (together[name].units, together[name].queries, together[name].dropped) == (
            40,
            alone.queries,
            alone.dropped,
        )
