"""A version's ONNX graph as a torch module: its weights, without a pickle and without the classes they came from.

The nodes become calls of `_onnx_operators` in a `torch.fx` graph, which is plain Python code: quick eagerly and visible
to torch.compile. Converters of others were weighed: onnx2torch (last release 2024) knows no opset 20, onnx2pytorch no
LayerNormalization. What exports of `vitrine.export` contain is some fifty operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from vitrine.backends._onnx_operators import OPERATORS
from vitrine.errors import Unsupported

_SIZES = 64
"""Integer constants of up to one axis and this many entries are taken as sizes, not as tensors."""
_ON_DEVICE = ("Range", "ConstantOfShape")


class _Reader:
    """One graph on its way into torch."""

    def __init__(self, model: onnx.ModelProto, device: torch.device) -> None:
        self.device = device
        self.root = torch.nn.Module()
        self.graph = torch.fx.Graph()
        self.values: dict[str, Any] = {"": None}
        self.model = model

    def read(self) -> torch.fx.GraphModule:
        graph = self.model.graph
        constants = {tensor.name for tensor in graph.initializer}
        for given in graph.input:
            if given.name not in constants:
                self.values[given.name] = self.graph.placeholder(f"input_{len(self.values)}")
        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        for node in graph.node:
            self._node(node)
        self.graph.output(tuple(self.values[output.name] for output in graph.output))
        return torch.fx.GraphModule(self.root, self.graph)

    def _keep(self, name: str, array: NDArray[Any]) -> None:
        if array.dtype == np.int64 and array.ndim <= 1 and array.size <= _SIZES:
            self.values[name] = array.tolist()
            return
        key = f"constant_{len(self.values)}"
        self.root.register_buffer(key, tensor_of(array).to(self.device))
        self.values[name] = self.graph.get_attr(key)

    def _node(self, node: onnx.NodeProto) -> None:
        attributes = {one.name: _attribute(one) for one in node.attribute}
        if node.op_type == "Constant":
            self._keep(node.output[0], _constant(attributes, node))
            return
        inputs = [self.values[name] for name in node.input]
        _refuse(node, attributes, inputs)
        if node.op_type in _ON_DEVICE:
            attributes["device"] = self.device
        if node.op_type == "ConstantOfShape":
            attributes["value"] = self._filling(attributes)
        while inputs and inputs[-1] is None:
            inputs.pop()
        found = self.graph.call_function(OPERATORS[node.op_type], tuple(inputs), attributes)
        if len(node.output) == 1:
            self.values[node.output[0]] = found
            return
        for place, name in enumerate(node.output):
            self.values[name] = self.graph.call_function(_item, (found, place))

    def _filling(self, attributes: dict[str, Any]) -> torch.fx.Node:
        key = f"constant_{len(self.values)}_filling"
        self.root.register_buffer(key, tensor_of(attributes.get("value", np.zeros(1, np.float32))).to(self.device))
        return self.graph.get_attr(key)


def to_torch(model: onnx.ModelProto, device: torch.device) -> torch.fx.GraphModule:
    """The graph as a module on a device: its inputs in order -> a tuple of its outputs in order.

    Raises:
        Unsupported: an operator, or a use of one, that exports of this project do not contain; the message names it.
    """
    unknown = sorted({_full(node) for node in _nodes(model)} - set(OPERATORS) - {"Constant"})
    if unknown:
        raise Unsupported(
            f"the torch backend does not know {', '.join(unknown)}; run this version on the onnxruntime backend"
        )
    return _Reader(model, device).read()


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """A copy of the array, bfloat16 too."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _item(values: Any, place: int) -> Any:
    return values[place]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from model.graph.node


def _full(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else str(node.op_type)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _constant(attributes: dict[str, Any], node: onnx.NodeProto) -> NDArray[Any]:
    (name, value) = next(iter(attributes.items()))
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name == "value":
        return np.asarray(value)
    if name not in kinds:
        raise Unsupported(f"the constant {node.name} holds {name}, which the torch backend does not read")
    return np.asarray(value, kinds[name])


def _refuse(node: onnx.NodeProto, attributes: dict[str, Any], inputs: list[Any]) -> None:
    """Uses that `_onnx_operators` does not answer to; exports have none of them."""
    pads = attributes.get("pads", [])
    steps = inputs[4] if node.op_type == "Slice" and len(inputs) > 4 and inputs[4] is not None else []
    uses = {
        "auto_pad": attributes.get("auto_pad", "NOTSET") != "NOTSET",
        "uneven pads": node.op_type == "AveragePool" and pads[: len(pads) // 2] != pads[len(pads) // 2 :],
        "negative steps": isinstance(steps, list) and any(step < 0 for step in steps),
        "batch_dims": bool(attributes.get("batch_dims", 0)),
        "select_last_index": bool(attributes.get("select_last_index", 0)),
        "training_mode": bool(attributes.get("training_mode", 0)),
    }
    wrong = [name for name, used in uses.items() if used]
    if wrong:
        raise Unsupported(f"the torch backend does not read {node.op_type} with {wrong[0]}; use onnxruntime")
