"""Engines of a version: which backends run it at which precision, and the files built for them.

    <home>/engines/<digest>-<backend>-<precision>-<target>/
        engine.json     what was built of what, for which target, how far from the reference, sha256 of each file
        ...             the backend's own files

A folder is there whole or not at all, and each file is compared with its digest before it is loaded. Files are a
cache: bound to a machine's GPU and library versions, never moved with the registry, built again where missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from vitrine import plugins
from vitrine.bundle import Bundle
from vitrine.errors import BadInput, NotFound, Tampered, Unavailable, VitrineError
from vitrine.files import read_json, sha256_file
from vitrine.gates.engine import JUDGED_BY_COSINE
from vitrine.ports import Backend, Engine, Precision

ENGINE = "engine.json"
SCHEMA = 1


@dataclass(frozen=True)
class EngineKey:
    """What built files belong to: other content, another precision or another target is another engine."""

    digest: str
    backend: str
    precision: Precision
    target: str

    @property
    def folder(self) -> str:
        """The name of its folder."""
        target = hashlib.sha256(self.target.encode()).hexdigest()[:8]
        return f"{self.digest[:16]}-{self.backend}-{self.precision}-{target}"


@dataclass(frozen=True)
class EngineRecord:
    """`engine.json`: everything about built files but the files.

    Attributes:
        files: name in the folder -> sha256.
        parity: `vitrine.bundle.Parity` of the engine against the version's graphs in float32.
        calibration: dataset and number of rows whose ranges were read.
    """

    key: EngineKey
    files: Mapping[str, str]
    parity: Mapping[str, Any]
    calibration: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The record as it is written."""
        return {"schema": SCHEMA, **asdict(self)}


def backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        BadInput: no such backend; the message lists the known ones.
        Unavailable: its library is not installed.
    """
    return cast("Backend", plugins.load("backends", name))


def check_precision(name: str, precision: str) -> Precision:
    """The precision as the backend knows it; its default for "".

    Raises:
        BadInput: the backend does not run it; the message lists what it runs.
    """
    found = backend(name).PRECISIONS
    if not precision:
        return found[0]
    if precision not in found:
        raise BadInput(f"{name} does not run {precision!r}; it runs: {', '.join(found)}", field="precision")
    return precision


def agree(one: str, other: str) -> bool:
    """Whether vectors of these two precisions may be compared; "" is not known and no hindrance."""
    return {one, other} <= set(JUDGED_BY_COSINE) or one == other or "" in {one, other}


def open_engine(
    bundle: Bundle, *, backend_name: str, precision: str = "", threads: int, engines: Path | None = None
) -> Engine:
    """Load a version on a backend; files that the precision needs are looked for under `engines` and verified.

    Raises:
        BadInput: no such backend, or it does not run that precision.
        NotFound: the precision needs files that were not built for this machine.
        Tampered: a built file was changed.
        Unavailable: the backend's library or device is missing.
    """
    module, chosen = backend(backend_name), check_precision(backend_name, precision)
    built = None
    if chosen in module.BUILT:
        built = built_folder(engines, EngineKey(bundle.manifest.digest, backend_name, chosen, module.target()))
    return module.load(bundle, threads=threads, precision=chosen, built=built)


def built_folder(engines: Path | None, key: EngineKey) -> Path:
    """The verified folder of built files.

    Raises:
        NotFound: nothing was built for this key, or there is no folder of engines; the message says how to build.
        Tampered: a file is missing or was changed.
    """
    if engines is None or not (engines / key.folder / ENGINE).is_file():
        raise NotFound(
            f"no {key.backend} {key.precision} engine of version {key.digest[:12]} is built for {key.target}; build it: "
            f"vitrine engine build NAME@N --backend {key.backend} --precision {key.precision}"
        )
    folder = engines / key.folder
    verify(folder, key)
    return folder


def verify(folder: Path, key: EngineKey) -> EngineRecord:
    """Read `engine.json` and compare every file with it.

    Raises:
        Tampered: another version's engine, or a file is missing, changed or one too many.
    """
    record = read_record(folder)
    again = f"build it again: vitrine engine build NAME@N --backend {key.backend} --precision {key.precision} --again"
    if record.key != key:
        raise Tampered(f"the engine in {folder} was built for something else ({record.key}); {again}")
    found = {path.name: sha256_file(path) for path in folder.iterdir() if path.name != ENGINE}
    wrong = sorted(name for name in {*found, *record.files} if found.get(name) != record.files.get(name))
    if wrong:
        raise Tampered(f"{', '.join(wrong)} in {folder} changed since the engine was built and is not loaded; {again}")
    return record


def read_record(folder: Path) -> EngineRecord:
    """`engine.json` of a folder.

    Raises:
        Tampered: it cannot be read.
    """
    try:
        raw = dict(read_json(folder / ENGINE, "engine"))
        if raw.pop("schema", None) != SCHEMA:
            raise BadInput(f"it is of a schema that this release does not read (it reads {SCHEMA})")
        return EngineRecord(**{**raw, "key": EngineKey(**raw["key"])})
    except (VitrineError, TypeError, KeyError, ValueError) as error:
        raise Tampered(f"{folder / ENGINE} cannot be read ({error}); delete {folder} and build it again") from error


def all_records(engines: Path) -> Iterator[tuple[Path, EngineRecord]]:
    """Every engine under the folder, sorted by name; a damaged one is left out (`verify` tells of it)."""
    for path in sorted(engines.glob(f"[!.]*/{ENGINE}")):
        try:
            yield path.parent, read_record(path.parent)
        except Tampered:
            continue


def ready(bundle: Bundle, engines: Path | None) -> list[tuple[str, Precision]]:
    """Every backend and precision worth running here that this machine can load now, without building anything."""
    return [pair for name in plugins.names("backends") for pair in _ready_of(name, bundle, engines)]


def _ready_of(name: str, bundle: Bundle, engines: Path | None) -> Iterator[tuple[str, Precision]]:
    try:
        module = backend(name)
        for precision in module.worthwhile():
            if precision not in module.BUILT:
                yield name, precision
                continue
            key = EngineKey(bundle.manifest.digest, name, precision, module.target())
            if engines is not None and (engines / key.folder / ENGINE).is_file():
                yield name, precision
    except Unavailable:
        return
