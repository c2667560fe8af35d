"""What every index refuses, and payloads as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from vitrine.collection import Collection
from vitrine.errors import BadInput, NotFound
from vitrine.ports import Condition, Filter, Vectors

FieldType = Literal["text", "number"]


def field_types(payloads: Iterable[Mapping[str, Any]]) -> dict[str, FieldType]:
    """Payload field -> whether it is searched by equality (text, lists of text) or by range."""
    types: dict[str, FieldType] = {}
    for payload in payloads:
        for name, value in payload.items():
            if name not in types:
                types[name] = "number" if isinstance(value, int | float) else "text"
    return types


def check_search(vectors: Vectors, dim: int, k: int, where: Filter, types: Mapping[str, FieldType]) -> None:
    """Refuse what no index could answer.

    Raises:
        BadInput: wrong shape, k < 1, an unknown field, or a condition that its field cannot meet.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise BadInput(f"query vectors have shape {vectors.shape}, this collection takes (Q, {dim})", field="vectors")
    if k < 1:
        raise BadInput(f"{k} hits were asked for; ask for 1 or more", field="k")
    for condition in where:
        _check_condition(condition, types)


def _check_condition(condition: Condition, types: Mapping[str, FieldType]) -> None:
    name = condition.field
    if name not in types:
        known = ", ".join(sorted(types)) or "none"
        raise BadInput(f"no item has a field {name!r}; filter on one of: {known}", field=name)
    ranged = condition.low is not None or condition.high is not None
    if ranged == bool(condition.any_of):
        raise BadInput(f"the filter on {name!r} needs either values or a range, one of the two", field=name)
    if ranged and types[name] != "number":
        raise BadInput(f"{name!r} holds text: filter it by values, such as {name}=milk", field=name)
    if condition.any_of and types[name] != "text":
        raise BadInput(f"{name!r} holds numbers: filter it by a range, such as {name}=1..5", field=name)


def refuse_unknown(item_ids: Sequence[str], row_of: Mapping[str, int], collection: str) -> None:
    """Refuse ids that the collection does not hold.

    Raises:
        NotFound: the message names up to five of them.
    """
    missing = [item_id for item_id in item_ids if item_id not in row_of]
    if missing:
        named = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise NotFound(f"collection {collection} holds no item {named}")


def stored_vectors(collection: Collection, item_ids: Sequence[str]) -> Vectors:
    """float32 (len(item_ids), D) from the collection's own file, in the order asked for.

    Raises:
        NotFound: an id that the collection does not hold.
    """
    refuse_unknown(item_ids, collection.row_of, collection.info.name)
    picked: Vectors = collection.vectors[[collection.row_of[item_id] for item_id in item_ids]]
    return picked
