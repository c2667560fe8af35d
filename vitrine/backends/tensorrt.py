"""TensorRT on NVIDIA GPUs: a plan a graph, built for this GPU and this version of the library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from vitrine.backends._tensorrt_build import Lengths, build_plan
from vitrine.backends._tensorrt_library import architecture, library, need_driver
from vitrine.bundle import Bundle
from vitrine.errors import BadInput
from vitrine.manifest import Graph
from vitrine.ports import GraphRows, Precision
from vitrine.progress import Track
from vitrine.text_lengths import LENGTH, lengths_of

if TYPE_CHECKING:
    import onnx

    from vitrine.backends._tensorrt_run import PlanRunner

PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
BUILT: tuple[Precision, ...] = PRECISIONS


class TensorRTEngine:
    """One plan a graph, each with its own buffers and stream."""

    name = "tensorrt"

    def __init__(self, runners: Mapping[str, PlanRunner], precision: Precision) -> None:
        self.precision = precision
        self._runners = dict(runners)

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one named graph."""
        return self._runners[graph].run(inputs)


def worthwhile() -> tuple[Precision, ...]:
    """All of them; `target` says whether there is a GPU."""
    return PRECISIONS


def target() -> str:
    """GPU architecture and library version: a plan fits nothing else."""
    found = library()
    need_driver()
    return f"{architecture()} {found.version}"


def build(bundle: Bundle, *, precision: Precision, folder: Path, calibration: GraphRows, track: Track) -> None:
    """Write one plan a graph; see `vitrine.ports.Backend`. Timings of kernels are kept beside `folder`."""
    del calibration  # ranges matter to int8 alone
    _check(precision)
    found, bound = library(), target()
    timings = folder.parent / f"{bound.replace(' ', '-')}.timings"
    for name, graph in track(list(bundle.manifest.graphs.items()), "building plans", len(bundle.manifest.graphs)):
        lengths = text_lengths(bundle, graph)
        plan = build_plan(found, typed_graph(bundle, graph, precision), lengths=lengths, timings=timings)
        (folder / f"{name}.plan").write_bytes(plan)


def load(bundle: Bundle, *, threads: int, precision: Precision = "fp16", built: Path | None = None) -> TensorRTEngine:
    """Load every plan; see `vitrine.ports.Backend`. The processor's threads have nothing to do."""
    del threads
    _check(precision)
    found = library()
    need_driver()
    if built is None:
        raise BadInput(
            f"tensorrt runs from built files; build them: vitrine engine build NAME@N --backend tensorrt --precision {precision}"
        )
    from vitrine.backends._tensorrt_run import PlanRunner

    plans = {name: (built / f"{name}.plan").read_bytes() for name in bundle.manifest.graphs}
    return TensorRTEngine({name: PlanRunner(found, plan) for name, plan in plans.items()}, precision)


def typed_graph(bundle: Bundle, graph: Graph, precision: Precision) -> bytes:
    """The serialised graph in the types of a precision, bytes made floats at once."""
    import onnx

    from vitrine.mixed_precision import lower

    model = onnx.load(str(bundle.path(graph.file)))
    floats_at_once(model)
    if precision in ("fp16", "bf16"):
        model = lower(model, precision)
    serialised: bytes = model.SerializeToString()
    return serialised


def text_lengths(bundle: Bundle, graph: Graph) -> Lengths | None:
    """Fewest, usual and most tokens of a text graph that takes any length; None for every other graph."""
    told = bundle.manifest.tokenizer
    if told is None or LENGTH not in graph.inputs[0].shape:
        return None
    lengths = lengths_of(graph, told.context_length)
    return lengths[0], lengths[min(1, len(lengths) - 1)], lengths[-1]


def floats_at_once(model: onnx.ModelProto) -> None:
    """Put a cast right behind every uint8 input: TensorRT takes bytes in, but only to cast them."""
    from onnx import TensorProto, helper

    graph = model.graph
    given = [one.name for one in graph.input if one.type.tensor_type.elem_type == TensorProto.UINT8]
    for node in graph.node:
        node.input[:] = [f"{name}__float" if name in given else name for name in node.input]
    for name in given:
        graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}__float"], to=TensorProto.FLOAT))
    del graph.value_info[:]  # what was bytes between the input and its cast is no longer


def _check(precision: Precision) -> None:
    if precision not in PRECISIONS:
        raise BadInput(f"tensorrt runs {', '.join(PRECISIONS)}, not {precision}", field="precision")
