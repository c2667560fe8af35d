"""The endurance runs, short: the same commands that `make soak-overload` and `make soak-fuzz` run at full length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def soak(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_five_times_overloaded_every_request_is_answered_and_the_server_recovers() -> None:
    done = soak("soak_overload", "--seconds", "20", "--seed", "1", "--no-times")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "**NO**" not in done.stdout
    assert "RESOURCE_EXHAUSTED" in done.stdout


def test_whatever_is_sent_the_answer_is_a_result_or_a_precise_status() -> None:
    done = soak("soak_fuzz", "--cases", "1000", "--seed", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,000 mutated photos and messages" in done.stdout
