from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.gate_shop import CLASSES, PHOTOS, GateShop, build_shop, class_photo
from vitrine.bundle import Parity
from vitrine.compare import compare
from vitrine.dataset import Dataset
from vitrine.encoder import Encoder, load_encoder
from vitrine.engine_build import BuildPlan, Built, build_engine
from vitrine.engines import ENGINE
from vitrine.evaluator import evaluate
from vitrine.files import write_atomic, write_json
from vitrine.gates import GateSettings
from vitrine.gates.engine import parity
from vitrine.importing import import_dataset
from vitrine.items import EvalProtocol, Item
from vitrine.promotion_evidence import chance


def dataset(products: list[str | None]) -> Dataset:
    items = tuple(Item(f"{n}", (f"{n}.jpg",), "mug", "test", product_id=name) for n, name in enumerate(products))
    return Dataset(Path(), "shop", "d", items, (EvalProtocol("default", ("test",), ("test",), "product_id"),), "CC0")


def test_random_order_finds_the_share_of_relevant_items() -> None:
    assert chance(dataset(["a", "a", "b", "b", "b"])) == (2 * 1 / 4 + 3 * 2 / 4) / 5


def test_items_of_unknown_product_are_relevant_to_none() -> None:
    assert chance(dataset(["a", "a", None, None, None])) == 1 / 4


# --- a whole registry -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> GateShop:
    return build_shop(tmp_path_factory.mktemp("gate-shop"))


def test_both_versions_are_paired_query_by_query(shop: GateShop) -> None:
    settings = GateSettings(metrics=("mmp@5", "mr@1"))

    found = shop.evidence(2, settings=settings)

    assert [one.metric for one in found.quality] == ["mmp@5", "mr@1"]
    for quality in found.quality:
        compared = compare(shop.registry, "shop-search@2", "shop-search@1", "shop", quality.metric)
        assert quality.difference is not None
        assert (quality.difference.value, quality.difference.low) == (compared.difference, compared.ci95[0])


def test_categories_add_up_to_the_whole(shop: GateShop) -> None:
    found = shop.evidence(2)

    total = sum(one.sums.sums.sum() for one in found.categories) / sum(one.queries for one in found.categories)
    assert len(found.categories) == CLASSES
    assert found.quality[0].difference is not None
    assert total == pytest.approx(found.quality[0].difference.value)
    assert all(one.sums.mean == pytest.approx(one.candidate - one.incumbent) for one in found.categories)


def test_without_products_each_query_of_a_category_stands_for_itself(shop: GateShop) -> None:
    assert {(one.unit, len(one.sums.sums)) for one in shop.evidence(2).categories} == {("query", PHOTOS)}


def test_classifiers_are_compared_where_both_versions_have_one(shop: GateShop) -> None:
    (both,), (lost,) = shop.evidence(2).tagging, shop.evidence(3).tagging

    assert both.quality is not None
    assert both.quality.metric == "own/accuracy"
    assert {one.metric for one in both.categories} == {"own/accuracy"}
    assert (lost.incumbent, lost.candidate, lost.quality) == (True, False, None)


def test_a_first_version_is_compared_with_nothing(shop: GateShop) -> None:
    found = shop.evidence(1, None)

    assert found.incumbent is None
    assert [one.difference for one in found.quality] == [None]
    assert found.categories == found.tagging == ()
    assert found.quality[0].chance > 0


def test_a_dataset_of_the_settings_is_looked_up_and_missed(shop: GateShop) -> None:
    settings = GateSettings(datasets=("other", "shop"))
    other = replace(shop.dataset, name="other", digest="o" * 64)

    found = shop.evidence(2, settings=settings, find={"other": other}.__getitem__)

    assert found.missing == (
        "shop-search@2 was not evaluated on other as it is now: vitrine evaluate shop-search@2 --dataset other",
    )
    assert list(found.leakage or ()) == ["shop", "other"]


def test_an_evaluation_of_other_content_does_not_count(shop: GateShop) -> None:
    changed = GateShop(shop.home, shop.registry, replace(shop.dataset, digest="n" * 64))

    found = changed.evidence(2)

    assert found.quality == ()
    assert found.health is None
    assert found.missing


def test_the_serving_engine_is_timed_only_where_a_budget_is_set(shop: GateShop) -> None:
    loaded: list[int] = []

    def encoder() -> Encoder:
        loaded.append(1)
        return load_encoder(shop.registry.open("shop-search@2"), threads=1)

    assert shop.evidence(2, encoder=encoder, threads=1).serving is None
    assert loaded == []
    serving = shop.evidence(2, settings=GateSettings(max_latency_ms=1e6), encoder=encoder, threads=1).serving
    assert serving is not None
    assert (serving.engine, serving.threads, loaded) == ("onnxruntime fp32", 1, [1])
    assert serving.latency_ms > 0
    assert serving.photos_per_s > 0


def test_a_serving_engine_that_is_not_built_leaves_the_reason(shop: GateShop) -> None:
    def encoder() -> Encoder:
        return load_encoder(shop.registry.open("shop-search@2"), precision="int8", engines=shop.home.engines)

    found = shop.evidence(2, settings=GateSettings(max_latency_ms=1e6), encoder=encoder)

    assert found.serving is None
    assert found.untimed.startswith("no onnxruntime int8 engine of version ")
    assert "vitrine engine build NAME@N --backend onnxruntime --precision int8" in found.untimed


@pytest.fixture(scope="module")
def int8(shop: GateShop, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A real int8 engine of `shop-search@1`, calibrated and judged on photos of its own."""
    photos = tmp_path_factory.mktemp("calibration")
    for label in range(CLASSES):
        for number in range(9):
            split = "train" if number else "test"
            write_atomic(photos / f"{split}/class-{label}/{number}.jpg", class_photo(label, 500 + number))
    import_dataset("image-folder", photos, "calibration", shop.home.datasets / "calibration", {})
    plan = BuildPlan("onnxruntime", "int8", "calibration", rows=24, judged=24)
    return build_engine(shop.registry, shop.home, "shop-search@1", plan, threads=1)


def test_an_int8_engine_ranks_the_queries_again_and_each_is_paired_with_the_reference(
    shop: GateShop, int8: Built
) -> None:
    found = shop.evidence(1, settings=GateSettings(metrics=("map@10",)), engines=shop.home.engines, threads=1)

    (engine,) = found.engines
    (quality,) = engine.quality
    ranked = evaluate(
        load_encoder(shop.registry.open("shop-search@1"), precision="int8", engines=shop.home.engines), shop.dataset
    )
    assert engine.parity == Parity(**int8.record.parity)
    assert engine.parity.precision == "int8"
    assert quality.own.value == pytest.approx(ranked.metrics[quality.metric])
    assert quality.difference is not None
    assert quality.difference.queries == CLASSES * PHOTOS
    assert quality.difference.value != 0
    assert quality.difference.value == pytest.approx(quality.own.value - found.quality[0].own.value)


def test_the_parity_gate_judges_a_real_int8_engine_by_its_metrics(shop: GateShop, int8: Built) -> None:
    del int8
    found = shop.evidence(1, settings=GateSettings(metrics=("map@10",)), engines=shop.home.engines, threads=1)
    wide, narrow = (parity(found, GateSettings(margin=margin)) for margin in (0.2, 1e-9))

    assert (wide.outcome, narrow.outcome) == ("passed", "failed")
    assert "onnxruntime int8 minus reference, map@10" in wide.reason
    (numbers,) = wide.numbers["engines"]
    assert [one["metric"] for one in numbers["metrics"]] == [found.quality[0].metric]


def test_an_engine_of_another_machine_is_not_looked_at(shop: GateShop, int8: Built, tmp_path: Path) -> None:
    key = replace(int8.record.key, target="another machine")
    write_json(tmp_path / key.folder / ENGINE, replace(int8.record, key=key).as_json())

    assert shop.evidence(1, engines=tmp_path).engines == ()


def test_engines_of_other_content_are_not_looked_at(shop: GateShop, int8: Built) -> None:
    del int8

    assert shop.evidence(2, engines=shop.home.engines).engines == ()
