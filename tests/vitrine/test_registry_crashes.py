"""Killed at each named step of register, import and clean-up: what is there is sound, and repeating finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.factories import tiny_bundle
from vitrine import failpoints
from vitrine.home import find_home
from vitrine.registry import Registry, open_registry
from vitrine.transfer import export_version

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A shop with one version, the export of another one, and a stray file for the clean-up."""
    registry = open_at(tmp_path)
    registry.register("shop", tiny_bundle(tmp_path / "one"))
    other = open_registry(find_home({"VITRINE_HOME": str(tmp_path / "elsewhere")}))
    other.register("jobs", tiny_bundle(tmp_path / "two", seed=1))
    export_version(other, "jobs@1", tmp_path / "jobs.tar", history=True)
    tiny_bundle(tmp_path / "three", seed=2)
    for number in range(3):
        stray = registry.artifacts.path(registry.artifacts.put_bytes(bytes([number])))
        os.utime(stray, (time.time() - 9 * 86400,) * 2)
    return tmp_path


def open_at(root: Path) -> Registry:
    return open_registry(find_home({"VITRINE_HOME": str(root / "home")}))


def models(root: Path, *arguments: str, crash_at: str = "") -> int:
    """Exit code of `vitrine models` in a process of its own."""
    environment = os.environ | {"VITRINE_HOME": str(root / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from vitrine.cli import main; main()", "models", *arguments]
    crash = {"VITRINE_CRASH_AT": crash_at} if crash_at else {}
    return subprocess.run(command, cwd=root, env=environment | crash, capture_output=True, check=False).returncode


COMMANDS = {
    "register.stored": ("register", "three", "--name", "shop"),
    "register.registered": ("register", "three", "--name", "shop"),
    "import.verified": ("import", "jobs.tar"),
    "import.registered": ("import", "jobs.tar"),
    "models-gc.removed": ("gc", "--yes"),
}


@pytest.mark.parametrize("point", COMMANDS)
def test_killed_at_a_step_nothing_is_unsound_and_the_same_command_finishes(home: Path, point: str) -> None:
    command = COMMANDS[point]
    assert models(home, *command, crash_at=point) == -signal.SIGKILL
    assert open_at(home).verify() == []

    assert models(home, *command) == 0
    after = open_at(home)
    assert after.verify() == []
    done = {
        "register": lambda: sorted(after.state().models["shop"].versions) == [1, 2],
        "import": lambda: list(after.state().models["jobs"].versions) == [1],
        "gc": lambda: len(list(after.artifacts.all())) == 2,
    }
    assert done[command[0]]()


def test_every_step_of_these_commands_is_tried() -> None:
    import vitrine.registry_gc  # noqa: F401 - its points are declared at import

    assert {name for name in failpoints.POINTS if name.split(".")[0] in {"register", "import", "models-gc"}} == set(
        COMMANDS
    )
