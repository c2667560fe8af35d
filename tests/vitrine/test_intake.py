"""A user's own model: an ONNX graph or safetensors becomes a version that serves like any other."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from tests.factories import photo, tiny_bundle
from vitrine import plugins
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, NotFound
from vitrine.intake import intake, read_preprocessing
from vitrine.ports import BackboneSpec

SIDE, DIM, CLASSES = 8, 5, 3


def float_model(path, *, batch="batch", rank=2, opset=18):
    """Float pixels (B, 3, 8, 8), flattened and multiplied: the simplest encoder; its second output are logits."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(3 * SIDE * SIDE, DIM)).astype(np.float32),
        "c": random.normal(size=(DIM, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "c"], ["logits"]),
    ]
    outputs = [("embedding", [batch, DIM]), ("logits", [batch, CLASSES])]
    if rank == 4:
        nodes, outputs = [helper.make_node("Relu", ["pixels"], ["embedding"])], [("embedding", [batch, 3, SIDE, SIDE])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()] if rank == 2 else [],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return weights


@pytest.fixture
def told(tmp_path):
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps({"height": SIDE, "width": SIDE, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}))
    return path


def test_a_float_graph_gives_what_its_preprocessing_in_numpy_gives(tmp_path, told):
    weights = float_model(tmp_path / "m.onnx")
    encoder = load_encoder(intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told))
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    normalised = (pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    expected = normalised.transpose(0, 3, 1, 2).reshape(4, -1) @ weights["w"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.run(pixels).vectors, expected, atol=1e-5)


def test_a_fixed_batch_becomes_dynamic(tmp_path, told):
    float_model(tmp_path / "m.onnx", batch=1)
    encoder = load_encoder(intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told))
    assert encoder.embed([photo(n) for n in range(7)]).vectors.shape == (7, DIM)


def test_the_second_output_becomes_the_logits_of_the_labels(tmp_path, told):
    float_model(tmp_path / "m.onnx")
    (tmp_path / "labels.json").write_text('["a", "b", "c"]')
    bundle = intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told, labels=tmp_path / "labels.json")
    assert bundle.labels() == ["a", "b", "c"]
    assert load_encoder(bundle).embed([photo(1)]).logits.shape == (1, CLASSES)


def test_a_label_file_of_another_length_is_refused(tmp_path, told):
    float_model(tmp_path / "m.onnx")
    (tmp_path / "labels.json").write_text('["a", "b"]')
    with pytest.raises(BadInput, match="gives 3 logits, the label file has 2 labels"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told, labels=tmp_path / "labels.json")
    assert not (tmp_path / "b").exists()


def test_a_uint8_graph_needs_nothing_told(tmp_path):
    made = tiny_bundle(tmp_path / "made")
    path = made.path(made.manifest.graphs["image"].file)
    again = intake(path, work=tmp_path / "b")
    expected = load_encoder(made).embed([photo(1), photo(2)]).vectors
    np.testing.assert_allclose(load_encoder(again).embed([photo(1), photo(2)]).vectors, expected, atol=1e-6)


def test_the_same_file_gives_the_same_digest(tmp_path, told):
    float_model(tmp_path / "m.onnx")
    one, two = (intake(tmp_path / "m.onnx", work=tmp_path / name, preprocessing=told) for name in ("one", "two"))
    assert one.manifest.digest == two.manifest.digest


def test_a_float_graph_without_preprocessing_is_asked_for_it(tmp_path):
    float_model(tmp_path / "m.onnx")
    with pytest.raises(BadInput, match="give a JSON file with height, width, mean and std"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b")


def test_preprocessing_may_be_yaml_as_the_manual_shows_it(tmp_path):
    path = tmp_path / "preprocess.yaml"
    path.write_text("height: 8  # pixels\nwidth: 8\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\n")
    found = read_preprocessing(path)
    assert (found.image.height, found.mean, found.std) == (8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    with pytest.raises(NotFound, match="no preprocessing file at"):
        read_preprocessing(tmp_path / "absent.yaml")


def test_a_graph_without_a_flat_output_is_refused(tmp_path, told):
    float_model(tmp_path / "m.onnx", rank=4)
    with pytest.raises(BadInput, match=r"needed: an output of shape \(B, D\)"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told)


def test_an_old_opset_is_refused(tmp_path, told):
    float_model(tmp_path / "m.onnx", opset=12)
    with pytest.raises(BadInput, match="has opset 12; export it again"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told)


def test_preprocessing_of_another_size_is_refused(tmp_path, told):
    float_model(tmp_path / "m.onnx")
    told.write_text(told.read_text().replace('"height": 8', '"height": 16'))
    with pytest.raises(BadInput, match="takes 8x8 pixels, the preprocessing file says 16x8"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told)


@pytest.mark.parametrize("wrong", [{"mean": [123.7, 116.3, 103.5]}, {"std": [0, 1, 1]}, {"mean": [0.5]}, {"sise": 3}])
def test_impossible_preprocessing_is_refused(tmp_path, told, wrong):
    float_model(tmp_path / "m.onnx")
    told.write_text(json.dumps({**json.loads(told.read_text()), **wrong}))
    with pytest.raises(BadInput, match=r"preprocessing\.json"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b", preprocessing=told)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl"])
def test_pickled_models_are_refused_unread(tmp_path, suffix):
    (tmp_path / f"m{suffix}").write_bytes(b"\x80")
    with pytest.raises(BadInput, match="pickled format, which can run code"):
        intake(tmp_path / f"m{suffix}", work=tmp_path / "b")


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no model file at"):
        intake(tmp_path / "none.onnx", work=tmp_path / "b")


def test_noise_is_no_onnx_model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput, match="is no valid ONNX model"):
        intake(tmp_path / "m.onnx", work=tmp_path / "b")


def test_safetensors_need_an_architecture(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match="--family timm --architecture"):
        intake(tmp_path / "m.safetensors", work=tmp_path / "b")


def test_safetensors_of_a_known_architecture_become_a_version(tmp_path):
    backbone = plugins.load("families", "timm").load(BackboneSpec("timm", "test_resnet", "random", 64))
    save_file(
        {name: tensor.contiguous() for name, tensor in backbone.module.state_dict().items()}, tmp_path / "m.safetensors"
    )
    bundle = intake(
        tmp_path / "m.safetensors",
        work=tmp_path / "b",
        family="timm",
        architecture="test_resnet",
        image_size=64,
        licence_weights="MIT",
    )
    assert (bundle.manifest.dim, bundle.manifest.licences.weights) == (backbone.dim, "MIT")
    assert bundle.parity.reference == "torch"


def both_towers(folder, keep):
    """A weights file of the small pair, with the tensors whose names `keep` lets through."""
    backbone = plugins.load("families", "open-clip").load(BackboneSpec("open-clip", "vitrine-mini", "random"))
    state = {**backbone.module.state_dict(), **backbone.text.module.state_dict()}
    path = folder / "pair.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items() if keep(name)}, path)
    return path


def test_weights_of_both_towers_become_a_version_that_reads_titles(tmp_path):
    weights = both_towers(tmp_path, lambda name: True)
    bundle = intake(weights, work=tmp_path / "b", family="open-clip", architecture="vitrine-mini")
    assert bundle.manifest.modalities == ("image", "title")
    assert load_encoder(bundle).embed_texts(["a mug"]).shape == (1, 128)


def test_weights_of_the_image_tower_alone_become_a_version_of_images_alone(tmp_path):
    weights = both_towers(tmp_path, lambda name: name.startswith("visual."))
    bundle = intake(weights, work=tmp_path / "b", family="open-clip", architecture="vitrine-mini")
    assert bundle.manifest.modalities == ("image",)
    assert not load_encoder(bundle).reads_text
