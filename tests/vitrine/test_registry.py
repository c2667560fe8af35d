from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import tiny_bundle
from vitrine.bundle import Bundle
from vitrine.errors import BadInput, Conflict, NotFound, Refused, Tampered
from vitrine.events import AliasMoved, Evaluated, Promoted, RolledBack
from vitrine.files import sha256_file
from vitrine.home import find_home
from vitrine.lifecycle import fold
from vitrine.lineage import collect_lineage
from vitrine.registry import Registry, open_registry

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_at(tmp_path / "home")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", labels=["mug", "jug"])


def open_at(root: Path) -> Registry:
    return open_registry(find_home({"VITRINE_HOME": str(root)}))


def live(registry: Registry, version: int, previous: int | None = None) -> None:
    where = {"catalogue": "c", "collection": f"c--shop--{version}"}
    registry.append(Promoted(model="shop", version=version, previous=previous, **where, **registry.stamp()))


def spoil(registry: Registry, sha: str) -> None:
    path = registry.artifacts.path(sha)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"?")


def test_a_registered_version_opens_with_the_same_content(registry: Registry, bundle: Bundle) -> None:
    event = registry.register("shop", bundle, lineage={"note": "first"}, why="a start")
    opened = registry.open("shop@1")

    assert (event.version, event.digest, event.why) == (1, bundle.manifest.digest, "a start")
    assert (opened.manifest, opened.parity, opened.labels()) == (bundle.manifest, bundle.parity, ["mug", "jug"])
    assert opened.lineage == {**bundle.lineage, "note": "first"}
    assert {name: sha256_file(path) for name, path in opened.paths.items()} == {
        ref.path: ref.sha256 for ref in bundle.manifest.files()
    }


def test_a_version_needs_its_bundle_no_more(registry: Registry, bundle: Bundle) -> None:
    registry.register("shop", bundle)
    for path in bundle.paths.values():
        path.unlink()

    assert registry.open("shop@1").manifest == bundle.manifest


def test_the_same_content_again_is_the_same_version(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    first = registry.register("shop", bundle)
    again = registry.register("shop", tiny_bundle(tmp_path / "copy", labels=["mug", "jug"]))

    assert again == first
    assert len(registry.history("shop")) == 1


def test_numbers_go_up_and_may_be_chosen(registry: Registry, tmp_path: Path) -> None:
    bundles = [tiny_bundle(tmp_path / str(seed), seed=seed) for seed in range(3)]

    assert registry.register("shop", bundles[0], version=5).version == 5
    assert registry.register("shop", bundles[1]).version == 6
    assert registry.register("shop", bundles[2], version=2).version == 2


def test_a_taken_number_is_a_conflict(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    registry.register("shop", bundle)

    with pytest.raises(Conflict, match="shop@1 exists already with other content"):
        registry.register("shop", tiny_bundle(tmp_path / "other", seed=1), version=1)
    with pytest.raises(Conflict, match="registered as shop@1 already and cannot be version 2"):
        registry.register("shop", bundle, version=2)
    with pytest.raises(BadInput, match="0 is no version number"):
        registry.register("shop", bundle, version=0)


def test_a_bundle_that_changed_meanwhile_is_not_registered(registry: Registry, bundle: Bundle) -> None:
    bundle.paths["labels.json"].write_text('["jug", "mug"]')

    with pytest.raises(Tampered, match=r"labels\.json .* changed while it was registered"):
        registry.register("shop", bundle)
    assert registry.state().models == {}


@pytest.mark.parametrize("name", ["manifest", "image.onnx", "labels.json"])
def test_a_tampered_version_is_found_and_never_opened(registry: Registry, bundle: Bundle, name: str) -> None:
    registry.register("shop", bundle)
    shas = {ref.path: ref.sha256 for ref in bundle.manifest.files()} | {"manifest": bundle.manifest.digest}
    spoil(registry, shas[name])

    with pytest.raises(Tampered, match="is not loaded"):
        registry.open("shop@1")
    for problems in (registry.verify(), registry.verify("shop@1")):
        assert [problem for problem in problems if problem.startswith(f"shop@1: {name}: ")] == problems != []


def test_registering_the_content_again_repairs_it(registry: Registry, bundle: Bundle) -> None:
    registry.register("shop", bundle)
    spoil(registry, bundle.manifest.graphs["image"].file.sha256)
    registry.register("shop", bundle)

    assert registry.verify() == []


def test_a_removed_event_is_found(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    registry.register("shop", bundle)
    registry.set_alias("shop", "stable", 1)
    registry.set_alias("shop", "next", 1)
    with registry.log._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE seq = 2")

    assert registry.verify() == ["the event log has no event 2: somebody removed it; restore a backup"]


def test_an_alias_moves_and_production_does_not(registry: Registry, bundle: Bundle) -> None:
    registry.register("shop", bundle)
    registry.set_alias("shop", "stable", 1)

    assert registry.resolve("shop@stable").number == 1
    with pytest.raises(BadInput, match="moved by promotion and rollback alone"):
        registry.set_alias("shop", "production", 1)
    with pytest.raises(NotFound, match="no version 2, only: 1"):
        registry.set_alias("shop", "stable", 2)


def test_what_is_live_cannot_be_retired(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    registry.register("shop", bundle)
    registry.register("shop", tiny_bundle(tmp_path / "other", seed=1))
    live(registry, 1)

    with pytest.raises(Refused, match="shop@1 is in production"):
        registry.retire("shop@1", why="old")
    registry.retire("shop@2", why="weak")
    assert registry.resolve("shop@2").retired


def test_an_event_that_contradicts_the_state_is_never_written(registry: Registry, bundle: Bundle) -> None:
    registry.register("shop", bundle)
    where = {"catalogue": "c", "collection": "x"}

    with pytest.raises(Conflict, match="no production before"):
        registry.append(RolledBack(model="shop", version=1, previous=1, **where, **registry.stamp()))
    with pytest.raises(NotFound, match="no version 7"):
        registry.append(AliasMoved(model="shop", alias="x", version=7, **registry.stamp()))
    assert len(registry.history("shop")) == 1


def test_a_decision_on_an_old_state_is_a_conflict(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    registry.register("shop", bundle)
    old = registry.state().seq
    open_at(tmp_path / "home").set_alias("shop", "stable", 1)

    event = AliasMoved(model="shop", alias="stable", version=1, **registry.stamp())
    with pytest.raises(Conflict, match="somebody else was first"):
        registry.append(event, expected_seq=old)


def test_two_openers_see_the_same_state_as_a_fold_from_the_start(
    registry: Registry, bundle: Bundle, tmp_path: Path
) -> None:
    other = open_at(tmp_path / "home")
    registry.register("shop", bundle)
    live(other, 1)
    registry.set_alias("shop", "stable", 1)

    assert registry.state() == other.state() == fold(registry.log.read())


def evaluate(registry: Registry, folder: Path, value: float, **changes: object) -> Evaluated:
    pq.write_table(pa.table({"query_id": ["a"], "mmp@5": [value]}), folder / "q.parquet")
    fields: dict = {
        "dataset": "shop",
        "dataset_digest": "d",
        "protocol": "default",
        "via": "exact",
        "metrics": {"mmp@5": value, "empty": None, "odd": float("nan")},
        "queries": 1,
        "gallery": 2,
        "per_query_path": folder / "q.parquet",
        "details": {"unit": "product_id"},
    }
    return registry.record_evaluation("shop", 1, **{**fields, **changes})


def test_an_evaluation_is_recorded_once(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    registry.register("shop", bundle)
    first = evaluate(registry, tmp_path, 0.5)

    assert evaluate(registry, tmp_path, 0.5) == first
    assert first.metrics == {"mmp@5": 0.5}
    assert evaluate(registry, tmp_path, 0.6).seq == first.seq + 1
    assert registry.resolve("shop@1").evaluation("shop", "default", "exact").metrics == {"mmp@5": 0.6}  # type: ignore[union-attr]


def test_a_lost_per_query_table_is_found(registry: Registry, bundle: Bundle, tmp_path: Path) -> None:
    registry.register("shop", bundle)
    sha = evaluate(registry, tmp_path, 0.5).per_query
    registry.artifacts.path(sha).unlink()

    (problem,) = registry.verify()
    assert problem.startswith(f"shop@1: per-query results on shop via exact: artifact {sha[:12]}… is missing")


def register_some(home: Path, folder: Path, seeds: list[int]) -> None:
    registry = open_at(home)
    for seed in seeds:
        registry.register("shop", tiny_bundle(folder / f"{os.getpid()}-{seed}", seed=seed))


def test_processes_that_register_at_once_all_succeed(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    seeds = [[0, 1, 2, 3], [2, 3, 4, 5], [0, 5, 6, 7]]
    workers = [spawn.Process(target=register_some, args=(tmp_path / "home", tmp_path, part)) for part in seeds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    registry = open_at(tmp_path / "home")

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(registry.state().models["shop"].versions) == list(range(1, 9))
    assert registry.verify() == []


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_killed_registration_leaves_a_clean_registry_and_can_be_repeated(tmp_path: Path, after: int) -> None:
    script = "import sys; from pathlib import Path; from tests.vitrine.test_registry import register_some; "
    script += "register_some(Path(sys.argv[1]), Path(sys.argv[2]), list(range(5000)))"
    worker = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "home"), str(tmp_path)], cwd=ROOT)
    registry = open_at(tmp_path / "home")
    deadline = time.monotonic() + 60
    while registry.log.last_seq() < after and time.monotonic() < deadline:
        time.sleep(0.003)
    worker.send_signal(signal.SIGKILL)
    worker.wait()

    done = registry.log.last_seq()
    assert done >= after
    assert registry.verify() == []
    register_some(tmp_path / "home", tmp_path, list(range(done + 2)))
    assert len(registry.history("shop")) == done + 2
    assert registry.verify() == []


def test_the_actor_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRINE_ACTOR", "release-robot")

    assert open_at(tmp_path).stamp()["actor"] == "release-robot"


def test_lineage_names_commit_pipeline_and_libraries(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    assert "git_commit" not in collect_lineage(tmp_path / "none")
    (tmp_path / "dvc.lock").write_text("stages: {}")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)

    facts = collect_lineage(tmp_path)
    assert (len(facts["git_commit"]), facts["git_dirty"]) == (40, False)
    assert facts["dvc_lock"] == sha256_file(tmp_path / "dvc.lock")
    assert "numpy" in facts["libraries"]
    (tmp_path / "dvc.lock").write_text("changed")
    assert collect_lineage(tmp_path)["git_dirty"]
