"""How far an exported graph is from its reference: compared on the same photos or texts, one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vitrine.bundle import Parity
from vitrine.errors import Refused
from vitrine.ports import Vectors

if TYPE_CHECKING:
    import torch

MIN_COSINE = 0.9999


def run_torch(graph: torch.nn.Module, rows: NDArray[Any], batch: int = 16) -> Vectors:
    """Embeddings (N, D) of the N rows of a graph's input (pixels or token ids) by torch."""
    import torch  # here, so that promoting does not load it

    with torch.no_grad():
        parts = [graph(torch.from_numpy(rows[at : at + batch]))[0].numpy() for at in range(0, len(rows), batch)]
    vectors: Vectors = np.concatenate(parts)
    return vectors


def run_onnx(path: Path, rows: NDArray[Any], *, optimise: bool = True, batch: int = 16) -> list[NDArray[np.float32]]:
    """All outputs of a graph for the N rows of its one input by ONNX Runtime; `optimise=False` runs it node by node."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: rows[at : at + batch]}) for at in range(0, len(rows), batch)]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def check_parity(
    reference: Vectors, exported: Vectors, *, against: str, what: str, rows: Literal["photos", "texts"] = "photos"
) -> Parity:
    """Compare unit embeddings (N, D) of the same N photos or texts, `against` naming the reference.

    Raises:
        Refused: the worst row's cosine similarity is under 0.9999, or a value is not finite.
    """
    cosines = (reference.astype(np.float64) * exported).sum(axis=1)
    worst = float(cosines.min())
    if not worst >= MIN_COSINE:  # also catches NaN
        raise Refused(
            f"{what} differs from {against}: the worst of {len(cosines)} {rows} has cosine similarity {worst:.6f}, at least "
            f"{MIN_COSINE} is needed; nothing was written. Dropout or batch statistics left in training mode are the usual cause"
        )
    overlap = neighbour_overlap(reference, exported)
    return Parity(
        against,
        "onnxruntime",
        "fp32",
        images=len(cosines) if rows == "photos" else 0,
        min_cosine=round(min(worst, 1.0), 6),
        top10_overlap=round(overlap, 6),
        texts=len(cosines) if rows == "texts" else 0,
    )


def worse(first: Parity, *others: Parity) -> Parity:
    """The parity of a version of several graphs: of each figure the worst, over all photos and texts."""
    found = (first, *others)
    return replace(
        first,
        images=sum(one.images for one in found),
        texts=sum(one.texts for one in found),
        min_cosine=min(one.min_cosine for one in found),
        top10_overlap=min(one.top10_overlap for one in found),
    )


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
