"""Each ONNX operator in torch beside ONNX Runtime, one node at a time; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitrine.backends._onnx_operators import OPERATORS
from vitrine.backends._onnx_torch import tensor_of, to_torch
from vitrine.errors import Unsupported

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


X = floats(2, 3, 8, 8)
ROWS = floats(4, 6)
POSITIVE = np.abs(ROWS) + np.float32(0.1)
# (operator, first input, further inputs as constants, attributes)
CASES: list[tuple[str, np.ndarray, list[Any], dict[str, Any]]] = [
    ("Abs", ROWS, [], {}),
    ("Add", ROWS, [floats(6)], {}),
    ("ArgMax", ROWS, [], {"axis": 1, "keepdims": 0}),
    ("AveragePool", X, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", X, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "ceil_mode": 1}),
    ("BatchNormalization", X, [floats(3), floats(3), floats(3), np.abs(floats(3)) + 1], {"epsilon": 1e-3}),
    ("Cast", ROWS, [], {"to": TensorProto.INT64}),
    ("Clip", ROWS, [np.float32(-0.5), np.float32(0.5)], {}),
    ("Clip", ROWS, [np.float32(0)], {}),
    ("Concat", ROWS, [floats(4, 2)], {"axis": 1}),
    ("Conv", X, [floats(4, 3, 3, 3), floats(4)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("Conv", X, [floats(4, 3, 3, 3)], {"pads": [0, 1, 1, 2]}),
    ("Conv", X, [floats(3, 1, 3, 3)], {"group": 3, "dilations": [2, 2]}),
    ("Cos", ROWS, [], {}),
    ("Div", ROWS, [np.float32(3)], {}),
    ("Div", np.arange(12).reshape(3, 4) - 6, [np.array(4)], {}),
    ("Erf", ROWS, [], {}),
    ("Exp", ROWS, [], {}),
    ("Expand", floats(1, 6), [ints(4, 1)], {}),
    ("Flatten", X, [], {"axis": 2}),
    ("Gather", ROWS, [ints(2, -1, 0)], {"axis": 1}),
    ("Gather", ROWS, [np.array(-1)], {"axis": 0}),
    ("Gather", ROWS, [np.array([[0, 1], [2, 3]])], {"axis": 0}),
    ("GatherND", X, [np.array([[0, 1], [1, 2]])], {}),
    ("Gelu", ROWS, [], {}),
    ("Gelu", ROWS, [], {"approximate": "tanh"}),
    ("Gemm", ROWS, [floats(6, 5), floats(5)], {}),
    ("Gemm", ROWS, [floats(5, 6), floats(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("GlobalAveragePool", X, [], {}),
    ("HardSigmoid", ROWS, [], {"alpha": 1 / 6}),
    ("HardSwish", ROWS, [], {}),
    ("Identity", ROWS, [], {}),
    ("InstanceNormalization", X, [floats(3), floats(3)], {}),
    ("LayerNormalization", ROWS, [floats(6), floats(6)], {}),
    ("LayerNormalization", X, [floats(8, 8)], {"axis": 2}),
    ("MatMul", X, [floats(8, 5)], {}),
    ("Max", ROWS, [floats(6), np.float32(0)], {}),
    ("MaxPool", X, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("Min", ROWS, [floats(6)], {}),
    ("Mul", ROWS, [floats(4, 1)], {}),
    ("Neg", ROWS, [], {}),
    ("Pad", X, [ints(0, 0, 1, 2, 0, 0, 3, 0)], {}),
    ("Pad", X, [ints(1, 2), np.float32(7), ints(-1)], {}),
    ("Pad", X, [ints(0, 0, 1, 1, 0, 0, 2, 2)], {"mode": "reflect"}),
    ("Pow", POSITIVE, [np.float32(1.5)], {}),
    ("Reciprocal", POSITIVE, [], {}),
    ("ReduceL2", ROWS, [ints(1)], {}),
    ("ReduceMax", X, [ints(2, 3)], {"keepdims": 0}),
    ("ReduceMean", X, [ints(-2, -1)], {}),
    ("ReduceMean", X, [], {}),
    ("ReduceMin", ROWS, [ints(0)], {}),
    ("ReduceSum", ROWS, [ints(1)], {"keepdims": 0}),
    ("Relu", ROWS, [], {}),
    ("Reshape", X, [ints(0, -1, 16)], {}),
    ("Shape", X, [], {}),
    ("Shape", X, [], {"start": 1, "end": -1}),
    ("Sigmoid", ROWS, [], {}),
    ("Sin", ROWS, [], {}),
    ("Slice", X, [ints(1, -3), ints(3, 100), ints(1, 3)], {}),
    ("Slice", X, [ints(0), ints(8), ints(2), ints(2)], {}),
    ("Softmax", X, [], {"axis": 1}),
    ("Split", ROWS, [ints(2, 4)], {"axis": 1}),
    ("Sqrt", POSITIVE, [], {}),
    ("Squeeze", floats(4, 1, 6, 1), [ints(1)], {}),
    ("Squeeze", floats(4, 1, 6, 1), [], {}),
    ("Sub", ROWS, [floats(6)], {}),
    ("Tanh", ROWS, [], {}),
    ("Transpose", X, [], {"perm": [0, 2, 3, 1]}),
    ("Transpose", X, [], {}),
    ("Unsqueeze", ROWS, [ints(0, -1)], {}),
]


def graph_of(
    operator: str, first: np.ndarray, constants: list[Any], attributes: dict[str, Any], outputs: int = 1
) -> onnx.ModelProto:
    names = [f"c{place}" for place in range(len(constants))]
    results = [f"y{place}" for place in range(outputs)]
    kind = helper.np_dtype_to_tensor_dtype(first.dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *names], results, **attributes)],
        "one",
        [helper.make_tensor_value_info("x", kind, ["batch", *first.shape[1:]])],
        [onnx.ValueInfoProto(name=name) for name in results],
        [numpy_helper.from_array(np.asarray(value), name) for value, name in zip(constants, names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("case", CASES, ids=[f"{place}-{case[0]}" for place, case in enumerate(CASES)])
def test_an_operator_gives_the_numbers_of_onnxruntime(case: tuple[str, np.ndarray, list[Any], dict[str, Any]]) -> None:
    operator, first, constants, attributes = case
    model = graph_of(operator, first, constants, attributes, outputs=2 if operator == "Split" else 1)

    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": first})
    found = to_torch(model, torch.device("cpu"))(torch.from_numpy(first))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-4, atol=2e-5)


def test_every_operator_but_those_made_of_sizes_or_truths_is_in_the_cases() -> None:
    elsewhere = {"And", "ConstantOfShape", "Equal", "Range", "Where"}

    assert {case[0] for case in CASES} == set(OPERATORS) - elsewhere


def test_sizes_are_computed_without_tensors() -> None:
    """Shape -> Gather -> Mul -> Concat -> Reshape, Range and Where, as exports of dynamic batches have them."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["rows"]),
        helper.make_node("Squeeze", ["rows"], ["count"]),
        helper.make_node("Range", ["count0", "count", "step"], ["line"]),
        helper.make_node("Mul", ["rows", "two"], ["twice"]),
        helper.make_node("Concat", ["twice", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["flat"]),
        helper.make_node("ConstantOfShape", ["to"], ["zeros"]),
        helper.make_node("Equal", ["flat", "zeros"], ["same"]),
        helper.make_node("And", ["same", "same"], ["both"]),
        helper.make_node("Where", ["both", "zeros", "flat"], ["kept"]),
    ]
    constants = {"zero": ints(0), "two": ints(2), "rest": ints(-1), "count0": np.array(0), "step": np.array(1)}
    # ConstantOfShape takes no -1, so the other size is given.
    constants["rest"] = ints(3)
    graph = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [onnx.ValueInfoProto(name="kept"), helper.make_tensor_value_info("line", TensorProto.INT64, [None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )
    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": ROWS})

    found = to_torch(model, torch.device("cpu"))(torch.from_numpy(ROWS))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), other)


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(
        Unsupported, match="the torch backend does not know LRN; run this version on the onnxruntime backend"
    ):
        to_torch(graph_of("LRN", X, [], {"size": 3}), torch.device("cpu"))


@pytest.mark.parametrize(
    ("operator", "constants", "attributes", "said"),
    [
        ("Conv", [floats(4, 3, 3, 3)], {"auto_pad": "SAME_UPPER"}, "Conv with auto_pad"),
        ("AveragePool", [], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}, "AveragePool with uneven pads"),
        ("Slice", [ints(7), ints(0), ints(2), ints(-1)], {}, "Slice with negative steps"),
    ],
)
def test_a_use_that_exports_do_not_have_is_refused_when_it_is_read(operator, constants, attributes, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        to_torch(graph_of(operator, X, constants, attributes), torch.device("cpu"))


def test_bfloat16_weights_arrive_bit_by_bit() -> None:
    import ml_dtypes

    array = floats(5).astype(ml_dtypes.bfloat16)

    found = tensor_of(array)
    assert found.dtype == torch.bfloat16
    np.testing.assert_array_equal(found.float().numpy(), array.astype(np.float32))
