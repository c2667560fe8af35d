"""Building an engine of a registered version: calibrate, build, compare, keep, tell the registry.

Training items of the version's dataset calibrate it, others of them pass judgement; test items are never looked at.
Nothing is kept unless the engine gives the vectors that the version gives in float32 (`vitrine.engine_parity`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrine import failpoints
from vitrine.bundle import Bundle
from vitrine.dataset import Dataset, find_dataset
from vitrine.encoder import load_encoder
from vitrine.engine_parity import compare_engines
from vitrine.engines import (
    ENGINE,
    EngineKey,
    EngineRecord,
    backend,
    built_folder,
    check_precision,
    open_engine,
    read_record,
)
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.events import EngineBuilt
from vitrine.files import replacing_folder, sha256_file, write_json
from vitrine.home import Home
from vitrine.names import parse_ref
from vitrine.ports import GraphRows, Precision
from vitrine.progress import Track, quiet
from vitrine.registry import Registry
from vitrine.sampling import sample_rows

BUILT = failpoints.point("engine.built", "an engine's files are in place, the registry does not know of them yet")


@dataclass(frozen=True)
class Built:
    """An engine that is ready; `fresh` is False where it lay there already."""

    folder: Path
    record: EngineRecord
    fresh: bool


@dataclass(frozen=True)
class BuildPlan:
    """What to build and what to look at meanwhile.

    Attributes:
        dataset: whose training items calibrate and judge; the version's own by default.
        rows: training items that calibrate.
        judged: further training items that the engine is compared on.
        again: build it anew although a sound one is there.
    """

    backend: str
    precision: str = ""
    dataset: str = ""
    rows: int = 128
    judged: int = 128
    again: bool = False


def build_engine(
    registry: Registry, home: Home, ref: str, plan: BuildPlan, *, threads: int = 2, track: Track = quiet
) -> Built:
    """Build, judge and keep an engine of a version, unless a sound one is there.

    Raises:
        BadInput: the backend does not run that precision, runs it without building, or there are too few training items.
        NotFound: no such version or dataset.
        Refused: the engine is too far from the version; nothing is kept.
        Unavailable: the backend's library or device is missing.
    """
    precision = _needs_building(plan)
    version, bundle = registry.resolve(ref), registry.open(ref)
    key = EngineKey(bundle.manifest.digest, plan.backend, precision, backend(plan.backend).target())
    folder = home.engines / key.folder
    fresh = plan.again or not _sound(home.engines, key)
    if fresh:
        dataset = find_dataset(home, plan.dataset or _own_dataset(ref, bundle))
        calibration, judged = _rows(bundle, dataset, plan, track)
        with replacing_folder(folder) as target:
            _build(bundle, key, target, calibration, judged, dataset, threads, track)
    failpoints.reach(BUILT)
    artifact = registry.artifacts.put_file(folder / ENGINE)
    model = parse_ref(ref).name
    if not any(event.artifact == artifact and event.target == key.target for event in version.engines):
        registry.append(
            EngineBuilt(
                model=model,
                version=version.number,
                backend=key.backend,
                precision=key.precision,
                target=key.target,
                artifact=artifact,
                **registry.stamp(),
            )
        )
    return Built(folder, read_record(folder), fresh)


def _build(
    bundle: Bundle,
    key: EngineKey,
    folder: Path,
    calibration: GraphRows,
    judged: GraphRows,
    dataset: Dataset,
    threads: int,
    track: Track,
) -> None:
    module = backend(key.backend)
    module.build(bundle, precision=key.precision, folder=folder, calibration=calibration, track=track)
    engine = module.load(bundle, threads=threads, precision=key.precision, built=folder)
    reference = open_engine(bundle, backend_name="onnxruntime", precision="fp32", threads=threads)
    parity = compare_engines(bundle, reference, engine, judged)
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    rows = {graph: len(some) for graph, some in calibration.items()}
    told = {"dataset": dataset.name, "dataset_digest": dataset.digest, "rows": rows}
    write_json(folder / ENGINE, EngineRecord(key, files, asdict(parity), told).as_json())


def _needs_building(plan: BuildPlan) -> Precision:
    module, precision = backend(plan.backend), check_precision(plan.backend, plan.precision)
    if precision not in module.BUILT:
        needed = f"; build one of: {', '.join(module.BUILT)}" if module.BUILT else ""
        raise BadInput(f"{plan.backend} runs {precision} straight from the version, there is nothing to build{needed}")
    return precision


def _sound(engines: Path, key: EngineKey) -> bool:
    try:
        built_folder(engines, key)
    except (NotFound, Tampered):
        return False
    return True


def _own_dataset(ref: str, bundle: Bundle) -> str:
    name = str(bundle.lineage.get("dataset", ""))
    if not name:
        raise BadInput(f"{ref} does not say what it was trained on; name a dataset like its photos: --dataset NAME")
    return name


def _rows(bundle: Bundle, dataset: Dataset, plan: BuildPlan, track: Track) -> tuple[GraphRows, GraphRows]:
    """Rows that calibrate and rows that judge, disjoint, of every graph of the version."""
    items = [item for item in dataset.split("train") if item.images]
    if len(items) < 4:
        raise BadInput(
            f"dataset {dataset.name} has {len(items)} training items, an engine is calibrated and judged on at least 4; "
            "name another one with --dataset"
        )
    wanted = min(plan.rows + plan.judged, len(items))
    chosen = np.random.default_rng(0).permutation(sample_rows(len(items), wanted))
    encoder = load_encoder(bundle, threads=1)
    photos = (dataset.photo(items[row].images[0]) for row in chosen)
    rows: dict[str, NDArray[np.generic]] = {
        "image": np.stack([encoder.decode(photo) for photo in track(photos, "decoding training photos", wanted)])
    }
    if encoder.reads_text:
        # Ranges are read off words, not off padding that no run will hold.
        rows["text"] = encoder.cut(encoder.tokenize([items[row].title or items[row].label for row in chosen]))
    cut = max(2, wanted * plan.rows // (plan.rows + plan.judged))
    return {name: some[:cut] for name, some in rows.items()}, {name: some[cut:] for name, some in rows.items()}
