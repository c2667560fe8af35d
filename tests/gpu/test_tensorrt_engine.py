"""TensorRT on a real GPU: `make gpu-check`. Skipped, with the reason, where there is none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.exported import NAMES, export_all, rows_for
from vitrine.errors import Unavailable
from vitrine.mixed_precision import lower

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
LEAST = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.99}


@pytest.fixture(scope="module")
def library() -> Any:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU that torch can use")
    from vitrine.backends._tensorrt_library import library

    try:
        return library()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def graphs(library: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    from vitrine.backends.tensorrt import floats_at_once

    found = {name: onnx.load(str(path)) for name, path in export_all(tmp_path_factory.mktemp("graphs")).items()}
    for model in found.values():
        floats_at_once(model)
    return found


def plan_of(library: Any, model: onnx.ModelProto, precision: Any, timings: Path | None = None) -> bytes:
    from vitrine.backends._tensorrt_build import build_plan

    typed = (model if precision == "fp32" else lower(model, precision)).SerializeToString()
    return build_plan(library, typed, lengths=(8, 16, 24), timings=timings)


def runner(library: Any, plan: bytes, **options: Any) -> Any:
    from vitrine.backends._tensorrt_run import PlanRunner

    return PlanRunner(library, plan, **options)


def ask(run: Any, rows: np.ndarray) -> np.ndarray:
    return run.run({run.inputs[0]: rows})[run.outputs[0]]


@pytest.fixture(scope="module")
def vit_plan(library: Any, graphs: dict[str, onnx.ModelProto]) -> bytes:
    return plan_of(library, graphs[NAMES[0]], "fp16")


@pytest.mark.parametrize("precision", list(LEAST))
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_gives_the_vectors_of_onnxruntime(library: Any, graphs: Any, name: str, precision: str) -> None:
    rows = rows_for(graphs[name], 11)  # of the second profile
    session = ort.InferenceSession(graphs[name].SerializeToString(), providers=["CPUExecutionProvider"])
    exact = session.run(None, {session.get_inputs()[0].name: rows})[0]

    found = ask(runner(library, plan_of(library, graphs[name], precision)), rows)
    assert found.dtype == np.float32
    assert (found * exact).sum(axis=1).min() >= LEAST[precision]


@pytest.mark.parametrize("count", [1, 3, 8, 9, 64, 256, 300])
def test_every_batch_gives_what_its_rows_give_alone(library: Any, graphs: Any, vit_plan: bytes, count: int) -> None:
    run, rows = runner(library, vit_plan), rows_for(graphs[NAMES[0]], count)

    together = ask(run, rows)
    some = sorted({0, count // 2, count - 1})
    alone = np.concatenate([ask(run, rows[row : row + 1]) for row in some])
    assert together.shape[0] == count
    assert (together[some] * alone).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("captured", [True, False])
def test_texts_of_changing_lengths_give_the_vectors_of_onnxruntime(library: Any, graphs: Any, captured: bool) -> None:
    model = graphs[NAMES[3]]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    run = runner(library, plan_of(library, model, "fp32"), graphs=captured)

    for count, length in ((3, 24), (3, 8), (20, 16), (3, 24), (20, 8), (3, 8)):
        rows = rows_for(model, count, seed=length, length=length)
        exact = session.run(None, {session.get_inputs()[0].name: rows})[0]
        assert (ask(run, rows) * exact).sum(axis=1).min() >= LEAST["fp32"]


def test_a_cuda_graph_gives_the_same_bits_and_new_rows_give_new_answers(
    library: Any, graphs: Any, vit_plan: bytes
) -> None:
    captured, plain = runner(library, vit_plan), runner(library, vit_plan, graphs=False)
    first, second = (rows_for(graphs[NAMES[0]], 4, seed) for seed in (1, 2))

    for rows in (first, second, first):
        np.testing.assert_array_equal(ask(captured, rows), ask(plain, rows))
    assert not np.array_equal(ask(captured, first), ask(captured, second))


def test_an_answer_is_not_overwritten_by_the_next(library: Any, graphs: Any, vit_plan: bytes) -> None:
    run = runner(library, vit_plan)
    first = ask(run, rows_for(graphs[NAMES[0]], 4, 1))
    before = first.copy()
    ask(run, rows_for(graphs[NAMES[0]], 4, 2))

    np.testing.assert_array_equal(first, before)


def test_engines_run_side_by_side_in_threads_of_their_own(library: Any, graphs: Any, vit_plan: bytes) -> None:
    """A promotion loads the next version while the present one answers."""
    runners = [runner(library, vit_plan) for _ in range(3)]
    rows = [rows_for(graphs[NAMES[0]], 5, seed) for seed in range(3)]
    expected = [ask(run, some) for run, some in zip(runners, rows, strict=True)]
    wrong: list[int] = []

    def work(place: int) -> None:
        same = [np.array_equal(ask(runners[place], rows[place]), expected[place]) for _ in range(50)]
        wrong.append(same.count(False))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0, 0, 0]


def test_bytes_that_are_no_plan_are_refused(library: Any) -> None:
    with pytest.raises(Unavailable, match="could not load the engine on this GPU"):
        runner(library, b"no plan at all")


def test_timings_are_kept_for_the_next_build(library: Any, graphs: Any, tmp_path: Path) -> None:
    if library.rtx:
        pytest.skip("TensorRT-RTX times nothing when it builds")
    plan_of(library, graphs[NAMES[3]], "fp16", tmp_path / "timings")

    assert (tmp_path / "timings").stat().st_size > 0
    assert plan_of(library, graphs[NAMES[3]], "fp16", tmp_path / "timings")


@pytest.mark.parametrize("key", ["torch", "torch-compile"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_torch_on_the_gpu_gives_the_vectors_of_onnxruntime(
    graphs: Any, key: str, precision: Any, tmp_path: Path
) -> None:
    from tests.factories import tiny_bundle
    from vitrine.encoder import load_encoder

    bundle = tiny_bundle(tmp_path / "b")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    found = load_encoder(bundle, backend=key, precision=precision)

    assert found.engine.device.type == "cuda"  # type: ignore[attr-defined]
    exact = load_encoder(bundle).run(pixels).vectors
    assert (found.run(pixels).vectors * exact).sum(axis=1).min() >= LEAST[precision]
