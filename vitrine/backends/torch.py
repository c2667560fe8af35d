"""torch, eagerly: any precision straight from the version's graphs, on an NVIDIA GPU where there is one.

The engine for GPUs that TensorRT does not serve. torch has one pool of processor threads a process: the engine loaded
last decides how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from vitrine.backends._onnx_torch import to_torch
from vitrine.bundle import Bundle
from vitrine.errors import BadInput
from vitrine.manifest import Graph
from vitrine.mixed_precision import lower
from vitrine.ports import GraphRows, Precision
from vitrine.progress import Track

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
BUILT: tuple[Precision, ...] = ()

Wrap = Callable[[torch.nn.Module], Callable[..., Any]]


class TorchEngine:
    """One module a graph, all on one device."""

    def __init__(self, bundle: Bundle, *, name: str, precision: Precision, wrap: Wrap) -> None:
        self.name = name
        self.precision = precision
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._graphs = dict(bundle.manifest.graphs)
        self._modules = {key: wrap(self._module(bundle, graph)) for key, graph in self._graphs.items()}

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one named graph."""
        told = self._graphs[graph]
        rows = [self._to_device(inputs[spec.name]) for spec in told.inputs]
        with torch.no_grad():
            found = self._modules[graph](*rows)
        return {spec.name: values.cpu().numpy() for spec, values in zip(told.outputs, found, strict=True)}

    def _to_device(self, rows: NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(np.require(rows, requirements=["C", "W"]))
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _module(self, bundle: Bundle, graph: Graph) -> torch.nn.Module:
        model = onnx.load(str(bundle.path(graph.file)))
        if self.precision in ("fp16", "bf16"):
            model = lower(model, self.precision)
        return to_torch(model, self.device)


def worthwhile() -> tuple[Precision, ...]:
    """All on a GPU; on a processor low precisions are slower."""
    return PRECISIONS if torch.cuda.is_available() else ("fp32",)


def target() -> str:
    """Nothing is built, so nothing is bound."""
    return "nothing built"


def build(bundle: Bundle, *, precision: Precision, folder: Path, calibration: GraphRows, track: Track) -> None:
    """Refuse: every precision runs straight from the version."""
    del bundle, folder, calibration, track
    raise BadInput(f"torch runs {precision} straight from the version, there is nothing to build")


def load(bundle: Bundle, *, threads: int, precision: Precision = "fp32", built: Path | None = None) -> TorchEngine:
    """Load every graph of the bundle; see `vitrine.ports.Backend`."""
    del built
    return open_torch(bundle, threads=threads, precision=precision, name="torch", wrap=lambda module: module)


def open_torch(bundle: Bundle, *, threads: int, precision: Precision, name: str, wrap: Wrap) -> TorchEngine:
    """An engine whose modules go through `wrap`, on that many processor threads."""
    if precision not in PRECISIONS:
        raise BadInput(f"{name} runs {', '.join(PRECISIONS)}, not {precision}", field="precision")
    torch.set_num_threads(threads)
    return TorchEngine(bundle, name=name, precision=precision, wrap=wrap)
