"""The manifest: what a version *is*. Its digest covers content only.

A version is a set of named graphs (`image` now; `text`, `item`, `category` as versions gain them),
each with its inputs and outputs, the preprocessing outside the graph, the tokenizer, the label set,
the modalities it answers and the licences it carries. No commit, date, cost or machine: those are
lineage and stand beside it (`vitrine.bundle`). Equal content gives an equal digest anywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from vitrine.errors import BadInput
from vitrine.images import ImageSpec

SCHEMA = 1
BESIDE = ("manifest.json", "lineage.json", "parity.json")
"""Files of a bundle that are not content; a manifest may not name them."""

Role = Literal["image", "tokens", "embedding", "logits"]
Modality = Literal["image", "title", "attributes", "numbers"]


@dataclass(frozen=True)
class FileRef:
    """A file of the version: relative path, sha256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph; `"batch"` and `"length"`, of token ids alone, are dynamic dimensions."""

    name: str
    role: Role
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """An ONNX file and its signature."""

    file: FileRef
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def output(self, role: Role) -> TensorSpec | None:
        """The first output of that role, or None."""
        return next((out for out in self.outputs if out.role == role), None)


@dataclass(frozen=True)
class Labels:
    """The classifier's label set and its calibration.

    Attributes:
        file: JSON list of label strings; position = column of the logits.
        temperature: logits are divided by it before the softmax (fitted on validation).
        abstain_below: a top probability under it means "no label" (chosen on validation), in [0, 1].
    """

    file: FileRef
    temperature: float = 1.0
    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        """Make both real floats (1 and 1.0 must give one digest) and refuse what no softmax can use."""
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "abstain_below", float(self.abstain_below))
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise BadInput(f"the classifier's temperature {self.temperature} is no number over 0")
        if not 0 <= self.abstain_below <= 1:
            raise BadInput(f"the classifier's abstain_below {self.abstain_below} is outside 0..1")


@dataclass(frozen=True)
class Tokenizer:
    """The text tokenizer, as a file that travels with the version."""

    kind: str
    file: FileRef
    context_length: int


@dataclass(frozen=True)
class Licences:
    """Licences of the weights the version started from and of the data it was tuned on."""

    weights: str
    data: str


@dataclass(frozen=True)
class Manifest:
    """The content of a version.

    Attributes:
        dim: D, the length of an embedding.
        modalities: fields of an item that the version can use.
        pooling: how several images of one item become one vector: the mean, normalised again.
        metric: similarity of two embeddings; they are unit vectors, so cosine is the dot product.
    """

    graphs: Mapping[str, Graph]
    dim: int
    image: ImageSpec | None
    licences: Licences
    modalities: tuple[Modality, ...] = ("image",)
    labels: Labels | None = None
    tokenizer: Tokenizer | None = None
    pooling: Literal["mean"] = "mean"
    metric: Literal["cosine"] = "cosine"
    schema: int = field(default=SCHEMA)

    @property
    def digest(self) -> str:
        """sha256, in hex, of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. The same content is the same text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read canonical (or any) JSON of a manifest.

        Raises:
            BadInput: not JSON, an unknown or missing field, or another schema.
        """
        try:
            return _manifest(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"this is no version manifest: {type(error).__name__}: {error}") from error

    def files(self) -> tuple[FileRef, ...]:
        """Every file the version consists of, each once, by path."""
        found = self._named()
        return tuple(sorted({ref.path: ref for ref in found}.values(), key=lambda ref: ref.path))

    def _named(self) -> list[FileRef]:
        found = [graph.file for graph in self.graphs.values()]
        return found + [part.file for part in (self.labels, self.tokenizer) if part is not None]

    def __post_init__(self) -> None:
        """Refuse a manifest that no folder and no store could hold.

        Raises:
            BadInput: a digest that is no sha256, a path outside the folder, two contents at one path, or a text graph
                that nothing can feed.
        """
        if "text" in self.graphs and (self.tokenizer is None or "title" not in self.modalities):
            raise BadInput("the manifest has a text graph; it also needs a tokenizer and the modality title")
        known: dict[str, FileRef] = {}
        for ref in self._named():
            _check_file(ref)
            if known.setdefault(ref.path, ref) != ref:
                raise BadInput(f"the manifest gives {ref.path!r} two different digests; give each file its own path")


def _check_file(ref: FileRef) -> None:
    pure = PurePosixPath(ref.path)
    if pure.is_absolute() or ".." in pure.parts or not pure.name:
        raise BadInput(f"the manifest names {ref.path!r}, a path outside its own folder")
    if ref.path in BESIDE:
        raise BadInput(f"the manifest names {ref.path!r}, which is not content; rename the file")
    if not re.fullmatch("[0-9a-f]{64}", ref.sha256):
        raise BadInput(f"the manifest gives {ref.path!r} the digest {ref.sha256!r}, which is no sha256 in hex")


def _manifest(raw: dict[str, Any]) -> Manifest:
    if raw.get("schema") != SCHEMA:
        raise BadInput(f"manifest schema {raw.get('schema')!r} is unknown here, this release reads {SCHEMA}")
    unknown = set(raw) - set(Manifest.__dataclass_fields__)
    if unknown:
        raise BadInput(f"the manifest has unknown fields: {', '.join(sorted(unknown))}")
    wrong = set(raw["modalities"]) - set(get_args(Modality))
    if wrong:
        raise BadInput(f"the manifest names unknown modalities: {', '.join(sorted(wrong))}")
    return Manifest(
        graphs={name: _graph(graph) for name, graph in raw["graphs"].items()},
        dim=int(raw["dim"]),
        image=ImageSpec(**raw["image"]) if raw["image"] else None,
        licences=Licences(**raw["licences"]),
        modalities=tuple(raw["modalities"]),
        labels=Labels(**{**raw["labels"], "file": FileRef(**raw["labels"]["file"])}) if raw["labels"] else None,
        tokenizer=Tokenizer(**{**raw["tokenizer"], "file": FileRef(**raw["tokenizer"]["file"])})
        if raw["tokenizer"]
        else None,
        pooling=raw["pooling"],
        metric=raw["metric"],
    )


def _graph(raw: dict[str, Any]) -> Graph:
    return Graph(
        file=FileRef(**raw["file"]),
        inputs=tuple(_tensor(spec) for spec in raw["inputs"]),
        outputs=tuple(_tensor(spec) for spec in raw["outputs"]),
    )


def _tensor(raw: dict[str, Any]) -> TensorSpec:
    return TensorSpec(raw["name"], raw["role"], raw["dtype"], tuple(raw["shape"]))
