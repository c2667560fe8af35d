"""Settings from the environment, and the concrete parts that they choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.batching import BatchLimits
from services.snapshot import Snapshot
from vitrine import plugins
from vitrine.bundle import Bundle
from vitrine.collection import open_collection
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, Conflict, Tampered
from vitrine.home import Home
from vitrine.lifecycle import Production, State
from vitrine.registry import Registry


@dataclass(frozen=True)
class Settings:
    """How this server runs. Each field is an environment variable (see `ENVIRONMENT`).

    Attributes:
        model: the model to follow; "" for the only one that has a production version.
        grpc_addr: `HOST:PORT` of the gRPC server.
        threads: threads of the engine, and as many that decode.
        backend: what runs the version; `auto` for the quickest, measured at start.
        precision: of the backend; "" for its default.
        index: the kind of index; "" for qdrant where QDRANT_URL is set, else exact.
        grace_s: how long running requests may take to end at shutdown.
    """

    model: str = ""
    grpc_addr: str = "127.0.0.1:50051"
    threads: int = 2
    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 512
    index: str = ""
    backend: str = "onnxruntime"
    precision: str = ""
    grace_s: float = 10.0

    @property
    def limits(self) -> BatchLimits:
        """The micro-batcher's part."""
        return BatchLimits(self.max_batch, self.max_wait_ms, self.queue)


ENVIRONMENT = {
    "VITRINE_MODEL": "model",
    "VITRINE_GRPC_ADDR": "grpc_addr",
    "VITRINE_THREADS": "threads",
    "VITRINE_MAX_BATCH": "max_batch",
    "VITRINE_MAX_WAIT_MS": "max_wait_ms",
    "VITRINE_QUEUE": "queue",
    "VITRINE_INDEX": "index",
    "VITRINE_BACKEND": "backend",
    "VITRINE_PRECISION": "precision",
    "VITRINE_GRACE_S": "grace_s",
}
_RESERVED = "VITRINE_SERVE_"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment; what is not set keeps its default.

    Raises:
        BadInput: a value that is no number or too small, or an unknown `VITRINE_SERVE_…` name.
    """
    unknown = sorted(name for name in environ if name.startswith(_RESERVED))
    if unknown:
        raise BadInput(f"{', '.join(unknown)} is no setting of the server; known: {', '.join(ENVIRONMENT)}")
    values: dict[str, str | int | float] = {}
    if environ.get("BENTOML_CONTAINERIZED", "").lower() == "true":
        values["grpc_addr"] = "0.0.0.0:50051"
    for name, field in ENVIRONMENT.items():
        text = environ.get(name, "")
        if text:
            values[field] = _value(name, text, type(getattr(Settings, field)))
    return Settings(**values)  # type: ignore[arg-type]  # _value gave each field its own type


def _value(name: str, text: str, kind: type) -> str | int | float:
    if kind is str:
        return text
    try:
        value = int(text) if kind is int else float(text)
    except ValueError as error:
        raise BadInput(f"{name} is {text!r}, it must be a number", field=name) from error
    least = 1 if kind is int else 0
    if not value >= least:
        raise BadInput(f"{name} is {text}, it must be {least} or more", field=name)
    return value


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
