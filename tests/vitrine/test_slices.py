from __future__ import annotations

import numpy as np
import pytest

from vitrine.items import Item
from vitrine.slices import FEW, hardest_queries, worst_slices


def item(number, label="mug", category=(), product=None):
    return Item(f"i{number:03}", (f"p{number}",), label, "test", category, product)


def tree(leaf, count, start):
    return [item(start + row, leaf[-1], leaf) for row in range(count)]


HOME = [
    *tree(("home", "kitchen", "mug"), 10, 0),
    *tree(("home", "kitchen", "pan"), 10, 100),
    *tree(("home", "bath", "towel"), 10, 200),
]


def test_every_level_of_the_tree_with_two_categories_is_sliced():
    values = np.repeat([1.0, 0.4, 0.1], 10)
    found = worst_slices(values, HOME, [one.label for one in HOME], "label")
    assert [(one.level, one.category, one.queries) for one in found.worst] == [
        (2, "home > bath", 10),
        (3, "home > bath > towel", 10),
        (3, "home > kitchen > pan", 10),
        (2, "home > kitchen", 20),
        (3, "home > kitchen > mug", 10),
    ]
    assert [one.value for one in found.worst] == pytest.approx([0.1, 0.1, 0.4, 0.7, 1.0])
    assert (found.categories, found.too_few) == (5, 0)


def test_items_without_categories_are_sliced_by_label():
    items = [item(row, "mug" if row < 10 else "pan") for row in range(20)]
    found = worst_slices(np.arange(20.0), items, [one.label for one in items], "label")
    assert [(one.level, one.category) for one in found.worst] == [(0, "mug"), (0, "pan")]


def test_categories_of_few_queries_are_counted_and_left_out():
    values = np.array([*np.ones(10), *np.zeros(FEW - 1)])
    items = [item(row, "mug" if row < 10 else "pan") for row in range(len(values))]
    found = worst_slices(values, items, [one.label for one in items], "label")
    assert ([one.category for one in found.worst], found.too_few) == (["mug"], 1)


def test_queries_with_nothing_to_find_are_no_queries_of_a_category():
    values = np.repeat([1.0, 0.4, 0.1], 10)
    values[:3] = np.nan
    found = worst_slices(values, HOME, [one.label for one in HOME], "label")
    assert {one.category: one.queries for one in found.worst}["home > kitchen"] == 17


def test_a_slices_interval_resamples_products():
    rng = np.random.default_rng(0)
    per_product = rng.integers(0, 2, 10).astype(float)
    values = np.concatenate([np.repeat(per_product, 4), np.ones(10)])
    items = [item(row, "mug", (), f"m{row // 4}") for row in range(40)]
    items += [item(100 + row, "pan", (), f"p{row}") for row in range(10)]
    by_product = worst_slices(values, items, [str(one.product_id) for one in items], "product_id").worst[0]
    by_query = worst_slices(values, items, [one.label for one in items], "label").worst[0]
    assert by_product.category == by_query.category == "mug"
    assert by_product.high - by_product.low > 1.4 * (by_query.high - by_query.low)


def test_only_so_many_slices_are_kept():
    values = np.repeat([1.0, 0.4, 0.1], 10)
    found = worst_slices(values, HOME, [one.label for one in HOME], "label", most=2)
    assert ([one.value for one in found.worst], found.categories) == (pytest.approx([0.1, 0.1]), 5)


def test_the_hardest_queries_are_those_whose_first_relevant_answer_is_deepest():
    queries, gallery = [item(row) for row in range(5)], [item(100, "pan"), item(101, "cup")]
    values = np.array([0.0, 1.0, 0.0, np.nan, 0.0])
    reciprocal = np.array([1 / 7, 1.0, 1 / 40, np.nan, 1 / 7])
    found = hardest_queries(values, reciprocal, queries, gallery, np.array([0, 1, 1, 0, -1]))
    assert [(one.query_id, one.first_relevant, one.nearest_label) for one in found] == [
        ("i002", 40, "cup"),
        ("i000", 7, "pan"),
        ("i004", 7, ""),
        ("i001", 1, "cup"),
    ]


def test_only_so_many_hard_queries_are_kept():
    queries = [item(row) for row in range(5)]
    found = hardest_queries(np.zeros(5), np.ones(5), queries, queries, np.zeros(5, int), most=2)
    assert [one.query_id for one in found] == ["i000", "i001"]
