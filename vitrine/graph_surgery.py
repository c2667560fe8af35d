"""Putting an image encoder's missing ends around somebody's ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from vitrine.errors import BadInput

Layout = Literal["uint8 NHWC", "float NCHW"]

_FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
_OLDEST_OPSET = 13
_OURS = "wrapped/"


@dataclass(frozen=True)
class PixelInput:
    """The one input of a graph: its layout and its fixed sides (None where it takes any)."""

    name: str
    layout: Layout
    height: int | None
    width: int | None
    dtype: int


def pixel_input(model: onnx.ModelProto, what: str) -> PixelInput:
    """Look at the graph's input.

    Raises:
        BadInput: not one input, or it is neither `uint8 (B, H, W, 3)` nor `float (B, 3, H, W)`.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in constants]
    if len(given) != 1:
        raise BadInput(f"{what} has {len(given)} inputs, an image encoder has one: the pixels")
    tensor = given[0].type.tensor_type
    shape = [dim.dim_value or None for dim in tensor.shape.dim]
    if len(shape) == 4 and tensor.elem_type == TensorProto.UINT8 and shape[3] in (3, None):
        return PixelInput(given[0].name, "uint8 NHWC", shape[1], shape[2], tensor.elem_type)
    if len(shape) == 4 and tensor.elem_type in _FLOATS and shape[1] in (3, None):
        return PixelInput(given[0].name, "float NCHW", shape[2], shape[3], tensor.elem_type)
    kind = TensorProto.DataType.Name(tensor.elem_type).lower()
    raise BadInput(
        f"{what} takes {kind} of shape {shape}; an image encoder takes uint8 (B, H, W, 3) or float (B, 3, H, W)"
    )


def check_opset(model: onnx.ModelProto, what: str) -> None:
    """Refuse a graph too old to be wrapped."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_OPSET:
        raise BadInput(f"{what} has opset {opset}; export it again with opset {_OLDEST_OPSET} or newer, best 20")


def make_batch_dynamic(model: onnx.ModelProto) -> None:
    """Name the first dimension of input and outputs `batch` and forget the shapes in between, in place."""
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]


def wrap_input(
    model: onnx.ModelProto,
    given: PixelInput,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
) -> onnx.ModelProto:
    """The graph with `name` as its input, `uint8 (batch, H, W, 3)`; all its own names get a prefix.

    Float graphs get cast, layout, scaling to [0, 1], mean and standard deviation in front.
    """
    wrapped = compose.add_prefix(model, _OURS)
    graph, target = wrapped.graph, _OURS + given.name
    kept = [value for value in graph.input if value.name != target]
    del graph.input[:]
    graph.input.extend([helper.make_tensor_value_info(name, TensorProto.UINT8, ["batch", *size, 3]), *kept])
    nodes = [helper.make_node("Identity", [name], [target])]
    if given.layout == "float NCHW":
        nodes = _normalising_nodes(graph, name, target, given.dtype, mean, std)
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own])
    return wrapped


def keep_outputs(model: onnx.ModelProto, chosen: Sequence[tuple[str, str, int, bool]]) -> None:
    """Give the graph these outputs alone, in place: (own name, new name, columns, to unit length)."""
    graph = model.graph
    del graph.output[:]
    for own, new, columns, unit in chosen:
        graph.node.append(helper.make_node("Cast", [_OURS + own], [f"{new}/float"], to=TensorProto.FLOAT))
        if unit:
            graph.node.extend(_unit_nodes(graph, f"{new}/float", new))
        else:
            graph.node.append(helper.make_node("Identity", [f"{new}/float"], [new]))
        graph.output.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, ["batch", columns]))


def _normalising_nodes(
    graph: Any, source: str, target: str, dtype: int, mean: Sequence[float], std: Sequence[float]
) -> list[onnx.NodeProto]:
    constants = {
        "scale": np.array(255, np.float32),
        "mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(std, np.float32).reshape(1, 3, 1, 1),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{source}/{name}"))
    at = [f"{source}/{step}" for step in ("cast", "layout", "scaled", "centred", "normalised")]
    return [
        helper.make_node("Cast", [source], [at[0]], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [at[0]], [at[1]], perm=[0, 3, 1, 2]),
        helper.make_node("Div", [at[1], f"{source}/scale"], [at[2]]),
        helper.make_node("Sub", [at[2], f"{source}/mean"], [at[3]]),
        helper.make_node("Div", [at[3], f"{source}/std"], [at[4]]),
        helper.make_node("Cast", [at[4]], [target], to=dtype),
    ]


def _unit_nodes(graph: Any, source: str, target: str) -> list[onnx.NodeProto]:
    """Divide each row by its length; a zero row stays zero."""
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), f"{target}/axis"))
    graph.initializer.append(numpy_helper.from_array(np.array(1e-12, np.float32), f"{target}/least"))
    at = [f"{target}/{step}" for step in ("squares", "sum", "norm", "safe")]
    return [
        helper.make_node("Mul", [source, source], [at[0]]),
        helper.make_node("ReduceSum", [at[0], f"{target}/axis"], [at[1]], keepdims=1),
        helper.make_node("Sqrt", [at[1]], [at[2]]),
        helper.make_node("Max", [at[2], f"{target}/least"], [at[3]]),
        helper.make_node("Div", [source, at[3]], [target]),
    ]
