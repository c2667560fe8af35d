"""Cached features of a real text-image backbone: photos and titles, each once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.factories import photo
from training.features import compute_features, load_features
from vitrine.errors import NotFound, Unsupported
from vitrine.families import open_clip
from vitrine.items import Item
from vitrine.ports import BackboneSpec
from vitrine.tokenize import load_tokenizer

TITLES = ["a red mug", "a pan", "a red mug", "", "  ", "Krug aus Ton"]


@pytest.fixture(scope="module")
def backbone():
    return open_clip.load(BackboneSpec("open-clip", "vitrine-mini", "random"))


@pytest.fixture(scope="module")
def dataset():
    items = [Item(f"i{n}", (f"{n}.jpg",), "thing", "train", title=title) for n, title in enumerate(TITLES)]
    return SimpleNamespace(name="shop", items=items, photo=lambda name: photo(int(name.split(".")[0])))


@pytest.fixture(scope="module")
def cached(backbone, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "pair--shop"
    assert compute_features(backbone, dataset, folder) == len(TITLES)
    return load_features(folder)


def test_every_distinct_title_is_read_once_and_blank_ones_never(cached):
    assert list(cached.text_row_of) == ["Krug aus Ton", "a pan", "a red mug"]
    assert cached.texts.shape == (3, cached.values.shape[1])


def test_a_title_has_the_features_that_the_text_tower_gives(cached, backbone):
    tokens = load_tokenizer(backbone.text.tokenizer).encode(["a red mug"])
    with torch.no_grad():
        expected = backbone.text.module(torch.from_numpy(tokens)).numpy()

    np.testing.assert_allclose(cached.of_titles(["a red mug"]), expected, atol=1e-5)


def test_titles_come_in_the_order_asked_for(cached):
    rows = cached.of_titles(["a red mug", "a pan", "a red mug"])

    assert np.array_equal(rows[0], rows[2])
    assert not np.array_equal(rows[0], rows[1])


def test_an_unknown_title_is_not_found(cached):
    with pytest.raises(NotFound, match="no features of the title 'a cup'; run the stage `features` again"):
        cached.of_titles(["a pan", "a cup"])


def test_a_backbone_that_reads_no_text_caches_photos_alone(backbone, dataset, tmp_path):
    compute_features(replace(backbone, text=None), dataset, tmp_path / "f")
    cached = load_features(tmp_path / "f")

    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["features.npy", "images.json"]
    with pytest.raises(Unsupported, match="their backbone reads no text"):
        cached.of_titles(["a pan"])


def test_a_dataset_without_titles_has_no_rows_of_text(backbone, dataset, tmp_path):
    bare = SimpleNamespace(name="bare", items=[replace(dataset.items[0], title="")], photo=dataset.photo)

    compute_features(backbone, bare, tmp_path / "f")

    assert load_features(tmp_path / "f").of_titles([]).shape == (0, backbone.dim)
