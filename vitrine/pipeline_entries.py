"""Entries of params.yaml for a new dataset: the dataset, its features, its cells, and crosses with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrine.errors import BadInput, NotFound

STRATEGIES = ("pretrained", "top", "full")
UNTUNED = "pretrained"


@dataclass(frozen=True)
class Wanted:
    """What to add.

    Attributes:
        dataset: its name.
        format: a module of `vitrine/datasets/`; `options` are that format's.
        path: what to import.
        backbones: by name; all of them where none is given.
        strategies: modules of `training/tuning/`.
        cross_with: datasets whose tuned versions are evaluated on the new one, and the other way round.
    """

    dataset: str
    format: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    backbones: Sequence[str] = ()
    strategies: Sequence[str] = STRATEGIES
    cross_with: Sequence[str] = ()


@dataclass(frozen=True)
class Added:
    """The keys of what was added."""

    cells: tuple[str, ...]
    crosses: tuple[str, ...]


def add_entries(params: Any, wanted: Wanted) -> Added:
    """Put a dataset, its features, cells and crosses into `params` in place.

    Args:
        params: the mapping that ruamel.yaml read, so that comments stay.
        wanted: what to add.

    Raises:
        BadInput: a name that is not allowed or taken; an unknown format, backbone, strategy or dataset to cross with;
            crosses without a tuned cell.
        NotFound: nothing at `wanted.path`.
    """
    known = _backbones(params)
    _check(params, wanted, known)
    new = wanted.dataset
    params["datasets"][new] = {"format": wanted.format, "path": str(wanted.path), "options": dict(wanted.options)}
    cells = []
    for backbone in wanted.backbones or list(known):
        params["features"][f"{backbone}--{new}"] = _flow(backbone=backbone, dataset=new)
        for strategy in wanted.strategies:
            named = {"model": f"{new}-text"} if answers_titles(params, known[backbone], strategy) else {}
            cells.append(f"{strategy}--{backbone}--{new}")
            params["cells"][cells[-1]] = _flow(strategy=strategy, backbone=backbone, dataset=new, **named)
    return Added(tuple(cells), tuple(_cross(params, wanted, cells)))


def answers_titles(params: Mapping[str, Any], backbone: Mapping[str, Any], strategy: str) -> bool:
    """Whether a tuned version still reads titles, so that it belongs to a model of its own.

    Args:
        params: whose `top.head` and `full.objective` count.
        backbone: an entry under `backbones`.
        strategy: by name.
    """
    if not _reads_titles(backbone):
        return False
    if strategy == "top":
        return bool(params["top"].get("head", "auto") != "image")
    return bool(strategy != "full" or params["full"].get("objective") == "contrastive")


def _reads_titles(backbone: Mapping[str, Any]) -> bool:
    from vitrine.zoo import find

    if "objective" in backbone or "dataset" in backbone:  # trained here
        return bool(backbone.get("objective") == "contrastive")
    if backbone.get("zoo"):
        return find(backbone["zoo"]).text_parameters > 0
    return bool(backbone.get("family") == "open-clip")


def _cross(params: Any, wanted: Wanted, cells: Sequence[str]) -> list[str]:
    """Every tuned cell of the new dataset on each other one, and theirs of the same backbones on the new one."""
    if not wanted.cross_with:
        return []
    backbones = {params["cells"][key]["backbone"] for key in cells}
    if params.get("crosses") is None:
        params["crosses"] = {}
    added = []
    for other in wanted.cross_with:
        for key, cell in params["cells"].items():
            if cell["strategy"] == UNTUNED or cell["backbone"] not in backbones:
                continue
            for tuned_on, asked in ((wanted.dataset, other), (other, wanted.dataset)):
                if cell["dataset"] == tuned_on:
                    params["crosses"][f"{key}--on--{asked}"] = _flow(cell=key, dataset=asked)
                    added.append(f"{key}--on--{asked}")
    return added


def _check(params: Any, wanted: Wanted, known: Mapping[str, Any]) -> None:
    from vitrine import plugins
    from vitrine.names import check_name

    check_name(wanted.dataset, "dataset name")
    _one_of(wanted.format, plugins.names("datasets"), "dataset format")
    for name in wanted.backbones:
        _one_of(name, list(known), "backbone of params.yaml")
    for name in wanted.strategies:
        _one_of(name, [key for key in _strategies() if key in params], "tuning strategy with a section in params.yaml")
    if wanted.dataset in params["datasets"]:
        raise BadInput(f"params.yaml has a dataset {wanted.dataset!r} already; choose another name or edit the entry")
    for name in wanted.cross_with:
        _one_of(name, list(params["datasets"]), "dataset of params.yaml to cross with")
    if wanted.cross_with and set(wanted.strategies) == {UNTUNED}:
        raise BadInput(
            "a cross evaluates a tuned version, and pretrained tunes nothing; add --strategy top or --strategy full",
            field="strategy",
        )
    if not wanted.path.exists():
        raise NotFound(f"there is nothing at {wanted.path}; give the folder or file to import: --path")


def _backbones(params: Any) -> dict[str, Any]:
    return {**(params["backbones"].get("trained") or {}), **(params["backbones"].get("fetched") or {})}


def _strategies() -> list[str]:
    return sorted(file.stem for file in Path("training/tuning").glob("[!_]*.py"))


def _one_of(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise BadInput(f"{name!r} is no {what}; there are: {', '.join(known) or 'none'}")


def _flow(**fields: str) -> Any:
    """One entry on one line, as in the rest of the file."""
    from ruamel.yaml.comments import CommentedMap

    entry = CommentedMap(fields)
    entry.fa.set_flow_style()
    return entry
