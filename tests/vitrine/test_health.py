from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine import health as module
from vitrine.encoder import normalise
from vitrine.health import alignment, health
from vitrine.items import Item


def items_with(vectors, label="x"):
    return [Item(f"i{row:04}", (f"photo{row}",), label, "test") for row in range(len(vectors))]


def cloud(count, dim=6, seed=0):
    return normalise(np.random.default_rng(seed).normal(size=(count, dim)))


def squared(vectors, one, other):
    return float(((vectors[one].astype(float) - vectors[other].astype(float)) ** 2).sum())


def test_health_of_a_spread_out_space():
    vectors = cloud(400)
    found = health(vectors, items_with(vectors))
    cosines = vectors @ vectors.T
    assert found["finite"] is True
    assert (found["items"], found["sampled"]) == (400, 400)
    assert found["mean_cosine"] == pytest.approx(cosines[~np.eye(400, dtype=bool)].mean(), abs=1e-6)
    assert found["norm_min"] == pytest.approx(1, abs=1e-5)
    assert 5.5 < found["effective_rank"] <= 6
    assert found["duplicate_share"] == 0


def test_a_collapsed_space_has_rank_one_and_is_all_duplicates():
    vectors = np.repeat(normalise(np.ones((1, 6))), 10, axis=0)
    found = health(vectors, items_with(vectors))
    assert found["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert found["mean_cosine"] == pytest.approx(1, abs=1e-6)
    assert found["duplicate_share"] == pytest.approx(0.9)
    assert found["uniformity"] == pytest.approx(0, abs=1e-6)
    assert found["alignment"] == pytest.approx(0, abs=1e-6)


def test_the_effective_rank_is_that_of_the_singular_values():
    vectors = cloud(50) * np.array([1, 1, 0.5, 0.1, 0.01, 0], np.float32)
    shares = np.linalg.svd(vectors.astype(float), compute_uv=False)
    shares = shares[shares > 1e-9] / shares.sum()
    assert health(vectors, items_with(vectors))["effective_rank"] == pytest.approx(
        np.exp(-(shares * np.log(shares)).sum()), rel=1e-3
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30))
def test_uniformity_is_the_mean_over_all_pairs(seed, count):
    vectors = cloud(count, 3, seed)
    plain = [np.exp(-2 * squared(vectors, *pair)) for pair in itertools.combinations(range(count), 2)]
    assert health(vectors, items_with(vectors))["uniformity"] == pytest.approx(np.log(np.mean(plain)), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=20))
def test_alignment_is_the_mean_over_all_pairs_of_a_kind(seed, kinds):
    vectors = cloud(len(kinds), 3, seed)
    pairs = itertools.combinations(range(len(kinds)), 2)
    plain = [
        squared(vectors, *pair) for pair in pairs if kinds[pair[0]] is not None and kinds[pair[0]] == kinds[pair[1]]
    ]
    found = alignment(vectors, kinds)
    assert found == (pytest.approx(np.mean(plain), abs=1e-5) if plain else None)


def test_products_align_before_labels_do():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    by_label = [Item(f"i{row}", (f"p{row}",), "mug", "test") for row in range(4)]
    by_product = [Item(f"i{row}", (f"p{row}",), "mug", "test", (), f"product {row // 2}") for row in range(4)]
    one, two = health(vectors, by_label), health(vectors, by_product)
    assert (one["aligned_by"], one["alignment"]) == ("label", pytest.approx(2 * 5 / 6))
    assert (two["aligned_by"], two["alignment"]) == ("product_id", pytest.approx(1.0))


def test_the_same_photo_twice_is_no_fault_of_the_space():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 1, 2]]
    items = [Item(f"i{row}", (photo,), "x", "test") for row, photo in enumerate("abbc")]
    assert health(vectors, items)["duplicate_share"] == 0


def test_items_without_photos_are_all_counted():
    vectors = cloud(7)
    assert health(vectors, [Item(f"i{row}", (), "x", "test") for row in range(7)])["items"] == 7


def test_minus_zero_is_zero():
    vectors = np.array([[1, 0.0], [1, -0.0]], np.float32)
    assert health(vectors, items_with(vectors))["duplicate_share"] == 0.5


def test_a_space_with_nan_is_not_finite():
    vectors = np.full((2, 3), np.nan, np.float32)
    assert health(vectors, items_with(vectors)) == {"finite": False, "items": 2}


def test_a_single_item_has_no_distances():
    found = health(cloud(1), items_with(cloud(1)))
    assert (found["uniformity"], found["alignment"], found["mean_cosine"]) == (None, None, 0.0)


def test_many_items_are_sampled_and_the_result_says_so(monkeypatch):
    vectors = cloud(3000, 4)
    whole = health(vectors, items_with(vectors))
    monkeypatch.setattr(module, "SAMPLE", 1000)
    monkeypatch.setattr(module, "PAIRED", 500)
    monkeypatch.setattr(module, "_ROWS", 64)
    part = health(vectors, items_with(vectors))
    assert (part["items"], part["sampled"]) == (3000, 1000)
    for exact in ("norm_min", "norm_max", "mean_cosine", "duplicate_share"):
        assert part[exact] == pytest.approx(whole[exact], abs=1e-9)
    for estimated in ("effective_rank", "uniformity", "alignment"):
        assert part[estimated] == pytest.approx(whole[estimated], rel=0.05)
        assert part[estimated] != whole[estimated]
    assert part == health(vectors, items_with(vectors))
