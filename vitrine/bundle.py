"""A version as files: the manifest, what it names, and its lineage beside it.

manifest.json   content; its digest is the version's digest
lineage.json    where it came from: strategy, backbone, dataset, seed, parameters
parity.json     how far the exported graphs are from their reference (see `Parity`)
*.onnx, ...     the files that the manifest names
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import read_json, replacing_folder, sha256_file, write_atomic, write_json
from vitrine.manifest import BESIDE, FileRef, Manifest

MANIFEST, LINEAGE, PARITY = BESIDE


@dataclass(frozen=True)
class Parity:
    """The exported graphs against their reference on the same photos and texts.

    Attributes:
        reference: what it was compared with, such as `torch`.
        engine: what ran the export, such as `onnxruntime`; with `precision`.
        images: how many photos.
        min_cosine: the worst photo's or text's cosine similarity between both embeddings.
        top10_overlap: mean share of the ten nearest neighbours that both agree on, in [0, 1]; the lower of photos and texts.
        texts: how many texts; 0 for a version that reads none.
    """

    reference: str
    engine: str
    precision: str
    images: int
    min_cosine: float
    top10_overlap: float
    texts: int = 0


@dataclass(frozen=True)
class Bundle:
    """A version whose files are on this disk, each verified against the manifest."""

    manifest: Manifest
    paths: Mapping[str, Path]
    lineage: Mapping[str, Any] = field(default_factory=dict)
    parity: Parity | None = None

    def path(self, file: FileRef) -> Path:
        """Where that file of the manifest lies."""
        return self.paths[file.path]

    def labels(self) -> list[str]:
        """The classifier's labels in logit order; empty without a classifier."""
        if self.manifest.labels is None:
            return []
        return list(read_json(self.path(self.manifest.labels.file), "label set"))


def file_ref(folder: Path, name: str) -> FileRef:
    """Digest a file of a bundle that is being written."""
    path = folder / name
    return FileRef(name, sha256_file(path), path.stat().st_size)


def write_bundle(
    target: Path,
    manifest: Manifest,
    files: Mapping[str, Path],
    lineage: Mapping[str, Any],
    parity: Parity | None,
) -> Bundle:
    """Write a bundle folder whole; `files` maps manifest paths to their present places.

    Raises:
        BadInput: the manifest names a file that `files` lacks.
        Tampered: a file is not the one that the manifest digested; an older bundle at `target` stays.
    """
    with replacing_folder(target) as folder:
        for ref in manifest.files():
            if ref.path not in files:
                raise BadInput(f"the manifest names {ref.path!r}, but no such file was given; given: {sorted(files)}")
            (folder / ref.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files[ref.path], folder / ref.path)
            verify_file(folder / ref.path, ref)
        write_atomic(folder / MANIFEST, manifest.to_json())
        write_json(folder / LINEAGE, dict(lineage))
        if parity is not None:
            write_json(folder / PARITY, asdict(parity))
    return read_bundle(target)


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle folder.

    Raises:
        NotFound: no such folder or no manifest in it.
        BadInput: the manifest or a file beside it cannot be read.
        Tampered: a file is missing or its digest differs.
    """
    if not (folder / MANIFEST).is_file():
        raise NotFound(f"no version bundle at {folder}: it has no {MANIFEST}")
    manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8", errors="replace"))
    paths = {ref.path: folder / ref.path for ref in manifest.files()}
    for ref in manifest.files():
        verify_file(paths[ref.path], ref)
    lineage = read_json(folder / LINEAGE, "lineage") if (folder / LINEAGE).exists() else {}
    parity = _parity(folder / PARITY) if (folder / PARITY).exists() else None
    return Bundle(manifest, paths, lineage, parity)


def verify_file(path: Path, ref: FileRef) -> None:
    """Compare a file with its recorded digest.

    Raises:
        Tampered: it is missing or different.
    """
    if not path.is_file():
        raise Tampered(f"{ref.path} of the version is missing at {path}; restore it or register the version again")
    found = sha256_file(path)
    if found != ref.sha256:
        raise Tampered(
            f"{ref.path} at {path} has sha256 {found[:12]}…, the manifest records {ref.sha256[:12]}…: "
            "it was changed after registration and is not loaded; restore it or register the version again"
        )


def _parity(path: Path) -> Parity:
    try:
        return Parity(**read_json(path, "parity"))
    except TypeError as error:
        raise BadInput(f"{path} is no parity report: {error}; export the version again") from error
