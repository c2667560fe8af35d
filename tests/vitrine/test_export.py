"""Export: what the graph gives is what torch gives, and equal content has an equal digest."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from vitrine import plugins
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, Refused
from vitrine.export import EMBEDDING, PIXELS, Classifier, check_parity, export_version, neighbour_overlap
from vitrine.manifest import Licences
from vitrine.ports import BackboneSpec

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
    real = __import__("vitrine.export", fromlist=["run_torch"]).run_torch
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
