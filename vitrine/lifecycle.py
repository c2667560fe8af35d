"""State is a fold over events: which versions exist, what is live, what was live before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vitrine.errors import Conflict, NotFound
from vitrine.events import (
    AliasMoved,
    EngineBuilt,
    Evaluated,
    Event,
    Forgotten,
    IndexBuilt,
    Promoted,
    Registered,
    Retired,
    RolledBack,
    ShadowStarted,
    ShadowStopped,
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


@dataclass(frozen=True)
class Shadow:
    """A candidate that answers `share` of the live searches beside production, unseen by callers."""

    candidate: Production
    share: float


@dataclass
class ModelState:
    """A model: its versions by number, the users' aliases, the stack of productions, and what is tried beside them."""

    name: str
    versions: dict[int, VersionState] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    productions: list[Production] = field(default_factory=list)
    shadow: Shadow | None = None

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
            number = self.production.version if self.production else max(self.versions, default=0)
        if number not in self.versions:
            known = ", ".join(str(n) for n in sorted(self.versions)) or "none"
            raise NotFound(f"{self.name} has no version {number}, only: {known}")
        return self.versions[number]

    def copy(self) -> ModelState:
        """A state that events can be applied to without a trace in this one; events are shared."""
        versions = {
            number: replace(
                version,
                evaluations=list(version.evaluations),
                engines=list(version.engines),
                indexes=list(version.indexes),
            )
            for number, version in self.versions.items()
        }
        return ModelState(self.name, versions, dict(self.aliases), list(self.productions), self.shadow)


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


def advance(state: State, events: Sequence[Event]) -> State:
    """The state after some more events; `state` itself stays as it is. Untouched models are shared.

    Raises:
        Conflict, NotFound: as `apply`.
    """
    models = dict(state.models)
    for name in {event.model for event in events} & set(models):
        models[name] = models[name].copy()
    after = State(models, state.seq)
    for event in events:
        apply(after, event)
    return after


def check_promotion(state: State, event: Event) -> None:
    """A promotion that names what it replaces must still be right about it; nothing retired goes live.

    Raises:
        Conflict: something else is live by now, or the version was retired.
    """
    if not isinstance(event, Promoted | RolledBack) or event.model not in state.models:
        return
    version = state.models[event.model].versions.get(event.version)
    if version is not None and version.retired:
        kept = "promoted" if isinstance(event, Promoted) else "brought back"
        raise Conflict(f"{event.model}@{event.version} is retired and is not {kept}; promote another version")
    if isinstance(event, RolledBack):  # the fold compares what it leaves and where it goes
        return
    live = state.models[event.model].production
    if event.previous is not None and (live is None or live.version != event.previous):
        raise Conflict(
            f"the promotion of {event.model}@{event.version} meant to replace version {event.previous}, but live is "
            f"{live.version if live else 'none'}; look at the new state and promote again"
        )


def apply(state: State, event: Event) -> None:
    """Take one more event into `state`, in place; an event that cannot follow leaves it alone.

    Raises:
        NotFound: the event is about a version that was never registered.
        Conflict: it registers a number again, or rolls back what is not live.
    """
    model = state.models.get(event.model) or ModelState(event.model)
    if isinstance(event, Registered):
        if event.version in model.versions:
            raise Conflict(f"{event.model}@{event.version} exists already; a version never changes")
        model.versions[event.version] = VersionState(event)
    else:
        _follow(model, event)
    state.models[event.model] = model
    state.seq = event.seq


def _follow(model: ModelState, event: Event) -> None:
    """Take an event about an existing version into its model."""
    number: int | None = getattr(event, "version", None)
    if number is not None:
        _learn(model.resolve(Ref(model.name, number)), event)
    match event:
        case Promoted():
            _promote(model, Production(event.version, event.catalogue, event.collection))
        case RolledBack():
            _roll_back(model, event)
        case ShadowStarted():
            model.shadow = Shadow(Production(event.version, event.catalogue, event.collection), event.share)
        case ShadowStopped():
            model.shadow = None
        case AliasMoved():
            model.aliases[event.alias] = event.version
        case Forgotten():
            _rename_results(model, event.results)


def _rename_results(model: ModelState, renamed: Mapping[str, str]) -> None:
    for version in model.versions.values():
        version.evaluations = [
            replace(found, per_query=renamed.get(found.per_query, found.per_query)) for found in version.evaluations
        ]


def _learn(version: VersionState, event: Event) -> None:
    match event:
        case Evaluated():
            version.evaluations.append(event)
        case EngineBuilt():
            version.engines.append(event)
        case IndexBuilt():
            version.indexes.append(event)
        case Retired():
            version.retired = True


def _promote(model: ModelState, production: Production) -> None:
    model.productions.append(production)
    if model.shadow is not None and model.shadow.candidate == production:
        model.shadow = None  # it answers for itself now


def _roll_back(model: ModelState, event: RolledBack) -> None:
    live, before = model.production, model.before_production
    if live is None or before is None:
        raise Conflict(f"{model.name} has no production before the present one to roll back to")
    if (live.version, before.version) != (event.previous, event.version):
        raise Conflict(
            f"{model.name} cannot go back from version {event.previous} to {event.version}: "
            f"live is {live.version}, before it was {before.version}; look again: vitrine models show {model.name}"
        )
    model.productions.pop()
