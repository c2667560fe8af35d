from __future__ import annotations

import dataclasses
import io
import shutil

import pytest
from PIL import Image

from tests.catalogue import DEFAULT, tiny_dataset
from vitrine import leakage as module
from vitrine.errors import NotFound
from vitrine.files import sha256_bytes
from vitrine.items import EvalProtocol
from vitrine.leakage import leakage, training_dataset, why_no_leakage


@pytest.fixture
def dataset(tmp_path):
    return tiny_dataset(tmp_path / "shop")


def between(dataset, changed=()):
    """Leakage from train to test with some items replaced."""
    by_id = {item.item_id: item for item in changed}
    items = tuple(by_id.get(item.item_id, item) for item in dataset.items)
    new = dataclasses.replace(dataset, items=items)
    return leakage(new, new.split("train"), new, new.split("test"))


def with_photo(dataset, item_id, image):
    item = next(item for item in dataset.items if item.item_id == item_id)
    return dataclasses.replace(item, images=(*item.images, image))


def photo_of(dataset, item_id):
    return next(item for item in dataset.items if item.item_id == item_id).images[0]


def saved_again(dataset, image):
    """The same picture smaller and at lower quality, stored in the dataset."""
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(dataset.photo(image)))
    picture.resize((48, 48)).save(out, "JPEG", quality=70)
    name = f"{sha256_bytes(out.getvalue())}.jpg"
    (dataset.folder / "images" / name).write_bytes(out.getvalue())
    return name


def test_clean_splits_have_no_leak(dataset):
    found = between(dataset)
    assert (found.exact.queries, found.near.queries, found.warnings()) == (0, 0, [])
    assert (found.asked, found.photos, found.compared) == (9, (12, 9), (12, 9))


def test_a_query_with_a_training_photo_is_an_exact_leak(dataset):
    found = between(dataset, [with_photo(dataset, "mug-test-1", photo_of(dataset, "jug-train-2"))])
    assert (found.exact.queries, found.exact.examples) == (1, [("mug-test-1", "jug-train-2")])
    assert found.near.queries == 0
    assert found.warnings() == [
        "leakage: 1 of 9 queries have a photo that is also in the training split of shop: results are too good"
    ]


def test_a_training_photo_saved_again_is_a_near_leak(dataset):
    copy = saved_again(dataset, photo_of(dataset, "pan-train-0"))
    found = between(dataset, [with_photo(dataset, "mug-test-1", copy)])
    assert (found.near.queries, found.near.examples) == (1, [("mug-test-1", "pan-train-0")])
    assert found.exact.queries == 0
    assert "looks like one of the training split of shop" in found.warnings()[0]


def test_a_query_counts_once_whatever_the_number_of_its_copies(dataset):
    photos = [photo_of(dataset, f"jug-train-{number}") for number in (3, 1)]
    item = dataclasses.replace(with_photo(dataset, "mug-test-1", photos[0]), images=tuple(photos))
    found = between(dataset, [item])
    assert (found.exact.queries, found.exact.examples) == (1, [("mug-test-1", "jug-train-1")])


def test_copies_are_found_across_datasets(dataset, tmp_path):
    other = tiny_dataset(tmp_path / "other", name="other", seed=50_000)
    image = photo_of(other, "mug-train-0")
    shutil.copy(other.folder / "images" / image, dataset.folder / "images" / image)
    queries = [with_photo(dataset, "pan-test-2", image)]
    found = leakage(other, other.split("train"), dataset, queries)
    assert (found.trained_on, found.exact.examples) == ("other", [("pan-test-2", "mug-train-0")])


def test_of_many_photos_a_sample_is_looked_at_and_the_warning_says_so(dataset, monkeypatch):
    monkeypatch.setattr(module, "PHOTOS", 5)
    found = between(dataset, [with_photo(dataset, "mug-test-1", photo_of(dataset, "jug-train-2"))])
    assert (found.compared, found.photos) == ((5, 5), (12, 10))
    assert found.exact.queries == 1  # hashes are all compared
    assert found.warnings()[-1].startswith("copies by looks were sought among 5 of 12 training photos")


def test_a_version_is_held_against_the_dataset_that_its_lineage_names(dataset):
    other = dataclasses.replace(dataset, name="other")

    def find(name):
        if name == "other":
            return other
        raise NotFound(name)

    assert training_dataset({}, dataset, find) is dataset
    assert training_dataset({"dataset": "shop"}, dataset, find) is dataset
    assert training_dataset({"dataset": "other"}, dataset, find) is other
    assert training_dataset({"dataset": "gone"}, dataset, find) == "gone"


def test_a_cross_is_held_against_what_it_was_tuned_on_and_not_what_it_is_for(dataset):
    mugs = dataclasses.replace(dataset, name="mugs")
    cross = {"strategy": "cross", "dataset": "shop", "tuned_on": "mugs"}
    assert training_dataset(cross, dataset, {"mugs": mugs}.__getitem__) is mugs
    assert training_dataset({**cross, "tuned_on": "shop"}, dataset, {}.__getitem__) is dataset


def test_what_cannot_be_compared_is_said(dataset):
    queries, bare = dataset.split("test"), [dataclasses.replace(item, images=()) for item in dataset.split("test")]
    by_title = EvalProtocol("t", ("test",), ("train",), ask_by="title")
    trained = EvalProtocol("all", ("train", "test"), ("train", "test"))
    assert why_no_leakage(dataset, DEFAULT, queries, dataset) is None
    assert why_no_leakage(dataset, by_title, queries, dataset) == "not applicable: the queries are titles"
    assert "asks with training items" in str(why_no_leakage(dataset, trained, queries, dataset))
    assert "dataset gone, which the version was trained on, is not here" in str(
        why_no_leakage("gone", DEFAULT, queries, dataset)
    )
    assert "no photos of queries" in str(why_no_leakage(dataset, DEFAULT, bare, dataset))
