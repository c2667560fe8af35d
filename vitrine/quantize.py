"""int8 graphs for the CPU: static quantisation with ranges read off training rows.

Quantise and dequantise nodes (QDQ) are put around linear layers, per channel for weights (symmetric int8) and per
tensor for activations (uint8), after Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018), section 2. Products of two activations (attention) stay in float.
Which operators gain is not known beforehand: a graph is quantised in each way of `WAYS` and the quickest is kept.
"""

from __future__ import annotations

import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from vitrine.errors import BadInput
from vitrine.progress import Track, quiet

WAYS: dict[str, tuple[str, ...]] = {
    "linear layers": ("MatMul", "Gemm"),
    "linear layers and convolutions": ("MatMul", "Gemm", "Conv"),
    "linear layers, convolutions and what lies between": (
        "MatMul",
        "Gemm",
        "Conv",
        "Add",
        "Relu",
        "Clip",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
    ),
}
"""What is quantised -> ONNX operators; the rest stays in float."""

_BATCH = 16  # rows at a time while ranges are read
_TIMED = (1, 8)
_REARRANGE = frozenset(
    {"Cast", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_ROUNDS = 7


class _Rows:
    """The calibration rows as ONNX Runtime's quantiser asks for them: a batch at a time, then None."""

    def __init__(self, name: str, rows: NDArray[Any]) -> None:
        self._batches = iter([{name: rows[at : at + _BATCH]} for at in range(0, len(rows), _BATCH)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return self._batches


def multiplies_bytes() -> bool:
    """Whether this processor multiplies bytes without saturating in 16 bits (VNNI, or any Arm with dot products)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def quantise(source: Path, target: Path, rows: NDArray[Any], *, track: Track = quiet) -> str:
    """Write the int8 form of a graph of one input and return which of `WAYS` was quickest here.

    Args:
        source: a float32 ONNX graph with a dynamic batch.
        target: where the int8 graph goes.
        rows: typical rows (N, ...) of its input, from training items; ranges are their minima and maxima.
        track: told of each way tried.

    Raises:
        BadInput: no rows.
    """
    if not len(rows):
        raise BadInput(
            "ranges for int8 are read off training rows, and there are none; name a dataset with a train split"
        )
    with tempfile.TemporaryDirectory() as scratch, _quiet_quantiser():
        prepared = Path(scratch) / "prepared.onnx"
        _prepare(source, prepared)
        found: dict[str, float] = {}
        for place, way in enumerate(track(list(WAYS), f"quantising {source.stem}", len(WAYS))):
            candidate = Path(scratch) / f"{place}.onnx"
            _quantise(prepared, candidate, rows, WAYS[way])
            found[way] = _milliseconds(candidate, rows)
        best = min(found, key=lambda way: found[way])
        shutil.copyfile(Path(scratch) / f"{list(WAYS).index(best)}.onnx", target)
    logging.getLogger(__name__).info(
        "int8 of %s: %s; kept %s", source.stem, ", ".join(f"{way} {ms:.2f} ms a row" for way, ms in found.items()), best
    )
    return best


def _prepare(source: Path, target: Path) -> None:
    """Fold constants and batch norms and infer shapes, so that ranges are read off the graph that will run."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def _quantise(source: Path, target: Path, rows: NDArray[Any], operators: tuple[str, ...]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    name = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    quantize_static(
        str(source),
        str(target),
        _Rows(name, rows),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(operators),
        per_channel=True,
        # Without VNNI two products of full bytes overflow 16 bits; 7-bit weights do not.
        reduce_range=not multiplies_bytes(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=_masking(onnx.load(str(source))),
        extra_options={"MatMulConstBOnly": True, "ActivationSymmetric": False, "WeightSymmetric": True},
    )


def _masking(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that apply a mask of infinities: no range of bytes holds both infinity and the scores."""
    endless = {one.name for one in model.graph.initializer if np.isinf(numpy_helper.to_array(one)).any()}
    found = []
    for node in model.graph.node:
        if not endless & set(node.input):
            continue
        if node.op_type in _REARRANGE:
            endless |= set(node.output)
        else:
            found.append(node.name)
    return found


def _milliseconds(path: Path, rows: NDArray[Any]) -> float:
    """Geometric mean over the batch sizes of the median processor milliseconds a row, on one thread."""
    from vitrine.backends.onnxruntime import session_options

    session = ort.InferenceSession(str(path), session_options(1), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    means = []
    for batch in _TIMED:
        some = np.resize(rows, (batch, *rows.shape[1:]))
        session.run(None, {name: some})
        times = []
        for _ in range(_ROUNDS):
            began = time.thread_time()  # one thread runs it, and what else the machine does must not decide
            session.run(None, {name: some})
            times.append((time.thread_time() - began) / batch * 1000)
        means.append(median(times))
    return geometric_mean(means)


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """The quantiser advises on the root logger about layers that it leaves alone on purpose."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
