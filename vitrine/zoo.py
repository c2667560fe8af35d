"""The model zoo: one table of networks with given weights, and the licences that may be used unasked.

The table is `vitrine/zoo_table.py`; `vitrine/zoo_build.py` builds, measures, fetches and converts. A name of
it stands for family, architecture, weights, image size and licence: `backbones.fetched.NAME.zoo` in params.yaml.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vitrine.errors import BadInput, Refused

Training = Literal["supervised", "self-supervised", "text-image"]

PERMISSIVE = ("Apache-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause", "ISC", "CC0-1.0", "CC-BY-4.0")
"""Licences that allow any use, the commercial one too, against attribution at most (SPDX names)."""


@dataclass(frozen=True)
class Preprocessing:
    """How pixels reach a network, where its architecture's default is not what it was trained with."""

    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize: Literal["crop", "squash"] = "crop"


@dataclass(frozen=True)
class ZooModel:
    """One network of the table.

    Attributes:
        group: whose weights they are, in words, such as `DINOv2`.
        training: what it learnt from.
        family: the module in `vitrine/families/` that builds it.
        architecture: the library's own name.
        weights: `hub:TAG` of the library; `hub-file:OWNER/NAME/FILE` of the Hugging Face hub; or
            `convert:KEYMAP`, a checkpoint at `address` that `vitrine zoo convert` has to rename first.
        image_size: side in pixels that the figures are for and that params.yaml gets by default.
        dim: D of an image's embedding.
        licence: of the weights.
        parameters: of the image tower; `text_parameters` of the text tower, 0 where there is none.
        gmacs: billions of multiplications and additions for one photo, matrix products and convolutions only.
        address: where the weights or their description are.
        preprocessing: None where the library knows it.
        in_study: whether it is of a family that arXiv 2504.07567 compares.
    """

    name: str
    group: str
    training: Training
    family: str
    architecture: str
    weights: str
    image_size: int
    dim: int
    licence: str
    parameters: int
    gmacs: float
    address: str
    text_parameters: int = 0
    preprocessing: Preprocessing | None = None
    in_study: bool = True

    @property
    def source(self) -> str:
        """`hub`, `hub-file` or `convert`."""
        return self.weights.partition(":")[0]


def find(name: str) -> ZooModel:
    """The entry of that name.

    Raises:
        BadInput: there is none; the message suggests near names.
    """
    from vitrine.zoo_table import ZOO

    known = {model.name: model for model in ZOO}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=4, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else f"there: {', '.join(known)}"
        raise BadInput(f"the zoo has no {name!r}; {hint} See: vitrine zoo ls", field="zoo")
    return known[name]


def check_licence(what: str, licence: str, allowed: Mapping[str, str]) -> None:
    """Let permissive licences pass, and those that somebody has allowed with a reason.

    Args:
        what: whose licence it is, for the message.
        licence: its name; upper and lower case are the same.
        allowed: `licences` of params.yaml, licence -> why.

    Raises:
        Refused: any other licence; the message says how to allow it.
    """
    known = {name.lower() for name in (*PERMISSIVE, *allowed)}
    if licence.lower() in known:
        return
    advice = (
        "state it (licence: NAME)"
        if licence == "unknown"
        else f"read it, and if your use is allowed add to params.yaml: licences: {{{licence}: WHY}}"
    )
    raise Refused(
        f"the weights of {what} have the licence {licence!r}, which is not allowed; "
        f"allowed are {', '.join((*PERMISSIVE, *allowed))}; {advice}"
    )
