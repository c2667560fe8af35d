"""The model that every server of the comparison serves: CLIP ViT-B/32 with random weights, in each one's own form."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch

from vitrine import plugins
from vitrine.bench.asking import made_photos
from vitrine.bundle import Bundle, read_bundle
from vitrine.export import OPSET, export_version
from vitrine.manifest import Licences
from vitrine.ports import Backbone, BackboneSpec

PHOTOS = 64
SPEC = BackboneSpec("open-clip", "ViT-B-32", "random", licence="none: random weights")


def make(folder: Path) -> Bundle:
    """Everything under `folder`, once: photos, our bundle, clip-server's pair of ONNX files."""
    if not (folder / "bundle" / "manifest.json").is_file():
        backbone = plugins.load("families", SPEC.family).load(SPEC)
        write_photos(folder / "photos")
        _export_for_clip_server(backbone, folder / "clip-server")
        export_version(
            folder / "bundle",
            backbone,
            photos=made_photos(16),
            licences=Licences(SPEC.licence, "none"),
            lineage={"strategy": "pretrained"},
        )
    return read_bundle(folder / "bundle")


def write_photos(folder: Path) -> list[Path]:
    """The JPEGs of 400 x 400 that all are asked with."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.jpg" for number in range(PHOTOS)]
    for path, data in zip(paths, made_photos(PHOTOS), strict=True):
        path.write_bytes(data)
    return paths


def _export_for_clip_server(backbone: Backbone, folder: Path) -> None:
    """`visual.onnx` takes normalised float pixels; nobody asks `textual.onnx`, but it must be there."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        program = torch.onnx.export(
            backbone.module,
            (torch.zeros(2, 3, backbone.image.height, backbone.image.width),),
            None,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=["pixel_values"],
            output_names=["image_out"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
        )
    assert program is not None
    program.save(str(folder / "visual.onnx"), external_data=False)
    onnx.save(_echo(), str(folder / "textual.onnx"))


def _echo() -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["input_ids"], ["text_out"])],
        "echo",
        [value("input_ids", onnx.TensorProto.INT64, ["batch", 77])],
        [value("text_out", onnx.TensorProto.INT64, ["batch", 77])],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9)


def merges() -> Path:
    """CLIP's published byte pairs, as open_clip ships them."""
    import open_clip

    return Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")


if __name__ == "__main__":
    bundle = make(Path(sys.argv[1]))
    print(np.round(sum(ref.size for ref in bundle.manifest.files()) / 1e6), "MB")
