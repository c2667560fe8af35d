"""A loaded version: items' photos in, unit vectors and label probabilities out.

The evaluator, the promotion and the server all embed through `Encoder`, so none of them can differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine import plugins
from vitrine.bundle import Bundle
from vitrine.errors import Unsupported
from vitrine.images import decode
from vitrine.manifest import Graph
from vitrine.ports import Engine, Vectors


@dataclass(frozen=True)
class Output:
    """What the image graph gives for a batch: unit vectors (B, D), logits (B, C) or None."""

    vectors: Vectors
    logits: NDArray[np.float32] | None


class Encoder:
    """One version on one engine."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine
        self.manifest = bundle.manifest
        self.label_names = bundle.labels()
        self._graph = _image_graph(bundle)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """One encoded photo to `uint8 (H, W, 3)` by the version's own preprocessing."""
        if self.manifest.image is None:
            raise Unsupported("this version takes no images")
        return decode(data, self.manifest.image)

    def run(self, pixels: NDArray[np.uint8]) -> Output:
        """`uint8 (B, H, W, 3)` to vectors and logits."""
        outputs = self.engine.run("image", {self._graph.inputs[0].name: pixels})
        embedding, logits = self._graph.output("embedding"), self._graph.output("logits")
        assert embedding is not None  # _image_graph refused it otherwise
        return Output(outputs[embedding.name], outputs[logits.name] if logits else None)

    def embed(self, photos: Sequence[bytes], *, batch: int = 32, workers: int = 2) -> Output:
        """Decode and run encoded photos in batches, keeping their order."""
        parts = list(self.stream(photos, batch=batch, workers=workers))
        if not parts:
            return Output(np.zeros((0, self.manifest.dim), np.float32), None)
        logits = [part.logits for part in parts if part.logits is not None]
        return Output(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate(logits) if logits else None,
        )

    def stream(self, photos: Iterable[bytes], *, batch: int = 32, workers: int = 2) -> Iterator[Output]:
        """As `embed`, one output a batch; a batch is decoded in threads, one batch in memory."""
        rest = iter(photos)
        with ThreadPoolExecutor(workers) as pool:
            while chunk := list(itertools.islice(rest, batch)):
                yield self.run(np.stack(list(pool.map(self.decode, chunk))))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated class probabilities (B, C) from logits (B, C)."""
        if self.manifest.labels is None:
            raise Unsupported("this version has no classifier; register one tuned with a label set")
        return softmax(logits / np.float32(self.manifest.labels.temperature))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Row-wise softmax of (B, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def pool_images(vectors: Vectors, counts: Sequence[int]) -> Vectors:
    """Mean over each item's images, normalised again: (sum(counts), D) -> (len(counts), D)."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(vectors, starts, axis=0) if len(counts) else vectors[:0]
    return normalise(sums)


def pool_probabilities(probabilities: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Mean over each item's images: (sum(counts), C) -> (len(counts), C)."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums: NDArray[np.float32] = np.add.reduceat(probabilities, starts, axis=0)
    return sums / np.asarray(counts, np.float32)[:, None]


def normalise(vectors: NDArray[Any]) -> Vectors:
    """Rows to unit length; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit


def load_encoder(bundle: Bundle, *, backend: str = "onnxruntime", threads: int = 2) -> Encoder:
    """Load a verified bundle on a backend.

    Raises:
        Unavailable: the backend's library is not installed.
        Unsupported: the version has no image graph.
    """
    return Encoder(bundle, plugins.load("backends", backend).load(bundle, threads=threads))


def _image_graph(bundle: Bundle) -> Graph:
    graph = bundle.manifest.graphs.get("image")
    if graph is None or graph.output("embedding") is None:
        raise Unsupported("this version has no image graph with an embedding output")
    return graph
