"""Tiny real versions and photos for tests: everything runs, nothing is a mock.

bundle = tiny_bundle(tmp_path / "bundle", dim=8, labels=["mug", "jug"], seed=3)
encoder = load_encoder(bundle)
encoder.embed([photo(1), photo(2)]).vectors     # float32 (2, 8), unit rows
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RawTokenizer

from vitrine.bundle import Bundle, Parity, file_ref, write_bundle
from vitrine.files import write_json
from vitrine.images import ImageSpec
from vitrine.manifest import Graph, Labels, Licences, Manifest, TensorSpec, Tokenizer
from vitrine.text_lengths import LENGTH
from vitrine.tokenize import KIND

OPSET, IR_VERSION = 18, 10
CONTEXT = 12  # tokens of a text
CELLS = 4  # the photo is pooled to CELLS x CELLS means a channel, so that layout matters, not colour alone


def tiny_bundle(
    folder: Path,
    *,
    dim: int = 8,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    size: int = 32,
    texts: bool = False,
    any_length: bool = False,
    dataset: str = "photos",
) -> Bundle:
    """Write and read back a whole bundle: uint8 (batch, size, size, 3) -> unit float32 (batch, dim).

    Args:
        folder: the bundle folder; its parent is made.
        labels: with them the graph also gives `logits_out` float32 (batch, len(labels)).
        seed: draws the weights; the same arguments give the same digest.
        size: height and width of the input, a multiple of 4.
        texts: with a text graph and a tokenizer of single letters, int64 (batch, CONTEXT) -> unit float32 (batch, dim).
        any_length: the text graph takes up to CONTEXT tokens, int64 (batch, length), and padding weighs nothing.
        dataset: what the lineage says it was trained on.
    """
    with TemporaryDirectory() as temporary:
        return _write(
            folder,
            Path(temporary),
            dim=dim,
            labels=labels,
            seed=seed,
            size=size,
            texts=texts,
            any_length=any_length,
            dataset=dataset,
        )


def _write(
    folder: Path,
    scratch: Path,
    *,
    dim: int,
    labels: Sequence[str] | None,
    seed: int,
    size: int,
    texts: bool,
    any_length: bool,
    dataset: str,
) -> Bundle:
    model = tiny_graph(dim=dim, classes=len(labels or ()), seed=seed, size=size)
    files = {"image.onnx": scratch / "image.onnx"}
    files["image.onnx"].write_bytes(model.SerializeToString(deterministic=True))
    if labels is not None:
        files["labels.json"] = scratch / "labels.json"
        write_json(files["labels.json"], list(labels))
    graphs = {"image": _signature(scratch, dim, labels, size)}
    if texts:
        files |= {name: scratch / name for name in ("text.onnx", "tokenizer.json")}
        text = tiny_text_graph(dim=dim, seed=seed, any_length=any_length)
        files["text.onnx"].write_bytes(text.SerializeToString(deterministic=True))
        files["tokenizer.json"].write_bytes(tiny_tokenizer())
        graphs["text"] = Graph(
            file_ref(scratch, "text.onnx"),
            (TensorSpec("tokens", "tokens", "int64", ("batch", LENGTH if any_length else CONTEXT)),),
            (TensorSpec("embedding_out", "embedding", "float32", ("batch", dim)),),
        )
    manifest = Manifest(
        graphs=graphs,
        dim=dim,
        image=ImageSpec(height=size, width=size),
        licences=Licences(weights="Apache-2.0", data="CC-BY-4.0"),
        labels=Labels(file_ref(scratch, "labels.json"), abstain_below=0.1) if labels is not None else None,
        modalities=("image", "title") if texts else ("image",),
        tokenizer=Tokenizer(KIND, file_ref(scratch, "tokenizer.json"), CONTEXT) if texts else None,
    )
    lineage = {"strategy": "tiny", "backbone": "mean-pool", "dataset": dataset, "seed": seed}
    parity = Parity("numpy", "onnxruntime", "fp32", 8, min_cosine=1.0, top10_overlap=1.0)
    return write_bundle(folder, manifest, files, lineage, parity)


def tiny_graph(*, dim: int, classes: int, seed: int, size: int) -> onnx.ModelProto:
    """Cast, scale to [-1, 1], mean over a CELLS x CELLS grid, linear, divide by the L2 norm."""
    draw = np.random.default_rng(seed)
    features = 3 * CELLS * CELLS
    weights: dict[str, NDArray[Any]] = {
        "half": np.float32(127.5).reshape(1),
        "one": np.float32(1).reshape(1),
        "flat": np.array([0, features], np.int64),
        "tiny": np.float32(1e-12).reshape(1),
        "axes": np.array([1], np.int64),
        "w": draw.normal(size=(features, dim)).astype(np.float32),
        "w_logits": draw.normal(size=(dim, max(classes, 1)), scale=4).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["photo"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["channels"], ["grid"], kernel_shape=[size // CELLS] * 2, strides=[size // CELLS] * 2
        ),
        helper.make_node("Reshape", ["grid", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "w"], ["raw"]),
        helper.make_node("ReduceL2", ["raw", "axes"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["safe"]),
        helper.make_node("Div", ["raw", "safe"], ["embedding_out"]),
    ]
    outputs = [helper.make_tensor_value_info("embedding_out", TensorProto.FLOAT, ["batch", dim])]
    if classes:
        nodes.append(helper.make_node("MatMul", ["embedding_out", "w_logits"], ["logits_out"]))
        outputs.append(helper.make_tensor_value_info("logits_out", TensorProto.FLOAT, ["batch", classes]))
    else:
        del weights["w_logits"]
    photos = helper.make_tensor_value_info("photo", TensorProto.UINT8, ["batch", size, size, 3])
    graph = helper.make_graph(
        nodes, "tiny", [photos], outputs, [numpy_helper.from_array(array, name) for name, array in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def tiny_tokenizer() -> bytes:
    """Single letters: 0 pads, 1 is anything else, a to z follow; lower case, cut and padded to CONTEXT."""
    letters = {"<pad>": 0, "<unk>": 1, **{chr(code): code - ord("a") + 2 for code in range(ord("a"), ord("z") + 1)}}
    raw = RawTokenizer(models.WordLevel(letters, unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.enable_truncation(CONTEXT)
    raw.enable_padding(length=CONTEXT, pad_id=0, pad_token="<pad>")
    return raw.to_str().encode()


def tiny_text_graph(*, dim: int, seed: int, any_length: bool = False) -> onnx.ModelProto:
    """Look every token up, weigh it by its place, add, divide by the L2 norm: letters and their order matter."""
    draw = np.random.default_rng((seed, 1))
    weights: dict[str, NDArray[Any]] = {
        "table": draw.normal(size=(28, dim)).astype(np.float32),
        "places": np.linspace(1, 0.2, CONTEXT, dtype=np.float32).reshape(1, CONTEXT, 1),
        "along": np.array([1], np.int64),
        "tiny": np.float32(1e-12).reshape(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"]),
        helper.make_node("Mul", ["rows", "places"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "along"], ["raw"], keepdims=0),
        helper.make_node("ReduceL2", ["raw", "along"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["safe"]),
        helper.make_node("Div", ["raw", "safe"], ["embedding_out"]),
    ]
    if any_length:
        weights["table"][0] = 0  # padding adds nothing
        weights |= {"none": np.array([0], np.int64)}
        nodes[1].input[1] = "places_cut"
        nodes[:0] = [
            helper.make_node("Shape", ["tokens"], ["size"], start=1, end=2),
            helper.make_node("Slice", ["places", "none", "size", "along"], ["places_cut"]),
        ]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", LENGTH if any_length else CONTEXT])
    output = helper.make_tensor_value_info("embedding_out", TensorProto.FLOAT, ["batch", dim])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny text", [tokens], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def photo(seed: int, size: int = 64) -> bytes:
    """A JPEG of size x size: coloured blocks drawn by `seed`, so that different seeds look different."""
    blocks = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((size, size), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def _signature(folder: Path, dim: int, labels: Sequence[str] | None, size: int) -> Graph:
    outputs = [TensorSpec("embedding_out", "embedding", "float32", ("batch", dim))]
    if labels is not None:
        outputs.append(TensorSpec("logits_out", "logits", "float32", ("batch", len(labels))))
    return Graph(
        file=file_ref(folder, "image.onnx"),
        inputs=(TensorSpec("photo", "image", "uint8", ("batch", size, size, 3)),),
        outputs=tuple(outputs),
    )
