"""Nearest neighbours from Qdrant in our order: falling score, equal scores by item id.

Qdrant cuts a list of equal scores where it likes. So one more than wanted is asked for, and while the last score of a
full list reaches up into the wanted ones the question is repeated deeper. Products are found the same way: items of
those already found are left out of the next question. Qdrant's own groups know no order of ties, leave out items
without the field and take one query at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qdrant_client import models

from vitrine.indexes._checks import product_of
from vitrine.indexes._qdrant_points import hit, searched
from vitrine.ports import Filter, Hit, Vectors

Ask = Callable[[list[models.QueryRequest]], Sequence[models.QueryResponse]]
"""One round trip: requests -> their answers, in order."""

_ITEMS_A_PRODUCT = 2
"""So many are expected at first; a wrong guess costs another round trip."""


@dataclass
class _Open:
    """A query that is not yet answered."""

    vector: list[float]
    limit: int
    hits: list[Hit] = field(default_factory=list)
    products: list[str] = field(default_factory=list)


def nearest(
    ask: Ask,
    vectors: Vectors,
    k: int,
    where: Filter,
    *,
    using: str,
    params: models.SearchParams,
    by_product: bool,
) -> list[list[Hit]]:
    """The K best items or products of each of Q unit vectors (Q, D); all queries share a round trip."""
    limit = (_ITEMS_A_PRODUCT if by_product else 1) * k + 1
    queries = [_Open(vector.tolist(), limit) for vector in vectors]
    pending, take = queries, _take_products if by_product else _take_items
    while pending:
        answers = ask([_request(query, where, using, params) for query in pending])
        pairs = zip(pending, answers, strict=True)
        pending = [query for query, answer in pairs if not take(query, answer.points, k)]
    return [query.hits[:k] for query in queries]


def _request(query: _Open, where: Filter, using: str, params: models.SearchParams) -> models.QueryRequest:
    return models.QueryRequest(
        query=query.vector,
        using=using,
        limit=query.limit,
        filter=searched(where, query.products),
        params=params,
        with_payload=True,
    )


def _take_items(query: _Open, points: Sequence[models.ScoredPoint], k: int) -> bool:
    query.hits = _sure(points, query.limit)
    if len(points) < query.limit or len(query.hits) >= k:
        return True
    query.limit *= 2
    return False


def _take_products(query: _Open, points: Sequence[models.ScoredPoint], k: int) -> bool:
    before = len(query.hits)
    for found in _sure(points, query.limit):
        product = product_of(found.item_id, found.payload)
        if product not in query.products:
            query.products.append(product)
            query.hits.append(found)
    if len(points) < query.limit or len(query.hits) >= k:
        return True
    if len(query.hits) == before:
        query.limit *= 2  # one product, or one score, fills the whole list
    return False


def _sure(points: Sequence[models.ScoredPoint], limit: int) -> list[Hit]:
    """Hits in order, without the last score of a full list: more items may have it."""
    if len(points) >= limit:
        last = min(point.score for point in points)
        points = [point for point in points if point.score > last]
    return sorted(map(hit, points), key=lambda found: (-found.score, found.item_id))
