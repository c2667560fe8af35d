"""State is a fold over events: which versions exist, what is live, what was live before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vitrine.errors import NotFound
from vitrine.events import (
    AliasMoved,
    EngineBuilt,
    Evaluated,
    Event,
    IndexBuilt,
    Promoted,
    Registered,
    Retired,
    RolledBack,
)
from vitrine.names import PRODUCTION, Ref


@dataclass
class VersionState:
    """One version with everything that was ever found out about it."""

    registered: Registered
    evaluations: list[Evaluated] = field(default_factory=list)
    engines: list[EngineBuilt] = field(default_factory=list)
    indexes: list[IndexBuilt] = field(default_factory=list)
    retired: bool = False

    @property
    def number(self) -> int:
        """The version's number."""
        return self.registered.version

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.registered.digest

    def evaluation(self, dataset: str, protocol: str, via: str) -> Evaluated | None:
        """The newest evaluation of that kind, or None."""
        fitting = [e for e in self.evaluations if (e.dataset, e.protocol, e.via) == (dataset, protocol, via)]
        return fitting[-1] if fitting else None


@dataclass(frozen=True)
class Production:
    """What is live: a version with the collection that was embedded by it."""

    version: int
    catalogue: str
    collection: str


@dataclass
class ModelState:
    """A model: its versions by number, the users' aliases, and the stack of productions."""

    name: str
    versions: dict[int, VersionState] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    productions: list[Production] = field(default_factory=list)

    @property
    def production(self) -> Production | None:
        """What is live now, or None."""
        return self.productions[-1] if self.productions else None

    @property
    def before_production(self) -> Production | None:
        """What a rollback would bring back, or None."""
        return self.productions[-2] if len(self.productions) > 1 else None

    def by_digest(self, digest: str) -> VersionState | None:
        """The version with that content, or None."""
        return next((v for v in self.versions.values() if v.digest == digest), None)

    def resolve(self, ref: Ref) -> VersionState:
        """The version that a reference names; a bare name means production, else the newest.

        Raises:
            NotFound: no such version or alias; the message lists what there is.
        """
        if ref.version is not None:
            number = ref.version
        elif ref.alias == PRODUCTION:
            if self.production is None:
                raise NotFound(f"{self.name} has no production version yet; see: vitrine promote {self.name}@N")
            number = self.production.version
        elif ref.alias is not None:
            if ref.alias not in self.aliases:
                known = ", ".join(sorted({PRODUCTION, *self.aliases}))
                raise NotFound(f"{self.name} has no alias {ref.alias!r}, only: {known}")
            number = self.aliases[ref.alias]
        else:
            number = self.production.version if self.production else max(self.versions)
        if number not in self.versions:
            known = ", ".join(str(n) for n in sorted(self.versions))
            raise NotFound(f"{self.name} has no version {number}, only: {known}")
        return self.versions[number]


@dataclass
class State:
    """Everything the events say. `seq` is the last event's number."""

    models: dict[str, ModelState] = field(default_factory=dict)
    seq: int = 0

    def model(self, name: str) -> ModelState:
        """One model.

        Raises:
            NotFound: no such model; the message lists what there is.
        """
        if name not in self.models:
            known = ", ".join(sorted(self.models)) or "none yet (see: vitrine models register, dvc repro)"
            raise NotFound(f"there is no model {name!r}; known models: {known}")
        return self.models[name]

    def resolve(self, ref: Ref) -> VersionState:
        """The version that a reference names.

        Raises:
            NotFound: no such model, version or alias.
        """
        return self.model(ref.name).resolve(ref)


def fold(events: Iterable[Event]) -> State:
    """Apply events in order; kinds without an effect on the state leave it alone."""
    state = State()
    for event in events:
        apply(state, event)
    return state


def apply(state: State, event: Event) -> None:
    """Take one more event into `state`, in place."""
    model = state.models.setdefault(event.model, ModelState(event.model))
    state.seq = event.seq
    match event:
        case Registered():
            model.versions[event.version] = VersionState(event)
        case Evaluated():
            model.versions[event.version].evaluations.append(event)
        case EngineBuilt():
            model.versions[event.version].engines.append(event)
        case IndexBuilt():
            model.versions[event.version].indexes.append(event)
        case Promoted():
            live = Production(event.version, event.catalogue, event.collection)
            if live != model.production:  # promoted again, say after its collection was renewed
                model.productions.append(live)
        case RolledBack():
            model.productions.pop()
        case AliasMoved():
            model.aliases[event.alias] = event.version
        case Retired():
            model.versions[event.version].retired = True
