"""ONNX Runtime on the CPU: the engine that works everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from vitrine.bundle import Bundle


class OnnxRuntimeEngine:
    """One session a graph; threads are explicit and do not spin (spinning costs 1.8x the CPU)."""

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._sessions = {
            name: ort.InferenceSession(str(bundle.path(graph.file)), options, providers=["CPUExecutionProvider"])
            for name, graph in bundle.manifest.graphs.items()
        }

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one named graph."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def load(bundle: Bundle, *, threads: int) -> OnnxRuntimeEngine:
    """Load every graph of the bundle."""
    return OnnxRuntimeEngine(bundle, threads)
