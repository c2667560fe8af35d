"""Trying a candidate on live searches before it is promoted: the servers that follow the registry do it.

Its collection is built beforehand: `vitrine promote NAME@8 --build-only`.
"""

from __future__ import annotations

from vitrine.collection import open_collection
from vitrine.errors import BadInput, NotFound, Refused
from vitrine.events import ShadowStarted, ShadowStopped
from vitrine.home import Home
from vitrine.lifecycle import Production, Shadow
from vitrine.names import collection_name, parse_ref
from vitrine.registry import Registry


def start_shadow(registry: Registry, home: Home, ref: str, share: float, *, why: str = "") -> Shadow:
    """Let servers try a version on a share of the live searches, in the place of what they tried before.

    Args:
        registry: where it is recorded.
        home: where its collection lies.
        ref: the candidate.
        share: of the live searches, above 0, up to 1.
        why: kept with the event.

    Raises:
        BadInput: `share` is out of range.
        NotFound: no such version, nothing is live beside which it could be tried, or its collection is not built.
        Refused: it is live itself, or retired.
    """
    if not 0 < share <= 1:
        raise BadInput(f"share is {share:g}; it must be above 0 and at most 1, such as 0.1", field="share")
    version = registry.resolve(ref)
    name = version.registered.model
    candidate = f"{name}@{version.number}"
    live = registry.state().model(name).production
    if live is None:
        raise NotFound(f"{name} has no production version to try {candidate} beside; see: vitrine promote {candidate}")
    if live.version == version.number:
        raise Refused(f"{candidate} is live; try another version beside it")
    if version.retired:
        raise Refused(f"{candidate} is retired; try another version")
    place = Production(version.number, live.catalogue, collection_name(live.catalogue, name, version.number))
    _insist_on_collection(home, candidate, place, version.digest)
    registry.append(
        ShadowStarted(
            model=name,
            version=version.number,
            catalogue=place.catalogue,
            collection=place.collection,
            share=share,
            why=why,
            **registry.stamp(),
        )
    )
    return Shadow(place, share)


def stop_shadow(registry: Registry, name: str, *, why: str = "") -> Shadow:
    """Let servers stop trying a candidate; returns what was tried.

    Raises:
        NotFound: no such model, or nothing is tried.
    """
    parse_ref(name)
    shadow = registry.state().model(name).shadow
    if shadow is None:
        raise NotFound(f"no candidate of {name} is tried; begin: vitrine shadow start {name}@N")
    registry.append(ShadowStopped(model=name, version=shadow.candidate.version, why=why, **registry.stamp()))
    return shadow


def _insist_on_collection(home: Home, candidate: str, place: Production, digest: str) -> None:
    try:
        found = open_collection(home.collections / place.collection).info
    except NotFound:
        found = None
    if found is None or found.digest != digest:
        raise NotFound(
            f"{candidate} has not embedded {place.catalogue} yet; do that first: "
            f"vitrine promote {candidate} --catalogue {place.catalogue} --build-only"
        )
