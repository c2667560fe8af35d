"""Our metrics against the libraries that people know, by the names of the table in docs/metrics.md.

Scores without ties, so that no library's tie rule matters. ranx and faiss are compared in benchmarks/evaluator.md.
"""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
import torch
import torchmetrics.functional.retrieval as torchmetrics
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from vitrine.metrics import METRICS
from vitrine.ranking import exact_metrics

QUERIES, GALLERY, DIM, CLASSES = 60, 400, 16, 12


@pytest.fixture(scope="module")
def search():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, DIM))

    def side(count):
        labels = rng.integers(0, CLASSES, count)
        vectors = centres[labels] + 1.5 * rng.normal(size=(count, DIM))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels

    (queries, asked), (gallery, offered) = side(QUERIES), side(GALLERY)
    return queries, gallery, asked, offered


@pytest.fixture(scope="module")
def ours(search):
    queries, gallery, asked, offered = search
    ids = [f"q{row:03d}" for row in range(QUERIES)], [f"g{row:03d}" for row in range(GALLERY)]
    return exact_metrics(queries, gallery, *ids, [str(x) for x in asked], [str(x) for x in offered]).metrics


TREC = {
    "mr@1": "success_1",
    "hit_rate@1": "success_1",
    "hit_rate@5": "success_5",
    "hit_rate@10": "success_10",
    "recall@5[/R]": "recall_5",
    "recall@10[/R]": "recall_10",
    "precision@5[/k]": "P_5",
    "precision@10[/k]": "P_10",
    "map@10[/R]": "map_cut_10",
    "map[/R]": "map",
    "r_precision": "Rprec",
    "mrr": "recip_rank",
    "ndcg@10": "ndcg_cut_10",
    "ndcg": "ndcg",
}


@pytest.fixture(scope="module")
def trec(search):
    queries, gallery, asked, offered = search
    scores = queries @ gallery.T
    judged = {f"q{q}": {f"g{g}": int(offered[g] == asked[q]) for g in range(GALLERY)} for q in range(QUERIES)}
    run = {f"q{q}": {f"g{g}": float(scores[q, g]) for g in range(GALLERY)} for q in range(QUERIES)}
    measures = {"success", "recall", "P", "map_cut", "map", "Rprec", "recip_rank", "ndcg_cut", "ndcg"}
    found = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    return [found[f"q{q}"] for q in range(QUERIES)]


@pytest.mark.parametrize("name", TREC)
def test_trec_eval_gives_every_query_the_same_value(ours, trec, name):
    if TREC[name] not in trec[0]:
        pytest.skip(f"this build of pytrec_eval does not compute {TREC[name]}")
    np.testing.assert_allclose(ours[name], [query[TREC[name]] for query in trec], atol=1e-6)


TORCHMETRICS = {
    "hit_rate@5": (torchmetrics.retrieval_hit_rate, 5),
    "hit_rate@10": (torchmetrics.retrieval_hit_rate, 10),
    "recall@5[/R]": (torchmetrics.retrieval_recall, 5),
    "recall@10[/R]": (torchmetrics.retrieval_recall, 10),
    "precision@10[/k]": (torchmetrics.retrieval_precision, 10),
    "map[/R]": (torchmetrics.retrieval_average_precision, None),
    "r_precision": (torchmetrics.retrieval_r_precision, None),
    "mrr": (torchmetrics.retrieval_reciprocal_rank, None),
    "ndcg@10": (torchmetrics.retrieval_normalized_dcg, 10),
    "ndcg": (torchmetrics.retrieval_normalized_dcg, None),
}


@pytest.mark.parametrize("name", TORCHMETRICS)
def test_torchmetrics_gives_every_query_the_same_value(ours, search, name):
    queries, gallery, asked, offered = search
    function, top_k = TORCHMETRICS[name]
    options = {} if top_k is None else {"top_k": top_k}
    scores = torch.from_numpy(1 + (queries @ gallery.T).astype(np.float64))  # it leaves out scores of 0 and below
    theirs = [
        float(function(scores[row], torch.from_numpy(offered == asked[row]), **options)) for row in range(QUERIES)
    ]
    np.testing.assert_allclose(ours[name], theirs, atol=4e-6)  # theirs is computed in float32
    assert ours[name].mean() == pytest.approx(np.mean(theirs), abs=1e-6)


def test_torchmetrics_average_precision_forgets_relevant_items_of_negative_cosine(ours, search):
    queries, gallery, asked, offered = search
    scores = torch.from_numpy(queries @ gallery.T)
    theirs = [
        float(torchmetrics.retrieval_average_precision(scores[row], torch.from_numpy(offered == asked[row])))
        for row in range(QUERIES)
    ]
    assert np.mean(theirs) > ours["map[/R]"].mean() + 0.001


PML = {
    "mr@1": "precision_at_1",
    "map@R[/R]": "mean_average_precision_at_r",
    "map[/R]": "mean_average_precision",
    "r_precision": "r_precision",
    "mrr": "mean_reciprocal_rank",
}


def pml(search, k, names):
    queries, gallery, asked, offered = (torch.from_numpy(part) for part in search)

    def nearest(query, count, reference, *_):
        best = (query @ reference.T).topk(count, dim=1)
        return 1 - best.values, best.indices

    # its mrr asks for neighbours only when another metric does
    calculator = AccuracyCalculator(
        include=(*names, "precision_at_1"), k=k, knn_func=nearest, device=torch.device("cpu")
    )
    return calculator.get_accuracy(queries, asked, gallery, offered)


@pytest.mark.parametrize("name", PML)
def test_pytorch_metric_learning_gives_the_same_mean(ours, search, name):
    theirs = pml(search, GALLERY, (PML[name],))
    assert ours[name].mean() == pytest.approx(theirs[PML[name]], abs=1e-6)


def test_pytorch_metric_learning_cut_at_k_below_r_reports_less_than_the_truth(ours, search):
    """At a small k its r_precision and MAP@R are of the cut list; docs/metrics.md says so."""
    cut = pml(search, 10, ("r_precision", "mean_average_precision_at_r"))
    assert cut["mean_average_precision_at_r"] < ours["map@R[/R]"].mean() - 0.01
    assert cut["r_precision"] != pytest.approx(ours["r_precision"].mean(), abs=1e-3)


def test_universal_image_embeddings_modified_precision_is_ours(ours, search):
    """The definition of UnED's evaluation, one query at a time: hits among the first min(5, R), over min(5, R)."""
    queries, gallery, asked, offered = search
    theirs = []
    for row, query in enumerate(queries):
        reach = min(5, int((offered == asked[row]).sum()))
        nearest = np.argsort(-(gallery @ query))[:reach]
        theirs.append((offered[nearest] == asked[row]).sum() / reach)
    np.testing.assert_allclose(ours["mmp@5"], theirs, atol=1e-12)


def test_every_metric_without_grades_has_a_row_in_the_table_of_names():
    from pathlib import Path

    table = (Path(__file__).parents[2] / "docs/metrics.md").read_text().partition("## The same under other names")[2]
    assert table
    for name, metric in METRICS.items():
        assert metric.needs_grades or f"| `{name}` |" in table, name
