"""A small share of `make gate-simulation`: the gates are as often right as they say, on differences of real photos."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from vitrine.gates import GateSettings

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/gate_simulation.py"))
RUNS, MARGIN = 150, 0.05


@pytest.fixture(scope="module")
def world():
    return SIMULATION["resampled"]()


def accepted(world, true):
    units = SIMULATION["advised_units"](world, MARGIN)
    return np.mean([SIMULATION["accepted"](world, units, MARGIN, true, seed) for seed in range(RUNS)])


def three_errors(share, runs=RUNS):
    return 3 * (share * (1 - share) / runs) ** 0.5


def test_a_version_worse_by_the_margin_is_seldom_accepted(world):
    assert accepted(world, -MARGIN) <= 0.025 + three_errors(0.025)


def test_an_equally_good_version_is_accepted_as_often_as_the_told_sample_size_promises(world):
    assert accepted(world, 0.0) == pytest.approx(0.8, abs=three_errors(0.8))


def test_a_version_worse_by_twice_the_margin_is_refused(world):
    assert accepted(world, -2 * MARGIN) <= 0.05


@pytest.mark.parametrize("least", [20, 10])
def test_categories_at_the_margin_are_seldom_named_however_many_there_are(least):
    groups, settings = SIMULATION["category_groups"](least), GateSettings(min_category_queries=least)
    wrong = [SIMULATION["refused"](groups, settings, 0, 0.0, seed)[0] for seed in range(300)]
    assert np.mean(wrong) <= 0.05 + three_errors(0.05, 300)


@pytest.mark.parametrize("least", [20, 10])
def test_compare_seldom_names_a_category_of_equally_good_versions(least):
    groups = SIMULATION["category_groups"](least)
    wrong = [SIMULATION["named_by_compare"](groups, seed) for seed in range(200)]
    assert np.mean(wrong) <= 0.05 + three_errors(0.05, 200)


def test_a_category_that_loses_much_is_named_among_many():
    groups, settings = SIMULATION["category_groups"](20), GateSettings()
    right = [SIMULATION["refused"](groups, settings, 1, 0.3, seed)[1] for seed in range(100)]
    assert np.mean(right) > 0.8


def test_the_simulated_pairs_have_the_true_difference_that_is_asked_for(world):
    drawn = world.draw(4000, np.random.default_rng(0))
    assert np.concatenate(drawn).mean() == pytest.approx(0.0, abs=0.01)


def test_photos_of_one_label_are_alike_as_measured():
    assert SIMULATION["correlation"](SIMULATION["real_units"]()) == pytest.approx(0.087, abs=0.001)


def test_the_correlation_of_made_up_units_is_found():
    rng = np.random.default_rng(0)
    units = [rng.normal(0, 0.5) + rng.normal(0, 0.5 * 3**0.5, 10) for _ in range(3000)]
    assert SIMULATION["correlation"](units) == pytest.approx(0.25, abs=0.02)
