from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.catalogue import tiny_dataset
from tests.factories import CELLS, photo, tiny_bundle, tiny_graph
from vitrine import raw_norms as module
from vitrine.embedding import EmbeddedDataset
from vitrine.encoder import load_encoder
from vitrine.evaluator import evaluate_space
from vitrine.raw_norms import raw_norms


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("v") / "b", dim=8)


def pixels(count):
    photos = [Image.open(io.BytesIO(photo(seed))).resize((32, 32)) for seed in range(count)]
    return np.stack([np.asarray(one) for one in photos])


def test_lengths_are_those_of_the_networks_own_features(bundle):
    given = pixels(5)
    weights = next(
        numpy_helper.to_array(t)
        for t in tiny_graph(dim=8, classes=0, seed=0, size=32).graph.initializer
        if t.name == "w"
    )
    scaled = given.astype(float) / 127.5 - 1
    means = scaled.reshape(5, CELLS, 8, CELLS, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(5, -1)
    np.testing.assert_allclose(raw_norms(bundle, given), np.linalg.norm(means @ weights, axis=1), rtol=1e-4)


def test_a_graph_that_ends_otherwise_has_unknown_lengths(bundle, monkeypatch):
    monkeypatch.setattr(module, "_NORMALISES", ())
    assert raw_norms(bundle, pixels(2)) is None


def test_a_division_by_something_else_is_no_normalisation(bundle, monkeypatch):
    real = onnx.load

    def divided_by_two(path):
        model = real(path)
        last = next(node for node in model.graph.node if "embedding_out" in node.output)
        model.graph.initializer.append(helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]))
        last.input[1] = "two"
        return model

    monkeypatch.setattr(onnx, "load", divided_by_two)
    assert raw_norms(bundle, pixels(2)) is None


def test_an_evaluation_tells_the_lengths(bundle, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop")
    space = EmbeddedDataset(load_encoder(bundle, threads=1), dataset)
    found = evaluate_space(space).details["health"]["norm_before"]
    norms = space.norms_before(dataset.split("train", "test"))
    assert found["items"] == 21
    assert (found["min"], found["max"]) == (pytest.approx(norms.min()), pytest.approx(norms.max()))
    assert found["min"] < found["median"] < found["max"]
