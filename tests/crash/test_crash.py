"""Processes are killed in the middle of real commands; a share of `make soak-crash` for every run of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.invariants import broken, half_written
from tests.crash.operations import OPERATIONS
from tests.crash.shop import Shop, copied
from tests.crash.warm import import_everything
from vitrine import failpoints

ROOT = Path(__file__).parents[2]
KILLS, SEED = 15, 0

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[dict[str, Any]]:
    """What was seen after each of KILLS kills."""
    command = [sys.executable, "-m", "tests.crash.lane", str(folder), "--kills", str(KILLS), "--seed", str(SEED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def shop(folder: Path, seen: list[dict[str, Any]], tmp_path: Path) -> Shop:
    """A copy of the installation before its first kill: two promotions are behind it."""
    assert seen
    return copied(folder / "template", tmp_path / "shop", SEED)


def test_after_every_kill_everything_holds_and_the_repeated_command_finishes(seen: list[dict[str, Any]]) -> None:
    assert {kill["operation"]: kill["problems"] for kill in seen if kill["problems"]} == {}
    assert len(seen) == KILLS


OF_A_CLIENT = {"embed.rows"}
"""Nothing of an installation is touched there; tests/services/test_embed_command.py ends the command at that moment."""


def test_every_named_moment_belongs_to_a_command_that_is_killed(shop: Shop) -> None:
    import_everything()
    operations = [make(shop) for make in OPERATIONS.values()]

    killed = {point for operation in operations if operation for point in operation.points}
    assert killed == set(failpoints.POINTS) - OF_A_CLIENT


def test_a_vector_that_the_version_does_not_give_is_noticed(shop: Shop) -> None:
    vectors = shop.collection(shop.live).folder / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"x")

    assert any("vectors.npy" in problem for problem in broken(shop))


def test_a_damaged_artifact_is_noticed(shop: Shop) -> None:
    graph = shop.registry.artifacts.path(shop.model.versions[1].digest)
    graph.chmod(0o644)
    graph.write_bytes(b"something else")

    assert any(problem.startswith("registry: ") for problem in broken(shop))


def test_what_a_killed_process_left_is_noticed(shop: Shop) -> None:
    (shop.home.collections / ".shop--shop-search--9.0123abcd").mkdir()

    assert half_written(shop) == ["left over after the clean-ups: .vitrine/collections/.shop--shop-search--9.0123abcd"]


def test_a_sound_installation_has_nothing_to_say(shop: Shop) -> None:
    assert broken(shop) == half_written(shop) == []
