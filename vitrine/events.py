"""What can happen to a model: facts, appended once and never edited.

Each event is frozen, knows its model, when, who and why, and prints itself as a sentence.
State is a fold over them (`vitrine.lifecycle`). Storage is `vitrine.eventlog`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitrine.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Event:
    """Common to all events. `at` is UTC in ISO 8601; `seq` is set by the log, 0 before that."""

    model: str
    at: str
    actor: str
    why: str = ""
    seq: int = 0

    def sentence(self) -> str:
        """What happened, in words."""
        return f"{type(self).__name__} {self.model}"


@dataclass(frozen=True, kw_only=True)
class Registered(Event):
    """A version exists: `digest` is its manifest's, which is also an artifact."""

    version: int
    digest: str
    lineage: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] | None = None

    def sentence(self) -> str:
        """What happened, in words."""
        return f"registered {self.model}@{self.version} ({self.digest[:12]})"


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """A version was measured on a dataset, `via` exact search or a Qdrant engine.

    Attributes:
        metrics: name -> value over all queries; a name carries its definition.
        queries, gallery: how many of each.
        per_query: sha256 of the parquet artifact with every query's own values.
        details: engine, index settings, ANN loss and the like.
    """

    version: int
    dataset: str
    dataset_digest: str
    protocol: str
    via: str
    metrics: Mapping[str, float]
    queries: int
    gallery: int
    per_query: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def sentence(self) -> str:
        """What happened, in words."""
        return f"evaluated {self.model}@{self.version} on {self.dataset}/{self.protocol} via {self.via}"


@dataclass(frozen=True, kw_only=True)
class EngineBuilt(Event):
    """A version was compiled for a backend at a precision; `artifact` is the engine file's sha256."""

    version: int
    backend: str
    precision: str
    target: str
    artifact: str

    def sentence(self) -> str:
        """What happened, in words."""
        return f"built the {self.backend} {self.precision} engine of {self.model}@{self.version} for {self.target}"


@dataclass(frozen=True, kw_only=True)
class IndexBuilt(Event):
    """A catalogue was embedded by a version into its own collection; `segment` names the files, `precision` the engine's."""

    version: int
    catalogue: str
    catalogue_digest: str
    collection: str
    items: int
    segment: str = ""
    precision: str = ""

    def sentence(self) -> str:
        """What happened, in words."""
        at = f" at {self.precision}" if self.precision else ""
        return f"embedded {self.items} items of {self.catalogue} with {self.model}@{self.version}{at}"


@dataclass(frozen=True, kw_only=True)
class PromotionStarted(Event):
    """A promotion passed its gates (or was overridden) and began to work."""

    version: int
    catalogue: str
    collection: str
    verdicts: tuple[Mapping[str, Any], ...] = ()

    def sentence(self) -> str:
        """What happened, in words."""
        given = [f"{v['gate']} ({v['override']})" for v in self.verdicts if v.get("outcome") == "overridden"]
        overriding = f", overriding {', '.join(given)}" if given else ""
        return f"began to promote {self.model}@{self.version} for {self.catalogue}{overriding}"


@dataclass(frozen=True, kw_only=True)
class Promoted(Event):
    """The one switch: `production` is this version with this collection from now on."""

    version: int
    catalogue: str
    collection: str
    previous: int | None = None

    def sentence(self) -> str:
        """What happened, in words."""
        before = f", before it {self.model}@{self.previous}" if self.previous else ""
        return f"promoted {self.model}@{self.version} on {self.catalogue}{before}"


@dataclass(frozen=True, kw_only=True)
class RolledBack(Event):
    """`production` is the version before again, with the collection it had."""

    version: int
    catalogue: str
    collection: str
    previous: int

    def sentence(self) -> str:
        """What happened, in words."""
        return f"rolled {self.model} back from version {self.previous} to {self.version}"


@dataclass(frozen=True, kw_only=True)
class ShadowStarted(Event):
    """A candidate answers `share` of the live searches beside production; callers never see its answers."""

    version: int
    catalogue: str
    collection: str
    share: float

    def sentence(self) -> str:
        """What happened, in words."""
        return f"began to try {self.model}@{self.version} on {self.share:.0%} of the live searches"


@dataclass(frozen=True, kw_only=True)
class ShadowStopped(Event):
    """No candidate answers beside production any more."""

    version: int

    def sentence(self) -> str:
        """What happened, in words."""
        return f"stopped trying {self.model}@{self.version} on live searches"


@dataclass(frozen=True, kw_only=True)
class AliasMoved(Event):
    """A user's own alias points at a version (`production` moves by promotion alone)."""

    alias: str
    version: int

    def sentence(self) -> str:
        """What happened, in words."""
        return f"moved {self.model}@{self.alias} to version {self.version}"


@dataclass(frozen=True, kw_only=True)
class Retired(Event):
    """A version may not be promoted any more."""

    version: int

    def sentence(self) -> str:
        """What happened, in words."""
        return f"retired {self.model}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Forgotten(Event):
    """An item of a catalogue was erased; its place in stored results has a pseudonym now.

    Attributes:
        results: sha256 of a per-query artifact -> sha256 of the one that took its place.
    """

    catalogue: str
    results: Mapping[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """What happened, in words."""
        return f"forgot an item of {self.catalogue}, which {len(self.results)} stored results of {self.model} had named"


KINDS: Mapping[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Registered,
        Evaluated,
        EngineBuilt,
        IndexBuilt,
        PromotionStarted,
        Promoted,
        RolledBack,
        ShadowStarted,
        ShadowStopped,
        AliasMoved,
        Retired,
        Forgotten,
    )
}


def to_payload(event: Event) -> dict[str, Any]:
    """The event's own fields as JSON-ready values, without `seq` and without the common ones."""
    common = {item.name for item in dataclasses.fields(Event)}
    return {key: value for key, value in dataclasses.asdict(event).items() if key not in common}


def from_payload(kind: str, payload: Mapping[str, Any], **common: Any) -> Event:
    """The inverse of `to_payload`.

    Raises:
        BadInput: an event kind that this release does not know.
    """
    if kind not in KINDS:
        raise BadInput(f"the registry holds an event {kind!r} that this release does not know; use a newer one")
    fields = dict(payload)
    if "verdicts" in fields:
        fields["verdicts"] = tuple(fields["verdicts"])
    try:
        return KINDS[kind](**fields, **common)
    except TypeError as error:
        raise BadInput(
            f"the registry holds a {kind} event that this release cannot read ({error}); use the release that wrote it"
        ) from error
