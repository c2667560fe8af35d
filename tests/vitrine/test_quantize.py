"""int8 graphs: calibrated, the quickest way kept, close to the graph they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.factories import tiny_graph
from vitrine import quantize
from vitrine.errors import BadInput
from vitrine.quantize import WAYS, multiplies_bytes, quantise

ROWS = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "image.onnx"
    path.write_bytes(tiny_graph(dim=8, classes=0, seed=0, size=32).SerializeToString())
    return path


def test_weights_are_int8_and_answers_are_close(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "int8.onnx", ROWS)

    stored = {tensor.data_type for tensor in onnx.load(str(tmp_path / "int8.onnx")).graph.initializer}
    assert onnx.TensorProto.INT8 in stored
    vectors = [
        ort.InferenceSession(str(path)).run(None, {"photo": ROWS[:16]})[0] for path in (source, tmp_path / "int8.onnx")
    ]
    assert 0.99 < (vectors[0] * vectors[1]).sum(axis=1).min() < 1


def test_the_quickest_way_is_kept(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(quantize, "_milliseconds", lambda *_: next(times))

    assert quantise(source, tmp_path / "int8.onnx", ROWS) == list(WAYS)[1]


def test_no_rows_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="ranges for int8 are read off training rows, and there are none"):
        quantise(source, tmp_path / "int8.onnx", ROWS[:0])
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "sse avx2", False),
        ("x86_64", "avx2 avx512_vnni", True),
        ("AMD64", "avx_vnni", True),
        ("aarch64", "", True),
    ],
)
def test_byte_products_are_recognised(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, expected: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"flags : {flags}")

    assert multiplies_bytes() is expected
