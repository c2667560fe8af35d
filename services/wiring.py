"""The concrete parts that the settings choose: which version is served, on which engine and index."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from services.config import Settings
from services.priority import normally
from services.snapshot import Following, Snapshot, warm_sizes
from vitrine.bundle import Bundle
from vitrine.collection import open_collection
from vitrine.encoder import load_encoder
from vitrine.engine_agreement import load_agreeing
from vitrine.errors import Tampered
from vitrine.home import Home
from vitrine.index_choice import index_kind, open_index
from vitrine.lifecycle import ModelState, Production, State
from vitrine.registry import Registry


@dataclass(frozen=True)
class Target:
    """What the registry says should be live, and what should be there beside it.

    Attributes:
        built: the event that last made its collection, 0 for none.
        before: what a rollback would bring back.
        shadow: a candidate that is tried on live searches.
    """

    model: str
    production: Production
    digest: str
    built: int = 0
    before: Target | None = field(default=None, compare=False)
    shadow: ShadowTarget | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ShadowTarget:
    """A candidate, and the share of live searches that it answers too."""

    candidate: Target
    share: float


def choose(state: State, model: str) -> Target | str:
    """The production to serve, or a sentence on what is missing before there is one."""
    live = {name: found.production for name, found in state.models.items() if found.production}
    if model and model not in live:
        return f"{model} has no production version yet; promote one: vitrine promote {model}@N"
    if not live:
        return "no model has a production version yet; promote one: vitrine promote NAME@N"
    if not model and len(live) > 1:
        return f"several models have a production version ({', '.join(sorted(live))}); choose one with VITRINE_MODEL"
    return _target(state.models[model or next(iter(live))])


def _target(model: ModelState) -> Target:
    assert model.production is not None
    before, shadow = model.before_production, model.shadow
    return replace(
        _loadable(model, model.production),
        before=_loadable(model, before) if before else None,
        shadow=ShadowTarget(_loadable(model, shadow.candidate), shadow.share) if shadow else None,
    )


def _loadable(model: ModelState, production: Production) -> Target:
    version = model.versions[production.version]
    built = max((event.seq for event in version.indexes if event.collection == production.collection), default=0)
    return Target(model.name, production, version.digest, built)


def load_live(registry: Registry, home: Home, target: Target, settings: Settings) -> Snapshot:
    """Load and warm up a production: version, engine, collection and index.

    Raises:
        VitrineError: whatever is missing, changed or cannot be reached.
    """
    collection = open_collection(home.collections / target.production.collection)
    bundle = registry.open(f"{target.model}@{target.production.version}")
    collection.insist_on(target.digest)
    collection.load()
    # The engine's own threads must not be of the lower priority that the loading is done at.
    encoder = normally(
        lambda: load_agreeing(
            bundle,
            collection.info.precision,
            backend=settings.backend,
            precision=settings.precision,
            threads=settings.threads,
            engines=home.engines,
        )
    )
    index = open_index(collection, home, settings.index or index_kind(home))
    snapshot = Snapshot(
        target.model,
        target.production.version,
        encoder,
        index,
        collection.info.name,
        collection.info.count,
        Following(collection),
    )
    snapshot.warm_up(warm_sizes(settings.max_batch))
    return snapshot


def load_candidate(registry: Registry, home: Home, target: ShadowTarget, settings: Settings) -> Snapshot:
    """As `load_live`, with one thread for the engine: called in a thread of lower priority, all of it stays lower.

    Raises:
        VitrineError: as `load_live`.
    """
    return load_live(registry, home, target.candidate, replace(settings, threads=1, max_batch=1))


def load_pinned(model: str, version: int, bundle: Bundle, settings: Settings, engines: Path | None = None) -> Snapshot:
    """Load and warm up a version without a collection: Embed and Classify only.

    Args:
        model: its name.
        version: its number.
        bundle: its verified files.
        settings: which engine, and how many threads.
        engines: folder of built engines, for a precision that needs one.

    Raises:
        VitrineError: the version takes no images, or its engine cannot be loaded.
    """
    if bundle.manifest.image is None:
        raise Tampered(f"{model}@{version} takes no images; it cannot be served")
    encoder = load_encoder(
        bundle, backend=settings.backend, precision=settings.precision, threads=settings.threads, engines=engines
    )
    snapshot = Snapshot(model, version, encoder)
    snapshot.warm_up(warm_sizes(settings.max_batch))
    return snapshot
