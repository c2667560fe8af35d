"""Promotions and rollbacks on command, in a process of its own: the load does not share its threads.

python -m benchmarks.promotion_switcher MODEL CATALOGUE      # reads `promote N` and `rollback N`
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from vitrine.gates import GateSettings
from vitrine.home import find_home
from vitrine.names import collection_name
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.promotion_rollback import roll_back
from vitrine.registry import open_registry


class Switcher:
    """Carries promotions and rollbacks out at a low priority; the load does not share its process."""

    def __init__(self, model: str, catalogue: str) -> None:
        own = [sys.executable, "-m", "benchmarks.promotion_switcher", model, catalogue]
        self._process = subprocess.Popen(
            ["nice", "-n", "19", *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def ask(self, what: str, number: int) -> float:
        """`promote` a version or `rollback`; returns when its event was written, by the machine's monotonic clock."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {number}\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline() or sys.exit("the switcher ended; see its error above"))
        if told["version"] != number:
            sys.exit(f"the switcher made version {told['version']} live, {number} was wanted")
        return float(told["at"])


def switch_on_command(model: str, catalogue: str) -> None:
    """Read `promote N` and `rollback N` from standard input; the verdicts of the gates are taken as given."""
    home = find_home()
    work = Promotion(open_registry(home), home, GateSettings(), threads=1, why="soak")
    for line in sys.stdin:
        what, number = line.split()
        if what == "promote":
            live = work.registry.state().model(model).production
            name, nothing = collection_name(catalogue, model, int(number)), Disk(0, 0, 0, 0, 1)
            done = work.carry_out(Plan(model, int(number), live, catalogue, name, 0, 0, 0.0, nothing, ()))
        else:
            done = roll_back(work, model)
        print(json.dumps({"version": done.version, "at": time.monotonic()}), flush=True)


if __name__ == "__main__":
    switch_on_command(*sys.argv[1:])
