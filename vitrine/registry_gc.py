"""Cleaning up the artifacts: what no event and no catalogue names, what interrupted writes left, engines of no version.

A file that was put recently stays, named or not: somebody may be about to append the event that names it.
Storing a file again makes it recent (`ArtifactStore.put_file`).
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrine import failpoints, versions
from vitrine.artifacts import ArtifactStore, Stored
from vitrine.artifacts_remote import REFRESH_S, RemoteArtifacts
from vitrine.catalogue import catalogue_names, open_catalogue
from vitrine.engines import all_records
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.home import Home
from vitrine.lifecycle import State, VersionState
from vitrine.progress import Track, quiet
from vitrine.registry import Registry

RECENT_S = 2 * REFRESH_S
"""Files put within that many seconds are never unnamed."""

REMOVED_ONE = failpoints.point("models-gc.removed", "one file of the plan is gone, others are not")


@dataclass(frozen=True)
class Removal:
    """One file, or one folder of a built engine, that goes.

    Attributes:
        kind: `unnamed`, `leftover` (of an interrupted write), `retired`, `copy` (of a file that is kept elsewhere) or
            `engine`.
        file: which.
        why: in words.
        folder: of an engine.
    """

    kind: str
    file: Stored
    why: str
    folder: Path | None = None


def plan_gc(registry: Registry, home: Home, *, retired: bool = False, recent_s: float = RECENT_S) -> list[Removal]:
    """What a clean-up would remove; changes nothing.

    Args:
        registry: whose artifacts.
        home: whose catalogues keep photos there too.
        retired: the graphs and engines of retired versions too; manifests and results stay, so that cards and reports do.
        recent_s: files put within that many seconds stay.

    Raises:
        Tampered, NotFound: a manifest is damaged or missing, so that nobody knows which files its version needs.
        BadInput: `recent_s` is negative.
    """
    if recent_s < 0:
        raise BadInput(f"{recent_s / 3600:g} hours are no age; give 0 or more", field="older-than")
    before, artifacts, state = time.time() - recent_s, registry.artifacts, registry.state()
    going = _of_retired(artifacts, state) if retired else {}
    kept = _named(artifacts, state, home) - set(going)
    found: list[Removal] = []
    for file in artifacts.listing():
        if file.name in going:
            found.append(Removal("retired", file, f"a file of {going[file.name]}, which is retired"))
        elif file.name not in kept and file.modified < before:
            found.append(Removal("unnamed", file, "no event and no catalogue names it"))
    found += [
        Removal("leftover", file, "an interrupted write left it")
        for file in artifacts.leftovers()
        if file.modified < before
    ]
    found += _engines(home.engines, state, before, retired=retired)
    return found + list(_copies(artifacts, state))


def carry_out_gc(registry: Registry, plan: list[Removal], *, track: Track = quiet) -> list[Removal]:
    """Remove what the plan names; returns what went. Repeating it after a kill does the rest.

    A file that somebody stored again since the plan was made stays.

    Raises:
        Unavailable: the artifacts cannot be reached or written.
    """
    gone = []
    for removal in track(plan, "files"):
        if _remove(registry.artifacts, removal):
            gone.append(removal)
        failpoints.reach(REMOVED_ONE)
    return gone


def _remove(artifacts: ArtifactStore, removal: Removal) -> bool:
    file = removal.file
    if removal.folder is not None:
        return _remove_folder(removal.folder)
    if removal.kind == "leftover":
        artifacts.remove_leftover(file.name)
        return True
    if removal.kind == "copy":
        assert isinstance(artifacts, RemoteArtifacts)
        return artifacts.copies.remove(file.name)
    return artifacts.remove(file.name, unless_put_after=file.modified)


def _remove_folder(folder: Path) -> bool:
    away = folder.with_name(f".{secrets.token_hex(8)}.gone")
    try:
        folder.rename(away)  # in one step: nobody loads half an engine
    except FileNotFoundError:
        return True
    shutil.rmtree(away, ignore_errors=True)  # what stays is a leftover
    return True


def _named(artifacts: ArtifactStore, state: State, home: Home) -> set[str]:
    """Every digest that an event or a catalogue needs."""
    shas = {sha for version in _versions(state) for sha in _needs(artifacts, version)}
    for name in catalogue_names(home):
        shas |= open_catalogue(home, name).photo_digests()
    return shas


def _needs(artifacts: ArtifactStore, version: VersionState) -> Iterator[str]:
    yield version.digest
    yield from _graphs(artifacts, version)
    yield from (evaluation.per_query for evaluation in version.evaluations)
    yield from (engine.artifact for engine in version.engines)


def _graphs(artifacts: ArtifactStore, version: VersionState) -> set[str]:
    try:
        return {file.sha256 for file in versions.manifest_of(artifacts, version).files()}
    except (NotFound, Tampered) as error:
        ref = f"{version.registered.model}@{version.number}"
        raise type(error)(f"nothing was removed: which files {ref} needs is not known, because {error}") from error


def _of_retired(artifacts: ArtifactStore, state: State) -> dict[str, str]:
    """sha256 -> the retired version that alone needs it."""
    gone = [version for version in _versions(state) if version.retired]
    staying = {sha for version in _versions(state) if not version.retired for sha in _needs(artifacts, version)}
    going: dict[str, str] = {}
    for version in gone:
        built = {engine.artifact for engine in version.engines}
        going |= dict.fromkeys(_graphs(artifacts, version) | built, f"{version.registered.model}@{version.number}")
    lasting = {sha for version in gone for sha in (version.digest, *(e.per_query for e in version.evaluations))}
    return {sha: ref for sha, ref in going.items() if sha not in staying | lasting}


def _engines(root: Path, state: State, before: float, *, retired: bool) -> Iterator[Removal]:
    """Engines of content that no version has, of retired versions if asked, and what interrupted builds left."""
    known = {version.digest for version in _versions(state)}
    wanted = {version.digest for version in _versions(state) if not version.retired}
    for folder, record in all_records(root):
        found = _as_stored(folder)
        if record.key.digest not in known and found.modified < before:
            yield Removal("engine", found, f"built of {record.key.digest[:12]}, which is no version here", folder)
        elif retired and record.key.digest in known - wanted:
            yield Removal("engine", found, f"built of {record.key.digest[:12]}, which is retired", folder)
    for folder in sorted(path for path in root.glob(".*") if path.is_dir()):
        found = _as_stored(folder)
        if found.modified < before:
            yield Removal("leftover", found, "an interrupted build left it", folder)


def _as_stored(folder: Path) -> Stored:
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    newest = max([folder.stat().st_mtime, *(file.st_mtime for file in files)])
    return Stored(f"engines/{folder.name}", sum(file.st_size for file in files), newest)


def _copies(artifacts: ArtifactStore, state: State) -> Iterator[Removal]:
    """Copies on this machine that no live version and none kept for a rollback needs."""
    if not isinstance(artifacts, RemoteArtifacts):
        return
    live = {
        sha
        for model in state.models.values()
        for production in (model.production, model.before_production)
        if production is not None
        for sha in _needs(artifacts, model.versions[production.version])
    }
    for file in artifacts.copies.listing():
        if file.name not in live:
            yield Removal("copy", file, "it can be fetched again")


def _versions(state: State) -> Iterable[VersionState]:
    return [version for model in state.models.values() for version in model.versions.values()]
