"""What a kind of index offers: searches over one collection, and changes while they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vitrine.collection import Collection

Vectors = NDArray[np.float32]
"""float32 (rows, D), each row of unit length."""


@dataclass(frozen=True)
class Condition:
    """One filter on a payload field; exactly one of the three is set.

    Attributes:
        any_of: the field equals one of these; on a list field such as `category`, holds one.
        low, high: the number lies in [low, high]; None leaves that end open.
    """

    field: str
    any_of: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


Filter = tuple[Condition, ...]
"""All conditions must hold; the empty tuple lets everything pass."""


@dataclass(frozen=True)
class Hit:
    """One item found. `score` is the cosine similarity in [-1, 1]."""

    item_id: str
    score: float
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Delta:
    """A change of one item since the collection's files were written.

    Attributes:
        seq: number of the catalogue's change that it follows from; a later one of the same item replaces it.
        vector: float32 (D,), unit length; None where the item was deleted.
        payload: what searches filter and show; None where the item was deleted.
    """

    seq: int
    item_id: str
    vector: NDArray[np.float32] | None
    payload: Mapping[str, Any] | None


class Index(Protocol):
    """An open index over one collection, which one version embedded. Safe for several threads.

    Order: falling score, equal scores by rising item id. An approximate index may miss items, never invent
    or reorder them.
    """

    collection: str

    def search(
        self, vectors: Vectors, k: int, where: Filter = (), *, exact: bool = False, by_product: bool = False
    ) -> list[list[Hit]]:
        """The K nearest items of each of Q unit vectors (Q, D), fewer where fewer pass the filter.

        With `by_product` the best item of each product only; an item without a `product_id` is a product of its own.

        Raises:
            BadInput: wrong D, k < 1, or a filter on a field that no payload has.
            Unavailable: the index server does not answer in time.
        """
        ...

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Stored unit vectors (len(item_ids), D) in the order asked for.

        Raises:
            NotFound: an id that the collection does not hold; the message names it.
        """
        ...

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Take changes in, in any order, as often as one likes: of each item the highest `seq` counts.

        A search that runs meanwhile sees each item before or after its change, never both and never half.

        Raises:
            Unavailable: the index server does not answer in time; apply them again.
        """
        ...

    def count(self) -> int:
        """How many items the index really holds, changes included."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class IndexKind(Protocol):
    """A module in `vitrine/indexes/`: builds an index from a collection, opens it, drops it."""

    def build(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        """Make the collection searchable; a repeated call finishes what an interrupted one began."""
        ...

    def open(self, collection: Collection, settings: Mapping[str, Any]) -> Index:
        """Open it for searching.

        Raises:
            NotFound: it was never built.
            Unavailable: the server cannot be reached.
        """
        ...

    def publish(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        """Let other people's programs find the collection under a lasting name; ours use its own."""
        ...

    def forget(self, collection: Collection, item_ids: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Take items out without a trace, also what `apply` keeps of deleted ones; unknown ones are no error."""
        ...

    def drop(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        """Remove it; nothing happens if it is not there. The collection's files stay."""
        ...
