"""Reading a registry again: are all files as they were registered, do the events still add up?"""

from __future__ import annotations

from collections.abc import Sequence

from vitrine.artifacts import ArtifactStore
from vitrine.errors import Conflict, NotFound
from vitrine.events import Event
from vitrine.lifecycle import VersionState, fold
from vitrine.manifest import Manifest


def problems(artifacts: ArtifactStore, events: Sequence[Event]) -> list[str]:
    """One sentence a problem of the whole log and every stored file; none if all is well."""
    found = _gap(events)
    try:
        state = fold(events)
    except (Conflict, NotFound) as error:
        return [*found, f"the event log contradicts itself: {error}; restore a backup"]
    known = {sha: artifacts.problem(sha) for sha in artifacts.all()}
    versions = [version for model in state.models.values() for version in model.versions.values()]
    named = {sha for version in versions for _, sha in _files(artifacts, version)}
    for version in versions:
        found += version_problems(artifacts, version, known)
    return found + [problem for sha, problem in known.items() if problem and sha not in named]


def version_problems(artifacts: ArtifactStore, version: VersionState, known: dict[str, str]) -> list[str]:
    """One sentence a damaged or missing file of a version; `known` (sha256 -> problem or "") saves reading twice."""
    found = []
    for what, sha in _files(artifacts, version):
        if sha not in known:
            known[sha] = artifacts.problem(sha)
        if known[sha] and not _cleaned_up(artifacts, version, sha):
            found.append(f"{version.registered.model}@{version.number}: {what}: {known[sha]}")
    return found


def _cleaned_up(artifacts: ArtifactStore, version: VersionState, sha: str) -> bool:
    """Whether a clean-up may have taken the file: of retired versions the manifest and the results stay."""
    lasting = {version.digest, *(evaluation.per_query for evaluation in version.evaluations)}
    return version.retired and sha not in lasting and not artifacts.has(sha)


def _files(artifacts: ArtifactStore, version: VersionState) -> list[tuple[str, str]]:
    """(what it is, sha256) of every artifact that a version's events name."""
    found = [("manifest", version.digest)]
    if not artifacts.problem(version.digest):
        manifest = Manifest.from_json(artifacts.read(version.digest).decode())
        found += [(ref.path, ref.sha256) for ref in manifest.files()]
    found += [(f"per-query results on {e.dataset} via {e.via}", e.per_query) for e in version.evaluations]
    return found + [(f"{e.backend} {e.precision} engine", e.artifact) for e in version.engines]


def _gap(events: Sequence[Event]) -> list[str]:
    missing = next((place for place, event in enumerate(events, start=1) if event.seq != place), None)
    return [f"the event log has no event {missing}: somebody removed it; restore a backup"] if missing else []
