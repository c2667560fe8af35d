from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from vitrine.errors import BadInput
from vitrine.stability import _kendall, rank_stability, separation


def scores(means, units=60, queries=3, noise=0.2, seed=0):
    """(models, queries) around the means, with difficulty that all models share."""
    rng = np.random.default_rng(seed)
    names = [str(unit) for unit in range(units) for _ in range(queries)]
    shared = np.repeat(rng.normal(0, 0.2, units), queries)
    return np.array([mean + shared + rng.normal(0, noise, len(names)) for mean in means]), names


def test_models_far_apart_keep_their_ranks():
    found = rank_stability(*scores([0.9, 0.5, 0.1]))
    assert found.rank_low.tolist() == found.rank_high.tolist() == [1, 2, 3]
    assert found.first.tolist() == [1.0, 0.0, 0.0]
    assert found.agreement == 1.0


def test_equal_models_may_take_any_rank():
    found = rank_stability(*scores([0.5, 0.5, 0.5], seed=3))
    assert found.rank_high.max() == 3
    assert found.rank_low.min() == 1
    assert found.agreement < 0.9


def test_one_model_alone_is_first():
    found = rank_stability(*scores([0.5]))
    assert (found.rank_low.tolist(), found.rank_high.tolist(), found.agreement) == ([1], [1], 1.0)


def test_kendalls_tau_is_scipys():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 4, 6).astype(float), rng.integers(0, 4, 6).astype(float)
        assert _kendall(a, b) == pytest.approx(np.nan_to_num(kendalltau(a, b).statistic))


def test_every_pair_is_tested_with_holms_correction():
    found = separation(*scores([0.9, 0.5, 0.5], seed=1))
    assert [(pair.a, pair.b) for pair in found.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert [pair.p_holm < 0.05 for pair in found.pairs] == [True, True, False]
    assert not found.cannot_rank


def test_a_clear_difference_is_shown_among_so_many_models_that_ten_thousand_flips_would_not_do():
    found = separation(*scores([0.9, *[0.1] * 34], units=40))
    assert len(found.pairs) * 1e-4 > 0.05
    assert found.pairs[0].p_holm < 0.05
    assert not found.cannot_rank


def test_the_best_of_equal_models_is_rarely_called_better_than_the_worst():
    rng, wrong = np.random.default_rng(8), 0
    units = [str(number) for number in range(50)]
    for _ in range(100):
        values = rng.normal(0.5, 0.1, (6, 50))
        wrong += not separation(values, units).cannot_rank
    assert wrong / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_ranks_of_many_units_are_resampled_in_parts_that_make_the_whole(monkeypatch):
    whole = rank_stability(*scores([0.5, 0.48]), resamples=50)
    monkeypatch.setattr("vitrine.stability._CELLS", 7 * 60)
    parts = rank_stability(*scores([0.5, 0.48]), resamples=50)
    assert parts.first.tolist() == whole.first.tolist()
    assert parts.agreement == whole.agreement


def test_a_dataset_that_every_model_solves_is_flagged_as_saturated():
    rng = np.random.default_rng(5)
    values = (rng.random((3, 200)) < 0.993).astype(float)
    found = separation(values, [str(number) for number in range(200)])
    assert found.saturated
    assert found.cannot_rank


def test_high_values_that_still_differ_are_not_saturated():
    rng = np.random.default_rng(6)
    values = np.stack([np.ones(2000), (rng.random(2000) < 0.95).astype(float)])
    assert not separation(values, [str(number) for number in range(2000)]).saturated


def test_models_without_a_common_query_are_refused():
    values = np.array([[1.0, np.nan], [np.nan, 1.0]])
    with pytest.raises(BadInput, match="no query that every model has a value for"):
        rank_stability(values, ["x", "y"])


def test_values_of_the_wrong_shape_are_refused():
    with pytest.raises(BadInput, match=r"give \(models, queries\) and one unit a query"):
        separation(np.zeros((2, 3)), ["x"])
