"""A loaded version: items' photos and titles in, unit vectors and label probabilities out.

The evaluator, the promotion and the server all embed through `Encoder`, so none of them can differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.bundle import Bundle
from vitrine.engines import open_engine
from vitrine.errors import Tampered, Unsupported
from vitrine.images import MAX_PIXELS, decode
from vitrine.manifest import Graph
from vitrine.ports import Engine, Vectors
from vitrine.text_lengths import lengths_of, run_by_length
from vitrine.tokenize import KIND, Tokenizer, load_tokenizer


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
        self._texts = _text_half(bundle)

    @property
    def reads_text(self) -> bool:
        """Whether the version has a text graph, so that titles can be embedded into the space of its photos."""
        return self._texts is not None

    def decode(self, data: bytes, *, most_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """One encoded photo to `uint8 (H, W, 3)` by the version's own preprocessing; see `vitrine.images.decode`."""
        if self.manifest.image is None:
            raise Unsupported("this version takes no images")
        return decode(data, self.manifest.image, most_pixels=most_pixels)

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

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids int64 (B, L) by the version's own tokenizer.

        Raises:
            Unsupported: the version reads no text.
        """
        return self._need_text().tokenizer.encode(texts)

    def run_tokens(self, tokens: NDArray[np.int64]) -> Vectors:
        """Token ids int64 (B, L) to unit vectors (B, D) in the space of the photos.

        L is the tokenizer's; where the graph takes texts of any length, padding is cut first (`vitrine.text_lengths`).

        Raises:
            Unsupported: the version reads no text.
        """
        half = self._need_text()
        if len(half.lengths) == 1:
            return self._run_cut(tokens)
        return run_by_length(tokens, half.tokenizer.lengths(tokens), half.lengths, self._run_cut)

    def cut(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Token ids (B, L) without padding that all of these texts can do without; unchanged where the graph takes L alone.

        Raises:
            Unsupported: the version reads no text.
        """
        half = self._need_text()
        longest = int(half.tokenizer.lengths(tokens).max(initial=0))
        return tokens[:, : next(length for length in half.lengths if length >= longest)]

    def warm_texts(self, size: int) -> Vectors:
        """Run `size` words at every length that texts run at, so that first requests find all ready.

        Raises:
            Unsupported: the version reads no text.
        """
        tokens = self.tokenize(["a photo"] * size)
        return np.concatenate([self._run_cut(tokens[:, :length]) for length in self._need_text().lengths])

    def _run_cut(self, tokens: NDArray[np.int64]) -> Vectors:
        half = self._need_text()
        vectors: Vectors = self.engine.run("text", {half.tokens: tokens})[half.embedding]
        return vectors

    def embed_texts(self, texts: Sequence[str], *, batch: int = 64) -> Vectors:
        """Unit vectors (len(texts), D), in the order given.

        Raises:
            Unsupported: the version reads no text.
        """
        self._need_text()
        parts = [self.run_tokens(self.tokenize(texts[at : at + batch])) for at in range(0, len(texts), batch)]
        return np.concatenate(parts) if parts else np.zeros((0, self.manifest.dim), np.float32)

    def _need_text(self) -> _TextHalf:
        if self._texts is None:
            raise Unsupported(
                f"this version reads no text, only: {', '.join(self.manifest.modalities)}; use a version of a text-image "
                "backbone (family open-clip) whose modalities include title"
            )
        return self._texts

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


def fuse(images: Vectors, texts: Vectors) -> Vectors:
    """One query of a photo and words: the mean of both unit vectors, normalised again; (D,) or (B, D) each."""
    both = np.atleast_2d(images) + np.atleast_2d(texts)
    fused: Vectors = normalise(both).reshape(np.shape(images))
    return fused


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


def load_encoder(
    bundle: Bundle,
    *,
    backend: str = "onnxruntime",
    precision: str = "",
    threads: int = 2,
    engines: Path | None = None,
) -> Encoder:
    """Load a verified bundle on a backend.

    Args:
        bundle: the version.
        backend: a module in `vitrine/backends/`, or `auto` for the quickest that this machine can load, by measuring.
        precision: one of the backend's; its default without.
        threads: threads of the engine on the processor.
        engines: folder of built engines (`Home.engines`), for precisions that need one.

    Raises:
        BadInput: no such backend, or a precision that it does not run.
        NotFound: the precision needs files that were not built; the message says how.
        Unavailable: the backend's library or device is missing.
        Unsupported: the version has no image graph.
    """
    if backend == "auto":
        from vitrine.engine_auto import choose

        chosen = choose(bundle, engines=engines, threads=threads, precision=precision)
        backend, precision = chosen.backend, chosen.precision
    engine = open_engine(bundle, backend_name=backend, precision=precision, threads=threads, engines=engines)
    return Encoder(bundle, engine)


@dataclass(frozen=True)
class _TextHalf:
    """The tokenizer of the text graph, the names of its input and its output, and the lengths that texts run at."""

    tokenizer: Tokenizer
    tokens: str
    embedding: str
    lengths: tuple[int, ...]


def _text_half(bundle: Bundle) -> _TextHalf | None:
    graph, told = bundle.manifest.graphs.get("text"), bundle.manifest.tokenizer
    if graph is None or told is None:
        return None
    embedding = graph.output("embedding")
    if embedding is None or told.kind != KIND:
        raise Unsupported(f"this version's text graph cannot be run here: its tokenizer is of kind {told.kind!r}")
    tokenizer = load_tokenizer(bundle.path(told.file).read_bytes())
    if tokenizer.context_length != told.context_length:
        raise Tampered(
            f"the version's tokenizer gives {tokenizer.context_length} tokens a text, its manifest says "
            f"{told.context_length}; export the version again"
        )
    lengths = lengths_of(graph, tokenizer.context_length)
    return _TextHalf(tokenizer, graph.inputs[0].name, embedding.name, lengths)


def _image_graph(bundle: Bundle) -> Graph:
    graph = bundle.manifest.graphs.get("image")
    if graph is None or graph.output("embedding") is None:
        raise Unsupported("this version has no image graph with an embedding output")
    return graph
