from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.sampling import sample_rows, stratified_rows

labels = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(labels, st.floats(0.001, 1), st.integers(0, 5))
def test_each_label_keeps_its_share_and_at_least_one(labels, share, seed):
    rows = stratified_rows(labels, share, seed)
    kept = Counter(labels[row] for row in rows)
    assert kept == {label: max(1, int(np.rint(share * count))) for label, count in Counter(labels).items()}
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_seeds_draw_different_rows_and_each_draws_the_same_again():
    given = ["a", "b"] * 100
    draws = [tuple(stratified_rows(given, 0.1, seed).tolist()) for seed in (0, 1, 2, 0)]
    assert len(set(draws)) == 3
    assert draws[0] == draws[3]


def test_every_row_of_a_label_is_drawn_equally_often():
    seen = np.zeros(20)
    for seed in range(2000):
        seen[stratified_rows(["a"] * 10 + ["b"] * 10, 0.3, seed)] += 1
    assert np.abs(seen / 2000 - 0.3).max() < 0.05


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(BadInput, match="must be above 0 and at most 1"):
        stratified_rows(["a"], share)


def test_few_rows_are_all_kept_and_many_are_sampled_once_each():
    assert sample_rows(5, 5).tolist() == [0, 1, 2, 3, 4]
    some = sample_rows(1000, 10).tolist()
    assert (len(set(some)), some) == (10, sorted(some))
    assert max(some) > 100
