"""A version between a bundle and the artifact store: its files and its manifest in, the same out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vitrine.artifacts import ArtifactStore
from vitrine.bundle import Bundle, Parity
from vitrine.errors import Conflict, NotFound, Tampered
from vitrine.events import Registered
from vitrine.lifecycle import ModelState, VersionState
from vitrine.manifest import Manifest


def store(artifacts: ArtifactStore, bundle: Bundle) -> None:
    """Put every file of a bundle, and its manifest last.

    Raises:
        Tampered: a file is not the one that the manifest digested.
    """
    for ref in bundle.manifest.files():
        if artifacts.put_file(bundle.path(ref)) != ref.sha256:
            raise Tampered(f"{ref.path} at {bundle.path(ref)} changed while it was registered; make the bundle again")
    artifacts.put_bytes(bundle.manifest.to_json().encode())


def manifest_of(artifacts: ArtifactStore, version: VersionState) -> Manifest:
    """The verified manifest of a version.

    Raises:
        NotFound, Tampered: it is missing or was changed.
    """
    return Manifest.from_json(artifacts.read(version.digest).decode())


def load(artifacts: ArtifactStore, version: VersionState) -> Bundle:
    """The version's bundle; every byte was compared with its digest just now.

    Raises:
        NotFound, Tampered: a file is missing or was changed.
    """
    manifest, event = manifest_of(artifacts, version), version.registered
    try:
        paths = {ref.path: artifacts.path(ref.sha256) for ref in manifest.files()}
    except NotFound as error:
        if not version.retired:
            raise
        raise NotFound(
            f"{event.model}@{event.version} is retired and its files were cleaned up; to have it again, register the "
            "same bundle, or import its export: vitrine models import FILE"
        ) from error
    return Bundle(manifest, paths, event.lineage, Parity(**event.parity) if event.parity else None)


def draft(
    model: ModelState, bundle: Bundle, number: int | None, above: int, lineage: Mapping[str, Any], **stamp: str
) -> Registered:
    """The event that makes a bundle the version `number` of a model, by default the next one over `above` too.

    Raises:
        Conflict: the number is taken.
    """
    chosen = number or max(above, *model.versions, 0) + 1
    if chosen in model.versions:
        raise Conflict(
            f"{model.name}@{chosen} exists already with other content ({model.versions[chosen].digest[:12]}); "
            "a version never changes: leave the number out to get the next one"
        )
    return Registered(
        model=model.name,
        version=chosen,
        digest=bundle.manifest.digest,
        lineage={**bundle.lineage, **lineage},
        parity=asdict(bundle.parity) if bundle.parity else None,
        **stamp,  # type: ignore[arg-type]
    )


def same_number(event: Registered, version: int | None) -> Registered:
    """The event itself, if `version` is its number or left open.

    Raises:
        Conflict: the content has another number.
    """
    if version not in {None, event.version}:
        raise Conflict(
            f"this content is registered as {event.model}@{event.version} already and cannot be version {version} "
            f"too; use {event.model}@{event.version}"
        )
    return event
