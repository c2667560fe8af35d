"""fp16 and bf16 forms of a float32 graph, written into the graph's own types.

GPU libraries of today take precision from the types in the graph (TensorRT 11 has no flag for it). As in Micikevicius
et al., "Mixed Precision Training" (ICLR 2018, section 3), matrix products and what flows between them are low, and
sums over many values are float32: preprocessing before the first product, norms, means, the final unit length. Inputs
and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vitrine.errors import Unsupported

Low = Literal["fp16", "bf16"]

_TYPES: Mapping[Low, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_EXACT = frozenset(
    {"Exp", "LpNormalization", "Pow", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt", "Reciprocal"}
)
_BF16_OPSET = (
    22  # the first in which convolutions and pooling know bf16; since 18 it changed types alone, but for the next
)
_CHANGED = "GroupNormalization"

Kind = Literal["low", "float", "weak"]
"""low; float; or weak: float32 looked up or made of constants before any product, which follows whoever uses it."""


class _Converter:
    """One graph on its way; `kinds` says what the float32 values of the old graph are in the new one."""

    def __init__(self, model: onnx.ModelProto, low: int) -> None:
        self.low = low
        self.model = model
        self.floats = _float_values(model)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {output.name for output in model.graph.output}
        self.kinds: dict[str, Kind] = {given.name: "float" for given in model.graph.input if given.name in self.floats}
        self.kinds |= dict.fromkeys(self.constants, "weak")
        self.names: dict[tuple[str, Kind], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.added: list[onnx.TensorProto] = []

    def convert(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            self._node(node)
        for name in sorted(self.outputs & {one for one, kind in self.kinds.items() if kind == "low"}):
            self.nodes.append(helper.make_node("Cast", [f"{name}__low"], [name], to=TensorProto.FLOAT))
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        del graph.value_info[:]  # types changed; readers infer them
        graph.initializer.extend(self.added)
        used = {name for node in graph.node for name in node.input} | self.outputs
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return self.model

    def _node(self, node: onnx.NodeProto) -> None:
        kind = self._kind(node)
        if kind != "weak":
            wanted: Kind = "float" if node.op_type == "Cast" else kind
            if node.op_type != "Cast":
                node.input[:] = [self._as(name, wanted) if name in self.floats else name for name in node.input]
            else:
                node.input[:] = [self._present(name) for name in node.input]
        for place, name in enumerate(node.output):
            if name not in self.floats:
                continue
            self.kinds[name] = kind
            if kind == "low" and name in self.outputs:
                node.output[place] = self.names[name, "low"] = f"{name}__low"
        self.nodes.append(node)

    def _kind(self, node: onnx.NodeProto) -> Kind:
        """How the node computes: given by its operator, else by what flows into it."""
        if node.op_type == "Cast":
            return "float"
        if node.op_type in _PRODUCTS:
            return "low"
        if node.op_type in _EXACT:
            return "float"
        found = {self.kinds[name] for name in node.input if name in self.floats} - {"weak"}
        if not found:
            return "weak"
        return "low" if found == {"low"} else "float"

    def _present(self, name: str) -> str:
        return self.names.get((name, "low"), name) if self.kinds.get(name) == "low" else name

    def _as(self, name: str, wanted: Kind) -> str:
        """The value as low or float, with a cast or a converted constant where it is the other."""
        have = self.kinds[name]
        if have == wanted or (have == "weak" and wanted == "float"):
            return self._present(name)
        key = (name, wanted)
        if key not in self.names:
            self.names[key] = f"{name}__{wanted}"
            if name in self.constants:
                self.added.append(_lowered(self.constants[name], self.low, self.names[key]))
            else:
                to = self.low if wanted == "low" else TensorProto.FLOAT
                self.nodes.append(helper.make_node("Cast", [self._present(name)], [self.names[key]], to=to))
        return self.names[key]


def lower(model: onnx.ModelProto, precision: Low) -> onnx.ModelProto:
    """The fp16 or bf16 form of a float32 graph; the graph given stays as it is.

    Raises:
        Unsupported: a graph with control flow, or of an opset that bf16 cannot be written in.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if any(attribute.HasField("g") for node in copy.graph.node for attribute in node.attribute):
        raise Unsupported(f"{precision} is not made of graphs with control flow; use fp32")
    _constants_to_initialisers(copy)
    lowered = _Converter(copy, _TYPES[precision]).convert()
    if precision == "bf16":
        _raise_opset(lowered)
    return lowered


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 values."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    infos = [*graph.input, *graph.value_info, *graph.output]
    found = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _constants_to_initialisers(model: onnx.ModelProto) -> None:
    graph, kept = model.graph, []
    for node in graph.node:
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value), node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _lowered(tensor: onnx.TensorProto, low: int, name: str) -> onnx.TensorProto:
    array: NDArray[np.float32] = numpy_helper.to_array(tensor)
    if low == TensorProto.FLOAT16:
        most = float(np.finfo(np.float16).max)
        finite = np.where(np.isinf(array), array, np.clip(array, -most, most))
        return numpy_helper.from_array(finite.astype(np.float16), name)
    return numpy_helper.from_array(array.astype(ml_dtypes.bfloat16), name)


def _raise_opset(model: onnx.ModelProto) -> None:
    (default,) = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
    changed = any(node.op_type == _CHANGED for node in model.graph.node) and default.version < 21
    if default.version < 18 or changed:
        raise Unsupported(
            f"bf16 is written in ONNX opset {_BF16_OPSET}, and this graph of opset {default.version} would mean something else "
            "there; use fp16, or export the version again"
        )
    default.version = max(default.version, _BF16_OPSET)
    model.ir_version = max(model.ir_version, 10)
