"""The head that both towers of a text-image backbone share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from training import tuning
from training.features import Features
from training.settings import Backbones, Settings, TopSettings
from training.tuning._shared import Projection, SharedLearner, alignment_loss, class_means, pairs
from vitrine.errors import BadInput
from vitrine.items import Item

DIM, CLASSES, PRODUCTS = 16, 5, 60


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # tiny tensors, and the other tests need the cores


def items_of(products=PRODUCTS, titles=True):
    """Products of five classes, two photos each; every third product's two items have different titles."""
    made = []
    for product in range(products):
        split = ("train", "train", "val", "test")[product // CLASSES % 4]
        for shot in range(2):
            words = f"thing {product}" + (f" view {shot}" if product % 3 == 0 else "")
            made.append(
                Item(
                    item_id=f"{product}-{shot}",
                    images=(f"{product}-{shot}.jpg",),
                    label=f"class {product % CLASSES}",
                    split=split,
                    title=words if titles else "",
                    product_id=f"p{product}",
                )
            )
    return made


def task(items=None, noise=0.5, gap=1.0, text=True, **top):
    """A photo and its title lie near their class's centre in a few dimensions, each tower in its own cone."""
    items = items_of() if items is None else items
    random = np.random.default_rng(3)
    centres = random.normal(size=(CLASSES, DIM)) * (np.arange(DIM) < 4)
    cones = random.normal(size=(2, DIM)) * gap
    labels = [int(item.label.split()[1]) for item in items]
    photos = centres[labels] + cones[0] + random.normal(size=(len(items), DIM)) * noise
    titles = {item.title: label for item, label in zip(items, labels, strict=True) if item.title}
    texts = [centres[label] + cones[1] + random.normal(size=DIM) * noise for label in titles.values()]
    features = Features(
        photos.astype(np.float32),
        {item.images[0]: row for row, item in enumerate(items)},
        np.array(texts, np.float32).reshape(-1, DIM) if text else None,
        {title: row for row, title in enumerate(titles)} if text else {},
    )
    dataset = SimpleNamespace(name="things", split=lambda *wanted: [item for item in items if item.split in wanted])
    chosen = TopSettings(**{"width": 32, "lr": 0.01, "epochs": 40, "patience": 15, "batch_size": 32, **top})
    settings = Settings(seed=0, threads=1, datasets={}, backbones=Backbones(), features={}, cells={}, top=chosen)
    return tuning.Task(features, dataset, settings)


def tune(*args, **options):
    return tuning.load("top").tune(task(*args, **options))


def test_an_untrained_projection_gives_the_unit_features():
    features = torch.randn(7, DIM) * 3

    projected = Projection(DIM, TopSettings(width=9, layers=3)).eval()(features)

    assert torch.equal(projected, functional.normalize(features, dim=1))


def test_titles_find_photos_better_than_before_and_photos_find_photos_no_worse():
    facts = tune().facts

    assert facts["val_text_mmp@5"] > facts["start_text_mmp@5"] + 0.1
    assert facts["val_mmp@5"] >= facts["start_mmp@5"]


def test_the_gain_holds_on_items_that_no_choice_saw():
    given = task()
    tuned = tuning.load("top").tune(given)
    labels = list(tuned.classifier.labels)
    train, test = (pairs(given, given.dataset.split(split), labels) for split in ("train", "test"))
    learner = SharedLearner(train, test, given.settings.top)
    before = learner.scores()
    learner.head.load_state_dict(tuned.head.state_dict())

    assert sum(learner.scores()) > sum(before) + 0.1


def test_both_towers_go_through_the_same_weights():
    tuned = tune()
    titles = torch.randn(4, DIM)

    assert torch.equal(tuned.text_head(titles), tuned.head(titles)[0])


def test_where_nothing_can_be_better_the_untrained_projection_stays():
    tuned = tune(noise=0.01, gap=0.0)
    features = torch.randn(4, DIM)

    assert tuned.facts["best_epoch"] == 0
    assert torch.equal(tuned.text_head(features), functional.normalize(features, dim=1))
    assert tuned.facts["val_accuracy"] == 1.0  # the class means classify already


def test_a_head_for_photos_alone_drops_the_text():
    tuned = tune(head="image")

    assert tuned.text_head is None
    assert tuned.facts["head"] == "image"


@pytest.mark.parametrize(
    ("options", "head"),
    [({}, "shared"), ({"text": False}, "image"), ({"items": items_of(titles=False)}, "image")],
    ids=["text", "no text tower", "no titles"],
)
def test_auto_is_shared_where_there_are_titles_to_read(options, head):
    assert tune(epochs=1, **options).facts["head"] == head


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"text": False}, "the backbone reads no text"),
        ({"items": items_of(titles=False)}, "the training items of things have fewer than two titles"),
    ],
)
def test_a_shared_head_without_text_is_refused(options, reason):
    with pytest.raises(BadInput, match=f"top.head is 'shared', but {reason}; use 'image' or 'auto'"):
        tune(head="shared", **options)


def test_an_unknown_head_lists_the_known_ones():
    with pytest.raises(BadInput, match=r"top\.head is 'both'; it is one of auto, image, shared"):
        tune(head="both")


def test_validation_items_without_titles_leave_the_choice_to_photos():
    items = [item if item.split != "val" else Item(**{**vars(item), "title": ""}) for item in items_of()]

    facts = tune(items, epochs=3).facts

    assert facts["val_text_mmp@5"] == facts["val_mmp@5"]


def test_two_runs_give_the_same_weights():
    one, two = tune(epochs=4), tune(epochs=4)

    states = zip(one.head.state_dict().values(), two.head.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_the_same_words_and_the_same_product_are_one_number_each():
    items = [
        Item("a", ("0.jpg", "1.jpg"), "class 0", "train", title="red mug", product_id="p"),
        Item("b", ("2.jpg",), "class 1", "train", title="red mug"),
        Item("c", ("3.jpg",), "class 0", "train", title="a cup", product_id="p"),
        Item("d", ("4.jpg",), "class 0", "train", title=" "),
    ]
    features = Features(
        np.eye(5, dtype=np.float32),
        {f"{n}.jpg": n for n in range(5)},
        np.eye(2, dtype=np.float32),
        {"a cup": 0, "red mug": 1},
    )
    dataset = SimpleNamespace(name="two", split=lambda *_: items)

    found = pairs(tuning.Task(features, dataset, None), items, ["class 0", "class 1"])

    assert found.title.tolist() == [1, 1, 1, 0, -1]
    assert found.product[0] == found.product[1] == found.product[3]
    assert len(set(found.product.tolist())) == 3
    assert list(zip(found.asked.tolist(), found.asked_y.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1)]


def test_titles_of_the_same_product_or_the_same_words_are_no_negatives():
    told = task(dropout=0.0)
    train = told.dataset.split("train")
    labels = sorted({item.label for item in train})
    both, labels_alone = (
        SharedLearner(pairs(told, train, labels), pairs(told, train, labels), TopSettings(alignment=weight))
        for weight in (1.0, 0.0)
    )
    rows = torch.arange(6)  # one photo an item: rows are items

    chosen = train[:6]
    positive = [[a.title == b.title or a.product_id == b.product_id for b in chosen] for a in chosen]
    photos = torch.from_numpy(told.features.of_images(chosen)[0])
    titles = torch.from_numpy(told.features.of_titles([item.title for item in chosen]))
    expected = alignment_loss(photos, titles, torch.tensor(positive), TopSettings().temperature)
    difference = (both.loss(rows) - labels_alone.loss(rows)).item()
    assert sum(map(sum, positive)) > 6
    assert len({item.title for item in chosen}) > len({item.product_id for item in chosen})
    assert difference == pytest.approx(expected.item(), abs=1e-5)


def test_one_positive_a_row_is_the_loss_of_clip():
    from open_clip.loss import ClipLoss

    images, texts = (functional.normalize(torch.randn(6, 4), dim=1) for _ in range(2))

    mine = alignment_loss(images, texts, torch.eye(6, dtype=torch.bool), 0.1)

    assert mine.item() == pytest.approx(ClipLoss()(images, texts, 10.0).item(), rel=1e-5)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=7), st.integers(0, 99))
def test_several_positives_share_a_row_as_a_plain_loop_says(groups, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = (torch.randn(len(groups), 3, generator=generator) for _ in range(2))
    group = torch.tensor(groups)

    def side(queries, keys):
        losses = []
        for row in range(len(groups)):
            cosines = functional.cosine_similarity(queries[row][None, :], keys) / 0.5
            chances = torch.exp(cosines) / torch.exp(cosines).sum()
            positives = [other for other in range(len(groups)) if groups[other] == groups[row]]
            losses.append(-sum(torch.log(chances[other]) for other in positives) / len(positives))
        return sum(losses) / len(losses)

    expected = (side(images, texts) + side(texts, images)) / 2
    mine = alignment_loss(images, texts, group[:, None] == group[None, :], 0.5)
    assert mine.item() == pytest.approx(float(expected), rel=1e-4)


def test_class_means_are_unit_vectors_of_their_own_class():
    x = torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.0, 1.0]])

    assert torch.equal(class_means(x, torch.tensor([1, 0, 0])), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
