"""What the live collection can be filtered by: values with how many items have them, and ranges of numbers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from services.snapshot import Live
from vitrine.collection import Collection
from vitrine.errors import Unsupported

MOST_VALUES = 200
_OWN = {"product_id", "title", "image"}  # tell an item apart, they do not group

Payloads = Sequence[Mapping[str, Any]]


class Facets:
    """Of the collection's files, so without a look at every change since; counted once for each set of files."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._counted: tuple[object, dict[str, Any]] = (None, {})

    async def told(self) -> dict[str, Any]:
        """`collection`, `products` (how many there are) and `fields`.

        Raises:
            Unsupported: the server has no collection.
            Unavailable: nothing is served yet.
        """
        with self._live.lease() as service:
            following = service.snapshot.following
            if following is None:
                raise Unsupported(f"this server has {service.snapshot.name} but no catalogue, so there are no filters")
            key = (following.files.root, following.files.info)  # not the files themselves: they may be retired
            if self._counted[0] != key:
                self._counted = key, await asyncio.to_thread(_told, following.files)
            return self._counted[1]


def _told(files: Collection) -> dict[str, Any]:
    return {
        "collection": files.info.name,
        "products": len({payload["product_id"] for payload in files.payloads if payload.get("product_id")}),
        "fields": fields(files.payloads),
    }


def fields(payloads: Payloads) -> list[dict[str, Any]]:
    """Fields that group items, by name: the most frequent values of texts, the ends of numbers.

    >>> fields([{"label": "mug", "price": 3.0}, {"label": "mug"}])
    [{'field': 'label', 'kind': 'text', 'values': [{'value': 'mug', 'count': 2}], 'distinct': 1}, \
{'field': 'price', 'kind': 'number', 'low': 3.0, 'high': 3.0}]
    """
    columns: dict[str, list[Any]] = {}
    for payload in payloads:
        for name in payload.keys() - _OWN:
            columns.setdefault(name, []).append(payload[name])
    return [{"field": name, **_facet(columns[name])} for name in sorted(columns)]


def _facet(held: Sequence[Any]) -> dict[str, Any]:
    if isinstance(held[0], int | float):
        numbers = [float(value) for value in held]
        return {"kind": "number", "low": min(numbers), "high": max(numbers)}
    counts = Counter(value for one in held for value in (one if isinstance(one, list) else [one]))
    order = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    values = [{"value": value, "count": count} for value, count in order[:MOST_VALUES]]
    return {"kind": "text", "values": values, "distinct": len(counts)}
