from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.runner import run_vitrine


@pytest.fixture
def files(tmp_path):
    """Two searches over the same 400 items; the first is better."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 400)
    centres = rng.normal(size=(20, 16))
    for name, noise in (("new", 0.8), ("old", 1.6)):
        np.save(tmp_path / f"{name}.npy", (centres[labels] + noise * rng.normal(size=(400, 16))).astype(np.float32))
    lines = [f"i{row:03d},c{label}" for row, label in enumerate(labels)]
    (tmp_path / "labels.csv").write_text("\n".join(["item_id,label", *lines]) + "\n")
    return tmp_path


def test_anybodys_vectors_are_measured_and_compared_with_the_present_search(files):
    options = ("--vectors", "new.npy", "--labels", "labels.csv", "--baseline", "old.npy", "--via", "exact")
    done = run_vitrine(files, "evaluate", *options, "--csv", "m.csv", "--per-query", "q.parquet", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    gain = next(one for one in found["differences"] if one["metric"] == "mmp@5")
    assert gain["decision"] == "better"
    assert gain["ci95"][0] < gain["difference"] < gain["ci95"][1]
    assert found["metrics"]["mmp@5"] == pytest.approx(gain["value_a"])
    rows = {row["metric"]: row for row in csv.DictReader((files / "m.csv").open())}
    assert float(rows["mmp@5"]["value"]) == found["metrics"]["mmp@5"]
    assert pq.read_table(files / "q.parquet").column("mmp@5").to_numpy().mean() == pytest.approx(gain["value_a"])


def test_the_table_shows_both_searches(files):
    done = run_vitrine(
        files, "evaluate", "--vectors", "new.npy", "--labels", "labels.csv", "--baseline", "old.npy", "--via", "exact"
    )
    assert "new.npy on labels/default: 400 queries" in done.out
    assert "Against the baseline" in done.out


def test_every_querys_exact_values_are_written_before_qdrant_is_asked(files, monkeypatch):
    monkeypatch.setenv("QDRANT_URL", "http://127.0.0.1:9")
    options = ("--vectors", "new.npy", "--labels", "labels.csv", "--per-query", "q.parquet")
    done = run_vitrine(files, "evaluate", *options, "--via", "both")
    assert done.code != 0
    assert "Traceback" not in done.err
    assert pq.read_table(files / "q.parquet").num_rows == 400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "REF is missing; measure a version: vitrine evaluate REF --dataset NAME"),
        (("x@1",), "--dataset is missing"),
        (("--vectors", "new.npy"), "--labels is missing"),
        (("x@1", "--vectors", "new.npy", "--labels", "labels.csv"), "give neither REF nor --dataset"),
        (("x@1", "--dataset", "d", "--baseline", "old.npy"), "--baseline goes with --vectors FILE.npy"),
    ],
)
def test_what_is_missing_or_too_much_is_said(files, arguments, said):
    done = run_vitrine(files, "evaluate", *arguments)
    assert done.code == 2
    assert said in done.err


def test_an_interrupted_evaluation_goes_on_when_repeated(tmp_path):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30_000, 64)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    lines = [f"i{row:05d},c{row % 3000}" for row in range(30_000)]
    (tmp_path / "l.csv").write_text("\n".join(["item_id,label", *lines]) + "\n")
    command = [
        sys.executable,
        "-c",
        "from vitrine.cli import main; main()",
        "evaluate",
        "--via",
        "exact",
        "--threads",
        "1",
    ]
    command += ["--vectors", "v.npy", "--labels", "l.csv", "--json"]
    environment = {**os.environ, "VITRINE_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as process:
        marks = tmp_path / "home/unfinished"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and _finished(marks) < 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    done = _finished(marks)
    assert 3 <= done < 118  # 30,000 queries in blocks of 256
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, text=True)
    whole = subprocess.run(
        command, cwd=tmp_path, env={**environment, "VITRINE_HOME": "other"}, capture_output=True, check=True, text=True
    )
    assert json.loads(again.stdout)["metrics"] == json.loads(whole.stdout)["metrics"]
    assert not list(marks.iterdir())


def _finished(marks):
    return sum(int(np.load(path, mmap_mode="r").sum()) for path in marks.glob("*/done.npy"))
