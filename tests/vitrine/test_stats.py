from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.stats import Interval, bootstrap_mean, decision, paired_bootstrap


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
    return np.quantile(means, (0.025, 0.975))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=2, max_size=20))
def test_the_interval_equals_pooling_the_queries_of_resampled_units(pairs):
    values, units = [value for value, _ in pairs], [unit for _, unit in pairs]
    interval = bootstrap_mean(np.array(values), units, resamples=50, seed=3)
    assert interval.value == pytest.approx(np.mean(values))
    if len(set(units)) > 1:
        np.testing.assert_allclose((interval.low, interval.high), loop_bootstrap(values, units, 50, 3), atol=1e-9)


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


def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        centres = rng.normal(0.5, 0.1, 40)
        values = np.repeat(centres, 5) + rng.normal(0, 0.1, 200)
        interval = bootstrap_mean(values, [str(number // 5) for number in range(200)], resamples=400, seed=trial)
        held += interval.low <= 0.5 <= interval.high
    assert 0.89 <= held / 200 <= 0.99


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
