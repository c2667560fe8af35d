"""What each collection is needed for: live, kept for a rollback, tried in the shadow, or on its way to be promoted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitrine.collection import POINTER
from vitrine.events import Event, IndexBuilt, Promoted, PromotionStarted, Retired, RolledBack
from vitrine.lifecycle import Production, State, fold


@dataclass(frozen=True)
class Use:
    """A collection that somebody needs.

    Attributes:
        role: "live", "rollback", "shadow" or "promotion".
    """

    role: str
    model: str
    production: Production


def collections_in_use(events: Iterable[Event]) -> dict[str, Use]:
    """Collection name -> what it is needed for; the first of several roles is told."""
    events = list(events)
    state = fold(events)
    uses: dict[str, Use] = {}
    for role, model, production in [*_served(state), *_being_promoted(events)]:
        uses.setdefault(production.collection, Use(role, model, production))
    return uses


def collections_here(events: Iterable[Event], collections: Path) -> dict[str, Use]:
    """As `collections_in_use`, without rollback targets that are not on this disk.

    A clean-up keeps the collection of one version before the live one; after a rollback that version's own predecessor
    is the target, and its collection may be gone. It is nobody's to follow until a promotion embeds it anew.
    """
    events = list(events)
    uses = collections_in_use(events)
    begun = {production.collection: Use(role, model, production) for role, model, production in _being_promoted(events)}
    for name in [name for name, use in uses.items() if use.role == "rollback"]:
        if name in begun and not (collections / name / POINTER).is_file():
            uses[name] = begun[name]
        elif not (collections / name).is_dir():  # one that is there without a pointer is damaged, and is complained of
            del uses[name]
    return uses


def _served(state: State) -> list[tuple[str, str, Production]]:
    found = []
    for role in ("live", "rollback", "shadow"):
        for name, model in state.models.items():
            shadow = model.shadow.candidate if model.shadow else None
            production = {"live": model.production, "rollback": model.before_production, "shadow": shadow}[role]
            if production is not None:
                found.append((role, name, production))
    return found


def _being_promoted(events: Iterable[Event]) -> list[tuple[str, str, Production]]:
    """What was begun or built and did not end: by the switch, by being live already, or by retiring the version."""
    begun: dict[tuple[str, int, str], Production] = {}
    live: dict[str, list[str]] = {}
    for event in events:
        stack = live.setdefault(event.model, [])
        match event:
            case IndexBuilt() if event.collection in stack[-2:]:  # of what is live or kept for a rollback
                begun.pop((event.model, event.version, event.collection), None)
            case PromotionStarted() | IndexBuilt():  # built alone: to be tried, or promoted later
                production = Production(event.version, event.catalogue, event.collection)
                begun[event.model, event.version, event.collection] = production
            case Promoted():
                stack.append(event.collection)
                begun.pop((event.model, event.version, event.collection), None)
            case RolledBack():
                stack.pop()
            case Retired():
                begun = {key: value for key, value in begun.items() if key[:2] != (event.model, event.version)}
    return [("promotion", model, production) for (model, _, _), production in begun.items()]
