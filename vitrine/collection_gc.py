"""`vitrine index gc`: what nobody needs any more of collections, their indexes and their deltas, and unfinished datasets.

A plan is made first and can be looked at alone. Collections go at once; files that a command or a server may be reading
at this moment (old segments, unfinished writes) go when they are older than a day.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine import plugins
from vitrine.catalogue_tables import open_tables
from vitrine.collection import LOCK, POINTER, open_collection
from vitrine.collection_roles import Use, collections_here, collections_in_use
from vitrine.deltas import DeltaLog
from vitrine.errors import BadInput, Tampered
from vitrine.failpoints import point, reach
from vitrine.files import abandoned_drafts
from vitrine.home import Home
from vitrine.progress import Track, quiet
from vitrine.registry import Registry

OLD_S = 24 * 3600.0

INDEX_DROPPED = point("index.gc.index", "the index of an unused collection is gone, its files are there")
MOVED_AWAY = point("index.gc.moved", "an unused collection is out of sight, its files and deltas are there")


@dataclass(frozen=True)
class Removal:
    """One thing that goes.

    Attributes:
        kind: "collection", "segment", "unfinished", "artifact" or "deltas".
        name: the collection, or the file below the home.
        path: what is removed on disk; None where there is nothing.
    """

    kind: str
    name: str
    why: str
    size: int
    path: Path | None
    up_to: int = 0

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"kind": self.kind, "name": self.name, "why": self.why, "bytes": self.size}


def plan_gc(registry: Registry, home: Home, *, old_s: float = OLD_S) -> list[Removal]:
    """What nobody needs; changes nothing.

    Args:
        registry: says what is in use.
        home: where to look.
        old_s: leftovers younger than this many seconds stay.
    """
    uses = collections_here(registry.log.read(), home.collections)
    log, before = DeltaLog(open_tables(home.registry_url)), time.time() - old_s
    plan: list[Removal] = []
    for folder in _folders(home.collections):
        if folder.name in uses:
            plan += _inside(folder, log, before)
        elif _being_built(home, folder.name, before):
            continue
        elif (folder / POINTER).is_file():
            plan.append(_removal("collection", folder.name, "neither live nor kept for a rollback", folder))
        elif _older(folder, before):
            plan.append(_removal("unfinished", folder.name, "a collection that was never finished", folder))
    named = {removal.name for removal in plan} | {folder.name for folder in _folders(home.collections)}
    plan += [
        Removal("deltas", name, "their collection is gone", 0, None)
        for name in log.collections()
        if name not in named | set(uses)
    ]
    return plan + list(_leftovers(home, uses, before))


def carry_out(
    registry: Registry,
    home: Home,
    plan: list[Removal],
    *,
    index: str,
    settings: Mapping[str, Any],
    track: Track = quiet,
) -> list[Removal]:
    """Remove what is planned; a collection that came into use meanwhile stays. A repeated call finishes.

    Returns:
        What was removed.

    Raises:
        Unavailable: the index server cannot be reached; the collection and its files stay.
    """
    done = []
    log = DeltaLog(open_tables(home.registry_url))
    for removal in track(plan, "removing"):
        if removal.kind == "collection":
            in_use = removal.name in collections_in_use(registry.log.read())
            if in_use or _being_built(home, removal.name, time.time() - OLD_S):
                continue
            _drop_collection(removal, log, index, settings)
        elif removal.kind == "deltas":
            _drop_deltas(removal, log)
        elif removal.path is not None and removal.path.is_dir():
            shutil.rmtree(removal.path, ignore_errors=True)
        elif removal.path is not None:
            removal.path.unlink(missing_ok=True)
        done.append(removal)
    return done


def _drop_collection(removal: Removal, log: DeltaLog, index: str, settings: Mapping[str, Any]) -> None:
    assert removal.path is not None
    try:
        collection = open_collection(removal.path)
    except (BadInput, Tampered):  # of another release, or damaged: it has no index that this one could name
        pass
    else:
        plugins.load("indexes", index).drop(collection, settings)
    reach(INDEX_DROPPED)
    away = removal.path.with_name(f".{removal.name}.dropped")
    shutil.rmtree(away, ignore_errors=True)
    removal.path.rename(away)  # in one step: nobody opens half a collection
    reach(MOVED_AWAY)
    log.drop(removal.name)
    shutil.rmtree(away, ignore_errors=True)


def _drop_deltas(removal: Removal, log: DeltaLog) -> None:
    if removal.up_to:
        log.prune(removal.name, removal.up_to)
    else:
        log.drop(removal.name)


def _inside(folder: Path, log: DeltaLog, before: float) -> Iterator[Removal]:
    """Old segments of a collection in use, and deltas that its files hold."""
    if not (folder / POINTER).is_file() or not _older(folder / POINTER, before):
        return
    try:
        info = open_collection(folder).info
    except (BadInput, Tampered):  # which segment counts is not known
        return
    for path in sorted(folder.iterdir()):
        if path.name in {info.segment, POINTER, LOCK} or not _older(path, before):
            continue
        if info.segment:  # without one the files lie here themselves
            yield _removal("segment", f"{folder.name}/{path.name}", "there is a newer segment", path)
    folded = log.count(info.name, 0) - log.count(info.name, info.seq)
    if folded:
        yield Removal("deltas", info.name, f"{folded} are in the collection's files", 0, None, up_to=info.seq)


def _leftovers(home: Home, uses: Mapping[str, Use], before: float) -> Iterator[Removal]:
    """Folders of writes that were cut off, and artifacts that never got their place."""
    for path in sorted(home.collections.glob(".*")):
        if _older(path, before):
            yield _removal("unfinished", path.name, "left by a command that was cut off", path)
    for path in sorted((home.root / "building").glob("*")):  # vectors of promotions that may go on
        role = uses[path.name].role if path.name in uses else ""
        if role != "promotion" and all(_older(file, before) for file in [path, *path.rglob("*")]):
            yield _removal("unfinished", f"building/{path.name}", "nobody went on with it", path)
    for path in sorted((home.artifacts / "incoming").glob("*")):
        if _older(path, before):
            yield _removal("artifact", path.name, "left by a command that was cut off", path)
    for path in abandoned_drafts(home.datasets):
        if _older(path, before):
            yield _removal("unfinished", path.name, "a dataset that was never finished", path)


def _being_built(home: Home, name: str, before: float) -> bool:
    """Whether a command is making the collection, or was cut off less than a day ago, and the history does not say so yet."""
    place = home.root / "building" / name
    return place.exists() and not all(_older(file, before) for file in [place, *place.rglob("*")])


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("[!.]*") if path.is_dir())


def _removal(kind: str, name: str, why: str, path: Path) -> Removal:
    return Removal(kind, name, why, sum(_size(file) for file in [path, *path.rglob("*")]), path)


def _size(path: Path) -> int:
    """Bytes of a file; 0 for a folder, or where somebody just removed it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False
