"""A torch backbone and its heads become ONNX graphs, checked against torch before they are kept.

`image` takes `uint8 (B, H, W, 3)`: layout, scaling, mean and standard deviation are inside, so nobody can
prepare pixels differently. It gives unit embeddings and, with a classifier, logits. `text`, where the backbone
reads text, takes token ids of the tokenizer that travels beside it and gives unit embeddings of the same space.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from vitrine.bundle import Bundle, Parity, file_ref, write_bundle
from vitrine.errors import BadInput
from vitrine.files import write_atomic, write_json
from vitrine.images import decode
from vitrine.manifest import Graph, Labels, Licences, Manifest, TensorSpec, Tokenizer
from vitrine.parity import check_parity, run_onnx, run_torch, worse
from vitrine.ports import Backbone, TextTower
from vitrine.text_lengths import LENGTH, lengths_of
from vitrine.tokenize import KIND, load_tokenizer
from vitrine.tokenize import Tokenizer as TextTokenizer

OPSET = 20  # 23 and later fuse attention into a node that GPU engines cannot build in fp32
# An output called just `embedding` collides with an inner value of some networks.
PIXELS, TOKENS, EMBEDDING, LOGITS = "pixels", "tokens", "embedding_out", "logits_out"
GRAPH_FILE, TEXT_GRAPH_FILE, TOKENIZER_FILE, LABELS_FILE = "image.onnx", "text.onnx", "tokenizer.json", "labels.json"

_SENTENCES = tuple(
    f"{colour} {thing}"
    for colour in ("a red", "a blue striped", "a pair of green", "old wooden")
    for thing in ("mugs", "running shoes", "cotton shirt, size M", "lamp (12 V)")
)
"""What a text graph is compared on where no titles are given."""


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


class TextGraph(torch.nn.Module):
    """Everything between token ids and a version's text embedding.

    `head` maps features float32 (B, D) to an embedding (B, E) in the space of the image embeddings.
    """

    def __init__(self, tower: TextTower, head: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.tower = tower.module
        self.head = head or torch.nn.Identity()

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Token ids int64 (B, L) to unit embeddings (B, E)."""
        return (torch.nn.functional.normalize(self.head(self.tower(tokens)), dim=1, eps=1e-12),)


@dataclass(frozen=True)
class _Half:
    """One exported graph: its signature, and how far it is from torch."""

    graph: Graph
    parity: Parity

    @property
    def dim(self) -> int:
        """Length of its embedding."""
        return int(self.graph.outputs[0].shape[1])


def export_version(
    target: Path,
    backbone: Backbone,
    *,
    photos: Sequence[bytes],
    licences: Licences,
    lineage: Mapping[str, Any],
    texts: Sequence[str] = (),
    head: torch.nn.Module | None = None,
    text_head: torch.nn.Module | None = None,
    classifier: Classifier | None = None,
) -> Bundle:
    """Export, compare with torch on `photos` and `texts`, and write the bundle folder whole.

    The text tower goes along, unless `head` moves the photos into a space of their own: there is no `text_head` then.

    Raises:
        Refused: a graph's embeddings differ from torch's (cosine under 0.9999); nothing is written.
        BadInput: fewer than two photos, a text head without a text tower, or heads that end in different lengths.
    """
    if text_head is not None and backbone.text is None:
        raise BadInput("a text head was given, but this backbone has no text tower; leave it out")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        halves = {"image": _export_images(folder, backbone, head, photos)}
        tokenizer = None
        if backbone.text and (head is None or text_head is not None):
            halves["text"] = _export_texts(folder, backbone.text, text_head, texts)
            tokenizer = _tokenizer(folder, backbone.text)
        manifest = Manifest(
            graphs={name: half.graph for name, half in halves.items()},
            dim=_one_dim(halves),
            image=backbone.image,
            licences=licences,
            modalities=("image", "title") if tokenizer else ("image",),
            labels=_labels(folder, classifier),
            tokenizer=tokenizer,
        )
        files = {ref.path: folder / ref.path for ref in manifest.files()}
        return write_bundle(target, manifest, files, lineage, worse(*(half.parity for half in halves.values())))


def _export_images(folder: Path, backbone: Backbone, head: torch.nn.Module | None, photos: Sequence[bytes]) -> _Half:
    graph = ImageGraph(backbone, head).eval()
    pixels = np.stack([decode(photo, backbone.image) for photo in _enough(photos)])
    outputs = export_graph(graph, pixels[:2], folder / GRAPH_FILE, PIXELS)
    parity = check_parity(
        run_torch(graph, pixels), run_onnx(folder / GRAPH_FILE, pixels)[0], against="torch", what="the exported graph"
    )
    taken = pixels_spec(backbone.image.height, backbone.image.width)
    return _Half(Graph(file_ref(folder, GRAPH_FILE), (taken,), outputs), parity)


def _export_texts(folder: Path, tower: TextTower, head: torch.nn.Module | None, texts: Sequence[str]) -> _Half:
    tokenizer = load_tokenizer(tower.tokenizer)
    module, tokens = TextGraph(tower, head).eval(), _tokens(tokenizer, tower, texts)
    longest = tower.context_length if tower.any_length else None
    outputs = export_graph(module, tokens[:2], folder / TEXT_GRAPH_FILE, TOKENS, longest=longest)
    taken = TensorSpec(TOKENS, "tokens", "int64", ("batch", LENGTH if longest else tower.context_length))
    graph = Graph(file_ref(folder, TEXT_GRAPH_FILE), (taken,), outputs)
    wanted, real = run_torch(module, tokens), tokenizer.lengths(tokens)
    found = []
    for length in lengths_of(graph, tower.context_length):
        fits = real <= length
        if fits.sum() >= 2:
            some = run_onnx(folder / TEXT_GRAPH_FILE, tokens[fits, :length])[0]
            what = f"the exported text graph ({length} tokens)"
            found.append(check_parity(wanted[fits], some, against="torch", what=what, rows="texts"))
    return _Half(graph, replace(worse(*found), texts=len(tokens)))


def _tokens(tokenizer: TextTokenizer, tower: TextTower, texts: Sequence[str]) -> NDArray[np.int64]:
    """int64 (N, L) of at least two different texts; equal ones would only be each other's nearest."""
    if tokenizer.context_length != tower.context_length:
        raise BadInput(
            f"the tokenizer gives {tokenizer.context_length} tokens, the text tower takes {tower.context_length}"
        )
    found = np.unique(tokenizer.encode(texts), axis=0)
    return found if len(found) >= 2 else np.unique(tokenizer.encode([*texts, *_SENTENCES]), axis=0)


def _tokenizer(folder: Path, tower: TextTower) -> Tokenizer:
    write_atomic(folder / TOKENIZER_FILE, tower.tokenizer)
    return Tokenizer(KIND, file_ref(folder, TOKENIZER_FILE), tower.context_length)


def _one_dim(halves: Mapping[str, _Half]) -> int:
    dims = {name: half.dim for name, half in halves.items()}
    if len(set(dims.values())) > 1:
        raise BadInput(f"the heads give embeddings of different lengths: {dims}; both must end in one space")
    return dims["image"]


def export_graph(
    graph: torch.nn.Module, example: NDArray[Any], path: Path, name: str, *, longest: int | None = None
) -> tuple[TensorSpec, ...]:
    """Write `graph` as ONNX with a dynamic batch; `example` is a batch of its input. Gives the outputs.

    With `longest`, the second axis of the input may have any size up to it.
    """
    free = {0: torch.export.Dim("batch", min=1, max=1024)}
    if longest is not None:
        free[1] = torch.export.Dim(LENGTH, min=2, max=longest)
    rows = torch.from_numpy(example)
    with torch.no_grad():
        shapes = [tuple(out.shape) for out in graph(rows)]
    names = [EMBEDDING, LOGITS][: len(shapes)]
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (rows,),
            None,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[name],
            output_names=names,
            dynamic_shapes=(free,),
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
