"""What a stage cost: written beside its result, in a file that no other stage depends on."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitrine.files import write_json

COSTS = Path("work/costs")


@dataclass
class Cost:
    """Filled in by the stage while it runs.

    Attributes:
        images: photos that went through the network, each time counted.
        image_seconds: seconds of them, where the stage does much else; None for the whole stage.
        parameters_trained: how many numbers the optimiser moved.
        device: `cpu`, `cuda:0`, or a name; a GPU is written down by its name.
        timing: parts of the stage, as it likes to name them.
    """

    stage: str
    cell: str
    images: int = 0
    image_seconds: float | None = None
    parameters_trained: int = 0
    device: str = "cpu"
    timing: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def measure(stage: str, cell: str, folder: Path = COSTS) -> Iterator[Cost]:
    """Time the block and write `STAGE--CELL.json` when it succeeds: wall and processor seconds, MiB at the peak.

    A stage that goes on after an interruption counts from there.
    """
    cost, start, before = Cost(stage, cell), time.perf_counter(), time.process_time()
    yield cost
    seconds = time.perf_counter() - start
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = {
        **asdict(cost),
        "device": _device_name(cost.device),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(time.process_time() - before, 3),
        "images_per_s": round(cost.images / (cost.image_seconds or seconds), 1),
        "peak_mb": round(peak_kb / 1024, 1),
        "gpu_peak_mb": _gpu_peak_mb(),
    }
    write_json(folder / f"{stage}--{cell}.json", facts)


def _device_name(device: str) -> str:
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name(device)) if torch and device.startswith("cuda") else device


def _gpu_peak_mb() -> float | None:
    """Most GPU memory that tensors took; None where no GPU was used. It never starts CUDA by itself."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return round(float(torch.cuda.max_memory_allocated()) / 2**20, 1)
