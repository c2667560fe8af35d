"""What a stage cost: written beside its result, in a file that no other stage depends on."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vitrine.files import write_json

COSTS = Path("work/costs")


@dataclass
class Cost:
    """Filled in by the stage while it runs.

    Attributes:
        images: photos that went through the network, each time counted.
        parameters_trained: how many numbers the optimiser moved.
    """

    stage: str
    cell: str
    images: int = 0
    parameters_trained: int = 0
    device: str = "cpu"


@contextmanager
def measure(stage: str, cell: str, folder: Path = COSTS) -> Iterator[Cost]:
    """Time the block and write `STAGE--CELL.json` when it succeeds."""
    cost, start = Cost(stage, cell), time.perf_counter()
    yield cost
    seconds = time.perf_counter() - start
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = {
        **asdict(cost),
        "seconds": round(seconds, 3),
        "images_per_s": round(cost.images / seconds, 1),
        "peak_mb": round(peak_kb / 1024, 1),
    }
    write_json(folder / f"{stage}--{cell}.json", facts)
