"""A network with given weights: from the zoo, from a library's hub, from a file or random, if its licence may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from training.settings import FetchedBackbone
from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.ports import Backbone, BackboneSpec
from vitrine.zoo import check_licence, find
from vitrine.zoo_build import fetch


def fetch_backbone(
    name: str, chosen: FetchedBackbone, allowed: Mapping[str, str]
) -> tuple[Backbone, BackboneSpec, dict[str, Any]]:
    """The network, its spec, and how it came about.

    Args:
        name: of the backbone, for messages.
        chosen: its entry in params.yaml.
        allowed: `licences` of params.yaml.

    Raises:
        Refused: the licence is neither permissive nor allowed.
        BadInput: neither a zoo name nor family and architecture are given, or they do not fit.
        NotFound: the weights file does not exist.
        Unavailable: the hub cannot be reached.
    """
    spec = spec_of(name, chosen)
    # One's own file or random numbers need nobody's leave; what a hub or the zoo gives does.
    if chosen.zoo or spec.weights.startswith("hub") or spec.licence != "unknown":
        check_licence(f"backbone {name}", spec.licence, allowed)
    origin = {"fetched": spec.weights}
    if chosen.zoo:
        return fetch(find(chosen.zoo), spec), spec, {**origin, "zoo": chosen.zoo}
    return plugins.load("families", spec.family).load(spec), spec, origin


def spec_of(name: str, chosen: FetchedBackbone) -> BackboneSpec:
    """What an entry of params.yaml stands for; the zoo fills in what is not given.

    Raises:
        BadInput: the zoo has no such name, says otherwise, or something is missing.
    """
    where = f"backbones.fetched.{name}"
    if chosen.zoo is None:
        if not chosen.family or not chosen.architecture:
            raise BadInput(f"{where} needs a zoo name (vitrine zoo ls), or family and architecture", field="zoo")
        weights = chosen.weights or "hub"
        licence = chosen.licence or "unknown"
        return BackboneSpec(chosen.family, chosen.architecture, weights, chosen.image_size, licence)
    model = find(chosen.zoo)
    for key in ("family", "architecture"):
        if getattr(chosen, key) not in (None, getattr(model, key)):
            raise BadInput(f"{where}: the zoo's {model.name} has its own {key}; leave {key} out", field=key)
    spec = BackboneSpec(model.family, model.architecture, model.weights, model.image_size, model.licence)
    given = {key: getattr(chosen, key) for key in ("weights", "image_size", "licence")}
    return replace(spec, **{key: value for key, value in given.items() if value is not None})
