"""Items as Qdrant points, and filters and hits back. A point's id follows from its item's, so a change finds it again.

Beside an item's payload a point carries `item_id`, `_seq` (the catalogue's change that it follows from), `_product`
(what a search by product groups it under) and, where the collection's file brought it, `_base` (that file's digest).
A deleted item leaves a point without a vector: no search finds it, and its `_seq` keeps late changes out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models

from vitrine.collection import Collection
from vitrine.indexes._checks import product_of
from vitrine.ports import Condition, Delta, Filter, Hit, Vectors

ITEM_ID, SEQ, PRODUCT, BASE = "item_id", "_seq", "_product", "_base"
_OWN = (ITEM_ID, SEQ, PRODUCT, BASE)
_NAMESPACE = uuid.UUID("8f1f3a52-5f0b-5d0e-9d55-1f0c54a1a6c7")

OWN_FIELDS: Mapping[str, models.PayloadSchemaType] = {
    ITEM_ID: models.PayloadSchemaType.KEYWORD,
    SEQ: models.PayloadSchemaType.INTEGER,
    PRODUCT: models.PayloadSchemaType.KEYWORD,
    BASE: models.PayloadSchemaType.KEYWORD,
}


def point_id(item_id: str) -> str:
    """The item's point: a UUID made of its id."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


def vector_name(version: int) -> str:
    """`v7`: a query by another version's name is an error at the server, never a wrong answer."""
    return f"v{version}"


def base_point(collection: Collection, row: int) -> models.PointStruct:
    """A row of the collection's file."""
    own = {SEQ: collection.info.seq, BASE: collection.info.vectors_sha256}
    item_id, payload, vector = collection.item_ids[row], collection.payloads[row], collection.vectors[row]
    return _point(item_id, payload, vector, collection.info.version, own)


def change(delta: Delta, version: int) -> models.UpsertOperation:
    """A change that the server makes only if the item is not past it."""
    if delta.vector is None or delta.payload is None:
        point = models.PointStruct(id=point_id(delta.item_id), vector={}, payload={SEQ: delta.seq})
    else:
        point = _point(delta.item_id, delta.payload, delta.vector, version, {SEQ: delta.seq})
    older = models.Filter(must=[models.FieldCondition(key=SEQ, range=models.Range(lt=delta.seq))])
    return models.UpsertOperation(upsert=models.PointsList(points=[point], update_filter=older))


def _point(
    item_id: str, payload: Mapping[str, Any], vector: Vectors, version: int, own: Mapping[str, Any]
) -> models.PointStruct:
    return models.PointStruct(
        id=point_id(item_id),
        vector={vector_name(version): vector.tolist()},
        payload={**payload, ITEM_ID: item_id, PRODUCT: product_of(item_id, payload), **own},
    )


def up_to(seq: int) -> models.Filter:
    """Points that follow from a change up to `seq`."""
    return models.Filter(must=[_until(seq)])


def _until(seq: int) -> models.FieldCondition:
    return models.FieldCondition(key=SEQ, range=models.Range(lte=seq))


def left_over(collection: Collection) -> models.Filter:
    """What earlier files brought and this one does not; what marks a deleted item stays."""
    found = models.HasVectorCondition(has_vector=vector_name(collection.info.version))
    own = models.FieldCondition(key=BASE, match=models.MatchValue(value=collection.info.vectors_sha256))
    return models.Filter(must=[_until(collection.info.seq), found], must_not=[own])


def searched(where: Filter, without_products: Sequence[str] = ()) -> models.Filter | None:
    """What a search lets through."""
    if not where and not without_products:
        return None
    seen = models.FieldCondition(key=PRODUCT, match=models.MatchAny(any=list(without_products)))
    return models.Filter(
        must=[_condition(condition) for condition in where], must_not=[seen] if without_products else None
    )


def _condition(condition: Condition) -> models.FieldCondition:
    if condition.any_of:
        return models.FieldCondition(key=condition.field, match=models.MatchAny(any=list(condition.any_of)))
    return models.FieldCondition(key=condition.field, range=models.Range(gte=condition.low, lte=condition.high))


def hit(point: models.ScoredPoint) -> Hit:
    """A point found, as the item it stands for."""
    payload = dict(point.payload or {})
    item_id = str(payload[ITEM_ID])
    return Hit(item_id, float(point.score), {key: value for key, value in payload.items() if key not in _OWN})
