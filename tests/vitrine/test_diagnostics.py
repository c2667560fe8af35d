from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.catalogue import WITHIN, tiny_dataset
from tests.factories import tiny_bundle
from vitrine import leakage, thumbnails
from vitrine.embedding import EmbeddedDataset
from vitrine.encoder import load_encoder
from vitrine.evaluation import evaluation_to_json, plain
from vitrine.evaluator import evaluate_all, evaluate_space
from vitrine.items import EvalProtocol

LABELS = ["jug", "mug", "pan"]
MIXED = EvalProtocol("mixed", query=("test",), gallery=("train", "test"))
LEVELS = {"jug": ("home", "table", "jug"), "mug": ("home", "table", "mug"), "pan": ("home", "stove", "pan")}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder(tiny_bundle(tmp_path_factory.mktemp("v") / "b", labels=LABELS, dim=16), threads=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    splits = (("train", 8), ("val", 3), ("test", 10))
    made = tiny_dataset(tmp_path_factory.mktemp("d") / "shop", splits=splits, protocols=(MIXED, WITHIN))
    items = tuple(dataclasses.replace(item, category=LEVELS[item.label]) for item in made.items)
    return dataclasses.replace(made, items=items)


@pytest.fixture(scope="module")
def found(encoder, dataset):
    return evaluate_space(EmbeddedDataset(encoder, dataset))


def test_slices_are_means_of_the_per_query_column(found):
    rows = found.per_query.to_pylist()
    assert {one["category"] for one in found.details["slices"]["worst"]} == {
        "home > table",
        "home > stove",
        *(" > ".join(path) for path in LEVELS.values()),
    }
    for one in found.details["slices"]["worst"]:
        values = [row["mmp@5"] for row in rows if " > ".join(LEVELS[row["label"]][: one["level"]]) == one["category"]]
        assert (one["queries"], one["value"]) == (len(values), pytest.approx(np.mean(values)))
        assert one["low"] <= one["value"] <= one["high"]


def test_the_hardest_query_has_the_lowest_value_and_names_what_it_found(found):
    first = found.details["hardest"][0]
    row = next(row for row in found.per_query.to_pylist() if row["query_id"] == first["query_id"])
    assert first["value"] == row["mmp@5"] == min(found.per_query.column("mmp@5").to_pylist())
    assert (first["nearest"], first["first_relevant"]) == (row["hits"][0], round(1 / row["mrr"]))
    assert len(found.details["hardest"]) == 20


def test_hubs_are_counted_in_the_lists_of_the_table(found):
    hits = [hit for row in found.per_query.to_pylist() for hit in row["hits"]]
    hub = found.details["health"]["hubness"]
    assert hub["largest_share"] == pytest.approx(max(hits.count(hit) for hit in set(hits)) / 30)
    assert hub["never_found"] == pytest.approx(1 - len(set(hits)) / 54)


def test_new_scores_stand_beside_the_old_ones(found):
    for kind in ("own", "probe"):
        assert found.metrics[f"{kind}/accuracy"] <= found.metrics[f"{kind}/top5_accuracy"] == 1.0  # of three labels
        assert 0 <= found.metrics[f"{kind}/ece"] <= 1
        assert 0 <= found.metrics[f"{kind}/brier"] <= 2
    assert found.metrics["knn/recall_weighted"] == pytest.approx(found.metrics["knn/accuracy"])


def test_answers_of_each_query_give_the_whole_confusion_matrix(found):
    rows = found.per_query.to_pylist()
    for kind in ("own", "knn", "probe"):
        for row in rows:
            assert row[f"{kind}_correct"] == (row[f"{kind}_answer"] == row["label"])
        for one in found.details["confusions"][kind]:
            pair = (one["label"], one["answer"])
            assert one["count"] == sum((row["label"], row[f"{kind}_answer"]) == pair for row in rows)


def test_the_label_curve_ends_at_the_scores_of_all_labels(found):
    curve = found.details["label_curve"]
    assert [(point["share"], point["items"]) for point in curve] == [(0.01, 3), (0.05, 3), (0.25, 6), (1.0, 24)]
    assert curve[-1]["knn"] == found.metrics["knn/accuracy"]
    assert curve[-1]["probe"] == found.metrics["probe/accuracy"]


def test_near_copies_are_listed_and_warned_of(encoder, dataset, monkeypatch):
    space = EmbeddedDataset(encoder, dataset)
    one, other = (
        next(item for item in dataset.items if item.item_id == f"mug-{split}-0") for split in ("test", "train")
    )
    space.vectors(dataset.items)
    space._vectors[other.item_id] = space._vectors[one.item_id]
    found = evaluate_space(space)
    assert found.details["health"]["near_copies"]["largest"] == [["mug-test-0", "mug-train-0"]]
    assert any("2 items in 1 groups have all but the same vector" in said for said in found.details["warnings"])


def leaking(dataset):
    """The same dataset with one query that shows a training photo."""
    image = next(item for item in dataset.items if item.item_id == "jug-train-3").images[0]
    items = tuple(
        dataclasses.replace(item, images=(image,)) if item.item_id == "pan-test-4" else item for item in dataset.items
    )
    return dataclasses.replace(dataset, items=items)


def test_a_leak_is_counted_and_warned_of(encoder, dataset, found):
    assert found.details["leakage"]["exact"]["queries"] == 0
    assert found.details["warnings"] == []
    leaked = evaluate_space(EmbeddedDataset(encoder, leaking(dataset))).details
    assert plain(leaked["leakage"]["exact"]) == {"queries": 1, "examples": [["pan-test-4", "jug-train-3"]]}
    assert leaked["warnings"][0].startswith("leakage: 1 of 30 queries have a photo that is also in the training split")


def test_a_leak_is_looked_for_in_the_dataset_that_a_version_was_trained_on(encoder, dataset, tmp_path):
    other = tiny_dataset(tmp_path / "other", name="other", seed=70_000)
    same = dataclasses.replace(other, items=dataset.items, folder=dataset.folder)
    assert evaluate_space(EmbeddedDataset(encoder, dataset), trained_on=other).details["leakage"]["photos"] == (12, 30)
    assert (
        evaluate_space(EmbeddedDataset(encoder, dataset), trained_on=same).details["leakage"]["trained_on"] == "other"
    )


def test_a_training_dataset_that_is_gone_leaves_leakage_unknown_and_says_so(encoder, dataset):
    found = evaluate_space(EmbeddedDataset(encoder, dataset), trained_on="gone").details
    assert found["leakage"] == "unknown: dataset gone, which the version was trained on, is not here"
    assert found["warnings"] == [f"leakage is {found['leakage']}"]


def test_photos_are_read_for_copies_once_for_all_protocols(encoder, dataset, monkeypatch):
    real, calls = thumbnails.read_thumbnails, []
    monkeypatch.setattr(leakage, "read_thumbnails", lambda *given: calls.append(given) or real(*given))
    evaluate_all(encoder.bundle, dataset, threads=1, qdrant_url="")
    assert len(calls) == 2  # training photos and query photos


def test_the_record_of_an_evaluation_is_plain_json_of_bounded_size(found):
    text = json.dumps(evaluation_to_json(found), allow_nan=False)
    assert len(text) < 20_000
