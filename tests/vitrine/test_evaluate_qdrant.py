import csv

import numpy as np
import pytest

from vitrine import evaluate_qdrant
from vitrine.ann import truth_in_parts
from vitrine.encoder import normalise
from vitrine.evaluation import evaluation_to_json
from vitrine.evaluator import evaluate_space
from vitrine.metrics import METRICS
from vitrine.qdrant_plan import NO_GRAPH, QdrantSettings
from vitrine.retrieval import retrieve
from vitrine.stats import bootstrap_mean, paired_bootstrap
from vitrine.vector_files import read_vector_file

POOR = QdrantSettings(m=4, ef_construct=8, ef=10)


def shop(folder, count, dim=24, classes=12, twins=0, queries=None, apart=0.6, seed=0):
    """Given vectors: pairs of a product, classes that overlap, and `twins` items that look exactly like another class's."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) // 2 % classes
    vectors = normalise(draw.normal(size=(classes, dim))[labels] * apart + draw.normal(size=(count, dim)))
    for row in range(twins):
        vectors[-1 - row] = vectors[5 * row]
    folder.mkdir(exist_ok=True)
    np.save(folder / "v.npy", vectors)
    with (folder / "v.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["item_id", "label", "product_id", "category", "split"])
        for row, label in enumerate(labels):
            split = "both" if queries is None or row < queries else "gallery"
            tree = f"home > room {label % 3} > {label}"
            writer.writerow([f"i{row:05d}", f"class {label}", f"p{row // 2}", tree, split])
    return read_vector_file(folder / "v.npy", folder / "v.csv")


def measured(space, settings=None):
    return [evaluate_space(space, None, via, qdrant_url="", settings=settings) for via in ("exact", "qdrant")]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return shop(tmp_path_factory.mktemp("small"), 400, twins=30)


@pytest.fixture(scope="module")
def pair(small):
    return measured(small)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return shop(tmp_path_factory.mktemp("large"), 2400, dim=48, classes=200, queries=400, apart=1.0)


@pytest.fixture(scope="module")
def poor(large):
    return measured(large, POOR)


def column(evaluation, name):
    return evaluation.per_query.column(name).to_numpy()


# --- equal where it must be -----------------------------------------------------------------------


def test_the_engines_full_scan_gives_the_exact_metrics_twins_and_all(pair):
    found = pair[1].details["engine_exact"]
    assert found["recall_against_exact@10"] == 1.0
    assert found["largest_metric_difference"] <= 1e-6


def test_each_query_has_its_exact_metrics_by_full_scan(small):
    task = retrieve(small, small.dataset.protocol(None))
    run = evaluate_qdrant.search_qdrant(
        task.gallery_vectors,
        task.query_vectors,
        evaluate_qdrant._passes(len(task.gallery), 400, 1),
        QdrantSettings(),
        "",
        lambda things, what, total=None: things,
    )
    rows = evaluate_qdrant.without_excluded(run.lists["exact"].rows, task.excluded(), 400)
    found = evaluate_qdrant._metrics(task, rows)
    assert set(found) == set(task.exact.metrics)
    for name, values in found.items():
        np.testing.assert_allclose(values, task.exact.metrics[name], atol=1e-6, err_msg=name)


def test_every_metric_of_the_table_also_goes_through_qdrant(pair):
    assert list(pair[1].metrics) == list(METRICS)


def test_a_gallery_of_fewer_than_ten_lacks_no_metric(tmp_path):
    exact, through = measured(shop(tmp_path, 8, classes=2))
    assert set(through.metrics) == set(METRICS)
    for name, value in through.metrics.items():
        assert value == pytest.approx(exact.metrics[name], abs=1e-9), name


def test_cut_lists_leave_out_what_they_cannot_know(poor):
    assert set(METRICS) - set(poor[1].metrics) == {"map[/R]", "mrr", "ndcg"}


def test_metrics_of_ten_ranks_are_those_of_the_ten_hits_shown(large, poor):
    label = {item.item_id: item.label for item in large.dataset.items}
    for row in poor[1].per_query.to_pylist():
        right = [label[hit] == row["label"] for hit in row["hits"]]
        assert row["precision@10[/k]"] == pytest.approx(sum(right) / 10)
        assert row["mr@1"] == right[0]


# --- what is lost ---------------------------------------------------------------------------------


def test_the_loss_is_exact_minus_qdrant_with_the_paired_interval(poor):
    exact, through = poor
    details = through.details
    assert set(details["ann_loss"]) == set(details["ann_loss_intervals"]) == set(through.metrics)
    units = through.per_query.column("unit").to_pylist()
    for name, loss in details["ann_loss"].items():
        expected = paired_bootstrap(column(exact, name), column(through, name), units)
        assert loss == pytest.approx(exact.metrics[name] - through.metrics[name], abs=1e-12)
        assert details["ann_loss_intervals"][name] == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_a_poor_graph_is_shown_to_lose(poor):
    details = poor[1].details
    low, high = details["recall_interval"]
    assert low < details["recall_against_exact@10"] < high < 0.95
    assert details["ann_loss_intervals"]["precision@10[/k]"][0] > 0


def test_recall_is_the_mean_share_of_the_exact_hits(poor):
    exact, through = (one.per_query.column("hits").to_pylist() for one in poor)
    shares = np.array([len(set(a) & set(b)) / len(a) for a, b in zip(exact, through, strict=True)])
    interval = bootstrap_mean(shares, poor[1].per_query.column("unit").to_pylist())
    details = poor[1].details
    assert details["recall_against_exact@10"] == pytest.approx(shares.mean())
    assert details["recall_interval"] == pytest.approx([interval.low, interval.high])


def test_a_graph_is_built_and_the_settings_are_told(poor):
    details = poor[1].details
    assert (details["graph"], details["indexed_vectors"]) == ("hnsw", 2400)
    assert (details["settings"]["m"], details["settings"]["quantization"]) == (4, "none")
    assert details["ef_used"]["top"] == 21  # ten, the query itself, ten for ties: more than the ten asked for


def test_where_none_is_built_it_is_said(small):
    found = evaluate_space(small, None, "qdrant", qdrant_url="", settings=QdrantSettings(indexing_threshold_kb=10_000))
    assert (found.details["graph"], found.details["indexed_vectors"]) == (NO_GRAPH, 0)


# --- behind filters -------------------------------------------------------------------------------


def test_filters_leave_a_tenth_and_a_hundredth(poor):
    filtered = poor[1].details["filtered"]
    assert [(one["selectivity"], one["rows"]) for one in filtered] == [(0.1, 240), (0.01, 24)]
    for one in filtered:
        low, high = one["recall_interval"]
        assert low <= one["recall_against_exact@10"] <= high <= 1
        assert set(one["ann_loss"]) == set(one["ann_loss_intervals"]) >= {"mmp@5", "ndcg@10", "map@10[/min(R,k)]"}


def test_a_good_graph_loses_nothing_behind_a_filter(small):
    tenth, _ = evaluate_space(small, None, "qdrant", qdrant_url="").details["filtered"]
    assert tenth["recall_against_exact@10"] == pytest.approx(1.0, abs=0.01)
    assert tenth["ann_loss"]["mmp@5"] == pytest.approx(0.0, abs=0.01)


def test_only_queries_with_something_left_to_find_count(large, poor):
    task = retrieve(large, large.dataset.protocol(None))
    for one, parts in zip(poor[1].details["filtered"], (10, 100), strict=True):
        assert one["queries"] == (truth_in_parts(task, parts).n_relevant > 0).sum()


def test_a_filter_that_leaves_next_to_nothing_is_skipped_with_the_reason(pair):
    tenth, hundredth = pair[1].details["filtered"]
    assert tenth["rows"] == 40
    assert hundredth == {
        "selectivity": 0.01,
        "skipped": "a filter to 1/100 leaves 4 of 400 rows, at least 20 are needed",
    }


# --- what is recorded -----------------------------------------------------------------------------


def test_durations_and_memory_stay_out_of_the_record(pair):
    timing = pair[1].details["timing"]
    assert set(timing) == {"build_seconds", "latency_ms", "filtered_latency_ms", "memory"}
    assert set(timing["latency_ms"]) == set(timing["filtered_latency_ms"]["0.1"]) == {"p50", "p95", "p99"}
    assert timing["memory"]["disk_bytes_per_vector"] > 24 * 4
    assert not {"timing", *timing} & set(pair[1].record)


def test_the_same_vectors_give_the_same_record(small, pair):
    again = evaluate_space(small, None, "qdrant", qdrant_url="")
    assert again.record == pair[1].record
    assert again.per_query.equals(pair[1].per_query)


def test_unknown_figures_become_null(tmp_path):
    found = evaluate_space(shop(tmp_path, 300, classes=150), None, "qdrant", qdrant_url="")
    tenth = evaluation_to_json(found)["details"]["filtered"][0]
    assert tenth["queries"] < 300
    assert all(value is None or abs(value) <= 1 for value in tenth["ann_loss"].values())
