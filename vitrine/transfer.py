"""Versions from one registry to another through a file (`vitrine.export_file`)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine import failpoints, versions
from vitrine.bundle import Bundle, Parity
from vitrine.errors import BadInput, Conflict, Tampered
from vitrine.events import Evaluated, Event, Registered, from_payload, to_payload
from vitrine.export_file import Header, read_export, write_export
from vitrine.lifecycle import ModelState, VersionState
from vitrine.manifest import Manifest
from vitrine.registry import Registry

VERIFIED = failpoints.point("import.verified", "the file is whole and unpacked, nothing of it is in the registry")
TAKEN_IN = failpoints.point("import.registered", "the version is registered, its measurements are not recorded yet")


@dataclass(frozen=True)
class Imported:
    """What an import did: the version's event, whether it is new here, and how many measurements came along."""

    event: Registered
    new: bool
    evaluations: int


def export_version(registry: Registry, ref: str, path: Path, *, history: bool = False) -> Header:
    """Write a version to one file; every byte is compared with its digest on the way.

    Args:
        registry: where the version is.
        ref: which one.
        path: the file; an older export there is replaced.
        history: with its newest measurements and everything that happened to it.

    Raises:
        NotFound: no such version, or one of its files is missing.
        Tampered: a file was changed.
        BadInput: something else lies at `path`.
    """
    version = registry.resolve(ref)
    event, manifest = version.registered, versions.manifest_of(registry.artifacts, version)
    newest = _newest(version) if history else []
    shas = {event.digest, *(file.sha256 for file in manifest.files()), *(found.per_query for found in newest)}
    files = {sha: registry.artifacts.path(sha) for sha in sorted(shas)}
    about = {"at": event.at, "actor": event.actor, "why": event.why, "lineage": event.lineage, "parity": event.parity}
    header = Header(
        model=event.model,
        version=event.version,
        digest=event.digest,
        registered=about,
        files={sha: place.stat().st_size for sha, place in files.items()},
        evaluations=tuple({"at": e.at, "actor": e.actor, **to_payload(e)} for e in newest),
        history=tuple(_sentence(e) for e in _events(registry, version)) if history else (),
    )
    write_export(path, header, files)
    return header


def import_version(registry: Registry, path: Path, *, name: str = "", version: int | None = None) -> Imported:
    """Register the version that a file holds; repeating it changes nothing.

    Args:
        registry: where to.
        path: the file; it is read and verified to its end before anything is registered.
        name: another model's name; the one in the file by default.
        version: a number; by default the one in the file, under another name the next one.

    Raises:
        NotFound: no such file.
        BadInput: it is no export, or of another release.
        Tampered: it is not whole or was altered.
        Conflict: the number is another version here.
    """
    with tempfile.TemporaryDirectory() as folder:
        header, places = read_export(path, Path(folder))
        try:
            bundle, evaluations = _bundle(header, places), [_evaluated(header, one) for one in header.evaluations]
        except (BadInput, TypeError, ValueError, KeyError, AttributeError) as error:
            raise Tampered(f"{path} holds no version that can be read: {error}; nothing was imported") from error
        failpoints.reach(VERIFIED)
        before = registry.state().seq
        number = version or _number(registry, header, name)
        event = registry.register(
            name or header.model, bundle, version=number, lineage=_origin(header), why=_why(header)
        )
        failpoints.reach(TAKEN_IN)
        for found in evaluations:
            _record(registry, event, found, places[found.per_query])
        return Imported(event, event.seq > before, len(evaluations))


def _newest(version: VersionState) -> list[Evaluated]:
    return list({(e.dataset, e.protocol, e.via): e for e in version.evaluations}.values())


def _events(registry: Registry, version: VersionState) -> list[Event]:
    happened = registry.history(version.registered.model)
    return [
        event for event in happened if version.number in {getattr(event, "version", 0), getattr(event, "previous", 0)}
    ]


def _sentence(event: Event) -> str:
    return f"{event.at} {event.actor} {event.sentence()}" + (f" -- {event.why}" if event.why else "")


def _bundle(header: Header, places: Mapping[str, Path]) -> Bundle:
    manifest = Manifest.from_json(places[header.digest].read_text(encoding="utf-8"))
    if manifest.digest != header.digest:
        raise ValueError("its manifest is not in the canonical form that its digest is of")
    known = header.registered
    parity = Parity(**known["parity"]) if known["parity"] else None
    return Bundle(manifest, {ref.path: places[ref.sha256] for ref in manifest.files()}, dict(known["lineage"]), parity)


def _evaluated(header: Header, one: Mapping[str, Any]) -> Evaluated:
    fields = dict(one)
    common = {"model": header.model, "at": str(fields.pop("at")), "actor": str(fields.pop("actor"))}
    event = from_payload("Evaluated", fields, **common)
    assert isinstance(event, Evaluated)
    if event.per_query not in header.files:
        raise ValueError("the results of a measurement are not in it")
    return event


def _number(registry: Registry, header: Header, name: str) -> int | None:
    """The number in the file, unless the content has one here already or another name is given."""
    other = name not in {"", header.model}
    model = registry.state().models.get(name or header.model, ModelState(name or header.model))
    known, taken = model.by_digest(header.digest), model.versions.get(header.version)
    if known is not None or other:
        return known.number if known else None
    if taken is not None:
        raise Conflict(
            f"{header.model}@{header.version} is another version here ({taken.digest[:12]}), the file holds "
            f"{header.digest[:12]}; nothing was imported: give it a number with --version, or a name with --name"
        )
    return header.version


def _origin(header: Header) -> dict[str, Any]:
    known = header.registered
    origin = {"ref": f"{header.model}@{header.version}", "registered": f"{known['at']} by {known['actor']}"}
    return {"imported_from": origin | ({"history": list(header.history)} if header.history else {})}


def _why(header: Header) -> str:
    reason = header.registered["why"]
    return f"imported from an export of {header.model}@{header.version}" + (f": {reason}" if reason else "")


def _record(registry: Registry, event: Registered, found: Evaluated, table: Path) -> None:
    fields = {key: part for key, part in to_payload(found).items() if key not in {"version", "per_query"}}
    why = f"imported: measured by {found.actor} at {found.at}"
    registry.record_evaluation(
        event.model, event.version, per_query_path=table, why=why, **json.loads(json.dumps(fields))
    )
