"""What `vitrine promote`, `rollback` and `shadow` say before anything is done."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.runner import run_vitrine

REPORT = {
    "running": True,
    "candidate": "shop@2",
    "live": "shop@1",
    "share": 0.1,
    "compared": 40,
    "dropped": 2,
    "failed": 1,
    "overlap@10": 0.75,
    "same_answer": 0.25,
    "latency_ms": {"live": {"p50": 4.0, "p99": 9.0}, "candidate": {"p50": 6.0, "p99": 20.0}},
}


@pytest.fixture
def server() -> Any:
    """An HTTP server that tells REPORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v1/shadow" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(REPORT).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base's name
            del format, args

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/"
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_reason_without_a_gate_is_refused(tmp_path: Path) -> None:
    ran = run_vitrine(tmp_path, "promote", "shop@1", "--reason", "I know better")

    assert ran.code == 2
    assert "--reason belongs to --override GATE; say which gate may fail" in ran.err


def test_a_shadow_report_tells_overlap_and_both_latencies(server: str, tmp_path: Path) -> None:
    ran = run_vitrine(tmp_path, "shadow", "report", "--server", server)

    assert ran.code == 0, ran.err
    assert "shop@2 beside shop@1, on 10% of the live searches" in ran.out
    assert "compared 40, dropped 2, failed 1" in ran.out
    assert "0.750 of the ten nearest are the same" in ran.out
    assert "candidate: p50 6.0 ms, p99 20.0 ms" in ran.out


def test_a_shadow_report_as_json_is_what_the_server_says(server: str, tmp_path: Path) -> None:
    assert json.loads(run_vitrine(tmp_path, "shadow", "report", "--server", server, "--json").out) == REPORT


@pytest.mark.parametrize(
    ("server", "code", "told"),
    [
        ("ftp://127.0.0.1", 2, "'ftp://127.0.0.1' is no HTTP address; give one such as http://127.0.0.1:3000"),
        ("http://127.0.0.1:1", 6, "does not answer"),
    ],
)
def test_a_shadow_report_without_a_server_says_what_to_do(tmp_path: Path, server: str, code: int, told: str) -> None:
    ran = run_vitrine(tmp_path, "shadow", "report", "--server", server)

    assert ran.code == code
    assert told in ran.err


@pytest.mark.parametrize("command", [("rollback", "shop"), ("shadow", "stop", "shop"), ("shadow", "start", "shop@1")])
def test_an_unknown_model_is_not_found(tmp_path: Path, command: tuple[str, ...]) -> None:
    ran = run_vitrine(tmp_path, *command)

    assert ran.code == 4
    assert "there is no model 'shop'" in ran.err


def test_promoting_loads_no_training_library() -> None:
    code = "import sys, vitrine.promotion, vitrine.gate_report; print({'torch', 'timm', 'sklearn'} & set(sys.modules))"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "set()\n"
