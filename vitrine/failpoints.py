"""Named moments at which a crash test may kill the process: what must survive is proved there, not hoped for.

`VITRINE_CRASH_AT=promote.embedded` kills the process with SIGKILL when it reaches that point; `promote.embedded:3`
the third time. Without the variable a point costs one dictionary lookup.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

POINTS: dict[str, str] = {}
"""Name -> what has just been done there. Modules add theirs with `point`."""

_reached: Counter[str] = Counter()


def point(name: str, after: str) -> str:
    """Declare a point once, at import; returns its name."""
    if name in POINTS:
        raise ValueError(f"the failpoint {name} is declared twice")
    POINTS[name] = after
    return name


def reach(name: str) -> None:
    """Pass a point; dies here if the environment says so."""
    wanted = os.environ.get("VITRINE_CRASH_AT")
    if wanted is None:
        return
    place, _, times = wanted.partition(":")
    if place != name:
        return
    _reached[name] += 1
    if _reached[name] >= int(times or 1):
        os.kill(os.getpid(), signal.SIGKILL)
