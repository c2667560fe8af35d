"""Every module in `training/tuning/` makes something that can be exported, and the same every time."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from training import tuning
from training.features import Features
from training.settings import Backbones, FullSettings, Settings, TopSettings
from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.ports import BackboneSpec

DIM, CLASSES = 12, 4


def settings(seed=0):
    top = TopSettings(width=16, lr=0.01, epochs=40, patience=15, batch_size=16)
    full = FullSettings(epochs=2, batch_size=16)
    return Settings(seed=seed, threads=2, datasets={}, backbones=Backbones(), features={}, cells={}, top=top, full=full)


def backbone():
    return plugins.load("families", "timm").load(BackboneSpec("timm", "test_resnet", "random", 32))


def photo(name):
    """A tile whose colour says the class, with noise that says the item."""
    number = int(name.split(".")[0])
    noise = np.random.default_rng(number).integers(0, 60, (40, 40, 3))
    tile = np.clip(noise + 45 * np.array([number % CLASSES, 3 - number % CLASSES, 2]), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(tile).save(stream, "PNG")
    return stream.getvalue()


def task(seed=0, splits=("train", "train", "train", "val", "test")):
    """Clusters around class centres in a few of the dimensions, noise in the rest."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(CLASSES, DIM)) * (np.arange(DIM) < 4)
    items, values = [], []
    for number in range(120):
        label = number % CLASSES
        values.append(centres[label] + random.normal(size=DIM) * 0.7)
        items.append(
            Item(f"i{number:03}", (f"{number:03}.jpg",), f"class {label}", splits[number // CLASSES % len(splits)])
        )
    rows = {item.images[0]: row for row, item in enumerate(items)}
    dataset = SimpleNamespace(
        name="clusters",
        digest="d",
        split=lambda *wanted: [item for item in items if item.split in wanted],
        photo=photo,
    )
    return tuning.Task(Features(np.array(values, np.float32), rows), dataset, settings(seed), load_backbone=backbone)


@pytest.fixture(params=tuning.names())
def strategy(request):
    torch.set_num_threads(1)  # tiny tensors, and the other tests need the cores
    return tuning.load(request.param)


def test_a_head_maps_features_to_an_embedding_and_one_logit_a_label(strategy):
    tuned = strategy.tune(task())
    assert (tuned.classifier is None) or (tuned.head is not None)
    if tuned.head is None:
        return
    with torch.no_grad():
        out = tuned.head(torch.zeros(3, tuned.backbone.dim if tuned.backbone else DIM))
    embedding, *logits = out if isinstance(out, tuple) else (out,)
    assert embedding.ndim == 2
    assert len(embedding) == 3
    if tuned.classifier:
        assert logits[0].shape == (3, len(tuned.classifier.labels))


def test_the_same_task_gives_the_same_weights(strategy):
    one, two = strategy.tune(task()), strategy.tune(task())
    assert one.facts == two.facts
    if one.head is not None:
        pairs = zip(one.head.state_dict().values(), two.head.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    if one.backbone is not None:
        pairs = zip(*(tuned.backbone.module.state_dict().values() for tuned in (one, two)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_whatever_was_trained_is_left_in_evaluation_mode(strategy):
    tuned = strategy.tune(task())
    assert tuned.head is None or not tuned.head.training
    assert tuned.backbone is None or not tuned.backbone.module.training


def test_test_items_have_no_influence(strategy):
    honest, other = task(), task()
    held_back = {item.images[0] for item in other.dataset.split("test")}
    for image in held_back:
        other.features.values[other.features.row_of[image]] = 1e6
    other.dataset.photo = lambda name: pytest.fail(f"{name} is a test photo") if name in held_back else photo(name)
    assert strategy.tune(honest).facts == strategy.tune(other).facts


def test_a_dataset_without_a_validation_split_holds_some_training_items_out(strategy):
    tuned = strategy.tune(task(splits=("train", "train", "test")))
    assert tuned.classifier is None or len(tuned.classifier.labels) == CLASSES


def test_top_tuning_beats_the_features_it_starts_from():
    from training.tuning.top import _photos, mmp5

    given = task()
    tuned = tuning.load("top").tune(given)
    labels = list(tuned.classifier.labels)
    gallery, queries = (_photos(given, given.dataset.split(split), labels) for split in ("train", "test"))

    class Plain(torch.nn.Module):
        def forward(self, features):
            return features, None

    assert mmp5(tuned.head, gallery, queries) > mmp5(Plain(), gallery, queries) + 0.02


def test_mmp5_agrees_with_a_plain_loop():
    from training.tuning.top import _Photos, mmp5

    generator = torch.Generator().manual_seed(0)
    gallery = _Photos(torch.randn(30, 6, generator=generator), torch.arange(30) % 9)
    queries = _Photos(torch.randn(10, 6, generator=generator), torch.arange(10))  # class 9 has nothing to find

    class Plain(torch.nn.Module):
        def forward(self, features):
            return features, None

    unit = gallery.x / gallery.x.norm(dim=1, keepdim=True)
    expected = []
    for x, y in zip(queries.x, queries.y, strict=True):
        wanted = min(5, int((gallery.y == y).sum()))
        if wanted:
            nearest = (unit @ x).argsort(descending=True)[:wanted]
            expected.append(float((gallery.y[nearest] == y).float().mean()))
    assert mmp5(Plain(), gallery, queries) == pytest.approx(np.mean(expected))


def test_top_tuning_needs_two_classes():
    given = task()
    one = [item for item in given.dataset.split("train", "val") if item.label == "class 0"]
    dataset = SimpleNamespace(name="one", split=lambda *wanted: [item for item in one if item.split in wanted])
    with pytest.raises(BadInput, match="the training split of one has 1 label"):
        tuning.load("top").tune(tuning.Task(given.features, dataset, settings()))


def test_a_strategy_that_needs_the_network_says_so():
    given = task()
    with pytest.raises(BadInput, match="this task has cached features alone; the strategy needs the backbone itself"):
        tuning.load("full").tune(tuning.Task(given.features, given.dataset, given.settings))


def test_an_unknown_strategy_lists_the_known_ones():
    with pytest.raises(BadInput, match=r"'full-ish' is no tuning strategy; there are: .*top"):
        tuning.load("full-ish")
