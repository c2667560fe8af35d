"""dvc.yaml: stages are named by keys, so an entry inserted at the front disturbs no other."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

PLUMBING = {
    *("artifacts", "audit", "bundle", "collection", "conclusion", "dataset", "errors", "eventlog", "events", "files"),
    *("home", "items", "lifecycle", "manifest", "names", "plugins", "ports", "progress", "ranking_store", "registry"),
    *("artifacts_remote", "connection", "database", "failpoints", "ledger", "rowreport"),
}
"""What an evaluation reads and keeps its data with; it decides no number, so a change of it runs no stage again."""


def stages(folder):
    """Name -> the stage as DVC resolves it."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return {
            stage.name: (stage.cmd, sorted(map(str, stage.deps)), sorted(map(str, stage.outs)))
            for stage in repo.index.stages
        }


@pytest.fixture
def project(tmp_path):
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def insert_at_the_front(folder, section, key, entry):
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw[section] = {key: entry, **raw[section]}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def test_a_cell_at_the_front_adds_its_own_stages_and_leaves_the_others_as_they_are(project):
    before = stages(project)
    entry = {"strategy": "top", "backbone": "mini", "dataset": "shop"}
    insert_at_the_front(project, "features", "mini--shop", {"backbone": "mini", "dataset": "shop"})
    insert_at_the_front(project, "cells", "top--mini--shop", entry)
    insert_at_the_front(project, "datasets", "shop", {"format": "image-folder", "path": "shop", "options": {}})
    after = stages(project)
    assert {name: after[name] for name in before} == before
    added = set(after) - set(before)
    assert added == {"prepare@shop", "features@mini--shop"} | {
        f"{s}@top--mini--shop" for s in ("tune", "register", "evaluate")
    }


def test_timings_are_no_dependency_of_any_stage(project):
    assert not any("work/costs" in dep for _, deps, _ in stages(project).values() for dep in deps)


def test_every_named_dependency_of_code_exists():
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for dep in stage.get("do", stage).get("deps", []):
            if "$" not in dep and not dep.startswith("work/"):
                assert (ROOT / dep).exists(), f"{name} depends on {dep}, which is not there"


@pytest.mark.parametrize("stage", ["evaluate", "cross"])
def test_every_module_that_decides_an_evaluation_is_a_dependency_of_it(stage):
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["deps"]
    reached = imported("evaluator", set()) - PLUMBING
    assert {"retrieval", "metrics", "classification"} <= reached
    assert {f"vitrine/{name}.py" for name in reached} <= set(deps)


def imported(name, seen):
    """Modules right in vitrine/ that one of them imports, its imports' imports too; `seen` is filled and returned."""
    seen.add(name)
    for node in ast.walk(ast.parse((ROOT / f"vitrine/{name}.py").read_text())):
        module = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
        part = (module or "").removeprefix("vitrine.")
        if (module or "").startswith("vitrine.") and (ROOT / f"vitrine/{part}.py").is_file() and part not in seen:
            imported(part, seen)
    return seen


def test_analytics_and_autostaging_are_off():
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "autostage = false" in config
