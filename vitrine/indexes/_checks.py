"""What every index refuses, and what all of them read out of payloads and changes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vitrine.errors import BadInput, NotFound
from vitrine.ports import Condition, Delta, Filter, Vectors

FieldType = Literal["text", "number"]


def field_types(payloads: Iterable[Mapping[str, Any]]) -> dict[str, FieldType]:
    """Payload field -> whether it is searched by equality (text, lists of text) or by range."""
    types: dict[str, FieldType] = {}
    for payload in payloads:
        for name, value in payload.items():
            if name not in types:
                types[name] = "number" if isinstance(value, int | float) else "text"
    return types


def product_of(item_id: str, payload: Mapping[str, Any]) -> str:
    """What a search by product groups an item under: its product, or itself where it has none."""
    product = payload.get("product_id")
    return f"product:{product}" if product else f"item:{item_id}"


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


def newest(deltas: Sequence[Delta], dim: int) -> list[Delta]:
    """Of each item the change with the highest number.

    Raises:
        BadInput: a vector of another length or one that is not finite, or a change that is half a deletion.
    """
    latest: dict[str, Delta] = {}
    for delta in deltas:
        _check_delta(delta, dim)
        if delta.item_id not in latest or latest[delta.item_id].seq < delta.seq:
            latest[delta.item_id] = delta
    return list(latest.values())


def _check_delta(delta: Delta, dim: int) -> None:
    name = f"change {delta.seq} of item {delta.item_id!r}"
    if (delta.vector is None) != (delta.payload is None):
        raise BadInput(f"{name} has a vector or a payload alone; a deletion has neither, any other change both")
    if delta.vector is None:
        return
    if delta.vector.shape != (dim,):
        raise BadInput(f"the vector of {name} has shape {delta.vector.shape}, this collection takes ({dim},)")
    if not np.isfinite(delta.vector).all():
        raise BadInput(f"the vector of {name} is not finite; the version's graph gives NaN or infinity for it")


def refuse_unknown(item_ids: Sequence[str], held: Container[str], collection: str) -> None:
    """Refuse ids that the collection does not hold.

    Raises:
        NotFound: the message names up to five of them.
    """
    missing = [item_id for item_id in item_ids if item_id not in held]
    if missing:
        named = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise NotFound(f"collection {collection} holds no item {named}")
