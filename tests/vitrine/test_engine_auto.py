"""auto: the quickest engine by measuring, and what was measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.factories import tiny_bundle
from vitrine import engine_auto
from vitrine.bundle import Bundle
from vitrine.encoder import load_encoder
from vitrine.engine_auto import BATCHES, Measured, choose, measure
from vitrine.engines import open_engine, ready
from vitrine.errors import Unavailable


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("v") / "bundle")


class Slow:
    """An engine that answers like another, later."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.name, self.precision = engine, engine.name, engine.precision

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.02)
        found: dict[str, Any] = self.engine.run(graph, inputs)
        return found


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines are ready, and torch is the slow one."""

    def opened(bundle: Bundle, *, backend_name: str, **settings: Any) -> Any:
        engine = open_engine(bundle, backend_name=backend_name, **settings)
        return Slow(engine) if backend_name == "torch" else engine

    monkeypatch.setattr(engine_auto, "ready", lambda *_: [("torch", "fp32"), ("onnxruntime", "fp32")])
    monkeypatch.setattr(engine_auto, "open_engine", opened)


@pytest.mark.usefixtures("two")
def test_the_quicker_of_two_is_chosen_and_both_are_told(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vitrine.engine_auto"):
        chosen = choose(bundle, engines=None, threads=1)

    assert (chosen.backend, chosen.precision) == ("onnxruntime", "fp32")
    said = "\n".join(caplog.messages)
    assert "measured torch fp32: " in said
    assert "measured onnxruntime fp32: " in said
    assert "chose onnxruntime fp32" in said


@pytest.mark.usefixtures("two")
def test_every_batch_size_is_measured(bundle: Bundle) -> None:
    assert [sorted(one.ms) for one in measure(bundle, engines=None, threads=1)] == [sorted(BATCHES)] * 2


@pytest.mark.usefixtures("two")
def test_an_asked_precision_narrows_the_choice(bundle: Bundle) -> None:
    with pytest.raises(Unavailable, match="no engine can run this version here at int8: none is ready"):
        choose(bundle, engines=None, threads=1, precision="int8")


@pytest.mark.usefixtures("two")
def test_load_encoder_takes_what_auto_chose(bundle: Bundle) -> None:
    assert load_encoder(bundle, backend="auto", threads=1).engine.name == "onnxruntime"


def test_an_engine_that_fails_is_told_and_passed_over(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_auto, "ready", lambda *_: [("onnxruntime", "int8"), ("onnxruntime", "fp32")])

    found = measure(bundle, engines=Path("nowhere"), threads=1)

    assert choose(bundle, engines=Path("nowhere"), threads=1).precision == "fp32"
    assert "onnxruntime int8: not measured: no onnxruntime int8 engine" in found[0].sentence()


def test_the_score_is_the_geometric_mean() -> None:
    assert Measured("a", "fp32", {1: 2.0, 8: 8.0}).score == pytest.approx(4.0)


def test_on_a_processor_nothing_is_compiled_and_no_low_precision_tried(bundle: Bundle, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")

    assert ready(bundle, tmp_path) == [("onnxruntime", "fp32"), ("torch", "fp32")]
