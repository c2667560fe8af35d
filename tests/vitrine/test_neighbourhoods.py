from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from vitrine.neighbourhoods import connected, hubness, near_copies, near_copies_json

names = st.sampled_from("abcdefgh")


def test_hubness_counts_in_how_many_lists_an_item_is():
    lists = np.array([[0, 1], [0, 2], [0, -1]])
    found = hubness(lists, ["p", "q", "r", "s"])
    assert (found.k, found.largest, found.largest_share, found.never_found) == (2, "p", 1.0, 0.25)
    assert found.skewness == pytest.approx(skew([3, 1, 1, 0]))


def test_evenly_found_items_are_no_hubs():
    found = hubness(np.array([[0, 1], [1, 2], [2, 0]]), ["p", "q", "r"])
    assert (found.skewness, found.never_found) == (0.0, 0.0)


def merged_until_nothing_changes(pairs):
    parts = [set(pair) for pair in pairs]
    for one, other in itertools.permutations(range(len(parts)), 2):
        if parts[one] & parts[other]:
            left = [part for place, part in enumerate(parts) if place not in (one, other)]
            return merged_until_nothing_changes([*left, parts[one] | parts[other]])
    return sorted(sorted(part) for part in parts)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(names, names), max_size=12))
def test_groups_are_the_connected_parts_of_the_graph(pairs):
    assert sorted(connected(pairs)) == merged_until_nothing_changes(pairs)


def test_near_copies_are_chained_into_groups_largest_first():
    rows = np.array([[1, 2], [0, 2], [1, 0], [4, 0], [3, 0]])
    scores = np.array([[0.9995, 0.5], [0.9995, 0.9992], [0.9992, 0.5], [1.0, 0.2], [1.0, 0.2]], np.float32)
    ids = list("abcde")
    assert near_copies(rows, scores, ids, ids) == [["a", "b", "c"], ["d", "e"]]


def test_lists_that_end_early_make_no_groups():
    rows, scores = np.array([[-1, -1]]), np.full((1, 2), -np.inf, np.float32)
    assert near_copies(rows, scores, ["a"], ["a"]) == []


def test_what_is_kept_of_many_groups_is_bounded():
    groups = [[f"{group}-{row}" for row in range(50)] for group in range(100)]
    found = near_copies_json(groups)
    assert (found["groups"], found["items"]) == (100, 5000)
    assert [len(group) for group in found["largest"]] == [20] * 20
