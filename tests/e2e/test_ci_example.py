"""The CI example: its script asks the gates of a real registry; its workflow calls that script and is sound YAML."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.gate_shop import GateShop, build_shop
from tests.runner import run_vitrine

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples/ci"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> GateShop:
    return build_shop(tmp_path_factory.mktemp("gate-shop"))


def ask(shop: GateShop, folder: Path, ref: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VITRINE_HOME": str(shop.home.root),
        "VITRINE_DATASETS": str(shop.home.datasets),
        "REPORT_LINK": "https://example.org/report",
    }
    command = [str(EXAMPLE / "ask_gates.sh"), ref, "gates"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_refused_version_ends_with_3_a_comment_and_a_page(shop: GateShop, tmp_path: Path) -> None:
    ran = ask(shop, tmp_path, "shop-search@2")

    said = (tmp_path / "gates/comment.md").read_text()
    assert ran.returncode == 3, ran.stderr
    assert "### shop-search@2 is refused by" in said
    assert "| ❌ failed | quality against incumbent |" in said
    assert "[Report with pictures](https://example.org/report)" in said
    assert "shop-search@2 go live on shop?" in (tmp_path / "gates/promotion.html").read_text()


def test_what_cannot_be_asked_is_no_refusal_and_leaves_no_comment_of_another_run(
    shop: GateShop, tmp_path: Path
) -> None:
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates/comment.md").write_text("of another run")

    ran = ask(shop, tmp_path, "shop-search@9")

    assert ran.returncode == 4
    assert "vitrine: " in ran.stderr
    assert not (tmp_path / "gates/comment.md").exists()


def test_a_version_that_may_go_live_ends_with_0(shop: GateShop, tmp_path: Path) -> None:
    overridden = [
        "qdrant evaluation",  # the shop of the tests was ranked by exact search alone
        "quality against incumbent",
        "tagging",
    ]
    options = [part for gate in overridden for part in ("--override", gate)]
    environ = {"VITRINE_HOME": str(shop.home.root), "VITRINE_DATASETS": str(shop.home.datasets)}
    command = ["promote", "shop-search@3", "--dry-run", "--json", *options, "--reason", "a test"]
    plan = run_vitrine(tmp_path, *command, environ=environ)
    assert plan.code == 0, plan.err + plan.out
    (tmp_path / "plan.json").write_text(plan.out)

    ran = run_vitrine(tmp_path, "gates", "comment", "plan.json")

    assert ran.code == 0
    assert "### shop-search@3 may go live" in ran.out
    assert "**override:** a test" in ran.out


def test_a_plan_is_read_from_a_pipe() -> None:
    vitrine = str(Path(sys.executable).parent / "vitrine")

    ran = subprocess.run([vitrine, "gates", "comment", "-"], input="{}", capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert "is no plan" in ran.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 2, "is no JSON"),
        ("{}", 2, "is no plan"),
        ("[1]", 2, "is no plan"),
        (None, 4, "make it: vitrine promote REF"),
    ],
)
def test_what_is_no_plan_is_refused_in_a_sentence(tmp_path: Path, text: str | None, code: int, said: str) -> None:
    if text is not None:
        (tmp_path / "plan.json").write_text(text)

    ran = run_vitrine(tmp_path, "gates", "comment", "plan.json")

    assert ran.code == code
    assert said in ran.err


def test_the_workflow_runs_the_script_and_may_comment() -> None:
    workflow = yaml.safe_load((EXAMPLE / "promotion-gates.yml").read_text())

    steps = workflow["jobs"]["gates"]["steps"]
    assert any("examples/ci/ask_gates.sh" in step.get("run", "") for step in steps)
    assert workflow["permissions"]["pull-requests"] == "write"
    comments = next(step for step in steps if step.get("name") == "Comment")
    assert comments["if"].startswith("always()")
