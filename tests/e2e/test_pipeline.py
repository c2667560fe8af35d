"""The pipeline by its public commands, in clones of this repository, on a very small catalogue."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import small_params as profile

ROOT = Path(__file__).parent.parent.parent
TOP, PRETRAINED, FULL = "top--mini--demo", "pretrained--mini--demo", "full--mini--demo"
CROSS = f"{TOP}--on--other"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


def cell(key: str) -> dict[str, str]:
    strategy, backbone, dataset = key.split("--")
    return {"strategy": strategy, "backbone": backbone, "dataset": dataset}


def small_params(*cells: str) -> dict[str, Any]:
    params = profile.small_params(seed=0, products=40, photos=3)
    params["backbones"]["trained"]["mini"] |= {"architecture": "test_resnet", "epochs": 1, "image_size": 64}
    params["top"] |= {"epochs": 8, "patience": 8, "width": 32}
    params["cells"] = {key: cell(key) for key in cells}
    return params


def clone(target: Path, *cells: str) -> Path:
    """A new checkout of what is tracked or about to be, with small parameters."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    write_params(target, small_params(*cells))
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


def exact_metrics(target: Path, key: str) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((target / f"work/evaluations/{key}/exact.json").read_text())["metrics"]
    return metrics


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run once, with the top-tuned cell alone."""
    target = clone(tmp_path_factory.mktemp("first") / "checkout", TOP)
    run(target, "dvc", "repro")
    return target


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


def test_a_deleted_registry_is_rebuilt_with_the_same_numbers(project: Path) -> None:
    before = json.loads(run(project, "vitrine", "models", "ls", "--json"))
    shutil.rmtree(project / ".vitrine")

    run(project, "vitrine", "models", "sync")

    after = json.loads(run(project, "vitrine", "models", "ls", "--json"))
    assert after == before
    assert versions(project)


def test_another_folder_gives_the_same_digests_and_the_same_exact_metrics(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = clone(tmp_path_factory.mktemp("a-second-place") / "elsewhere", TOP)

    run(other, "dvc", "repro", f"evaluate@{TOP}")

    assert versions(other) == versions(project)
    assert exact_metrics(other, TOP) == exact_metrics(project, TOP)


def test_a_cell_inserted_at_the_front_runs_alone(project: Path) -> None:
    before = versions(project)
    write_params(project, small_params(PRETRAINED, TOP))

    stages = ran_stages(run(project, "dvc", "repro"))

    assert stages == [f"tune@{PRETRAINED}", f"register@{PRETRAINED}", f"evaluate@{PRETRAINED}", "report"]
    assert before.items() <= versions(project).items()


def test_a_dataset_and_a_cross_to_it_run_alone_and_train_nothing(project: Path) -> None:
    params = small_params(PRETRAINED, TOP)
    other = params["datasets"]["demo"] | {"options": {"seed": 1, "products": 20, "photos": 3}}
    params["datasets"] = {"other": other, **params["datasets"]}
    params["crosses"] = {CROSS: {"cell": TOP, "dataset": "other"}}
    run(project, "dvc", "repro")  # whatever the tests before have left
    write_params(project, params)

    stages = ran_stages(run(project, "dvc", "repro"))

    assert stages == ["prepare@other", f"cross@{CROSS}", "report"]
    (listed,) = json.loads(run(project, "vitrine", "models", "ls", "--strategy", "cross", "--json"))["models"]
    assert (listed["name"], listed["dataset"], listed["tuned_on"]) == ("other-search", "other", "demo")
    assert versions(project)["other-search@1"] in {d for v, d in versions(project).items() if v.startswith("demo-")}


def test_a_full_tuning_killed_with_signal_9_goes_on_and_no_finished_cell_is_repeated(project: Path) -> None:
    params = small_params(PRETRAINED, TOP, FULL)
    params["full"] |= {"epochs": 60, "batch_size": 16}
    write_params(project, params)
    run(project, "dvc", "repro", f"evaluate@{TOP}", f"evaluate@{PRETRAINED}")
    checkpoints = project / f"work/checkpoints/tune--{FULL}"

    victim = subprocess.Popen(
        ["dvc", "repro", f"tune@{FULL}"], cwd=project, env=environment_of(project), start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(checkpoints.glob("epoch-*"))) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (project / f"bundles/{FULL}/manifest.json").exists(), "it was over before it was killed"
    left = [path.name for path in checkpoints.glob("epoch-*")]

    stages = ran_stages(run(project, "dvc", "repro"))

    assert left
    assert f"tune@{FULL}" in stages
    assert not {f"{stage}@{key}" for stage in ("tune", "evaluate") for key in (TOP, PRETRAINED)} & set(stages)
    assert not checkpoints.exists()
