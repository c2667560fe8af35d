import dataclasses

import numpy as np
import pytest

from tests.factories import photo, tiny_bundle
from vitrine.bundle import Bundle
from vitrine.encoder import fuse, load_encoder, normalise, pool_images, softmax
from vitrine.errors import BadInput, Tampered, Unsupported


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("v") / "bundle", dim=8, labels=["jug", "mug", "pan"])


@pytest.fixture(scope="module")
def encoder(bundle):
    return load_encoder(bundle, threads=1)


def test_embeddings_are_unit_float32(encoder):
    vectors = encoder.embed([photo(n) for n in range(5)]).vectors
    assert (vectors.shape, vectors.dtype) == ((5, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 32])
def test_the_batch_size_changes_no_vector(encoder, batch):
    photos = [photo(n) for n in range(7)]
    alone = np.concatenate([encoder.embed([one]).vectors for one in photos])
    np.testing.assert_allclose(encoder.embed(photos, batch=batch).vectors, alone, atol=1e-6)


def test_photos_keep_their_order_over_many_workers(encoder):
    photos = [photo(n) for n in range(40)]
    one, many = (encoder.embed(photos, batch=8, workers=workers).vectors for workers in (1, 6))
    np.testing.assert_array_equal(one, many)


def test_no_photo_gives_no_vector(encoder):
    assert encoder.embed([]).vectors.shape == (0, 8)


def test_one_broken_photo_fails_the_whole_batch(encoder):
    with pytest.raises(BadInput, match="cannot be read"):
        encoder.embed([photo(1), b"broken"])


def test_probabilities_sum_to_one(encoder):
    output = encoder.embed([photo(1), photo(2)])
    probabilities = encoder.probabilities(output.logits)
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_without_a_classifier_there_are_no_logits_and_no_probabilities(tmp_path):
    plain = load_encoder(tiny_bundle(tmp_path / "plain"), threads=1)
    assert plain.embed([photo(1)]).logits is None
    assert plain.label_names == []
    with pytest.raises(Unsupported, match="has no classifier"):
        plain.probabilities(np.zeros((1, 3), np.float32))


def test_a_version_without_an_image_graph_is_refused(bundle):
    manifest = bundle.manifest.from_json(bundle.manifest.to_json())
    object.__setattr__(manifest, "graphs", {})
    with pytest.raises(Unsupported, match="no image graph"):
        load_encoder(Bundle(manifest, bundle.paths), threads=1)


def test_pooling_is_the_normalised_mean_of_an_items_images():
    vectors = normalise(np.random.default_rng(0).normal(size=(6, 4)))
    pooled = pool_images(vectors, [1, 3, 2])
    for row, span in enumerate((slice(0, 1), slice(1, 4), slice(4, 6))):
        mean = vectors[span].mean(axis=0)
        np.testing.assert_allclose(pooled[row], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_zero_row_stays_zero():
    np.testing.assert_array_equal(normalise(np.zeros((1, 3))), np.zeros((1, 3)))


def test_softmax_bears_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]], np.float32)), [[1, 0]])


# --- texts ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return load_encoder(tiny_bundle(tmp_path_factory.mktemp("t") / "bundle", texts=True), threads=1)


def test_texts_are_unit_float32_in_the_space_of_the_photos(reader):
    vectors = reader.embed_texts(["mug", "jug", "a long title that is cut"])
    assert (vectors.shape, vectors.dtype) == ((3, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_tokens_are_those_of_the_versions_own_tokenizer(reader):
    assert reader.tokenize(["Ab!"]).tolist() == [[2, 3, 1] + [0] * 9]


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_the_batch_size_changes_no_text_vector(reader, batch):
    texts = ["mug", "jug", "pan", "lid", "mug"]
    np.testing.assert_allclose(reader.embed_texts(texts, batch=batch), reader.embed_texts(texts), atol=1e-6)
    np.testing.assert_allclose(reader.embed_texts(texts, batch=batch)[0], reader.embed_texts(["mug"])[0], atol=1e-6)


def test_no_text_gives_no_vector(reader):
    assert reader.embed_texts([]).shape == (0, 8)


@pytest.mark.parametrize("ask", [lambda e: e.tokenize(["a"]), lambda e: e.embed_texts([]), lambda e: e.run_tokens([])])
def test_a_version_without_a_text_graph_says_so(encoder, ask):
    assert not encoder.reads_text
    with pytest.raises(Unsupported, match=r"reads no text, only: image; use a version of a text-image backbone"):
        ask(encoder)


def test_a_tokenizer_of_another_length_than_the_manifest_says_is_refused(tmp_path):
    bundle = tiny_bundle(tmp_path / "b", texts=True)
    wrong = dataclasses.replace(bundle.manifest.tokenizer, context_length=77)
    manifest = dataclasses.replace(bundle.manifest, tokenizer=wrong)
    with pytest.raises(Tampered, match="gives 12 tokens a text, its manifest says 77"):
        load_encoder(dataclasses.replace(bundle, manifest=manifest), threads=1)


def test_photo_and_words_meet_in_the_middle():
    image, text = np.float32([[1, 0, 0], [0, 1, 0]]), np.float32([[0, 1, 0], [0, 1, 0]])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(fuse(image, text), [[half, half, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(fuse(image[0], text[0]), [half, half, 0], atol=1e-6)
    assert fuse(image, text).dtype == np.float32
