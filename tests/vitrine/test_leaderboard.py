from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import tiny_bundle
from vitrine.errors import NotFound
from vitrine.home import Home
from vitrine.leaderboard import leaderboard
from vitrine.registry import open_registry
from vitrine.stability import separation

QUERIES = 120


@pytest.fixture
def registry(tmp_path):
    return open_registry(Home(tmp_path, f"sqlite:///{tmp_path / 'r.db'}", tmp_path / "data"))


@pytest.fixture
def add(registry, tmp_path):
    """Register a version and record its values on `shop`."""

    def write(seed, values, *, model="mugs", digest="d", lineage=None, ids=None, column="mmp@5"):
        bundle = tiny_bundle(tmp_path / f"b{seed}", seed=seed)
        version = registry.register(model, bundle, lineage=lineage or {"strategy": "top"}).version
        table = pa.table(
            {
                "query_id": ids or [f"q{row:03d}" for row in range(len(values))],
                "unit": [f"u{row // 2}" for row in range(len(values))],
                "unit_kind": ["product_id"] * len(values),
                "label": ["mug"] * len(values),
                column: pa.array(values),
            }
        )
        path = tmp_path / "per-query.parquet"
        pq.write_table(table, path)
        registry.record_evaluation(
            model, version, dataset="shop", dataset_digest=digest, protocol="default", via="exact",
            metrics={column: float(np.nanmean(values))}, queries=len(values), gallery=9, per_query_path=path, details={},
        )  # fmt: skip

    return write


def around(mean, seed, noise=0.1):
    return np.clip(np.random.default_rng(seed).normal(mean, noise, QUERIES), 0, 1)


def test_versions_stand_in_falling_order_with_their_rank_intervals(registry, add):
    for seed, mean in ((1, 0.3), (2, 0.8), (3, 0.5)):
        add(seed, around(mean, seed))
    found = leaderboard(registry, "shop")
    assert [row.ref for row in found.rows] == ["mugs@2", "mugs@3", "mugs@1"]
    assert [(row.rank, row.rank_low, row.rank_high) for row in found.rows] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert found.rows[0].first == 1.0
    assert found.rows[2].behind == pytest.approx(found.rows[2].value - found.rows[0].value)
    assert found.rows[2].p_holm < 0.01


def test_versions_that_chance_orders_are_called_not_different(registry, add):
    for seed in (1, 2, 3):
        add(seed, around(0.5, seed))
    found = leaderboard(registry, "shop")
    assert found.cannot_rank
    assert not found.saturated
    assert found.detectable > max(row.value for row in found.rows) - min(row.value for row in found.rows)


def test_the_differences_to_the_best_are_corrected_over_all_pairs_since_the_data_chose_it(registry, add):
    values = [around(mean, seed) for seed, mean in ((1, 0.5), (2, 0.47), (3, 0.46), (4, 0.44))]
    for seed, line in enumerate(values, 1):
        add(seed, line)
    tests = separation(
        np.stack(sorted(values, key=lambda line: -line.mean())), [f"u{row // 2}" for row in range(QUERIES)]
    )
    assert len(tests.pairs) == 6
    assert [row.p_holm for row in leaderboard(registry, "shop").rows[1:]] == [one.p_holm for one in tests.pairs[:3]]


def test_a_solved_dataset_is_saturated(registry, add):
    for seed in (1, 2):
        add(seed, (np.random.default_rng(seed).random(QUERIES) < 0.995).astype(float))
    assert leaderboard(registry, "shop").saturated


def test_the_same_content_under_two_names_stands_once(registry, add):
    add(1, around(0.5, 1))
    add(1, around(0.5, 1), model="cups")
    assert [row.ref for row in leaderboard(registry, "shop").rows] == ["cups@1"]


def test_an_evaluation_of_earlier_content_is_left_out_and_named(registry, add):
    add(1, around(0.5, 1), digest="old")
    add(2, around(0.5, 2), digest="new")
    found = leaderboard(registry, "shop")
    assert [row.ref for row in found.rows] == ["mugs@2"]
    assert found.left_out == ("mugs@1 was evaluated on an earlier content of the dataset; evaluate it again",)


def test_an_evaluation_of_other_queries_is_left_out_and_named(registry, add):
    add(1, around(0.5, 1))
    add(2, around(0.5, 2), ids=[f"x{row:03d}" for row in range(QUERIES)])
    assert leaderboard(registry, "shop").left_out == ("mugs@2 has no mmp@5 for the same queries; evaluate it again",)


def test_variance_across_seeds_and_across_architectures_is_told_apart(registry, add):
    base = {"strategy": "full", "dataset": "shop", "family": "timm"}
    for seed, architecture in ((1, "resnet"), (2, "resnet"), (3, "vit")):
        lineage = {**base, "architecture": architecture, "backbone": architecture, "seed": seed % 2}
        add(seed, around(0.5, seed), lineage=lineage)
    spreads = {(spread.across, spread.versions) for spread in leaderboard(registry, "shop").spreads}
    assert spreads == {("seeds", 2), ("architectures", 2)}


def test_crosses_of_different_tunings_are_no_seeds_of_one_another(registry, add):
    base = {"strategy": "cross", "dataset": "shop", "tuned_on": "bags", "backbone": "mini"}
    for number, (strategy, seed) in enumerate((("top", 0), ("top", 1), ("full", 0), ("full", 1))):
        add(number, around(0.5, number), lineage={**base, "tuned_strategy": strategy, "seed": seed})
    spreads = leaderboard(registry, "shop").spreads
    assert [(spread.across, spread.versions) for spread in spreads] == [("seeds", 2), ("seeds", 2)]


def test_versions_without_the_metric_are_not_ranked_by_it(registry, add):
    add(1, np.ones(QUERIES), column="mr@1")
    with pytest.raises(NotFound, match="no evaluation has mmp@5 a query"):
        leaderboard(registry, "shop")


def test_nothing_evaluated_says_how_to(registry):
    with pytest.raises(
        NotFound, match=r"no version was evaluated on shop/default via exact; run: vitrine evaluate REF"
    ):
        leaderboard(registry, "shop")
