"""`vitrine bench serve` against a real server over a real socket."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.runner import run_vitrine
from tests.services.conftest import Running

PRICES = "prices: {device_hour: 0.36, currency: EUR}\n"


def test_a_given_rate_is_offered_and_its_latency_cost_and_cpu_are_told(server: Running, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PRICES)
    options = (
        "--server",
        f"localhost:{server.server.port}",
        "--rate",
        "40",
        "--seconds",
        "1",
        "--pid",
        str(os.getpid()),
    )
    ran = run_vitrine(tmp_path, "bench", "serve", *options, "--json")

    found = json.loads(ran.out)
    measured = found["measured"]
    assert ran.code == 0
    assert measured["outcomes"] == {"OK": measured["latency"]["count"]}
    assert 10 < measured["latency"]["count"] < 90
    assert measured["cpu_ms"] > 0
    assert found["saturation_per_s"] is None
    assert found["cost_per_million"]["amount"] == pytest.approx(100 / measured["answered"])
    assert found["cost_per_million"]["currency"] == "EUR"


def test_without_a_rate_the_sustained_one_is_searched_and_latency_taken_below_it(
    server: Running, tmp_path: Path
) -> None:
    options = ("--server", f"localhost:{server.server.port}", "--seconds", "1", "--p99-ms", "300", "--method", "search")
    ran = run_vitrine(tmp_path, "bench", "serve", *options, "--json")

    found = json.loads(ran.out)
    assert ran.code == 0
    assert found["saturation_per_s"] in [run["rate"] for run in found["runs"]]
    assert found["measured"]["rate"] == 0.7 * found["saturation_per_s"]


def test_a_table_a_histogram_and_a_sentence_are_for_people(server: Running, tmp_path: Path) -> None:
    options = ("--server", f"localhost:{server.server.port}", "--rate", "20", "--seconds", "1")
    ran = run_vitrine(tmp_path, "bench", "serve", *options)

    assert ran.code == 0
    assert "offered/s" in ran.out
    assert "#" in ran.out


def test_a_server_that_is_not_there_is_exit_code_six(tmp_path: Path) -> None:
    ran = run_vitrine(tmp_path, "bench", "serve", "--server", "localhost:1", "--seconds", "1")

    assert ran.code == 6
    assert "localhost:1 answers UNAVAILABLE to embed" in ran.err


def test_a_method_that_the_server_has_not_is_told_with_its_answer(server: Running, tmp_path: Path) -> None:
    ran = run_vitrine(tmp_path, "bench", "serve", "--server", f"localhost:{server.server.port}", "--method", "embeds")

    assert ran.code == 2
    assert "'embeds' is no method to load; choose: embed, classify, search" in ran.err
