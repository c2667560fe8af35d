import numpy as np
import pytest

from tests.catalogue import tiny_dataset
from tests.factories import tiny_bundle
from vitrine.embedding import EmbeddedDataset, embed, embed_items
from vitrine.encoder import load_encoder, pool_images
from vitrine.errors import BadInput, Tampered, Unsupported
from vitrine.items import Item

LABELS = ["jug", "mug", "pan"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder(tiny_bundle(tmp_path_factory.mktemp("v") / "b", labels=LABELS), threads=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("d") / "shop", images=2)


def test_an_item_is_the_mean_of_its_photos(encoder, dataset):
    item = dataset.items[3]
    photos = encoder.embed([dataset.photo(image) for image in item.images]).vectors
    np.testing.assert_allclose(embed_items(encoder, dataset, [item])[0], pool_images(photos, [2])[0], atol=1e-6)


def test_vectors_come_in_the_order_of_the_items(encoder, dataset):
    items = list(dataset.items)
    forward, backward = (embed_items(encoder, dataset, some, batch=5) for some in (items, items[::-1]))
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_probabilities_are_the_mean_over_an_items_photos(encoder, dataset):
    item = next(item for item in dataset.items if len(item.images) > 1)
    single = encoder.probabilities(encoder.embed([dataset.photo(image) for image in item.images]).logits)
    np.testing.assert_allclose(embed(encoder, dataset, [item]).probabilities[0], single.mean(axis=0), atol=1e-5)


def test_no_items_give_no_vectors(encoder, dataset):
    assert embed_items(encoder, dataset, []).shape == (0, 8)


def test_an_item_without_a_photo_is_named(encoder, dataset):
    with pytest.raises(BadInput, match="item bare of dataset shop has no image"):
        embed_items(encoder, dataset, [Item("bare", (), "mug", "test")])


def test_a_photo_changed_after_the_import_is_never_embedded(encoder, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop")
    path = dataset.folder / "images" / dataset.items[0].images[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Tampered, match="was changed after the import"):
        embed_items(encoder, dataset, dataset.items)


def test_every_item_is_embedded_once(encoder, dataset):
    embedded = EmbeddedDataset(encoder, dataset)
    embedded.vectors(dataset.split("test"))
    embedded.vectors(dataset.items)
    embedded.probabilities(dataset.split("train"))
    assert embedded.photos == 2 * len(dataset.items)


def test_progress_counts_photos(encoder, dataset):
    totals = []

    def track(things, what, total=None):
        totals.append((what, total))
        return things

    EmbeddedDataset(encoder, dataset, track=track).vectors(dataset.split("test"))
    assert totals == [("embedding shop", 2 * len(dataset.split("test")))]


def test_titles_are_embedded_once_and_come_in_the_order_asked_for(tmp_path, dataset, monkeypatch):
    reader = load_encoder(tiny_bundle(tmp_path / "b", texts=True), threads=1)
    embedded, real, seen = EmbeddedDataset(reader, dataset), reader.embed_texts, []
    monkeypatch.setattr(reader, "embed_texts", lambda some: seen.extend(some) or real(some))
    first = embedded.texts(["mug", "jug", "mug"])
    again = embedded.texts(["jug", "lid"])
    np.testing.assert_allclose(first, real(["mug", "jug", "mug"]), atol=1e-6)
    np.testing.assert_allclose(again, real(["jug", "lid"]), atol=1e-6)
    assert seen == ["mug", "jug", "lid"]
    assert embedded.titles == 3
    assert embedded.texts([]).shape == (0, 8)


def test_titles_for_a_version_that_reads_none_are_unsupported(encoder, dataset):
    with pytest.raises(Unsupported, match="reads no text"):
        EmbeddedDataset(encoder, dataset).texts(["mug"])
