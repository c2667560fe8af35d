"""Messages to domain values and back; so does `catalogue_codec` for the catalogue, and a snapshot says who answers.

Numbers cross as whole buffers: no loop over floats anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import struct_pb2
from numpy.typing import NDArray

from services.lanes import Photo, Query
from services.snapshot import Snapshot
from vitrine.errors import BadInput, NotFound, Unsupported, VitrineError
from vitrine.ports import Condition, Filter, Hit, Vectors
from vitrine.v1 import common_pb2, embedding_pb2, search_pb2

MAX_ITEMS = 1024
MAX_TITLE_BYTES = 4096  # of UTF-8; versions read a few dozen tokens of it
MAX_LIMIT = 1000
DEFAULT_LIMIT = 10
DEFAULT_TOP_K = 5


def queries(items: Sequence[common_pb2.Item], snapshot: Snapshot) -> list[Query]:
    """What to embed: the photos, the title, or both of each item, in order.

    Raises:
        BadInput: no items, too many, an empty one, an address instead of bytes, a text that is blank or too
            long, or a field that the version cannot use.
    """
    return [query(item, snapshot, f"items[{place}]") for place, item in enumerate(_some(items))]


def query(item: common_pb2.Item, snapshot: Snapshot, field: str = "item") -> Query:
    """One item; `field` is its name in messages.

    Raises:
        BadInput: as `queries`.
    """
    usable = snapshot.encoder.manifest.modalities
    for name in ("title", "attributes", "numbers"):
        if getattr(item, name) and name not in usable:
            raise BadInput(
                f"{field}.{name}: {snapshot.name} cannot use {name}, it uses: {', '.join(usable)}; "
                "leave the field out, or ask a version that was trained with it",
                field=f"{field}.{name}",
            )
    if not item.images and not item.title:
        missing = "images and no title" if "title" in usable else "images"
        raise BadInput(f"{field} has no {missing}, and {snapshot.name} needs at least one", field=f"{field}.images")
    return Query(_photos(item, field), _title(item, field))


def sound_queries(
    items: Sequence[common_pb2.Item], snapshot: Snapshot
) -> tuple[dict[int, Query], dict[int, Exception]]:
    """As `queries`, by place, and apart from them what is wrong with the others.

    Raises:
        BadInput: no items, or too many.
    """
    sound: dict[int, Query] = {}
    failed: dict[int, Exception] = {}
    for place, item in enumerate(_some(items)):
        try:
            sound[place] = query(item, snapshot, f"items[{place}]")
        except BadInput as error:
            failed[place] = error
    return sound, failed


def item_error(place: int, error: Exception) -> embedding_pb2.ItemError:
    """Why one item of many has no vector; of an unexpected failure no more than that."""
    if not isinstance(error, VitrineError):
        told = "unexpected error; the server's log has the details"
        return embedding_pb2.ItemError(item=place, code=VitrineError.grpc_status, message=told)
    field = error.field if isinstance(error, BadInput) else ""
    return embedding_pb2.ItemError(item=place, code=error.grpc_status, message=str(error), field=field)


def check_model(wanted: str, snapshot: Snapshot) -> None:
    """Refuse a request that asks for another model than the one served; "" takes any.

    Raises:
        NotFound: this server serves another.
    """
    if wanted and wanted != snapshot.model:
        raise NotFound(f"this server serves {snapshot.name}, not {wanted!r}; ask the server of that model")


def photos(items: Sequence[common_pb2.Item], snapshot: Snapshot) -> tuple[list[Photo], list[int]]:
    """What to classify: the encoded images in order, and how many each item has.

    Raises:
        BadInput: as `queries`, and a title: classifiers look at photos.
    """
    found: list[Photo] = []
    for place, item in enumerate(_some(items)):
        field = f"items[{place}]"
        seen = query(item, snapshot, field).photos
        if item.title:
            raise BadInput(
                f"{field}.title: the classifier of {snapshot.name} looks at photos alone; leave the title out",
                field=f"{field}.title",
            )
        found += seen
    return found, [len(item.images) for item in items]


def _some(items: Sequence[common_pb2.Item]) -> Sequence[common_pb2.Item]:
    if not items:
        raise BadInput("the request has no items; send at least one", field="items")
    if len(items) > MAX_ITEMS:
        raise BadInput(f"the request has {len(items)} items, {MAX_ITEMS} are allowed; split it", field="items")
    return items


def _photos(item: common_pb2.Item, field: str) -> tuple[Photo, ...]:
    return tuple([_photo(image, f"{field}.images[{place}]") for place, image in enumerate(item.images)])


def _photo(image: common_pb2.Image, field: str) -> Photo:
    if image.WhichOneof("source") == "url":
        raise BadInput(
            f"{field}.url: this server fetches no addresses; send the image's bytes in `data`", field=f"{field}.url"
        )
    return Photo(f"{field}.data", image.data)


def _title(item: common_pb2.Item, field: str) -> str:
    if not item.title:
        return ""
    name, size = f"{field}.title", len(item.title.encode())
    if not item.title.strip():
        raise BadInput(f"{name} is blank; write some words or leave it out", field=name)
    if size > MAX_TITLE_BYTES:
        raise BadInput(f"{name} has {size} bytes, at most {MAX_TITLE_BYTES} are allowed; shorten it", field=name)
    return item.title


def tensor(vectors: Vectors, dtype: common_pb2.Tensor.DType.ValueType) -> common_pb2.Tensor:
    """float32 (B, D) as float32 or float16 bytes, little-endian, row-major.

    Raises:
        BadInput: an unknown dtype.
    """
    if dtype in (common_pb2.Tensor.DTYPE_UNSPECIFIED, common_pb2.Tensor.FLOAT32):
        kind, data = common_pb2.Tensor.FLOAT32, vectors.astype("<f4", copy=False)
    elif dtype == common_pb2.Tensor.FLOAT16:
        kind, data = common_pb2.Tensor.FLOAT16, vectors.astype("<f2")
    else:
        raise BadInput(f"dtype {dtype} is unknown; use FLOAT32 or FLOAT16", field="dtype")
    return common_pb2.Tensor(dtype=kind, shape=vectors.shape, data=data.tobytes())


def classifications(
    probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int, abstain_below: float
) -> list[embedding_pb2.Classification]:
    """The best labels of each row of (B, C), best first."""
    depth = min(top_k or DEFAULT_TOP_K, len(labels))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :depth]  # (B, depth)
    best = np.take_along_axis(probabilities, order, axis=1)
    return [
        embedding_pb2.Classification(
            labels=[
                embedding_pb2.Label(label=labels[column], probability=value)
                for column, value in zip(columns, values, strict=True)
            ],
            abstained=values[0] < abstain_below,
        )
        for columns, values in zip(order.tolist(), best.tolist(), strict=True)
    ]


def abstain_below(request: embedding_pb2.ClassifyRequest, snapshot: Snapshot) -> float:
    """The request's threshold, else the version's own.

    Raises:
        BadInput: outside [0, 1].
        Unsupported: the version has no label set.
    """
    labels = snapshot.encoder.manifest.labels
    if labels is None:
        raise Unsupported(
            f"{snapshot.name} has no label set, so it cannot classify; "
            "serve a version that was tuned with a classifier (see: vitrine models ls)"
        )
    if not request.HasField("abstain_below"):
        return labels.abstain_below
    if not 0 <= request.abstain_below <= 1:
        raise BadInput(f"abstain_below is {request.abstain_below}; use a probability in [0, 1]", field="abstain_below")
    return request.abstain_below


def limit(request: search_pb2.SearchRequest) -> int:
    """How many hits are wanted.

    Raises:
        BadInput: more than `MAX_LIMIT`.
    """
    if request.limit > MAX_LIMIT:
        raise BadInput(f"limit is {request.limit}, at most {MAX_LIMIT} are allowed", field="limit")
    return request.limit or DEFAULT_LIMIT


def conditions(messages: Iterable[search_pb2.Condition]) -> Filter:
    """A request's filter.

    Raises:
        BadInput: a condition without a field, without a rule, or with two kinds of rule.
    """
    return tuple(_condition(message, f"filter[{place}]") for place, message in enumerate(messages))


def _condition(message: search_pb2.Condition, field: str) -> Condition:
    low = message.low if message.HasField("low") else None
    high = message.high if message.HasField("high") else None
    ranged = low is not None or high is not None
    if not message.field or bool(message.any_of) == ranged:
        raise BadInput(f"{field} needs a field and either any_of or low/high", field=field)
    if any(end is not None and math.isnan(end) for end in (low, high)):
        raise BadInput(f"{field} has an end that is no number", field=field)
    return Condition(message.field, tuple(message.any_of), low, high)


def hits(found: Sequence[Hit]) -> list[search_pb2.Hit]:
    """Hits as messages."""
    return [
        search_pb2.Hit(
            item_id=hit.item_id,
            product_id=str(hit.payload.get("product_id") or ""),
            score=hit.score,
            payload=_struct(hit.payload),
        )
        for hit in found
    ]


def _struct(payload: Mapping[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(dict(payload))
    return message
