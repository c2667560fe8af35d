"""What benchmarks/evaluator.py compares: the seeded searches, the bare floors, ours, and the peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Values = dict[str, float]

NOISE = 3.0
"""Of each coordinate, where classes differ by 1: enough wrong neighbours to be worth measuring."""

ONCE = {"torchmetrics"}
"""Methods that take minutes: they run in the first round alone."""


@dataclass(frozen=True)
class Case:
    """A seeded search; `k` is the depth of the bare top-k."""

    queries: int
    gallery: int
    dim: int
    classes: int
    same: bool
    threads: int
    block: int
    rounds: int


CASES = {
    "a": Case(10_000, 10_000, 256, 100, same=False, threads=1, block=1000, rounds=3),
    "b": Case(60_502, 60_502, 768, 11_316, same=True, threads=2, block=1024, rounds=3),
}
METHODS: dict[str, dict[str, str]] = {
    "a": {
        "floor": "bare blocked matmul + top-k (torch)",
        "floor-numpy": "bare blocked matmul (numpy) + top-k (torch)",
        "ours": "vitrine: every metric, every query's values",
        "faiss": "faiss IndexFlatIP, k=10 + numpy (hit rate, MAP@10)",
        "pml": "pytorch-metric-learning, k=max_bin_count",
        "torchmetrics": "torchmetrics, 6 functional metrics a query",
        "ranx": "ranx, 10 metrics, top 200 by torch",
        "trec": "pytrec_eval, 9 measures, top 200 by torch",
    },
    "b": {"floor": "bare blocked matmul + top-k (torch)", "ours": "vitrine: every metric, every query's values"},
}


def data(case: Case) -> tuple[Any, Any, Any, Any]:
    """Queries, gallery, their labels: clustered unit vectors, float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((case.classes, case.dim), dtype=np.float32)

    def side(count: int) -> tuple[Any, Any]:
        labels = rng.integers(0, case.classes, count)
        vectors = centres[labels] + NOISE * rng.standard_normal((count, case.dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, labels

    queries, asked = side(case.queries)
    gallery, offered = (queries, asked) if case.same else side(case.gallery)
    return queries, gallery, asked, offered


def floor(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """Nothing but arithmetic: scores of a block, the k best of each query."""
    import torch

    queries, gallery = (torch.from_numpy(part) for part in search[:2])
    for start in range(0, case.queries, case.block):
        torch.topk(queries[start : start + case.block] @ gallery.T, depth(case, search), dim=1)
    return {}


def floor_numpy(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """As `floor`, with the product by numpy's library, which is the faster one on some processors."""
    import torch

    queries, gallery = search[:2]
    for start in range(0, case.queries, case.block):
        scores = queries[start : start + case.block] @ gallery.T
        torch.topk(torch.from_numpy(scores), depth(case, search), dim=1)
    return {}


def depth(case: Case, search: tuple[Any, Any, Any, Any]) -> int:
    """The deepest list that a metric needs: max(10, largest number of relevant items); 11 in case (b), as peers ask for 10."""
    import numpy as np

    return 11 if case.same else max(10, int(np.bincount(search[3]).max()))


def ours(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """All metrics of `vitrine.metrics.METRICS` but the graded one, with per-query columns."""
    import numpy as np

    from vitrine.ranking import Limits, measure
    from vitrine.relevance import Relevance

    queries, gallery, asked, offered = search
    own = np.arange(case.queries) if case.same else np.full(case.queries, -1)
    found = measure(queries, gallery, Relevance(asked, offered, own), limits=Limits(threads=case.threads))
    return {name: float(np.nanmean(column)) for name, column in found.metrics.items()}


def faiss(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """The fastest flat search with the few metrics that ten answers allow."""
    import faiss
    import numpy as np

    queries, gallery, asked, offered = search
    faiss.omp_set_num_threads(case.threads)
    index = faiss.IndexFlatIP(case.dim)
    index.add(gallery)
    _, rows = index.search(queries, 10)
    hits = offered[rows] == asked[:, None]
    counts = np.bincount(offered)[asked]
    precision = np.cumsum(hits, axis=1) / np.arange(1, 11)
    return {
        "hit_rate@10": float(hits.any(axis=1).mean()),
        "map@10[/min(R,k)]": float(((precision * hits).sum(axis=1) / np.minimum(10, counts)).mean()),
    }


def pml(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """AccuracyCalculator at the depth that its R-metrics need."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    del case
    queries, gallery, asked, offered = (torch.from_numpy(part) for part in search)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    found = calculator.get_accuracy(queries, asked, gallery, offered)
    return dict(zip(("mr@1", "r_precision", "map@R[/R]"), (found[name] for name in names), strict=True))


def torchmetrics(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """Functional metrics, one query at a time (its classes take the whole matrix: 8 GB here)."""
    import numpy as np
    import torch
    from torchmetrics.functional import retrieval

    queries, gallery, asked, offered = (torch.from_numpy(part) for part in search)
    metrics: dict[str, Callable[..., Any]] = {
        "hit_rate@10": lambda s, t: retrieval.retrieval_hit_rate(s, t, top_k=10),
        "recall@10[/R]": lambda s, t: retrieval.retrieval_recall(s, t, top_k=10),
        "map[/R]": retrieval.retrieval_average_precision,
        "mrr": retrieval.retrieval_reciprocal_rank,
        "r_precision": retrieval.retrieval_r_precision,
        "ndcg@10": lambda s, t: retrieval.retrieval_normalized_dcg(s, t, top_k=10),
    }
    sums = dict.fromkeys(metrics, 0.0)
    for start in range(0, case.queries, case.block):
        scores = 1 + queries[start : start + case.block] @ gallery.T  # its average precision drops scores <= 0
        for row, label in zip(scores, asked[start : start + case.block], strict=True):
            target = offered == label
            for name, metric in metrics.items():
                sums[name] += float(metric(row, target))
    return {name: float(np.float64(value) / case.queries) for name, value in sums.items()}


def _runs(case: Case, search: tuple[Any, Any, Any, Any], kept: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Judgements and runs as nested dictionaries, `kept` answers a query, as both evaluation libraries take them."""
    import torch

    queries, gallery = (torch.from_numpy(part) for part in search[:2])
    asked, offered = search[2], search[3].tolist()
    by_label: dict[int, dict[str, int]] = {}
    for row, label in enumerate(offered):
        by_label.setdefault(label, {})[f"g{row}"] = 1
    judged = {f"q{row}": by_label[label] for row, label in enumerate(asked.tolist())}
    runs = {}
    for start in range(0, case.queries, case.block):
        best = torch.topk(queries[start : start + case.block] @ gallery.T, kept, dim=1)
        for place, (rows, values) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True)):
            runs[f"q{start + place}"] = {f"g{row}": value for row, value in zip(rows, values, strict=True)}
    return judged, runs


def ranx(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """Top 200 candidates; metrics that 200 answers cannot decide are left out of the comparison."""
    from ranx import Qrels, Run, evaluate

    judged, runs = _runs(case, search, 200)
    names = {
        "hit_rate@1": "hit_rate@1",
        "hit_rate@5": "hit_rate@5",
        "hit_rate@10": "hit_rate@10",
        "recall@5[/R]": "recall@5",
        "recall@10[/R]": "recall@10",
        "precision@5[/k]": "precision@5",
        "precision@10[/k]": "precision@10",
        "map@10[/R]": "map@10",
        "ndcg@10": "ndcg@10",
        "r_precision": "r-precision",
    }
    found = evaluate(Qrels(judged), Run(runs), list(names.values()), make_comparable=True)
    return {ours: float(found[theirs]) for ours, theirs in names.items()}


def trec(case: Case, search: tuple[Any, Any, Any, Any]) -> Values:
    """Top 200 candidates through trec_eval's own code."""
    import numpy as np
    import pytrec_eval

    judged, runs = _runs(case, search, 200)
    measures = {"success", "recall", "P", "map_cut", "ndcg_cut", "Rprec"}
    found = list(pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(runs).values())
    names = {
        "hit_rate@1": "success_1",
        "hit_rate@5": "success_5",
        "hit_rate@10": "success_10",
        "recall@5[/R]": "recall_5",
        "recall@10[/R]": "recall_10",
        "precision@10[/k]": "P_10",
        "map@10[/R]": "map_cut_10",
        "ndcg@10": "ndcg_cut_10",
        "r_precision": "Rprec",
    }
    return {ours: float(np.mean([query[theirs] for query in found])) for ours, theirs in names.items()}


RUN: dict[str, Callable[[Case, tuple[Any, Any, Any, Any]], Values]] = {
    "floor": floor,
    "floor-numpy": floor_numpy,
    "ours": ours,
    "faiss": faiss,
    "pml": pml,
    "torchmetrics": torchmetrics,
    "ranx": ranx,
    "trec": trec,
}
