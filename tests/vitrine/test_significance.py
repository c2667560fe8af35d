from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.significance import (
    UnitSums,
    detectable_difference,
    holm,
    means_below,
    means_differ,
    needed_units,
    permutation_test,
    student_tail,
)

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def exact_p(sums):
    """Every way to flip the units' signs."""
    observed = abs(sum(sums)) - 1e-12
    flips = list(itertools.product((-1, 1), repeat=len(sums)))
    return np.mean([abs(np.dot(flip, sums)) >= observed for flip in flips])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 5), min_size=1, max_size=7))
def test_the_permutation_test_comes_close_to_trying_every_flip(values):
    sums = UnitSums(np.array(values, float), np.ones(len(values)))
    assert permutation_test(sums, permutations=20_000) == pytest.approx(exact_p(values), abs=0.015)


def test_differences_of_a_unit_are_flipped_together():
    one_unit = UnitSums.of(np.full(50, 0.1), ["x"] * 50)
    many = UnitSums.of(np.full(50, 0.1), [str(number) for number in range(50)])
    assert permutation_test(one_unit) == 1.0
    assert permutation_test(many) < 0.001


def test_no_difference_at_all_has_p_value_one():
    assert permutation_test(UnitSums.of(np.zeros(30), [str(n) for n in range(30)])) == 1.0


def test_under_no_difference_a_twentieth_of_the_tests_are_below_5_percent():
    rng, found = np.random.default_rng(1), 0
    for trial in range(1000):
        counts = rng.geometric(0.2, 40)
        shift = np.repeat(rng.normal(0, 0.2, 40), counts)
        units = [str(unit) for unit in np.repeat(np.arange(40), counts)]
        sums = UnitSums.of(shift + rng.normal(0, 0.3, len(units)), units)
        found += permutation_test(sums, permutations=400, seed=trial) <= 0.05
    assert found / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    assert found / 1000 >= 0.05 - 3 * np.sqrt(0.05 * 0.95 / 1000)


def loop_holm(values):
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, highest = [0.0] * len(values), 0.0
    for step, place in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - step) * values[place]))
        adjusted[place] = highest
    return adjusted


@given(p_values)
def test_holm_equals_its_plain_loop(values):
    np.testing.assert_allclose(holm(values), loop_holm(values))


@given(p_values)
def test_holm_never_lowers_a_p_value_and_keeps_the_order(values):
    adjusted = holm(values)
    assert all(new >= old for new, old in zip(adjusted, values, strict=True))
    assert np.argsort(adjusted, kind="stable").tolist() == np.argsort(values, kind="stable").tolist() or len(
        set(adjusted)
    ) < len(adjusted)


def test_holm_holds_the_chance_of_any_false_finding_among_true_nulls_and_a_real_effect():
    """Ten comparisons of clustered queries, two of them real: at most 5 % of the experiments call another one real."""
    rng, wrong = np.random.default_rng(2), 0
    for trial in range(1000):
        values = []
        for comparison in range(10):
            centres = rng.normal(0.15 if comparison < 2 else 0.0, 0.2, 40)
            values.append(permutation_test(UnitSums(centres * 5, np.full(40, 5.0)), permutations=400, seed=trial))
        wrong += any(p <= 0.05 for p in holm(values)[2:])
    assert wrong / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_no_p_values_give_none():
    assert holm([]) == []


def test_a_p_value_above_one_is_refused():
    with pytest.raises(BadInput, match=r"p-values must lie in \[0, 1\], given: \[1.5\]"):
        holm([1.5])


def test_the_detectable_difference_is_shown_with_the_promised_power():
    rng, shown = np.random.default_rng(3), 0
    spread = UnitSums.of(rng.normal(0, 0.3, 100), [str(n) for n in range(100)])
    wanted = detectable_difference(spread, power=0.8)
    for trial in range(500):
        sums = UnitSums.of(rng.normal(wanted, 0.3, 100), [str(n) for n in range(100)])
        shown += permutation_test(sums, permutations=400, seed=trial) <= 0.05
    assert 0.72 <= shown / 500 <= 0.88


def test_half_the_difference_needs_four_times_the_units():
    sums = UnitSums.of(np.random.default_rng(4).normal(0, 0.3, 50), [str(n) for n in range(50)])
    assert needed_units(sums, 0.01) == pytest.approx(4 * needed_units(sums, 0.02), abs=4)


def test_one_unit_says_nothing_about_the_sample_needed():
    sums = UnitSums.of(np.ones(5), ["x"] * 5)
    assert needed_units(sums, 0.1) is None
    assert detectable_difference(sums) == np.inf


def test_a_wanted_difference_of_zero_is_refused():
    with pytest.raises(BadInput, match=r"must be above 0, such as 0\.01"):
        needed_units(UnitSums.of(np.ones(2), ["x", "y"]), 0.0)


def test_a_query_without_a_value_is_left_out():
    sums = UnitSums.of(np.array([1.0, np.nan, 3.0]), ["x", "x", "y"])
    assert (sums.sums.tolist(), sums.counts.tolist()) == ([1.0, 3.0], [1.0, 1.0])


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 6), st.integers(9, 500))
def test_the_tail_of_students_t_is_scipys(value, freedom):
    stats = pytest.importorskip("scipy.stats")
    assert student_tail(value, freedom) == pytest.approx(stats.t.sf(value, freedom), rel=0.05)


def test_one_group_is_tested_by_students_t_over_its_units():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(-0.2, 0.3, 25)
    (found,) = means_below([UnitSums(values, np.ones(25))], -0.1)
    assert found == pytest.approx(stats.ttest_1samp(values, -0.1, alternative="less").pvalue, rel=0.02)


def test_queries_of_one_unit_count_once():
    values, units = np.random.default_rng(0).normal(-0.2, 0.3, 25), [str(n) for n in range(25)]
    once, often = (means_below([UnitSums.of(np.repeat(values, n), np.repeat(units, n).tolist())], 0) for n in (1, 7))
    assert once == pytest.approx(often)


def test_a_group_that_misses_what_others_show_takes_their_spread():
    """All eleven alike says little where other groups' values differ by as much as these lie below."""
    alike = UnitSums(np.full(11, -0.15), np.ones(11))
    others = [UnitSums(np.random.default_rng(n).normal(0, 0.3, 30), np.ones(30)) for n in range(10)]
    assert means_below([alike, *others], -0.1)[0] > 0.2


def test_where_nothing_varies_the_number_of_units_on_one_side_is_all_that_counts():
    one, two = UnitSums(np.full(11, -0.3), np.ones(11)), UnitSums(np.full(2, -0.3), np.ones(2))
    assert means_below([one], -0.1) == [2.0**-11]
    assert means_differ([one, two]) == [2.0**-10, 0.5]


def test_a_wild_group_keeps_its_own_spread():
    wild = UnitSums(np.array([-1.0, 0.8] * 10), np.ones(20))
    calm = [UnitSums(np.random.default_rng(n).normal(0, 0.01, 30), np.ones(30)) for n in range(10)]
    assert means_below([wild, *calm], 0)[0] == pytest.approx(means_below([wild], 0)[0])


@pytest.mark.parametrize("values", [[], [-0.9], [0.2, 0.4], [0.3, 0.3, 0.3]])
def test_a_group_without_two_units_or_not_below_shows_nothing(values):
    assert means_below([UnitSums(np.array(values), np.ones(len(values)))], 0.3) == [1.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30), st.floats(-0.5, 0.5))
def test_a_two_sided_value_is_twice_the_smaller_one_sided_one(values, mean):
    groups = [UnitSums(np.array(values), np.ones(len(values))), UnitSums(np.array([0.1, -0.2]), np.ones(2))]
    turned = [UnitSums(-one.sums, one.counts) for one in groups]
    below, above = means_below(groups, mean), means_below(turned, -mean)
    assert means_differ(groups, mean) == pytest.approx(
        [min(1.0, 2 * min(one, other)) for one, other in zip(below, above, strict=True)]
    )


@pytest.mark.parametrize("values", [[], [-0.9], [0.3, 0.3, 0.3]])
def test_a_group_without_two_units_or_at_the_mean_differs_from_nothing(values):
    assert means_differ([UnitSums(np.array(values), np.ones(len(values)))], 0.3) == [1.0]
