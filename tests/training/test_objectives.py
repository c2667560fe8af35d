"""Objectives: the losses are those in the books, the views fit the network, what is missing is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from training import objectives
from training.objectives import Examples, ObjectiveSettings, examples_of
from training.objectives._views import MILD, STRONG, plain, view
from training.objectives.self_supervised import nt_xent
from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.ports import BackboneSpec


def backbone(seed=0):
    torch.manual_seed(seed)
    return plugins.load("families", "timm").load(BackboneSpec("timm", "test_resnet", "random", 32))


@pytest.fixture(scope="module")
def pair():
    return plugins.load("families", "open-clip").load(BackboneSpec("open-clip", "vitrine-mini", "random", 32))


def photos(count=16, size=40):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def examples(count=16, titles=None):
    names = tuple(f"{i:03}.jpg" for i in range(count))
    return Examples(
        names, tuple(f"class {i % 3}" for i in range(count)), titles or tuple(f"thing {i}" for i in range(count))
    )


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nt_xent_agrees_with_a_plain_loop():
    rows = torch.randn(8, 5, generator=chance(1))
    unit = (rows / rows.norm(dim=1, keepdim=True)).tolist()
    total = 0.0
    for i in range(8):
        scores = {
            j: math.exp(sum(a * b for a, b in zip(unit[i], unit[j], strict=True)) / 0.5) for j in range(8) if j != i
        }
        total -= math.log(scores[(i + 4) % 8] / sum(scores.values()))
    assert nt_xent(rows, 0.5).item() == pytest.approx(total / 8, rel=1e-5)


def test_the_contrastive_loss_agrees_with_a_plain_loop(pair):
    objective = objectives.load("contrastive").build(pair, examples(4), ObjectiveSettings(temperature=0.1)).eval()
    with torch.no_grad():
        found = objective.loss(photos(4), objective.targets, chance()).item()
        views = functional.normalize(pair.module(view(photos(4), pair, MILD, chance())), dim=1)
        texts = functional.normalize(pair.text.module(objective.targets), dim=1)
    scores = (views @ texts.T / 0.1).double().numpy()
    total = 0.0
    for table in (scores, scores.T):
        total -= sum(math.log(math.exp(table[i, i]) / sum(math.exp(s) for s in table[i])) for i in range(4)) / 4
    assert found == pytest.approx(total / 2, rel=1e-4)


def test_the_supervised_loss_is_smoothed_cross_entropy_of_cosines():
    network = backbone()
    objective = objectives.load("supervised").build(network, examples(6), ObjectiveSettings(label_smoothing=0.1)).eval()
    with torch.no_grad():
        found = objective.loss(photos(6), objective.targets, chance()).item()
        features = network.module(view(photos(6), network, MILD, chance())).double().numpy()
    classes = objective.head.classes.detach().double().numpy()
    total = 0.0
    for row, feature in enumerate(features):
        logits = [16 * feature @ c / np.linalg.norm(feature) / np.linalg.norm(c) for c in classes]
        logs = [x - math.log(sum(math.exp(y) for y in logits)) for x in logits]
        total -= 0.9 * logs[row % 3] + 0.1 * sum(logs) / 3
    assert found == pytest.approx(total / 6, rel=1e-4)


def test_photos_of_one_title_have_one_key_and_others_another(pair):
    titles = ("a red cup", "a blue cup", "a red cup", "a bowl")
    keys = objectives.load("contrastive").build(pair, examples(4, titles), ObjectiveSettings()).keys.tolist()
    assert [[a == b for b in keys] for a in keys] == [[a == b for b in titles] for a in titles]


@pytest.mark.parametrize("strength", [MILD, STRONG])
def test_two_views_of_a_photo_differ_and_fit_the_network(strength):
    generator, network = chance(), backbone()
    one, two = (view(photos(4), network, strength, generator) for _ in range(2))
    assert one.shape == two.shape == (4, 3, 32, 32)
    assert not torch.allclose(one, two)
    assert torch.isfinite(one).all()


def test_the_same_generator_gives_the_same_views():
    network = backbone()
    assert torch.equal(*(view(photos(4), network, STRONG, chance(5)) for _ in range(2)))


def test_mild_views_never_swap_channels():
    """A red square in a grey field stays more red than green or blue."""
    red = torch.full((64, 3, 40, 40), 90, dtype=torch.uint8)
    red[:, 0] = 200
    network = backbone()
    views = view(red, network, MILD, chance())
    colours = (views * torch.tensor(network.std).view(1, 3, 1, 1) + torch.tensor(network.mean).view(1, 3, 1, 1)).mean(
        (2, 3)
    )
    assert (colours[:, 0] > colours[:, 1]).all()
    assert (colours[:, 0] > colours[:, 2]).all()


def test_plain_pixels_are_what_the_exported_graph_sees():
    from vitrine.export import ImageGraph

    network = backbone()
    pixels = photos(3, 32)
    with torch.no_grad():
        expected = ImageGraph(network).eval().features(pixels.permute(0, 2, 3, 1))
        assert torch.equal(network.module.eval()(plain(pixels, network)), expected)


def test_examples_are_every_photo_once_by_name():
    items = [
        Item("a", ("2.jpg", "1.jpg"), "x", "train", title=" cup "),
        Item("b", ("2.jpg",), "x", "train", title="cup"),
    ]
    assert examples_of(items).images == ("1.jpg", "2.jpg")
    assert examples_of(items).titles == ("cup", "cup")


def test_items_without_a_title_are_left_out_where_titles_are_needed():
    items = [Item("a", ("1.jpg",), "x", "train", title=" "), Item("b", ("2.jpg",), "x", "train", title="cup")]
    assert examples_of(items, titled=True).images == ("2.jpg",)


def test_a_sample_follows_from_its_seed_and_keeps_what_belongs_together():
    some = examples(50).sample(20, seed=1)
    assert len(some) == 20
    assert some == examples(50).sample(20, seed=1) != examples(50).sample(20, seed=2)
    assert [title.removeprefix("thing ") for title in some.titles] == [str(int(name[:3])) for name in some.images]


def test_too_few_photos_are_refused():
    with pytest.raises(BadInput, match="at least 4 training photos, 3 given"):
        objectives.load("self-supervised").build(backbone(), examples(3), ObjectiveSettings())


def test_one_class_is_refused():
    one = Examples(("1.jpg", "2.jpg"), ("mug", "mug"), ("", ""))
    with pytest.raises(BadInput, match="tells classes apart; the training photos have 1 label"):
        objectives.load("supervised").build(backbone(), one, ObjectiveSettings())


def test_a_network_that_reads_no_text_is_refused_for_titles():
    with pytest.raises(BadInput, match="needs a backbone that reads titles, such as one of the family open-clip"):
        objectives.load("contrastive").build(backbone(), examples(4), ObjectiveSettings())


def test_photos_without_titles_are_counted_in_the_refusal(pair):
    with pytest.raises(BadInput, match="needs a title for every photo; 1 of 3 have none"):
        objectives.load("contrastive").build(pair, examples(3, ("cup", "", "bowl")), ObjectiveSettings())


def test_one_title_for_all_is_refused(pair):
    with pytest.raises(BadInput, match="tells titles apart; the training photos have 1 title"):
        objectives.load("contrastive").build(pair, examples(3, ("cup",) * 3), ObjectiveSettings())


def test_an_unknown_objective_lists_the_known_ones():
    with pytest.raises(
        BadInput, match="'triplet' is no training objective; there are: contrastive, self-supervised, super"
    ):
        objectives.load("triplet")
