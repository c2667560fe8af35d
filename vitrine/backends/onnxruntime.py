"""ONNX Runtime on the CPU: the engine that works everywhere. int8 needs calibrated graphs; see `vitrine.quantize`."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from vitrine.bundle import Bundle
from vitrine.errors import BadInput
from vitrine.ports import GraphRows, Precision
from vitrine.progress import Track

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
BUILT: tuple[Precision, ...] = ("int8",)


class OnnxRuntimeEngine:
    """One session a graph; threads are explicit and do not spin (spinning costs 1.8x the CPU)."""

    name = "onnxruntime"

    def __init__(self, graphs: Mapping[str, Path], threads: int, precision: Precision = "fp32") -> None:
        self.precision = precision
        options = session_options(threads)
        self._sessions = {
            name: ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for name, path in graphs.items()
        }

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one named graph."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def session_options(threads: int) -> ort.SessionOptions:
    """Options of every session here: that many threads, which sleep while they wait."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def worthwhile() -> tuple[Precision, ...]:
    """All of them."""
    return PRECISIONS


def target() -> str:
    """The kind of processor: quantised graphs run anywhere, but were made and judged for this way of multiplying bytes."""
    from vitrine.quantize import multiplies_bytes

    return platform.machine() + (" with byte products" if multiplies_bytes() else "")


def build(bundle: Bundle, *, precision: Precision, folder: Path, calibration: GraphRows, track: Track) -> None:
    """Write one int8 graph file a graph; see `vitrine.ports.Backend`."""
    from vitrine.quantize import quantise

    _check(precision, BUILT)
    for name, graph in bundle.manifest.graphs.items():
        quantise(bundle.path(graph.file), folder / f"{name}.onnx", calibration[name], track=track)


def load(
    bundle: Bundle, *, threads: int, precision: Precision = "fp32", built: Path | None = None
) -> OnnxRuntimeEngine:
    """Load every graph of the bundle; see `vitrine.ports.Backend`."""
    _check(precision, PRECISIONS)
    graphs = {name: bundle.path(graph.file) for name, graph in bundle.manifest.graphs.items()}
    if precision in BUILT:
        if built is None:
            raise BadInput("int8 runs from built files; build them: vitrine engine build NAME@N --precision int8")
        graphs = {name: built / f"{name}.onnx" for name in graphs}
    return OnnxRuntimeEngine(graphs, threads, precision)


def _check(precision: Precision, allowed: tuple[Precision, ...]) -> None:
    if precision not in allowed:
        raise BadInput(f"onnxruntime runs {', '.join(allowed)} here, not {precision}", field="precision")
