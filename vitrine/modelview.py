"""What the registry holds, as plain JSON values for people and programs to read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vitrine.events import Evaluated, Event, to_payload
from vitrine.items import DEFAULT_PROTOCOL
from vitrine.lifecycle import ModelState, State, VersionState
from vitrine.manifest import Manifest
from vitrine.names import PRODUCTION
from vitrine.registry import Registry

DEFAULT_METRIC = "mmp@5"


def summaries(state: State, strategy: str | None = None) -> list[dict[str, Any]]:
    """One row a version, by name and number; a figure that is unknown is None. `strategy` leaves only its own."""
    rows = [
        _summary(model, model.versions[number])
        for _, model in sorted(state.models.items())
        for number in sorted(model.versions)
    ]
    return [row for row in rows if strategy in {None, row["strategy"]}]


def describe(registry: Registry, ref: str) -> dict[str, Any]:
    """Everything about one version; only its manifest is read, not its graphs.

    Raises:
        NotFound: no such version.
        Tampered: its manifest was changed.
    """
    version = registry.resolve(ref)
    event = version.registered
    manifest = Manifest.from_json(registry.artifacts.read(version.digest).decode())
    return {
        "ref": f"{event.model}@{version.number}",
        "name": event.model,
        "version": version.number,
        "digest": version.digest,
        "aliases": aliases(registry.state().model(event.model), version.number),
        "registered": f"{event.at} by {event.actor}",
        "retired": version.retired,
        "dim": manifest.dim,
        "modalities": list(manifest.modalities),
        "licences": asdict(manifest.licences),
        "image": asdict(manifest.image) if manifest.image else None,
        "classifier": _classifier(manifest),
        "parity": event.parity,
        "lineage": dict(event.lineage),
        "files": [asdict(file) for file in manifest.files()],
        "evaluations": [event_json(e) for e in _newest(version)],
        "indexes": [event_json(e) for e in version.indexes],
        "collections": [
            {"collection": e.collection, "items": e.items, "precision": e.precision, "at": e.at}
            for e in {event.collection: event for event in version.indexes}.values()
        ],
        "engines": [event_json(e) for e in version.engines],
    }


def event_json(event: Event) -> dict[str, Any]:
    """An event with its kind and its sentence."""
    return {
        "kind": type(event).__name__,
        "seq": event.seq,
        "model": event.model,
        "at": event.at,
        "actor": event.actor,
        "why": event.why,
        "sentence": event.sentence(),
        **to_payload(event),
    }


def aliases(model: ModelState, version: int) -> list[str]:
    """Every alias that means this version, `production` first."""
    live = [PRODUCTION] if model.production is not None and model.production.version == version else []
    return live + sorted(alias for alias, number in model.aliases.items() if number == version)


def default_evaluation(version: VersionState) -> Evaluated | None:
    """The newest exact one, by default protocol, on the dataset that the version was tuned for, else on any."""
    exact = [e for e in version.evaluations if (e.via, e.protocol) == ("exact", DEFAULT_PROTOCOL)]
    own = [e for e in exact if e.dataset == version.registered.lineage.get("dataset")]
    fitting = own or exact
    return fitting[-1] if fitting else None


def _summary(model: ModelState, version: VersionState) -> dict[str, Any]:
    lineage, measured = version.registered.lineage, default_evaluation(version)
    return {
        "name": model.name,
        "version": version.number,
        "aliases": aliases(model, version.number),
        "digest": version.digest[:12],
        "strategy": lineage.get("strategy"),
        "backbone": lineage.get("backbone"),
        "dataset": lineage.get("dataset"),
        "tuned_on": lineage.get("tuned_on", lineage.get("dataset")),
        DEFAULT_METRIC: measured.metrics.get(DEFAULT_METRIC) if measured else None,
        "evaluated_on": measured.dataset if measured else None,
        "retired": version.retired,
    }


def _classifier(manifest: Manifest) -> dict[str, float] | None:
    labels = manifest.labels
    return {"temperature": labels.temperature, "abstain_below": labels.abstain_below} if labels else None


def _newest(version: VersionState) -> list[Evaluated]:
    """The newest evaluation of each dataset, protocol and engine."""
    return list({(e.dataset, e.protocol, e.via): e for e in version.evaluations}.values())
