from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.factories import tiny_bundle
from vitrine.evaluation import Evaluation, write_evaluation
from vitrine.files import read_json, write_json
from vitrine.home import find_home
from vitrine.registry import Registry, open_registry
from vitrine.sync import recorded_numbers, sync

CELLS = {"head--a--shop": ("shop-search", 1), "probe--a--shop": ("shop-search", 2), "head--a--bags": ("bags", 1)}


def measured(value: float, via: str = "exact") -> Evaluation:
    table = pa.table({"query_id": ["a", "b"], "mmp@5": [value, value]})
    details = {"timing": {"seconds": np.random.default_rng().random()}, "health": 1.0}
    return Evaluation("shop", "d", "default", via, {"mmp@5": value}, 2, 3, table, details)  # type: ignore[arg-type]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """What a pipeline leaves: three registered cells, each with an exact and a Qdrant evaluation."""
    root = tmp_path / "project"
    for seed, (cell, (model, version)) in enumerate(CELLS.items()):
        digest = tiny_bundle(root / "bundles" / cell, seed=seed).manifest.digest
        record = {
            "model": model,
            "version": version,
            "digest": digest,
            "cell": cell,
            "lineage": {"git_commit": "c0ffee"},
        }
        write_json(root / "work/registered" / f"{cell}.json", record)
        for via in ("exact", "qdrant"):
            write_evaluation(root / "work/evaluations" / cell, via, measured(0.5, via), model, version, digest)
    return root


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(find_home({"VITRINE_HOME": str(tmp_path / "home")}))


def test_an_empty_registry_is_rebuilt_with_its_numbers(registry: Registry, outputs: Path) -> None:
    report = sync(registry, outputs)

    assert report.registered == ["bags@1", "shop-search@1", "shop-search@2"]
    assert (len(report.recorded), report.present, report.skipped) == (6, 0, [])
    for cell, (model, version) in CELLS.items():
        state = registry.resolve(f"{model}@{version}")
        assert state.digest == read_json(outputs / f"work/registered/{cell}.json", "record")["digest"]
        assert state.registered.lineage["git_commit"] == "c0ffee"
        assert {e.via for e in state.evaluations} == {"exact", "qdrant"}
    assert registry.verify() == []


def test_a_second_run_changes_nothing(registry: Registry, outputs: Path) -> None:
    sync(registry, outputs)
    seq = registry.state().seq
    report = sync(registry, outputs)

    assert (report.registered, report.recorded, report.present, report.skipped) == ([], [], 9, [])
    assert registry.state().seq == seq


def test_an_evaluation_of_the_same_figures_at_another_speed_is_the_same_fact(registry: Registry, outputs: Path) -> None:
    sync(registry, outputs)
    digest = registry.resolve("bags@1").digest
    write_evaluation(outputs / "work/evaluations/head--a--bags", "exact", measured(0.5), "bags", 1, digest)

    assert sync(registry, outputs).recorded == []


def test_what_is_kept_equals_what_an_evaluation_records_itself(registry: Registry, outputs: Path) -> None:
    sync(registry, outputs)

    assert registry.resolve("bags@1").evaluations[0].details == measured(0.5).record


def test_a_lost_artifact_is_put_back(registry: Registry, outputs: Path) -> None:
    sync(registry, outputs)
    shutil.rmtree(registry.artifacts.root)
    assert len(registry.verify()) == 3 + 6

    sync(registry, outputs)
    assert registry.verify() == []


def test_a_bundle_that_is_another_one_by_now_is_skipped_with_its_evaluations(registry: Registry, outputs: Path) -> None:
    tiny_bundle(outputs / "bundles/head--a--bags", seed=99)
    report = sync(registry, outputs)

    assert report.registered == ["shop-search@1", "shop-search@2"]
    assert len(report.recorded) == 4
    assert "was registered: it is not that version any more" in report.skipped[0]
    assert ["no model 'bags'" in sentence for sentence in report.skipped] == [False, True, True]


def test_a_number_that_is_taken_is_skipped(registry: Registry, outputs: Path, tmp_path: Path) -> None:
    registry.register("bags", tiny_bundle(tmp_path / "own", seed=50))
    report = sync(registry, outputs)

    assert "bags@1 exists already with other content" in report.skipped[0]
    assert "evaluate again: dvc repro" in report.skipped[1]


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "1"}', '{"version": 1}', "\udcff"])
@pytest.mark.parametrize("place", ["work/registered/head--a--bags.json", "work/evaluations/head--a--bags/exact.json"])
def test_a_broken_output_is_skipped_and_the_rest_taken_in(
    registry: Registry, outputs: Path, text: str, place: str
) -> None:
    (outputs / place).write_bytes(text.encode(errors="surrogateescape"))
    report = sync(registry, outputs)

    assert report.skipped[0].startswith(f"{outputs / place}: ")
    assert {"shop-search@1", "shop-search@2"} <= set(report.registered)


def test_a_missing_parquet_is_named(registry: Registry, outputs: Path) -> None:
    (outputs / "work/evaluations/head--a--bags/exact.parquet").unlink()

    (sentence,) = sync(registry, outputs).skipped
    assert "exact.parquet is missing beside it" in sentence


def test_a_folder_without_outputs_gives_an_empty_report(registry: Registry, tmp_path: Path) -> None:
    report = sync(registry, tmp_path)

    assert (report.registered, report.recorded, report.present, report.skipped) == ([], [], 0, [])


def test_a_number_that_was_given_once_is_not_given_again_by_a_new_registry(
    registry: Registry, outputs: Path, tmp_path: Path
) -> None:
    other = tiny_bundle(outputs / "bundles/probe--a--shop", seed=99)  # trained anew since it became shop-search@2
    sync(registry, outputs)
    assert max(registry.state().models["shop-search"].versions) == 1

    event = registry.register("shop-search", other, above=recorded_numbers(outputs)["shop-search"])
    assert event.version == 3


def test_numbers_are_known_from_evaluations_too_and_from_what_can_be_read(outputs: Path) -> None:
    (outputs / "work/registered/probe--a--shop.json").unlink()
    (outputs / "work/registered/head--a--bags.json").write_text("{")

    assert recorded_numbers(outputs) == {"shop-search": 2, "bags": 1}
    assert recorded_numbers(outputs / "none") == {}


def test_a_server_that_knew_the_old_registry_sees_the_new_one(outputs: Path, tmp_path: Path) -> None:
    home = find_home({"VITRINE_HOME": str(tmp_path / "home")})
    server = open_registry(home)
    sync(server, outputs)
    assert server.state().seq == 9
    for file in (tmp_path / "home").glob("registry.db*"):
        file.unlink()
    open_registry(home).register("bags", tiny_bundle(tmp_path / "own", seed=50))

    assert list(server.state().models) == ["bags"]
