"""fp16 and bf16 in a graph's own types: what is low, what stays float, what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.factories import tiny_graph, tiny_text_graph
from vitrine.errors import Unsupported
from vitrine.mixed_precision import lower


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    infos = [*graph.input, *graph.value_info, *graph.output]
    return {info.name: info.type.tensor_type.elem_type for info in infos}


def photo_graph() -> onnx.ModelProto:
    return tiny_graph(dim=8, classes=3, seed=0, size=32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_inputs_and_outputs_keep_their_names_and_types(precision) -> None:
    before, after = photo_graph().graph, lower(photo_graph(), precision).graph

    assert [(one.name, one.type.tensor_type.elem_type) for one in [*after.input, *after.output]] == [
        (one.name, one.type.tensor_type.elem_type) for one in [*before.input, *before.output]
    ]


def test_preprocessing_and_the_final_length_stay_float_and_products_are_low() -> None:
    found = types(lower(photo_graph(), "fp16"))

    assert {found[name] for name in ("pixels", "scaled", "centred", "norm", "safe")} == {TensorProto.FLOAT}
    assert found["raw"] == TensorProto.FLOAT16


def test_the_graph_given_stays_as_it_is() -> None:
    model = photo_graph()
    before = model.SerializeToString(deterministic=True)
    lower(model, "fp16")

    assert model.SerializeToString(deterministic=True) == before


def test_fp16_gives_nearly_the_numbers_of_fp32() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    low, exact = (
        ort.InferenceSession(model.SerializeToString()).run(None, {"photo": photos})[0]
        for model in (lower(photo_graph(), "fp16"), photo_graph())
    )

    assert 0 < np.abs(low - exact).max() < 2e-3


def test_a_graph_without_products_is_left_in_float() -> None:
    assert TensorProto.FLOAT16 not in types(lower(tiny_text_graph(dim=8, seed=0), "fp16")).values()


def test_constants_beyond_fp16_are_cut_and_infinities_stay() -> None:
    mask = np.array([[-np.inf, -3e38, 1e5, 1.0]], np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "mask"], ["y"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    constants = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"), numpy_helper.from_array(mask, "mask")]
    graph = helper.make_graph(nodes, "masked", infos[:1], infos[1:], constants)

    lowered = lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "fp16")
    (found,) = [numpy_helper.to_array(one) for one in lowered.graph.initializer if one.name.startswith("mask")]
    assert found.tolist() == [[-np.inf, -65504.0, 65504.0, 1.0]]


def test_bf16_is_written_in_an_opset_that_knows_it() -> None:
    assert [one.version for one in lower(photo_graph(), "bf16").opset_import] == [22]


def test_bf16_of_an_old_graph_is_refused_with_the_way_out() -> None:
    model = photo_graph()
    model.opset_import[0].version = 17

    with pytest.raises(Unsupported, match="graph of opset 17 would mean something else there; use fp16"):
        lower(model, "bf16")


def test_control_flow_is_refused() -> None:
    model = photo_graph()
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["never"], ["z"], then_branch=branch, else_branch=branch))

    with pytest.raises(Unsupported, match="fp16 is not made of graphs with control flow; use fp32"):
        lower(model, "fp16")
