"""Rebuild the registry from the pipeline's outputs: what is missing is added, nothing is changed.

bundles/CELL/ with work/registered/CELL.json    a version with the number that it had
work/evaluations/CELL/VIA.json and .parquet     an evaluation of that version
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrine.bundle import Bundle, read_bundle
from vitrine.errors import BadInput, Conflict, NotFound, VitrineError
from vitrine.files import read_json
from vitrine.names import Ref
from vitrine.progress import Track, quiet
from vitrine.registry import Registry


@dataclass
class SyncReport:
    """What a synchronisation did.

    Attributes:
        registered: versions that were missing, such as `homeware-search@7`.
        recorded: evaluations that were missing, as `homeware-search@7 on DATASET via VIA`.
        present: how many versions and evaluations were there already.
        skipped: one sentence for each output that could not be taken in.
    """

    registered: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    present: int = 0
    skipped: list[str] = field(default_factory=list)


def sync(registry: Registry, root: Path = Path(), *, track: Track = quiet) -> SyncReport:
    """Bring the outputs under `root` into the registry; a second run finds everything present.

    A cell that cannot be read, or whose bundle is not the one that was registered, is skipped with a
    sentence; the others are taken in.
    """
    report = SyncReport()
    records = [_read(report, path, "registration") for path in sorted((root / "work/registered").glob("*.json"))]
    records = sorted((r for r in records if r), key=lambda r: (str(r.get("model")), int(r.get("version", 0))))
    for record in track(records, "versions"):
        _take(report, record["from"], _version, registry, root, record)
    for path in track(sorted((root / "work/evaluations").glob("*/*.json")), "evaluations"):
        if found := _read(report, path, "evaluation"):
            _take(report, path, _evaluation, registry, path, found)
    return report


def recorded_numbers(root: Path = Path()) -> dict[str, int]:
    """Model -> the highest version number that the outputs under `root` name.

    A registry that was lost and made anew may not be able to restore them all, because a bundle is another one by
    now; but a number that was given once, and stands in evaluations and collections, must not be given again.
    """
    highest: dict[str, int] = {}
    for pattern in ("work/registered/*.json", "work/evaluations/*/*.json"):
        for path in sorted(root.glob(pattern)):
            record = _read(SyncReport(), path, "record")
            if record:
                model = str(record.get("model"))
                highest[model] = max(highest.get(model, 0), record["version"])
    return highest


def _read(report: SyncReport, path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file with its own path under `from`; empty if it is none."""
    try:
        value = read_json(path, what)
        if not isinstance(value, dict) or not isinstance(value.get("version"), int):
            raise BadInput(f"it holds no {what}: an object with an integer `version` is expected")
    except VitrineError as error:
        report.skipped.append(f"{path}: {error}")
        return {}
    return {**value, "from": path}


def _take(report: SyncReport, path: Path, take: Callable[..., None], *arguments: Any) -> None:
    try:
        take(report, *arguments)
    except VitrineError as error:
        report.skipped.append(f"{path}: {error}")
    except KeyError as error:
        report.skipped.append(f"{path}: the field {error} is missing; run the pipeline again: dvc repro")


def _version(report: SyncReport, registry: Registry, root: Path, record: dict[str, Any]) -> None:
    model, number = record["model"], record["version"]
    bundle = _recorded_bundle(root / "bundles" / record["cell"], record["digest"])
    before = registry.state().seq
    event = registry.register(model, bundle, version=number, lineage=record.get("lineage", {}), why="synchronised")
    if event.seq > before:
        report.registered.append(f"{model}@{number}")
    else:
        report.present += 1


def _recorded_bundle(folder: Path, digest: str) -> Bundle:
    bundle = read_bundle(folder)
    found = bundle.manifest.digest
    if found != digest:
        raise Conflict(
            f"{folder} has the digest {found[:12]}, {digest[:12]} was registered: it is not that version any more "
            "and was not taken in; get the old one with dvc checkout, or register the new one with dvc repro"
        )
    return bundle


def _evaluation(report: SyncReport, registry: Registry, path: Path, found: dict[str, Any]) -> None:
    model, number = found["model"], found["version"]
    version = registry.resolve(Ref(model, number))
    if version.digest != found["digest"]:
        raise Conflict(
            f"it measured the digest {str(found['digest'])[:12]}, but {model}@{number} is {version.digest[:12]}; "
            "evaluate again: dvc repro"
        )
    per_query = path.with_suffix(".parquet")
    if not per_query.is_file():
        raise NotFound(f"{per_query.name} is missing beside it; evaluate again: dvc repro")
    before = registry.state().seq
    event = registry.record_evaluation(
        model,
        number,
        dataset=found["dataset"],
        dataset_digest=found["dataset_digest"],
        protocol=found["protocol"],
        via=found["via"],
        metrics=found["metrics"],
        queries=found["queries"],
        gallery=found["gallery"],
        per_query_path=per_query,
        details=_details(found),
        why="synchronised",
    )
    if event.seq > before:
        report.recorded.append(f"{model}@{number} on {event.dataset} via {event.via}")
    else:
        report.present += 1


def _details(found: dict[str, Any]) -> dict[str, Any]:
    """As `Evaluation.record`: everything beside the metrics, without the durations."""
    kept = {key: part for key, part in found.get("details", {}).items() if key != "timing"}
    return kept | {key: found[key] for key in ("intervals", "skipped", "unit", "units") if key in found}
