"""How long embeddings are before the last step inside a version makes them unit length.

Lengths that differ widely, or nearly vanish, tell of a head that barely reacts to a photo, which unit vectors hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrine.bundle import Bundle

if TYPE_CHECKING:
    import onnx

_AGREE = 1e-3
_NORMALISES = ("Div", "LpNormalization")


def raw_norms(bundle: Bundle, pixels: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.float32] | None:
    """Lengths of the vectors that the image graph divides by their length.

    The graph is run once with that inner value as a further output; the version itself is not changed.

    Args:
        bundle: a version with an image graph.
        pixels: uint8 (B, H, W, 3), decoded by the version's own preprocessing.
        threads: of the engine.

    Returns:
        float32 (B,); None where the graph does not end in a division by the length.
    """
    import onnx
    import onnxruntime as ort

    graph = bundle.manifest.graphs["image"]
    embedding = graph.output("embedding")
    model = onnx.load(str(bundle.path(graph.file)))
    raw = _before_normalising(model, embedding.name) if embedding else None
    if embedding is None or raw is None:
        return None
    model.graph.output.append(onnx.helper.make_tensor_value_info(raw, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inner, unit = session.run([raw, embedding.name], {graph.inputs[0].name: pixels})
    norms = np.linalg.norm(inner, axis=1)
    agrees = inner.shape == unit.shape and np.allclose(unit * norms[:, None], inner, rtol=_AGREE, atol=_AGREE)
    return norms.astype(np.float32) if agrees else None


def _before_normalising(model: onnx.ModelProto, output: str) -> str | None:
    """The name of the value whose division by its length is `output`."""
    for node in model.graph.node:
        if output in node.output and node.op_type in _NORMALISES:
            return str(node.input[0])
    return None
