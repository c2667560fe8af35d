"""One protocol on one version: who asks with what, among whom, and the exact ranking of the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine.dataset import Dataset
from vitrine.embedding import Space
from vitrine.errors import BadInput, Unsupported
from vitrine.items import EvalProtocol, Item
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.ranking import Limits, RankingResult, measure
from vitrine.relevance import Paths, Relevance, relevance_of


@dataclass(frozen=True)
class Retrieval:
    """The queries and the gallery of one protocol, embedded, with the exact ranking.

    Attributes:
        queries: who is searched for; where words ask, the first item of each title.
        query_vectors, gallery_vectors: float32 (Q, D) and (N, D), unit rows.
        query_keys, gallery_keys: equal where an item is what a query looks for.
        relevance: the same as codes, with what a query must not find: itself and exact copies of its photos.
        seconds: time spent ranking.
    """

    dataset: Dataset
    protocol: EvalProtocol
    queries: list[Item]
    gallery: list[Item]
    query_vectors: Vectors
    gallery_vectors: Vectors
    query_keys: list[str]
    gallery_keys: list[str]
    relevance: Relevance
    exact: RankingResult
    seconds: float

    @property
    def unit_kind(self) -> str:
        """Photos of one product are no independent queries; without products, those of one class are not."""
        return "product_id" if all(item.product_id for item in self.queries) else "label"

    @property
    def units(self) -> list[str]:
        """The unit of each query."""
        return [str(getattr(item, self.unit_kind)) for item in self.queries]

    def excluded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of query number and gallery row that are no answers: the query itself and its copies."""
        return self.relevance.excluded(0, len(self.queries))

    @property
    def seen(self) -> list[Item]:
        """The items whose photos took part, each once, by id."""
        asked = self.queries if self.protocol.ask_by == "image" else []
        items = {item.item_id: item for item in [*asked, *self.gallery]}
        return [items[item_id] for item_id in sorted(items)]


def retrieve(space: Space, protocol: EvalProtocol, track: Track = quiet, limits: Limits | None = None) -> Retrieval:
    """Embed both sides of a protocol and rank the whole gallery for each query.

    An exact copy of a query's photos under another id is no answer and counts nowhere, unless words ask.

    Raises:
        BadInput: no items on one side, no titles to ask with, or no query has anything to find.
        Unsupported: the protocol asks by title, and the version reads no text.
    """
    dataset = space.dataset
    queries, gallery = queries_of(dataset, protocol), dataset.split(*protocol.gallery)
    if not queries or not gallery:
        raise BadInput(
            f"protocol {protocol.name} of dataset {dataset.name} has {len(queries)} queries and {len(gallery)} gallery "
            "items, both are needed; see: vitrine data check"
        )
    query_vectors, gallery_vectors = _ask(space, protocol, queries), space.vectors(gallery)
    query_keys = [relevance_key(item, protocol) for item in queries]
    gallery_keys = [relevance_key(item, protocol) for item in gallery]
    began = time.perf_counter()
    relevance = relevance_of(
        [item.item_id for item in queries],
        [item.item_id for item in gallery],
        query_keys,
        gallery_keys,
        paths=_paths(queries, gallery),
        copies=(_photos(queries), _photos(gallery)) if protocol.ask_by == "image" else None,
    )
    exact = measure(query_vectors, gallery_vectors, relevance, limits=limits, track=track)
    if not (exact.n_relevant > 0).any():
        raise BadInput(
            f"no query of protocol {protocol.name} of dataset {dataset.name} has a {protocol.relevance} in common with "
            "another gallery item: there is nothing to find; see: vitrine data check"
        )
    seconds = time.perf_counter() - began
    return Retrieval(
        dataset=dataset,
        protocol=protocol,
        queries=queries,
        gallery=gallery,
        query_vectors=query_vectors,
        gallery_vectors=gallery_vectors,
        query_keys=query_keys,
        gallery_keys=gallery_keys,
        relevance=relevance,
        exact=exact,
        seconds=seconds,
    )


def queries_of(dataset: Dataset, protocol: EvalProtocol) -> list[Item]:
    """The items that ask. By title, each pair of a title and what it looks for asks once: its first item stands for it.

    Raises:
        BadInput: a protocol that asks by title, and no item of its query splits has one.
    """
    items = dataset.split(*protocol.query)
    if protocol.ask_by == "image":
        return items
    first: dict[tuple[str, str], Item] = {}
    for item in items:
        if item.title.strip():
            first.setdefault((item.title.strip(), relevance_key(item, protocol)), item)
    if items and not first:
        raise BadInput(
            f"protocol {protocol.name} of dataset {dataset.name} asks by title, and none of its {len(items)} query items "
            "has one; import the dataset with titles, or evaluate another protocol"
        )
    return list(first.values())


def relevance_key(item: Item, protocol: EvalProtocol) -> str:
    """What makes items relevant to each other; an item of unknown product is relevant to none."""
    if protocol.relevance == "label":
        return item.label
    return f"product {item.product_id}" if item.product_id else f"unknown product of {item.item_id}"


def _photos(items: Sequence[Item]) -> list[str]:
    """Equal for items of exactly the same photos; an item without photos is like no other."""
    return [" ".join(item.images) or f"none of {item.item_id}" for item in items]


def _paths(queries: Sequence[Item], gallery: Sequence[Item]) -> Paths | None:
    """Category paths of both sides; None where nobody has one of several levels."""
    if not any(len(item.category) > 1 for item in gallery):
        return None
    return [item.category for item in queries], [item.category for item in gallery]


def _ask(space: Space, protocol: EvalProtocol, queries: Sequence[Item]) -> Vectors:
    if protocol.ask_by == "image":
        return space.vectors(queries)
    if not space.reads_text:
        raise Unsupported(
            f"protocol {protocol.name} of dataset {space.dataset.name} asks by title, but this version reads no text, "
            "only images; evaluate another protocol, or a version of a "
            "text-image backbone"
        )
    return space.texts([item.title.strip() for item in queries])
