"""Real networks, as versions export them, on every engine that runs without a GPU: the numbers of ONNX Runtime.

Plans of TensorRT are really parsed and built here, through `tensorrt_rtx`, which needs no GPU for that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.exported import NAMES, export_all, rows_for
from vitrine.errors import Unsupported
from vitrine.mixed_precision import lower

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return export_all(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(params=NAMES)
def graph(request: pytest.FixtureRequest, graphs: dict[str, Path]) -> onnx.ModelProto:
    return onnx.load(str(graphs[request.param]))


def by_onnxruntime(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def by_torch(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    from vitrine.backends._onnx_torch import to_torch

    with torch.no_grad():
        return to_torch(model, torch.device("cpu"))(torch.from_numpy(rows))[0].numpy()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_torch_gives_the_numbers_of_onnxruntime(graph: onnx.ModelProto, count: int) -> None:
    rows = rows_for(graph, count)

    np.testing.assert_allclose(by_torch(graph, rows), by_onnxruntime(graph, rows), atol=2e-6)


@pytest.mark.parametrize("length", [8, 16])
def test_torch_gives_the_numbers_of_onnxruntime_for_shorter_texts(graphs: dict[str, Path], length: int) -> None:
    text = onnx.load(str(graphs[NAMES[3]]))
    rows = rows_for(text, 3, length=length)

    np.testing.assert_allclose(by_torch(text, rows), by_onnxruntime(text, rows), atol=2e-6)


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.99999), ("bf16", 0.9995)])
def test_a_lowered_graph_is_valid_and_close(graph: onnx.ModelProto, precision, least: float) -> None:
    lowered = lower(graph, precision)
    rows = rows_for(graph, 4)

    onnx.checker.check_model(lowered)
    onnx.shape_inference.infer_shapes(lowered, check_type=True, strict_mode=True)
    found = by_torch(lowered, rows)
    assert found.dtype == np.float32
    cosines = (found * by_onnxruntime(graph, rows)).sum(axis=1)
    assert least <= cosines.min() < 1 + 1e-3
    assert not np.array_equal(found, by_torch(graph, rows))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_product_of_a_lowered_graph_is_low(graph: onnx.ModelProto, precision) -> None:
    low = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    inferred = onnx.shape_inference.infer_shapes(lower(graph, precision)).graph
    types = {info.name: info.type.tensor_type.elem_type for info in inferred.value_info}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}

    products = [node for node in inferred.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert products
    assert {types[name] for node in products for name in node.input if name} == {low}
    # The stream between blocks stays low: a cast in every block would cost more than it saves.
    assert sum(node.op_type == "Cast" for node in inferred.node) <= 6


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    from vitrine.backends._tensorrt_library import library

    return library()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_tensorrt_parses_and_builds_a_plan(library, graph: onnx.ModelProto, precision) -> None:
    from vitrine.backends._tensorrt_build import build_plan
    from vitrine.backends.tensorrt import floats_at_once

    floats_at_once(graph)
    typed = graph if precision == "fp32" else lower(graph, precision)
    plan = build_plan(library, typed.SerializeToString(), lengths=(8, 16, 24))

    assert len(plan) > 100_000  # the weights are in it


def test_floats_at_once_changes_no_number(graph: onnx.ModelProto) -> None:
    from vitrine.backends.tensorrt import floats_at_once

    rows = rows_for(graph, 3)
    before = by_onnxruntime(graph, rows)
    floats_at_once(graph)

    np.testing.assert_allclose(by_onnxruntime(graph, rows), before, atol=1e-6)


def test_a_graph_that_tensorrt_does_not_know_is_refused_in_its_own_words(library) -> None:
    from vitrine.backends._tensorrt_build import build_plan

    node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], domain="nowhere")
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    unknown = onnx.helper.make_model(onnx.helper.make_graph([node], "odd", infos[:1], infos[1:]))

    with pytest.raises(Unsupported, match=r"tensorrt\w* [\d.]+ does not parse this graph: .*Frobnicate"):
        build_plan(library, unknown.SerializeToString())


def test_profiles_that_make_no_sense_are_refused_in_its_own_words(library, graphs: dict[str, Path]) -> None:
    from vitrine.backends._tensorrt_build import build_plan
    from vitrine.errors import Unavailable

    text = Path(graphs[NAMES[3]]).read_bytes()
    with pytest.raises((Unsupported, Unavailable), match=r"tensorrt"):
        build_plan(library, text, profiles=[(8, 4, 1)], lengths=(8, 16, 24))
