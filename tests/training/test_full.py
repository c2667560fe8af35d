"""Full tuning and trained backbones on a small catalogue of coloured tiles: what moves, what is kept, what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from training import tuning
from training.backbone import load_backbone, train_backbone
from training.objectives import examples_of
from training.settings import Backbones, Cell, FullSettings, Settings, TrainedBackbone
from training.tune import with_overrides
from training.tuning.full import _title_score, embed
from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.ports import BackboneSpec

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 60, 200), "white": (230, 230, 230)}
PAIR = TrainedBackbone(
    family="open-clip",
    architecture="vitrine-mini",
    dataset="tiles",
    image_size=32,
    objective="contrastive",
    epochs=1,
    batch_size=8,
)


def photo(name):
    number = int(name.split(".")[0])
    colour = list(COLOURS.values())[number % 4]
    noise = np.random.default_rng(number).integers(-30, 30, (40, 40, 3))
    stream = io.BytesIO()
    Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def catalogue(titled=True):
    items = []
    for number in range(60):
        colour = list(COLOURS)[number % 4]
        split = "val" if number // 4 % 5 == 4 else "train"
        title = f"a {colour} tile" if titled else ""
        items.append(Item(f"i{number:03}", (f"{number:03}.png",), colour, split, title=title))
    return SimpleNamespace(
        name="tiles",
        digest="d",
        licence="CC0-1.0",
        items=items,
        photo=photo,
        split=lambda *wanted: [item for item in items if item.split in wanted],
    )


def pair():
    return plugins.load("families", "open-clip").load(BackboneSpec("open-clip", "vitrine-mini", "random", 32))


def image_only():
    return plugins.load("families", "timm").load(BackboneSpec("timm", "test_resnet", "random", 32))


def tune(backbone=pair, dataset=None, **full):
    chosen = FullSettings(**{"epochs": 1, "batch_size": 8, **full})
    settings = Settings(seed=0, threads=1, datasets={}, backbones=Backbones(), features={}, cells={}, full=chosen)
    task = tuning.Task(None, dataset or catalogue(), settings, load_backbone=backbone)
    return tuning.load("full").tune(task)


def moved(before, after):
    return [
        name
        for name, tensor in before.named_parameters()
        if not torch.equal(tensor, dict(after.named_parameters())[name])
    ]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_titles_move_every_parameter_of_both_towers():
    tuned, before = tune(objective="contrastive", temperature=0.07), pair()
    assert len(moved(before.module, tuned.backbone.module)) == len(list(before.module.parameters()))
    assert len(moved(before.text.module, tuned.backbone.text.module)) == len(list(before.text.module.parameters()))
    assert tuned.head is None
    assert tuned.classifier is None


def test_titles_find_their_photos_after_training():
    tuned = tune(objective="contrastive", temperature=0.07, epochs=12, lr=0.002)
    assert tuned.facts["val_title_mrr"] > 0.9  # chance is 0.5 for four titles with three photos of twelve each


def test_labels_or_photos_alone_leave_no_text_tower():
    for objective in ("supervised", "self-supervised"):
        assert tune(objective=objective).backbone.text is None


def test_the_classifier_of_supervised_tuning_reads_the_embedding_itself():
    tuned = tune(image_only, objective="supervised", epochs=15, lr=0.01)
    assert tuned.classifier.labels == ("blue", "green", "red", "white")
    features = torch.randn(3, tuned.backbone.dim)
    assert torch.equal(tuned.head(features)[0], features)
    assert tuned.facts["val_accuracy"] > 0.9
    assert tuned.facts["val_mmp@5"] > 0.9


def test_photos_alone_keep_the_last_epoch_and_ask_no_label():
    mixed = catalogue()
    mixed.items[:] = [replace(item, label=f"unlike {i}", title="") for i, item in enumerate(mixed.items)]
    one, two = (tune(image_only, data, objective="self-supervised", epochs=2) for data in (catalogue(), mixed))
    assert one.facts["best_epoch"] == 2
    pairs = zip(one.backbone.module.parameters(), two.backbone.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_title_score_agrees_with_a_plain_loop():
    dataset, network = catalogue(), pair()
    asked = examples_of(dataset.split("val"), titled=True)
    score = _title_score(SimpleNamespace(dataset=dataset, track=lambda things, *_: things), network, asked)()
    from training.photos import Photos
    from vitrine.tokenize import load_tokenizer

    photos = functional.normalize(embed(network, Photos(dataset, asked.images, network.image)), dim=1)
    total = []
    for title in sorted(set(asked.titles)):
        with torch.no_grad():
            tokens = torch.from_numpy(load_tokenizer(network.text.tokenizer).encode([title]))
            scores = (photos @ functional.normalize(network.text.module(tokens), dim=1)[0]).tolist()
        order = sorted(range(len(scores)), key=lambda row: -scores[row])
        total.append(1 / (1 + next(place for place, row in enumerate(order) if asked.titles[row] == title)))
    assert score == pytest.approx(np.mean(total))


def test_an_unknown_objective_of_full_tuning_lists_the_known_ones():
    with pytest.raises(BadInput, match="'arcface' is no training objective; there are: contrastive, self-supervised"):
        tune(image_only, objective="arcface")


def test_full_tuning_by_labels_needs_two_classes():
    one = catalogue()
    one.items[:] = [item for item in one.items if item.label == "red"]
    with pytest.raises(BadInput, match="full tuning tells classes apart; the training split of tiles has 1 label"):
        tune(image_only, one)


def test_a_trained_pair_is_the_same_after_saving_and_loading(tmp_path):
    trained, fitted = train_backbone(PAIR, catalogue(), 0, tmp_path / "pair")
    loaded, _, origin = load_backbone(tmp_path / "pair")
    tokens, pixels = torch.randint(0, 400, (2, trained.text.context_length)), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.module(pixels), trained.module(pixels))
        assert torch.equal(loaded.text.module(tokens), trained.text.module(tokens))
    assert loaded.text.tokenizer == trained.text.tokenizer
    assert (origin["objective"], origin["losses"]) == ("contrastive", list(fitted.losses))


def test_a_pair_trained_on_photos_alone_keeps_no_text_tower(tmp_path):
    train_backbone(replace(PAIR, objective="self-supervised"), catalogue(), 0, tmp_path / "b")
    assert load_backbone(tmp_path / "b")[0].text is None


def test_a_backbone_is_trained_without_labels(tmp_path):
    with pytest.raises(BadInput, match="its objective is one of contrastive, self-supervised, not 'supervised'"):
        train_backbone(replace(PAIR, objective="supervised"), catalogue(), 0, tmp_path / "b")


def test_titles_are_needed_for_a_pair(tmp_path):
    with pytest.raises(BadInput, match="dataset tiles has no training photos with a title to train a backbone on"):
        train_backbone(PAIR, catalogue(titled=False), 0, tmp_path / "b")


def test_the_same_seed_gives_the_same_backbone_files(tmp_path):
    chosen = TrainedBackbone(
        family="timm", architecture="test_resnet", dataset="tiles", image_size=32, epochs=1, batch_size=16
    )
    for name in ("one", "two"):
        train_backbone(chosen, catalogue(), 0, tmp_path / name)
    for file in ("weights.safetensors", "backbone.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def cell(strategy, **overrides):
    return Cell(strategy=strategy, backbone="b", dataset="d", overrides=overrides)


def empty_settings():
    return Settings(seed=0, threads=1, datasets={}, backbones=Backbones(), features={}, cells={})


def test_a_cell_has_its_own_settings_and_leaves_the_others():
    changed = with_overrides(cell("full", epochs=3, lr=1), empty_settings())
    assert changed.full == FullSettings(epochs=3, lr=1.0)
    assert changed.top == empty_settings().top


def test_an_override_that_the_strategy_does_not_know_is_refused():
    with pytest.raises(BadInput, match="overrides of a full cell has an unknown key 'epoch'; did you mean 'epochs'"):
        with_overrides(cell("full", epoch=3), empty_settings())


def test_a_strategy_without_settings_has_nothing_to_override():
    with pytest.raises(BadInput, match="overrides of a pretrained cell: this strategy has no settings; remove lr"):
        with_overrides(cell("pretrained", lr=3), empty_settings())
