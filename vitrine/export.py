"""A torch backbone and its head become one ONNX graph, checked against torch before it is kept.

The graph takes `uint8 (B, H, W, 3)`: layout, scaling, mean and standard deviation are inside, so
nobody can prepare pixels differently. It gives unit embeddings and, with a classifier, logits.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from vitrine.bundle import Bundle, Parity, file_ref, write_bundle
from vitrine.errors import BadInput, Refused
from vitrine.files import write_json
from vitrine.images import decode
from vitrine.manifest import Graph, Labels, Licences, Manifest, TensorSpec
from vitrine.ports import Backbone, Vectors

OPSET = 20  # 23 and later fuse attention into a node that GPU engines cannot build in fp32
MIN_COSINE = 0.9999
# An output called just `embedding` collides with an inner value of some networks.
PIXELS, EMBEDDING, LOGITS = "pixels", "embedding_out", "logits_out"
GRAPH_FILE, LABELS_FILE = "image.onnx", "labels.json"


@dataclass(frozen=True)
class Classifier:
    """The label set of a head's logits with its calibration; see `vitrine.manifest.Labels`."""

    labels: tuple[str, ...]
    temperature: float = 1.0
    abstain_below: float = 0.0


class ImageGraph(torch.nn.Module):
    """Everything between decoded pixels and a version's outputs.

    `head` maps features float32 (B, D) to an embedding (B, E) or to (embedding, logits (B, C)).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: Backbone, head: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.head = head or torch.nn.Identity()
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`uint8 (B, H, W, 3)` to unit embeddings (B, E) and, with a classifier, logits (B, C)."""
        out = self.head(self.features(pixels))
        embedding, *logits = out if isinstance(out, tuple) else (out,)
        return torch.nn.functional.normalize(embedding, dim=1, eps=1e-12), *logits

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """`uint8 (B, H, W, 3)` to the frozen backbone's features float32 (B, D), not normalised."""
        scaled = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        features: torch.Tensor = self.backbone((scaled - self.mean) / self.std)
        return features


def export_version(
    target: Path,
    backbone: Backbone,
    *,
    photos: Sequence[bytes],
    licences: Licences,
    lineage: Mapping[str, Any],
    head: torch.nn.Module | None = None,
    classifier: Classifier | None = None,
) -> Bundle:
    """Export, compare with torch on `photos`, and write the bundle folder whole.

    Raises:
        Refused: the graph's embeddings differ from torch's (cosine under 0.9999); nothing is written.
        BadInput: fewer than two photos to compare on.
    """
    graph = ImageGraph(backbone, head).eval()
    pixels = np.stack([decode(photo, backbone.image) for photo in _enough(photos)])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        outputs = export_image_graph(graph, pixels[:2], folder / GRAPH_FILE)
        parity = check_parity(
            run_torch(graph, pixels),
            run_onnx(folder / GRAPH_FILE, pixels)[0],
            against="torch",
            what="the exported graph",
        )
        labels = _labels(folder, classifier)
        manifest = Manifest(
            graphs={
                "image": Graph(
                    file_ref(folder, GRAPH_FILE), (pixels_spec(backbone.image.height, backbone.image.width),), outputs
                )
            },
            dim=int(outputs[0].shape[1]),
            image=backbone.image,
            licences=licences,
            labels=labels,
        )
        files = {ref.path: folder / ref.path for ref in manifest.files()}
        return write_bundle(target, manifest, files, lineage, parity)


def export_image_graph(graph: torch.nn.Module, example: NDArray[np.uint8], path: Path) -> tuple[TensorSpec, ...]:
    """Write `graph` as ONNX with a dynamic batch; `example` is `uint8 (2, H, W, 3)`. Gives the outputs."""
    pixels = torch.from_numpy(example)
    with torch.no_grad():
        shapes = [tuple(out.shape) for out in graph(pixels)]
    names = [EMBEDDING, LOGITS][: len(shapes)]
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (pixels,),
            None,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[PIXELS],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
        )
    assert program is not None  # the dynamo exporter always gives a program
    path.write_bytes(strip(program.model_proto))
    roles: tuple[Any, ...] = ("embedding", "logits")
    return tuple(
        TensorSpec(name, role, "float32", ("batch", shape[1]))
        for name, role, shape in zip(names, roles, shapes, strict=False)
    )


def pixels_spec(height: int, width: int) -> TensorSpec:
    """The one input that every image graph has."""
    return TensorSpec(PIXELS, "image", "uint8", ("batch", height, width, 3))


def strip(model: onnx.ModelProto) -> bytes:
    """Serialise content alone: no class names, source lines or exporter versions, so digests compare."""
    model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    parts: list[Any] = [
        *graph.node,
        *graph.initializer,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *model.functions,
    ]
    parts += [node for function in model.functions for node in function.node]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    return model.SerializeToString(deterministic=True)


def run_torch(graph: torch.nn.Module, pixels: NDArray[np.uint8], batch: int = 16) -> Vectors:
    """Embeddings (N, D) of `uint8 (N, H, W, 3)` by torch."""
    with torch.no_grad():
        parts = [graph(torch.from_numpy(pixels[at : at + batch]))[0].numpy() for at in range(0, len(pixels), batch)]
    vectors: Vectors = np.concatenate(parts)
    return vectors


def run_onnx(
    path: Path, pixels: NDArray[np.uint8], *, optimise: bool = True, batch: int = 16
) -> list[NDArray[np.float32]]:
    """All outputs of an image graph for `uint8 (N, H, W, 3)` by ONNX Runtime; `optimise=False` runs it node by node."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: pixels[at : at + batch]}) for at in range(0, len(pixels), batch)]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def check_parity(reference: Vectors, exported: Vectors, *, against: str, what: str) -> Parity:
    """Compare unit embeddings (N, D) of the same N photos, `against` naming the reference.

    Raises:
        Refused: the worst photo's cosine similarity is under 0.9999, or a value is not finite.
    """
    cosines = (reference.astype(np.float64) * exported).sum(axis=1)
    worst = float(cosines.min())
    if not worst >= MIN_COSINE:  # also catches NaN
        raise Refused(
            f"{what} differs from {against}: the worst of {len(cosines)} photos has cosine similarity {worst:.6f}, at least "
            f"{MIN_COSINE} is needed; nothing was written. Dropout or batch statistics left in training mode are the usual cause"
        )
    overlap = neighbour_overlap(reference, exported)
    return Parity(against, "onnxruntime", "fp32", len(cosines), round(min(worst, 1.0), 6), round(overlap, 6))


def neighbour_overlap(a: Vectors, b: Vectors, k: int = 10) -> float:
    """Mean share of the k nearest neighbours (self left out) that both (N, D) sets agree on."""
    k = min(k, len(a) - 1)
    shared = [len(set(one) & set(other)) / k for one, other in zip(_neighbours(a, k), _neighbours(b, k), strict=True)]
    return float(np.mean(shared))


def _neighbours(vectors: Vectors, k: int) -> list[list[int]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()
    return nearest


def _labels(folder: Path, classifier: Classifier | None) -> Labels | None:
    if classifier is None:
        return None
    write_json(folder / LABELS_FILE, list(classifier.labels))
    return Labels(file_ref(folder, LABELS_FILE), classifier.temperature, classifier.abstain_below)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns about its own internals on every run."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _enough(photos: Sequence[bytes]) -> Sequence[bytes]:
    if len(photos) < 2:
        raise BadInput(f"an export is compared with torch on at least 2 photos, {len(photos)} given")
    return photos
