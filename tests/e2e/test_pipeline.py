"""The pipeline by its public commands, in clones of this repository, on a very small catalogue.

Two clones are made, once: `project` runs through undisturbed and then grows; in `resumed`, elsewhere, the full tuning
is killed half way. Both must end with the same versions and the same numbers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import small_params as profile

ROOT = Path(__file__).parent.parent.parent
TOP, FULL, PRETRAINED = (f"{strategy}--pair--demo" for strategy in ("top", "full", "pretrained"))
CROSS = f"{FULL}--on--other"
EPOCHS = 12
"""Of the full tuning: enough of them that it can be killed between two."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


def small_params(*cells: str) -> dict[str, Any]:
    """One text-image backbone, and cells on it; `top` has a head for both towers and is a model of its own."""
    params = profile.small_params(seed=0, products=30, photos=3)
    pair = yaml.safe_load(profile.PROFILE.read_text())["backbones"]["trained"]["pair"]
    pair |= {"dataset": "demo", "epochs": 1, "image_size": 32, "batch_size": 16}
    params["backbones"]["trained"] = {"pair": pair}
    params["features"] = {"pair--demo": {"backbone": "pair", "dataset": "demo"}}
    params["cells"] = {key: cell(key) for key in cells}
    params["top"] |= {"epochs": 6, "patience": 6, "width": 16}
    params["full"] |= {"epochs": EPOCHS, "batch_size": 8}
    params["export"]["photos"] = 8
    return params


def cell(key: str) -> dict[str, str]:
    strategy, backbone, dataset = key.split("--")
    named = {"model": "demo-text"} if strategy == "top" else {}
    return {"strategy": strategy, "backbone": backbone, "dataset": dataset, **named}


def grown_params(*cells: str) -> dict[str, Any]:
    """The same with another dataset before the first one, and a cross to it."""
    params = small_params(*cells)
    other = params["datasets"]["demo"] | {"options": {"seed": 1, "products": 20, "photos": 3}}
    params["datasets"] = {"other": other, **params["datasets"]}
    params["crosses"] = {CROSS: {"cell": FULL, "dataset": "other"}}
    return params


def clone(target: Path, params: dict[str, Any]) -> Path:
    """A new checkout of what is tracked or about to be, with small parameters."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    write_params(target, params)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def write_params(target: Path, params: dict[str, Any]) -> None:
    (target / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def run(target: Path, *command: str) -> str:
    """Run a command with the clone's own code; its whole output."""
    done = subprocess.run(
        command,
        cwd=target,
        env=environment_of(target),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def environment_of(target: Path) -> dict[str, str]:
    """Without what the tester has set, and with the clone's own code first."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "QDRANT_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "PYTHONPATH": str(target),
        "DVC_NO_ANALYTICS": "true",
    }
    return environment


def ran_stages(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def versions(target: Path) -> dict[str, str]:
    records = [json.loads(path.read_text()) for path in (target / "work/registered").glob("*.json")]
    return {f"{record['model']}@{record['version']}": record["digest"] for record in records}


def exact_metrics(target: Path, key: str) -> dict[str, dict[str, float]]:
    """Of every protocol."""
    files = (target / f"work/evaluations/{key}").glob("exact*.json")
    return {path.stem: json.loads(path.read_text())["metrics"] for path in files}


def images_trained(target: Path) -> int:
    """Photos that went through the network in the last run of the full tuning's stage."""
    cost: dict[str, int] = json.loads((target / f"work/costs/tune--{FULL}.json").read_text())
    return cost["images"]


@dataclass(frozen=True)
class Resumed:
    """A clone whose full tuning was killed after `epoch`, and what `dvc repro` printed from there."""

    folder: Path
    epoch: int
    output: str


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run once, with two cells."""
    target = clone(tmp_path_factory.mktemp("first") / "checkout", small_params(TOP, FULL))
    run(target, "dvc", "repro")
    return target


@pytest.fixture(scope="module")
def grown(project: Path) -> list[str]:
    """The stages that ran after `project` got a cell and a dataset, both at the front, and a cross."""
    write_params(project, grown_params(PRETRAINED, TOP, FULL))
    return ran_stages(run(project, "dvc", "repro"))


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Another clone in another place: killed with signal 9 amid the full tuning, then run to its end."""
    target = clone(tmp_path_factory.mktemp("a-second-place") / "elsewhere", grown_params(TOP, FULL))
    run(target, "dvc", "repro", f"evaluate@{TOP}")
    epoch = kill_amid_full_tuning(target)
    return Resumed(target, epoch, run(target, "dvc", "repro", f"evaluate@{TOP}", f"evaluate@{FULL}", f"cross@{CROSS}"))


def kill_amid_full_tuning(target: Path) -> int:
    """Start it, kill its whole process group after some epochs; how many of them were kept."""
    checkpoints = target / f"work/checkpoints/tune--{FULL}"
    victim = subprocess.Popen(
        ["dvc", "repro", f"tune@{FULL}"], cwd=target, env=environment_of(target), start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("epoch-000[2-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (target / f"bundles/{FULL}").exists(), "it was over before it was killed"
    return max(int(path.name.removeprefix("epoch-")) for path in checkpoints.glob("epoch-*"))


def test_a_second_repro_runs_no_stage(project: Path) -> None:
    assert ran_stages(run(project, "dvc", "repro")) == []


def test_the_pipeline_ends_in_a_report_with_its_numbers_beside_it(project: Path) -> None:
    page = (project / "report/index.html").read_text()
    metrics = json.loads((project / "report/metrics.json").read_text())

    assert TOP in page
    assert "mmp@5" in json.dumps(metrics)
    assert (project / "report/tables/leaderboard.csv").read_text().count("\n") >= 2


def test_dvc_metrics_and_plots_work(project: Path) -> None:
    assert "mmp@5" in run(project, "dvc", "metrics", "show")
    run(project, "dvc", "plots", "show")


def test_every_stage_leaves_its_costs(project: Path) -> None:
    stages = json.loads(run(project, "vitrine", "pipeline", "costs", "--json"))["stages"]

    assert {row["stage"] for row in stages} >= {"prepare", "backbone", "features", "tune", "register", "evaluate"}
    assert "report" in {row["stage"] for row in stages}


def test_what_is_added_at_the_front_runs_alone(grown: list[str]) -> None:
    added = {f"{stage}@{PRETRAINED}" for stage in ("tune", "register", "evaluate")}

    assert sorted(grown) == sorted([*added, "prepare@other", f"cross@{CROSS}", "report"])


def test_a_cross_is_the_tuned_version_under_the_model_of_the_other_dataset(project: Path, grown: list[str]) -> None:
    (listed,) = json.loads(run(project, "vitrine", "models", "ls", "--strategy", "cross", "--json"))["models"]

    assert grown
    assert (listed["name"], listed["dataset"], listed["tuned_on"]) == ("other-search", "other", "demo")
    assert versions(project)["other-search@1"] == versions(project)["demo-search@1"]


def test_a_killed_full_tuning_goes_on_from_its_last_epoch(project: Path, resumed: Resumed) -> None:
    assert f"full tuning goes on after epoch {resumed.epoch} of {EPOCHS}" in resumed.output
    assert images_trained(resumed.folder) * EPOCHS == images_trained(project) * (EPOCHS - resumed.epoch)
    assert not (resumed.folder / f"work/checkpoints/tune--{FULL}").exists()


def test_after_the_kill_no_finished_cell_is_repeated(resumed: Resumed) -> None:
    added = {f"{stage}@{FULL}" for stage in ("tune", "register", "evaluate")}

    assert sorted(ran_stages(resumed.output)) == sorted([*added, "prepare@other", f"cross@{CROSS}"])


@pytest.mark.usefixtures("grown")
def test_another_folder_and_a_kill_give_the_same_versions(project: Path, resumed: Resumed) -> None:
    found = versions(resumed.folder)

    assert set(found) == {"demo-text@1", "demo-search@1", "other-search@1"}
    assert found.items() <= versions(project).items()


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize("key", [TOP, FULL, CROSS])
def test_another_folder_and_a_kill_give_the_same_exact_metrics(project: Path, resumed: Resumed, key: str) -> None:
    found = exact_metrics(resumed.folder, key)

    assert found["exact"]["mmp@5"] >= 0
    assert found == exact_metrics(project, key)


def test_the_version_with_words_is_measured_by_words(resumed: Resumed) -> None:
    assert "exact--text" in exact_metrics(resumed.folder, TOP)
    assert "exact--text" not in exact_metrics(resumed.folder, FULL)  # labels moved its photos away from the titles


@pytest.mark.usefixtures("grown")
def test_a_deleted_registry_is_rebuilt_with_the_same_numbers(project: Path) -> None:
    before = json.loads(run(project, "vitrine", "models", "ls", "--json"))
    shutil.rmtree(project / ".vitrine")

    run(project, "vitrine", "models", "sync")

    assert len(before["models"]) == 4
    assert json.loads(run(project, "vitrine", "models", "ls", "--json")) == before


def test_an_experiment_makes_a_further_version_and_leaves_the_others(resumed: Resumed) -> None:
    target, before = resumed.folder, versions(resumed.folder)
    for command in (("add", "-A"), ("commit", "-qm", "all")):
        run(target, "git", "-c", "user.name=tester", "-c", "user.email=tester@example.org", *command)

    stages = ran_stages(run(target, "dvc", "exp", "run", "-S", "top.width=8", f"register@{TOP}"))

    assert stages == [f"tune@{TOP}", f"register@{TOP}"]
    assert yaml.safe_load((target / "params.yaml").read_text())["top"]["width"] == 8
    assert set(versions(target)) == {"demo-text@2", "demo-search@1", "other-search@1"}
    assert versions(target)["demo-text@2"] != before["demo-text@1"]
