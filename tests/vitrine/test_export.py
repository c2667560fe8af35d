"""Export: what the graph gives is what torch gives, and equal content has an equal digest."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from vitrine import plugins
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, Refused
from vitrine.export import EMBEDDING, PIXELS, TOKENS, Classifier, ImageGraph, export_version
from vitrine.manifest import Licences
from vitrine.parity import check_parity, neighbour_overlap, run_torch, worse
from vitrine.ports import BackboneSpec
from vitrine.raw_norms import raw_norms

LICENCES = Licences("Apache-2.0", "CC0-1.0")


class Head(torch.nn.Module):
    """A linear embedding and three logits."""

    def __init__(self, dim):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.classes = torch.nn.Linear(dim, 8), torch.nn.Linear(8, 3)

    def forward(self, features):
        embedding = self.embed(features)
        return embedding, self.classes(embedding)


def photos(count=14, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((70, 90)).save(stream, "PNG")
        found.append(stream.getvalue())
    return found


@pytest.fixture(scope="module")
def backbone():
    return plugins.load("families", "timm").load(BackboneSpec("timm", "test_resnet", "random", 64))


@pytest.fixture(scope="module")
def bundle(backbone, tmp_path_factory):
    return export_version(
        tmp_path_factory.mktemp("one") / "bundle",
        backbone,
        photos=photos(),
        licences=LICENCES,
        lineage={"strategy": "top"},
        head=Head(backbone.dim).eval(),
        classifier=Classifier(("a", "b", "c"), 1.5, 0.2),
    )


def test_an_exported_version_gives_unit_vectors_and_logits_for_any_batch(bundle):
    encoder = load_encoder(bundle)
    one, many = encoder.embed(photos(1)), encoder.embed(photos(14), batch=5)
    assert many.vectors.shape == (14, 8)
    assert many.logits.shape == (14, 3)
    np.testing.assert_allclose(np.linalg.norm(many.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(one.vectors[0], many.vectors[0], atol=1e-5)


def test_parity_with_torch_is_measured_and_kept(bundle):
    assert bundle.parity.reference == "torch"
    assert bundle.parity.images == 14
    assert bundle.parity.min_cosine >= 0.9999
    assert bundle.parity.top10_overlap >= 0.99


def test_labels_travel_with_their_calibration(bundle):
    assert bundle.labels() == ["a", "b", "c"]
    assert (bundle.manifest.labels.temperature, bundle.manifest.labels.abstain_below) == (1.5, 0.2)


def test_the_same_weights_have_the_same_digest(bundle, backbone, tmp_path):
    again = export_version(
        tmp_path / "elsewhere",
        backbone,
        photos=photos(3, seed=9),
        licences=LICENCES,
        lineage={},
        head=Head(backbone.dim).eval(),
        classifier=Classifier(("a", "b", "c"), 1.5, 0.2),
    )
    assert again.manifest.digest == bundle.manifest.digest


def test_the_graph_carries_no_trace_of_the_machine(bundle):
    model = onnx.load(str(bundle.path(bundle.manifest.graphs["image"].file)))
    assert model.producer_version == model.doc_string == ""
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert [value.name for value in model.graph.input] == [PIXELS]
    assert model.graph.output[0].name == EMBEDDING


def test_an_export_that_differs_from_torch_writes_nothing(backbone, tmp_path, monkeypatch):
    real = run_torch
    monkeypatch.setattr("vitrine.export.run_torch", lambda *given: np.roll(real(*given), 1, axis=1))
    with pytest.raises(Refused, match=r"differs from torch: the worst of 3 photos .* nothing was written"):
        export_version(tmp_path / "bundle", backbone, photos=photos(3), licences=LICENCES, lineage={})
    assert list(tmp_path.iterdir()) == []


def test_an_export_needs_photos_to_compare_on(backbone, tmp_path):
    with pytest.raises(BadInput, match="at least 2 photos, 1 given"):
        export_version(tmp_path / "b", backbone, photos=photos(1), licences=LICENCES, lineage={})


def test_vectors_that_are_not_numbers_never_pass_parity():
    vectors = np.full((3, 2), np.nan, np.float32)
    with pytest.raises(Refused):
        check_parity(vectors, vectors, against="torch", what="the graph")


def test_neighbour_overlap_counts_shared_neighbours():
    line = np.array([[np.cos(t), np.sin(t)] for t in (0, 0.1, 0.3, 1.0)], np.float32)
    assert neighbour_overlap(line, line, k=1) == 1.0
    assert neighbour_overlap(line, line[::-1].copy(), k=1) < 1.0


def test_a_version_is_as_good_as_the_worse_of_its_graphs():
    line = np.array([[np.cos(t), np.sin(t)] for t in (0, 0.1, 0.3, 1.0)], np.float32)
    good = check_parity(line, line, against="torch", what="the graph")
    bad = dataclasses.replace(good, images=0, texts=9, min_cosine=0.99995, top10_overlap=0.98)
    found = worse(good, bad)
    assert (found.images, found.texts) == (4, 9)
    assert (found.min_cosine, found.top10_overlap) == (0.99995, 0.98)


# --- text graphs ----------------------------------------------------------------------------------

TITLES = ["Blue ceramic mug", "blue  ceramic MUG", "Red jug, 2 l", "Café table", "Running shoes size 42"]


@pytest.fixture(scope="module")
def pair():
    return plugins.load("families", "open-clip").load(BackboneSpec("open-clip", "vitrine-mini", "random"))


def export_pair(target, pair, **changed):
    given = {"photos": photos(3), "licences": LICENCES, "lineage": {}, "texts": TITLES}
    return export_version(target, pair, **{**given, **changed})


@pytest.fixture(scope="module")
def both(pair, tmp_path_factory):
    return export_pair(tmp_path_factory.mktemp("pair") / "bundle", pair)


def by_torch(module, tokens):
    with torch.no_grad():
        return torch.nn.functional.normalize(module(torch.from_numpy(tokens)), dim=1).numpy()


def test_a_text_image_version_says_what_it_reads_and_carries_its_tokenizer(both, pair):
    manifest = both.manifest
    assert manifest.modalities == ("image", "title")
    assert set(manifest.graphs) == {"image", "text"}
    assert (manifest.tokenizer.kind, manifest.tokenizer.context_length) == ("tokenizers", 24)
    assert both.path(manifest.tokenizer.file).read_bytes() == pair.text.tokenizer
    tokens = manifest.graphs["text"].inputs[0]
    assert (tokens.name, tokens.role, tokens.dtype, tokens.shape) == (TOKENS, "tokens", "int64", ("batch", "length"))


def test_titles_are_embedded_as_torch_embeds_them_for_any_batch(both, pair):
    encoder = load_encoder(both)
    found = encoder.embed_texts(TITLES)
    np.testing.assert_allclose(found, by_torch(pair.text.module, encoder.tokenize(TITLES)), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(TITLES, batch=2), found, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found.shape == (5, both.manifest.dim)


def test_photos_of_a_text_image_version_are_embedded_as_torch_embeds_them(both, pair):
    assert load_encoder(both).embed(photos(2)).vectors.shape == (2, pair.dim)
    assert both.parity.images == 3


def test_parity_counts_titles_that_differ_for_the_tokenizer(both):
    assert both.parity.texts == 4  # the second title is the first one to a tokenizer that lowers case
    assert both.parity.min_cosine >= 0.9999


def test_without_titles_a_text_graph_is_compared_on_sentences_of_our_own(both, pair, tmp_path):
    alone = export_pair(tmp_path / "b", pair, texts=())
    assert alone.parity.texts >= 10
    assert alone.manifest.digest == both.manifest.digest  # what it was compared on is no content


def test_an_image_head_alone_takes_the_text_graph_away(pair, tmp_path):
    bundle = export_pair(tmp_path / "b", pair, head=torch.nn.Linear(pair.dim, 8))
    assert bundle.manifest.modalities == ("image",)
    assert set(bundle.manifest.graphs) == {"image"}
    assert bundle.manifest.tokenizer is None
    assert not load_encoder(bundle).reads_text


def test_two_heads_end_in_one_space(pair, tmp_path):
    torch.manual_seed(1)
    shared = torch.nn.Linear(pair.dim, 8)
    encoder = load_encoder(export_pair(tmp_path / "b", pair, head=shared, text_head=shared))
    want = by_torch(torch.nn.Sequential(pair.text.module, shared), encoder.tokenize(TITLES))
    np.testing.assert_allclose(encoder.embed_texts(TITLES), want, atol=1e-5)
    assert encoder.embed(photos(2)).vectors.shape == (2, 8)


def test_heads_of_different_lengths_are_refused_and_nothing_is_written(pair, tmp_path):
    heads = {"head": torch.nn.Linear(pair.dim, 8), "text_head": torch.nn.Linear(pair.dim, 9)}
    with pytest.raises(BadInput, match=r"embeddings of different lengths: \{'image': 8, 'text': 9\}"):
        export_pair(tmp_path / "b", pair, **heads)
    assert list(tmp_path.iterdir()) == []


def test_a_text_head_for_a_backbone_without_a_text_tower_is_refused(backbone, tmp_path):
    with pytest.raises(BadInput, match="this backbone has no text tower"):
        export_pair(tmp_path / "b", backbone, text_head=torch.nn.Linear(2, 2))


def test_a_text_graph_that_differs_from_torch_is_refused(pair, tmp_path, monkeypatch):
    real = run_torch
    monkeypatch.setattr(
        "vitrine.export.run_torch",
        lambda graph, rows: np.roll(real(graph, rows), int(rows.ndim == 2), axis=1),
    )
    with pytest.raises(Refused, match=r"the exported text graph \(8 tokens\) differs from torch: the worst of 4 texts"):
        export_pair(tmp_path / "b", pair)
    assert list(tmp_path.iterdir()) == []


def test_a_tower_that_takes_another_length_than_its_tokenizer_gives_is_refused(pair, tmp_path):
    wrong = dataclasses.replace(pair, text=dataclasses.replace(pair.text, context_length=77))
    with pytest.raises(BadInput, match="the tokenizer gives 24 tokens, the text tower takes 77"):
        export_pair(tmp_path / "b", wrong)


def test_the_lengths_before_normalisation_can_be_read_from_an_exported_graph(bundle, backbone):
    encoder = load_encoder(bundle, threads=1)
    pixels = np.stack([encoder.decode(photo) for photo in photos(5)])
    with torch.inference_mode():
        raw = Head(backbone.dim)(ImageGraph(backbone).features(torch.from_numpy(pixels)))[0]
    np.testing.assert_allclose(raw_norms(bundle, pixels), raw.norm(dim=1).numpy(), rtol=1e-3)
