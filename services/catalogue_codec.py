"""Catalogue messages to items and their photos, and outcomes back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.codec import MAX_ITEMS, MAX_TITLE_BYTES
from services.lanes import Photo, Query
from vitrine.catalogue_changes import Changed, Outcome
from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.storing import photo_name
from vitrine.v1 import catalogue_pb2, common_pb2

MAX_ID_BYTES = 256
MAX_PHOTOS = 32  # of one item
MAX_TEXT_BYTES = 4096

_OUTCOMES = {
    Outcome.ADDED: catalogue_pb2.Change.ADDED,
    Outcome.CHANGED: catalogue_pb2.Change.CHANGED,
    Outcome.PAYLOAD_CHANGED: catalogue_pb2.Change.PAYLOAD_CHANGED,
    Outcome.UNCHANGED: catalogue_pb2.Change.UNCHANGED,
    Outcome.DELETED: catalogue_pb2.Change.DELETED,
    Outcome.ABSENT: catalogue_pb2.Change.ABSENT,
}


@dataclass(frozen=True)
class Sent:
    """What a request brings: items, what to embed of each, and the bytes of their photos by name."""

    items: list[Item]
    queries: list[Query]
    photos: dict[str, bytes]


def sent(messages: Sequence[catalogue_pb2.CatalogueItem]) -> Sent:
    """The items of an upsert, checked. Photos are named by their content; they are decoded when they are embedded.

    Raises:
        BadInput: no items or too many, no id or one that comes twice, no photo, an address instead of bytes, a number
            that is none, a text that is blank or too long, a time that is no ISO 8601; `field` says where.
    """
    _check_count(messages, "items")
    found = Sent([], [], {})
    for place, message in enumerate(messages):
        field = f"items[{place}]"
        photos = tuple(_photos(message.item, f"{field}.item"))
        names = [_named(photo) for photo in photos]
        found.photos.update(zip(names, (photo.data for photo in photos), strict=True))
        found.items.append(_item(message, tuple(dict.fromkeys(names)), field))
        unique = dict(zip(names, photos, strict=True))
        found.queries.append(Query(tuple(unique.values())))
    _check_once([item.item_id for item in found.items], "items[{}].item.id")
    return found


def item_ids(request: catalogue_pb2.DeleteRequest) -> list[str]:
    """The ids of a deletion, checked.

    Raises:
        BadInput: none or too many, an empty one, or one that comes twice.
    """
    _check_count(request.item_ids, "item_ids")
    ids = [_id(item_id, f"item_ids[{place}]") for place, item_id in enumerate(request.item_ids)]
    _check_once(ids, "item_ids[{}]")
    return ids


def changes(done: Changed) -> list[catalogue_pb2.Change]:
    """What became of each item, in the order of the request."""
    return [catalogue_pb2.Change(item_id=item_id, outcome=_OUTCOMES[outcome]) for item_id, outcome in done.outcomes]


def _item(message: catalogue_pb2.CatalogueItem, images: tuple[str, ...], field: str) -> Item:
    item = message.item
    return Item(
        item_id=_id(item.id, f"{field}.item.id"),
        images=images,
        label="",
        split="gallery",
        category=tuple(_filled(part, f"{field}.category[{n}]") for n, part in enumerate(message.category)),
        product_id=_text(message.product_id, f"{field}.product_id") or None,
        title=_text(item.title, f"{field}.item.title", most=MAX_TITLE_BYTES),
        attributes={
            _filled(key, f"{field}.item.attributes"): _text(value, f"{field}.item.attributes[{key}]")
            for key, value in item.attributes.items()
        },
        numbers={
            _filled(key, f"{field}.item.numbers"): _number(value, f"{field}.item.numbers[{key}]")
            for key, value in item.numbers.items()
        },
        price=_number(message.price, f"{field}.price") if message.HasField("price") else None,
        brand=_text(message.brand, f"{field}.brand") or None,
        seller=_text(message.seller, f"{field}.seller") or None,
        time=_time(message.time, f"{field}.time"),
    )


def _photos(item: common_pb2.Item, field: str) -> Iterator[Photo]:
    if not item.images:
        raise BadInput(f"{field} has no images; an item of the catalogue needs at least one", field=f"{field}.images")
    if len(item.images) > MAX_PHOTOS:
        raise BadInput(
            f"{field} has {len(item.images)} images, at most {MAX_PHOTOS} are allowed; leave the least telling ones out",
            field=f"{field}.images",
        )
    for place, image in enumerate(item.images):
        name = f"{field}.images[{place}]"
        if image.WhichOneof("source") == "url":
            raise BadInput(
                f"{name}.url: this server fetches no addresses; send the image's bytes in `data`", field=f"{name}.url"
            )
        yield Photo(f"{name}.data", image.data)


def _named(photo: Photo) -> str:
    try:
        return photo_name(photo.data)
    except BadInput as error:
        raise BadInput(f"{photo.field}: {error}", field=photo.field) from error


def _check_count(things: Sequence[object], field: str) -> None:
    if not things:
        raise BadInput(f"the request has no {field}; send at least one", field=field)
    if len(things) > MAX_ITEMS:
        raise BadInput(f"the request has {len(things)} {field}, {MAX_ITEMS} are allowed; split it", field=field)


def _check_once(ids: Iterable[str], name: str) -> None:
    seen: set[str] = set()
    for place, item_id in enumerate(ids):
        if item_id in seen:
            field = name.format(place)
            raise BadInput(f"{field}: {item_id!r} comes twice in the request; send each item once", field=field)
        seen.add(item_id)


def _id(value: str, field: str) -> str:
    return _text(_filled(value, field), field, most=MAX_ID_BYTES)


def _filled(value: str, field: str) -> str:
    if not value.strip():
        raise BadInput(f"{field} is empty; write something or leave the entry out", field=field)
    return _text(value, field)


def _text(value: str, field: str, *, most: int = MAX_TEXT_BYTES) -> str:
    size = len(value.encode())
    if size > most:
        raise BadInput(f"{field} has {size} bytes, at most {most} are allowed; shorten it", field=field)
    if "\0" in value:
        raise BadInput(f"{field} has a NUL character, which not every database takes; remove it", field=field)
    return value


def _number(value: float, field: str) -> float:
    if not math.isfinite(value):
        raise BadInput(f"{field} is {value}; send a finite number or leave it out", field=field)
    return value


def _time(value: str, field: str) -> str | None:
    if not value:
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError as error:
        raise BadInput(
            f"{field} is {value!r}; write it as ISO 8601, such as 2026-03-01T12:00:00+00:00", field=field
        ) from error
    return value
