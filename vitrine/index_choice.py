"""Which kind of index an installation uses, and how it is opened."""

from __future__ import annotations

from typing import Any

from vitrine import plugins
from vitrine.collection import Collection
from vitrine.home import Home
from vitrine.ports import Index


def index_kind(home: Home) -> str:
    """Qdrant where a server is named, else exact."""
    return "qdrant" if home.qdrant_url else "exact"


def index_settings(home: Home, kind: str) -> dict[str, Any]:
    """What an index of that kind needs to be built, opened or dropped."""
    return {"url": home.qdrant_url} if kind == "qdrant" else {}


def build_index(collection: Collection, home: Home, kind: str) -> None:
    """Make a collection's files searchable; what an interrupted call began is finished.

    Raises:
        BadInput: no such kind.
        Conflict, Unavailable: as the index says.
    """
    plugins.load("indexes", kind).build(collection, index_settings(home, kind))


def open_index(collection: Collection, home: Home, kind: str) -> Index:
    """The index over a collection's files; what changed since is given to it by `vitrine.catchup.refresh`.

    Raises:
        BadInput: no such kind.
        NotFound, Conflict, Unavailable: as the index says.
    """
    opened: Index = plugins.load("indexes", kind).open(collection, index_settings(home, kind))
    return opened


def publish_index(collection: Collection, home: Home, kind: str) -> None:
    """Let other people's programs find the collection under a lasting name.

    Raises:
        BadInput: no such kind.
        Unavailable: the index server cannot be reached.
    """
    plugins.load("indexes", kind).publish(collection, index_settings(home, kind))
