"""The concrete parts that the settings choose: which version is served, on which engine and index."""

from __future__ import annotations

from dataclasses import dataclass

from services.config import Settings
from services.snapshot import Snapshot
from vitrine import plugins
from vitrine.bundle import Bundle
from vitrine.collection import open_collection
from vitrine.encoder import load_encoder
from vitrine.errors import Conflict, Tampered
from vitrine.home import Home
from vitrine.lifecycle import Production, State
from vitrine.registry import Registry


@dataclass(frozen=True)
class Target:
    """What the registry says should be live; `built` is the event that last made its collection, 0 for none."""

    model: str
    production: Production
    digest: str
    built: int = 0


def choose(state: State, model: str) -> Target | str:
    """The production to serve, or a sentence on what is missing before there is one."""
    live = {name: found.production for name, found in state.models.items() if found.production}
    if model and model not in live:
        return f"{model} has no production version yet; promote one: vitrine promote {model}@N"
    if not live:
        return "no model has a production version yet; promote one: vitrine promote NAME@N"
    if not model and len(live) > 1:
        return f"several models have a production version ({', '.join(sorted(live))}); choose one with VITRINE_MODEL"
    name = model or next(iter(live))
    production = live[name]
    assert production is not None
    version = state.models[name].versions[production.version]
    built = max((event.seq for event in version.indexes if event.collection == production.collection), default=0)
    return Target(name, production, version.digest, built)


def load_live(registry: Registry, home: Home, target: Target, settings: Settings) -> Snapshot:
    """Load and warm up a production: version, engine, collection and index.

    Raises:
        VitrineError: whatever is missing, changed or cannot be reached.
    """
    bundle = registry.open(f"{target.model}@{target.production.version}")
    collection = open_collection(home.collections / target.production.collection)
    if collection.info.digest != target.digest:
        raise Conflict(
            f"collection {collection.info.name} was embedded by other content than {target.model}@"
            f"{target.production.version}; embed the catalogue again: vitrine promote {target.model}@"
            f"{target.production.version}"
        )
    collection.load()
    kind = settings.index or ("qdrant" if home.qdrant_url else "exact")
    encoder = load_encoder(
        bundle, backend=settings.backend, precision=settings.precision, threads=settings.threads, engines=home.engines
    )
    index = plugins.load("indexes", kind).open(collection, {"url": home.qdrant_url} if kind == "qdrant" else {})
    snapshot = Snapshot(
        target.model, target.production.version, encoder, index, collection.info.name, collection.info.count
    )
    snapshot.warm_up()
    return snapshot


def load_pinned(model: str, version: int, bundle: Bundle, settings: Settings) -> Snapshot:
    """Load and warm up a version without a collection: Embed and Classify only."""
    if bundle.manifest.image is None:
        raise Tampered(f"{model}@{version} takes no images; it cannot be served")
    encoder = load_encoder(bundle, backend=settings.backend, precision=settings.precision, threads=settings.threads)
    snapshot = Snapshot(model, version, encoder)
    snapshot.warm_up()
    return snapshot
