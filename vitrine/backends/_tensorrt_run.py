"""Running a TensorRT plan: one context a profile, fixed buffers, pinned memory, CUDA graphs for small batches.

Everything is enqueued on a stream of its own, since enqueueing on the default stream waits for the whole device. The
buffers never move: each profile has its own on the device, and one pinned pair on the host is shared. So what a small
batch does (copy in, run, copy out) can be captured once as a CUDA graph and replayed with one launch. A graph belongs to
one shape of the inputs, its addresses and its context, which is why each has a context of its own. Texts shorter than the
longest lie packed at the front of the buffers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrine.backends._tensorrt_library import Library
from vitrine.errors import BadInput

_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
}
_GRAPHED = 8
"""Batches up to this size get a CUDA graph: launching kernel by kernel costs as much as running them there."""


_Shapes = tuple[tuple[int, ...], ...]
"""Of every input, in the order of `PlanRunner.inputs`."""


@dataclass
class _Lane:
    """One profile: batches from `least` to `most`, a context, and its buffers on the device."""

    least: int
    most: int
    context: Any
    buffers: dict[str, torch.Tensor]


class PlanRunner:
    """One plan on the current GPU; for one thread at a time."""

    def __init__(self, library: Library, plan: bytes, *, graphs: bool = True) -> None:
        trt = library.trt
        self.library = library
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        library.complaints.clear()
        self._runtime = library.checked(trt.Runtime(library.logger), "start a runtime")
        self._engine = library.checked(
            self._runtime.deserialize_cuda_engine(plan), "load the engine on this GPU; build it again here"
        )
        engine = self._engine
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self._lanes = [self._lane(place) for place in range(engine.num_optimization_profiles)]
        self.most = max(lane.most for lane in self._lanes)
        self._host = {name: self._pinned(buffer) for name, buffer in self._lanes[0].buffers.items()}
        self._graphs_wanted = graphs and not library.rtx  # RTX captures by itself, see _rtx_context
        self._graphs: dict[_Shapes, tuple[torch.cuda.CUDAGraph, Any]] = {}
        torch.cuda.synchronize()  # the buffers' memory may have been somebody's on another stream

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs for B rows; more rows than the largest profile go in pieces."""
        count = len(inputs[self.inputs[0]])
        if not count:
            raise BadInput("an engine was asked to run no rows")
        pieces = [
            self._piece({name: rows[at : at + self.most] for name, rows in inputs.items()})
            for at in range(0, count, self.most)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.outputs}

    def _piece(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        shapes = tuple(inputs[name].shape for name in self.inputs)
        batch = shapes[0][0]
        for name, shape in zip(self.inputs, shapes, strict=True):
            _front(self._host[name], shape).copy_(torch.from_numpy(np.ascontiguousarray(inputs[name])))
        graph = self._captured(shapes) if self._graphs_wanted and batch <= _GRAPHED else None
        with torch.cuda.stream(self.stream):
            if graph is not None:
                graph.replay()
            else:
                lane = self._pick(batch)
                self._set_shapes(lane.context, shapes)
                self._enqueue(lane.context, lane, shapes)
        self.stream.synchronize()
        return {name: self._host[name][:batch].numpy().copy() for name in self.outputs}

    def _captured(self, shapes: _Shapes) -> torch.cuda.CUDAGraph:
        """The CUDA graph of these inputs' shapes, captured when they first come."""
        if shapes not in self._graphs:
            lane = self._pick(shapes[0][0])
            context = self._context(self._lanes.index(lane))
            self._set_shapes(context, shapes)
            with torch.cuda.stream(self.stream):
                # Settles what a new shape puts off, which a capture may not contain.
                self._enqueue(context, lane, shapes)
            self.stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Another thread may be loading the next version meanwhile; its allocations are none of this capture's business.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self._enqueue(context, lane, shapes)
            self._graphs[shapes] = (graph, context)
        return self._graphs[shapes][0]

    def _set_shapes(self, context: Any, shapes: _Shapes) -> None:
        for name, shape in zip(self.inputs, shapes, strict=True):
            self.library.checked(context.set_input_shape(name, shape), f"take {name} of shape {shape}")
        missing = list(context.infer_shapes())
        if missing:
            raise BadInput(f"the engine does not know the shapes of {', '.join(missing)} for inputs of {shapes}")

    def _enqueue(self, context: Any, lane: _Lane, shapes: _Shapes) -> None:
        """Copy in, run, copy out, all on the current stream."""
        batch = shapes[0][0]
        for name, shape in zip(self.inputs, shapes, strict=True):
            _front(lane.buffers[name], shape).copy_(_front(self._host[name], shape), non_blocking=True)
        for name, buffer in lane.buffers.items():
            self.library.checked(context.set_tensor_address(name, buffer.data_ptr()), f"take the buffer of {name}")
        self.library.checked(context.execute_async_v3(self.stream.cuda_stream), f"run a batch of {batch}")
        for name in self.outputs:
            self._host[name][:batch].copy_(lane.buffers[name][:batch], non_blocking=True)

    def _pick(self, batch: int) -> _Lane:
        return next(lane for lane in self._lanes if lane.least <= batch <= lane.most)

    def _lane(self, place: int) -> _Lane:
        engine, context = self._engine, self._context(place)
        shapes, least, most = {}, 0, 0
        for name in self.inputs:
            low, _, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, place))
            least, most, shapes[name] = low[0], high[0], high
            self.library.checked(context.set_input_shape(name, high), f"take {name} of shape {high}")
        shapes |= {name: tuple(context.get_tensor_shape(name)) for name in self.outputs}
        buffers = {name: torch.empty(shape, dtype=self._dtype(name), device="cuda") for name, shape in shapes.items()}
        return _Lane(least, most, context, buffers)

    def _context(self, place: int) -> Any:
        engine = self._engine
        context = _rtx_context(self.library, engine) if self.library.rtx else engine.create_execution_context()
        context = self.library.checked(context, "make an execution context (is the GPU's memory full?)")
        chosen = context.set_optimization_profile_async(place, self.stream.cuda_stream)
        self.library.checked(chosen, f"choose profile {place}")
        self.stream.synchronize()
        return context

    def _pinned(self, buffer: torch.Tensor) -> torch.Tensor:
        return torch.empty((self.most, *buffer.shape[1:]), dtype=buffer.dtype, pin_memory=True)

    def _dtype(self, name: str) -> torch.dtype:
        engine = self._engine
        return _TYPES[engine.get_tensor_dtype(name).name]


def _front(buffer: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The first values of a contiguous buffer, as a contiguous tensor of this shape."""
    return buffer.view(-1)[: math.prod(shape)].view(shape)


def _rtx_context(library: Library, engine: Any) -> Any:
    """A context of TensorRT-RTX, which has a switch of its own for CUDA graphs."""
    rtx_config = engine.create_runtime_config()
    rtx_config.cuda_graph_strategy = library.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(rtx_config)
