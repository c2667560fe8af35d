"""HTTP requests to messages: a photo as the raw body, or JSON; a search also takes a filter.

JSON that is read here: `{"title": "red mug"}`, `{"images": ["BASE64"], "title": …}`, and for a search also
`{"item_id": "…"}`, each with `"filter": [{"field": "label", "any_of": ["mug"]}, {"field": "price", "high": 20}]`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from starlette.requests import Request

from vitrine.errors import BadInput
from vitrine.images import MAX_BYTES
from vitrine.v1 import common_pb2, search_pb2

_JSON = "application/json"
MAX_JSON_BYTES = 2 * MAX_BYTES  # base64 is a third longer than what it stands for


async def item(request: Request) -> common_pb2.Item:
    """What to embed or classify.

    Raises:
        BadInput: a body that is too large, no JSON though it says so, or JSON of another shape.
    """
    if _is_json(request):
        return _item(await _json(request))
    return common_pb2.Item(images=[common_pb2.Image(data=await _body(request, MAX_BYTES))])


async def search(request: Request) -> search_pb2.SearchRequest:
    """What to look for, from the body; how, from `k`, `exact` and `by_product` in the address.

    Raises:
        BadInput: as `item`, or a filter that is none.
    """
    wanted = search_pb2.SearchRequest(
        limit=number(request, "k", 0), exact=_flag(request, "exact"), by_product=_flag(request, "by_product")
    )
    if not _is_json(request):
        wanted.item.CopyFrom(await item(request))
        return wanted
    body = await _json(request)
    wanted.filter.extend(_conditions(body.pop("filter", [])))
    if "item_id" in body:
        wanted.item_id = _item_id(body)
    elif body:
        wanted.item.CopyFrom(_item(body))
    return wanted


def number(request: Request, name: str, default: int) -> int:
    """A whole number from the address.

    Raises:
        BadInput: it is none, or outside 0 to 100,000.
    """
    text = request.query_params.get(name)
    try:
        value = int(text) if text else default
    except ValueError as error:
        raise BadInput(f"{name} is {text!r}, it must be a whole number", field=name) from error
    if not 0 <= value <= 100_000:
        raise BadInput(f"{name} is {value}, it must be 0 to 100000", field=name)
    return value


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "")
    if text.lower() not in {"", "0", "1", "false", "true"}:
        raise BadInput(f"{name} is {text!r}, it must be true or false", field=name)
    return text.lower() in {"1", "true"}


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith(_JSON)


async def _body(request: Request, most: int) -> bytes:
    """The raw body, read no further than `most` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise BadInput(f"the body is larger than {most} bytes; resize the photo first", field="body")
        parts.append(part)
    return b"".join(parts)


async def _json(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await _body(request, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is no JSON: {error}", field="body") from error
    if not isinstance(value, dict) or not value:
        raise BadInput(
            'the JSON body must be {"item_id": "…"}, {"title": "…"} or {"images": ["BASE64"], "title": "…"}; '
            "send a photo alone as the raw body",
            field="body",
        )
    return value


def _item(body: Mapping[str, Any]) -> common_pb2.Item:
    for key in body.keys() - {"title", "images"}:
        raise BadInput(f"{key} is no field here; the body holds title, images, or both", field=str(key))
    images = body.get("images", [])
    if not isinstance(images, list):
        raise BadInput("images must be a list of base64 texts", field="images")
    return common_pb2.Item(
        title=_text(body, "title"), images=[common_pb2.Image(data=_bytes(image)) for image in images]
    )


def _item_id(body: Mapping[str, Any]) -> str:
    item_id = _text(body, "item_id")
    if not item_id or len(body) > 1:
        raise BadInput("item_id names one item of the catalogue, and stands alone but for a filter", field="item_id")
    return item_id


def _conditions(filters: object) -> list[search_pb2.Condition]:
    if not isinstance(filters, list):
        raise BadInput('filter must be a list such as [{"field": "label", "any_of": ["mug"]}]', field="filter")
    return [_condition(one, f"filter[{place}]") for place, one in enumerate(filters)]


def _condition(one: object, field: str) -> search_pb2.Condition:
    # ParseDict would take fields by their camel-case names and "NaN" as a number too; so do other gRPC gateways.
    try:
        return ParseDict(one, search_pb2.Condition())  # type: ignore[arg-type]  # what is no dict is the ParseError
    except (ParseError, AttributeError, TypeError, ValueError) as error:
        raise BadInput(
            f'{field} must be {{"field": …, "any_of": [texts]}} or {{"field": …, "low": number, "high": number}}: {error}',
            field=field,
        ) from error


def _text(body: Mapping[str, Any], key: str) -> str:
    text = body.get(key, "")
    # Half of a surrogate pair: JSON can say it, UTF-8 cannot.
    if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadInput(f"{key} is {text!r}, it must be text", field=key)
    return text


def _bytes(image: object) -> bytes:
    try:
        return base64.b64decode(image, validate=True)  # type: ignore[arg-type]  # what is no text is the TypeError
    except (TypeError, ValueError) as error:
        raise BadInput(f"an image is no base64: {error}", field="images") from error
