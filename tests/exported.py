"""Small real networks with random weights, exported as versions are: for tests of engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

NAMES = ("timm ViT", "timm ConvNeXt", "open_clip image tower", "open_clip text tower")


def export_all(folder: Path) -> dict[str, Path]:
    """Name -> ONNX file of each of `NAMES`; some ten seconds altogether."""
    from vitrine import plugins
    from vitrine.export import ImageGraph, TextGraph, export_graph
    from vitrine.ports import BackboneSpec

    pair = plugins.load("families", "open-clip").load(BackboneSpec("open-clip", "vitrine-mini", "random"))
    timm = plugins.load("families", "timm")
    found = {}
    for name, backbone in zip(
        NAMES[:3],
        [*(timm.load(BackboneSpec("timm", one, "random", 64)) for one in ("test_vit", "test_convnext")), pair],
        strict=True,
    ):
        pixels = np.zeros((2, backbone.image.height, backbone.image.width, 3), np.uint8)
        found[name] = folder / f"{len(found)}.onnx"
        export_graph(ImageGraph(backbone).eval(), pixels, found[name], "pixels")
    found[NAMES[3]] = folder / "3.onnx"
    export_graph(
        TextGraph(pair.text).eval(),
        np.zeros((2, pair.text.context_length), np.int64),
        found[NAMES[3]],
        "tokens",
        longest=pair.text.context_length,
    )
    return found


def rows_for(model: onnx.ModelProto, count: int, seed: int = 0, length: int = 24) -> NDArray[np.generic]:
    """Random rows of a graph's one input: bytes of a photo, or `length` token ids that every tokenizer has."""
    given = model.graph.input[0].type.tensor_type
    rest = [size.dim_value or length for size in given.shape.dim][1:]
    rng = np.random.default_rng(seed)
    if given.elem_type == onnx.TensorProto.UINT8:
        return rng.integers(0, 256, (count, *rest), dtype=np.uint8)
    return rng.integers(0, 100, (count, *rest), dtype=np.int64)
