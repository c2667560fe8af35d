"""params.yaml as frozen values: one place that knows every key, its type and its default.

DVC decides what to run again from the keys that a stage names in dvc.yaml; this module decides
what a key means. An unknown key is an error, because a misspelt one would silently do nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vitrine.errors import BadInput, NotFound

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """A dataset to import: `format` is a module in `vitrine/datasets/`, `options` are that format's."""

    format: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainedBackbone:
    """A network trained here on a dataset's training photos, without labels.

    Attributes:
        objective: `self-supervised` (photos alone) or `contrastive` (photos and titles, text-image networks).
        epochs: passes over the photos; `max_photos` is a seeded sample of them at most.
        temperature: of the contrastive loss; small values push close photos apart harder.
        projection: width of the projector that is thrown away after training.
    """

    family: str
    architecture: str
    dataset: str
    image_size: int
    objective: str = "self-supervised"
    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.002
    weight_decay: float = 0.0001
    temperature: float = 0.2
    projection: int = 128
    max_photos: int = 20_000


@dataclass(frozen=True, kw_only=True)
class FetchedBackbone:
    """A network with given weights; see `vitrine.ports.BackboneSpec`.

    Attributes:
        zoo: a name of `vitrine zoo ls`, which says all the rest; what is given beside it counts.
        weights: without one, the zoo's or `hub`.
        licence: without one, the zoo's or unknown.
    """

    zoo: str | None = None
    family: str | None = None
    architecture: str | None = None
    weights: str | None = None
    image_size: int | None = None
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class Backbones:
    """All backbones by name; a name is in one of the two groups."""

    trained: Mapping[str, TrainedBackbone] = field(default_factory=dict)
    fetched: Mapping[str, FetchedBackbone] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Frozen features to compute: key `BACKBONE--DATASET`."""

    backbone: str
    dataset: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination to train, register and evaluate: key `STRATEGY--BACKBONE--DATASET`.

    Attributes:
        model: the model that it becomes a version of; `DATASET-search` without.
        overrides: settings of its strategy that differ for this cell alone.
    """

    strategy: str
    backbone: str
    dataset: str
    model: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cross:
    """A tuned cell's version evaluated on another dataset, never a training: key `CELL--on--DATASET`."""

    cell: str
    dataset: str


@dataclass(frozen=True, kw_only=True)
class TopSettings:
    """The head on frozen features: fully connected layers and a classifier.

    Attributes:
        width, layers: of the fully connected layers; the last one's output is the embedding.
        patience: epochs without a better validation score before training stops.
        precision: share of accepted predictions that must be right when the abstain threshold is chosen.
        head: `image`; `shared` puts one projection on both towers of a text-image backbone and keeps them
            aligned; `auto` is `shared` where the backbone reads text and the items have titles.
        alignment, temperature: of a shared head, weight and temperature of the loss that keeps titles by their photos.
    """

    width: int = 256
    layers: int = 2
    dropout: float = 0.2
    lr: float = 0.001
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    batch_size: int = 256
    epochs: int = 300
    patience: int = 30
    precision: float = 0.9
    head: str = "auto"
    alignment: float = 1.0
    temperature: float = 0.2


@dataclass(frozen=True, kw_only=True)
class FullSettings:
    """Tuning of all parameters.

    Attributes:
        objective: `supervised` (labels), `contrastive` (photos and titles) or `self-supervised` (photos alone).
        accumulate: batches whose gradients are added up before a step.
        warmup: share of the steps in which the learning rate rises; then half a cosine down to zero.
        precision: `auto` (bf16 where the GPU has it, else fp32), `fp32`, `bf16` or `fp16`.
        temperature: of the contrastive and self-supervised losses.
        projection: width of the self-supervised projector that is thrown away.
        patience: epochs without a better validation score before training stops; 0 to run them all.
        abstain_precision: of accepted answers, for the classifier's abstain threshold.
    """

    objective: str = "supervised"
    epochs: int = 20
    batch_size: int = 64
    accumulate: int = 1
    lr: float = 0.001
    weight_decay: float = 0.05
    warmup: float = 0.1
    precision: str = "auto"
    label_smoothing: float = 0.1
    temperature: float = 0.2
    projection: int = 128
    patience: int = 0
    abstain_precision: float = 0.9


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How many photos an exported graph is compared with torch on."""

    photos: int = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of params.yaml. `gates` and `prices` are read by `vitrine.promotion` and the report.

    Attributes:
        licences: of fetched weights, allowed beside the permissive ones: licence -> why it may be used.
    """

    seed: int
    threads: int
    datasets: Mapping[str, DatasetSettings]
    backbones: Backbones
    features: Mapping[str, FeatureSet]
    cells: Mapping[str, Cell]
    crosses: Mapping[str, Cross] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    full: FullSettings = field(default_factory=FullSettings)
    top: TopSettings = field(default_factory=TopSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    gates: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Names must exist and keys must say what they stand for."""
        for key, cell in self.cells.items():
            _expect(key, f"{cell.strategy}--{cell.backbone}--{cell.dataset}", "cells")
            pick(self.features, f"{cell.backbone}--{cell.dataset}", "features")
        for key, features in self.features.items():
            _expect(key, f"{features.backbone}--{features.dataset}", "features")
            pick({**self.backbones.trained, **self.backbones.fetched}, features.backbone, "backbones")
            pick(self.datasets, features.dataset, "datasets")
        for key, cross in self.crosses.items():
            _expect(key, f"{cross.cell}--on--{cross.dataset}", "crosses")
            _check_cross(key, pick(self.cells, cross.cell, "cells"), cross)
            pick(self.datasets, cross.dataset, "datasets")
        for name, backbone in self.backbones.trained.items():
            pick(self.datasets, backbone.dataset, f"backbones.trained.{name}.dataset")


def load_settings(path: Path = Path("params.yaml")) -> Settings:
    """Read params.yaml.

    Raises:
        NotFound: no such file.
        BadInput: not YAML, an unknown or missing key, a value of another type, or a name that is not there.
    """
    if not path.is_file():
        raise NotFound(f"no {path} here; run the pipeline from the project's folder")
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return build(Settings, raw, path.name)


def build(cls: type[T], raw: Any, where: str) -> T:
    """Make a settings dataclass from plain YAML values; `where` names the place in messages."""
    if not isinstance(raw, Mapping):
        raise BadInput(f"{where} must be a mapping of keys to values, not {raw!r}")
    fields = {item.name: item for item in dataclasses.fields(typing.cast("Any", cls))}
    for key in raw:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(fields)}"
            raise BadInput(f"{where} has an unknown key {key!r}; {hint}", field=str(key))
    missing = [
        name
        for name, item in fields.items()
        if name not in raw and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadInput(f"{where} lacks {', '.join(missing)}", field=missing[0])
    hints = typing.get_type_hints(cls)
    return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in raw.items()})


def pick(known: Mapping[str, T], name: str, what: str) -> T:
    """`known[name]`, or a sentence that lists what there is."""
    if name not in known:
        raise BadInput(
            f"params.yaml has no {name!r} under {what}; there: {', '.join(sorted(known)) or 'nothing'}", field=what
        )
    return known[name]


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) is Mapping or typing.get_origin(hint) is dict:
        return _mapping(typing.get_args(hint)[1], value, where)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in allowed)
        raise BadInput(f"{where} is {value!r}, it must be {names}")
    return value


def _mapping(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where} must be a mapping, not {value!r}")
    return {str(key): entry if hint is Any else _convert(hint, entry, f"{where}.{key}") for key, entry in value.items()}


def _expect(key: str, wanted: str, where: str) -> None:
    if key != wanted:
        raise BadInput(f"the key {key!r} under {where} must be {wanted!r}: keys name stages and folders", field=where)


def _check_cross(key: str, cell: Cell, cross: Cross) -> None:
    if cell.strategy == "pretrained":
        wanted = f"pretrained--{cell.backbone}--{cross.dataset}"
        raise BadInput(f"crosses: {key} would be the untuned network again; use the cell {wanted}", field="crosses")
    if cell.dataset == cross.dataset:
        raise BadInput(f"crosses: {key} stays on its own dataset; it is the cell {cross.cell}", field="crosses")
