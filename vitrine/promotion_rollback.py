"""Taking a promotion back: the version that was live before, with the collection it had and all that changed since."""

from __future__ import annotations

from contextlib import closing

from vitrine import failpoints
from vitrine.catalogue import open_catalogue
from vitrine.catchup import catch_up
from vitrine.collection import Collection, open_collection
from vitrine.collection_content import content
from vitrine.errors import Conflict, NotFound, Refused
from vitrine.events import Promoted, RolledBack
from vitrine.lifecycle import Production
from vitrine.names import parse_ref
from vitrine.ports import Index
from vitrine.promotion_check import check_counts
from vitrine.promotion_tools import Tools

CAUGHT_UP = failpoints.point("rollback.caught_up", "the collection before is right again, production is the new one")
SWITCHED = failpoints.point("rollback.switched", "production is the one before, nobody was told yet")


def roll_back(tools: Tools, name: str, *, catch_up_first: bool = True, leaving: int | None = None) -> Production:
    """Bring the version before back, with the collection it had and what the catalogue has become since.

    Args:
        tools: registry, home and index.
        name: the model.
        catch_up_first: without it the switch comes at once, and the servers catch up after it.
        leaving: the version to take back, so that repeating a rollback does not take back one more: where it was taken
            back last, nothing is done.

    Raises:
        NotFound: there is nothing to go back to, or a clean-up took its collection.
        Refused: the version before is retired.
        Tampered: its collection is damaged.
        Conflict: somebody else was first, or another version than `leaving` is live.
        Unavailable: the index server cannot be reached; the message says whether the switch was made before.
    """
    done = _taken_back(tools, name, leaving) if leaving is not None else None
    if done is not None:
        tools.publish(name, done)  # the run that switched may have died before it
        return done
    now, before = _productions(tools, name)
    collection = _kept(tools, name, before)
    if catch_up_first:
        _catch_up(tools, name, before, collection)
    failpoints.reach(CAUGHT_UP)
    tools.registry.append(
        RolledBack(
            model=name,
            version=before.version,
            catalogue=before.catalogue,
            collection=before.collection,
            previous=now.version,
            why=tools.why,
            **tools.registry.stamp(),
        )
    )
    failpoints.reach(SWITCHED)
    tools.publish(name, before)
    return before


def _taken_back(tools: Tools, name: str, leaving: int) -> Production | None:
    """What is live, if the last switch took that version back; None if the version is live itself."""
    parse_ref(name)
    live = tools.registry.state().model(name).production
    if live is None or live.version == leaving:
        return None
    switches = [event for event in tools.registry.history(name) if isinstance(event, Promoted | RolledBack)]
    if isinstance(switches[-1], RolledBack) and switches[-1].previous == leaving:
        return live
    raise Conflict(
        f"{name}@{leaving} is not live, {name}@{live.version} is; nothing was done: vitrine models history {name}"
    )


def _productions(tools: Tools, name: str) -> tuple[Production, Production]:
    """What is live, and what was before it."""
    parse_ref(name)
    state = tools.registry.state().model(name)
    now, before = state.production, state.before_production
    if now is None or before is None:
        raise NotFound(f"{name} has no earlier production version to roll back to; see: vitrine models history {name}")
    if state.versions[before.version].retired:
        raise Refused(f"{name}@{before.version} was live before, but it is retired; promote another version")
    return now, before


def _kept(tools: Tools, name: str, before: Production) -> Collection:
    """The collection of the version before, read and found whole."""
    folder = tools.home.collections / before.collection
    if not folder.is_dir():
        raise NotFound(
            f"the collection of {name}@{before.version} is not there: a clean-up keeps that of one version before the live "
            f"one; embed it again: vitrine promote {name}@{before.version} --catalogue {before.catalogue}"
        )
    collection = open_collection(folder)
    collection.insist_on(tools.registry.resolve(f"{name}@{before.version}").digest)
    collection.load()
    return collection


def _catch_up(tools: Tools, name: str, before: Production, collection: Collection) -> None:
    """Take in what changed while another version was live: seconds, if little did."""
    version = tools.registry.resolve(f"{name}@{before.version}")
    catalogue = open_catalogue(tools.home, before.catalogue)
    with closing(_index(tools, collection)) as index:
        done = catch_up(collection, catalogue, tools.embedding(version, catalogue, collection), index, tools.track)
        check_counts(content(collection, catalogue.deltas), index, catalogue, done.seq)


def _index(tools: Tools, collection: Collection) -> Index:
    try:
        return tools.open_index(collection)
    except NotFound:  # it was dropped to save space
        tools.build_index(collection)
        return tools.open_index(collection)
