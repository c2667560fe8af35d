"""How much memory is left for a second version beside the live one, and how little of it the garbage collector looks at."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from services.snapshot import Snapshot

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_ENGINE_FACTOR = 2
"""An engine holds its file's weights and about as much again in working memory."""


def spare_the_collector() -> None:
    """Let Python's garbage collector pass over all that exists now; call it after imports, before a version is loaded.

    Modules live as long as the process, and looking through the 130,000 objects of a bento's holds every request up for
    some 80 ms. What is loaded later, such as versions that are swapped, is still collected.
    """
    gc.collect()
    gc.freeze()


def may_stand_by(setting: str) -> Callable[[Snapshot], bool]:
    """Whether a second version may be kept loaded: `on`, `off`, or `auto` where memory allows it."""
    return {"on": lambda _: True, "off": lambda _: False}.get(setting, has_room_for)


def has_room_for(snapshot: Snapshot, available: int | None = None) -> bool:
    """Whether a snapshot may stay in memory so that yet another of its size could be loaded beside it."""
    left = available_bytes() if available is None else available
    return left >= 2 * size_of(snapshot)


def size_of(snapshot: Snapshot) -> int:
    """About how many bytes a loaded version takes: its files, its engine's working memory, its vectors."""
    bundle = snapshot.encoder.bundle
    files = sum(bundle.path(ref).stat().st_size for ref in bundle.manifest.files())
    return _ENGINE_FACTOR * files + 4 * bundle.manifest.dim * snapshot.items


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """What this process may still take, by the machine and by its container; 0 where neither tells."""
    told = [left for left in (_machine(meminfo), _container(cgroup)) if left is not None]
    return min(told, default=0)


def _machine(meminfo: Path) -> int | None:
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _container(cgroup: Path) -> int | None:
    """The control group's limit less what is in use; file pages do not count, they are given back."""
    limit, used, stat = (cgroup / name for name in ("memory.max", "memory.current", "memory.stat"))
    if not (limit.is_file() and used.is_file() and stat.is_file()):
        return None
    most = limit.read_text().strip()
    if most == "max":
        return None
    pages = dict(line.split() for line in stat.read_text().splitlines())
    return int(most) - int(used.read_text()) + int(pages.get("inactive_file", 0))
