"""HTTP for people and low rates: the search page and the same RPCs as JSON, through the same micro-batchers.

A photo is the raw body. Anything else is a JSON body: `{"title": "red mug"}`, `{"images": ["BASE64"], "title": …}`,
and for a search also `{"item_id": "…"}`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from services import status
from services.disconnect import WhileConnected
from services.embed import EmbeddingServicer
from services.search import SearchServicer
from services.shadow import Shadowing
from vitrine.errors import BadInput, Unsupported, VitrineError
from vitrine.images import MAX_BYTES
from vitrine.v1 import common_pb2, embedding_pb2, search_pb2

PAGE = Path(__file__).parent / "page"
_JSON = "application/json"
MAX_JSON_BYTES = 2 * MAX_BYTES  # base64 is a third longer than what it stands for


class Api:
    """The routes, over the servicers that gRPC uses. The servicers arrive when the server has started."""

    def __init__(self) -> None:
        self.embedding: EmbeddingServicer | None = None
        self.searching: SearchServicer | None = None
        self.shadow: Shadowing | None = None

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", _page),
            Route("/v1/info", self._info),
            Route("/v1/shadow", self._shadow),
            Route("/v1/embed", self._embed, methods=["POST"]),
            Route("/v1/classify", self._classify, methods=["POST"]),
            Route("/v1/search", self._search, methods=["POST"]),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={VitrineError: _refuse, ClientDisconnect: _gone},
            middleware=[Middleware(WhileConnected)],
        )

    async def _info(self, request: Request) -> Response:
        del request
        assert self.embedding is not None
        return _answer(await self.embedding.Info(embedding_pb2.InfoRequest()))

    async def _shadow(self, request: Request) -> Response:
        del request
        if self.shadow is None:
            raise Unsupported("this server follows no registry, so it tries no candidate; start it with VITRINE_HOME")
        return JSONResponse(self.shadow.report())

    async def _embed(self, request: Request) -> Response:
        assert self.embedding is not None
        answer = await self.embedding.Embed(embedding_pb2.EmbedRequest(items=[await _item(request)]))
        vector = np.frombuffer(answer.embeddings.data, "<f4")
        return JSONResponse({"version": _dict(answer.version), "embedding": vector.tolist()})

    async def _classify(self, request: Request) -> Response:
        assert self.embedding is not None
        top_k = _number(request, "top_k", int, 0)
        answer = await self.embedding.Classify(embedding_pb2.ClassifyRequest(items=[await _item(request)], top_k=top_k))
        return JSONResponse({"version": _dict(answer.version), **_dict(answer.classifications[0])})

    async def _search(self, request: Request) -> Response:
        assert self.searching is not None
        wanted = search_pb2.SearchRequest(
            limit=_number(request, "k", int, 0), exact=request.query_params.get("exact") in {"1", "true"}
        )
        body = await _json(request) if _is_json(request) else None
        if body is not None and "item_id" in body:
            wanted.item_id = _item_id(body)
        else:
            wanted.item.CopyFrom(await _item(request) if body is None else _json_item(body))
        return _answer(await self.searching.Search(wanted))


async def _page(request: Request) -> Response:
    del request
    return FileResponse(PAGE / "index.html")


async def _refuse(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, VitrineError)
    told = status.http_error(error)
    return JSONResponse(told.body, told.code, told.headers)


async def _gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=499)  # nobody reads it


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith(_JSON)


async def _item(request: Request) -> common_pb2.Item:
    if _is_json(request):
        return _json_item(await _json(request))
    return common_pb2.Item(images=[common_pb2.Image(data=await _body(request, MAX_BYTES))])


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


def _json_item(body: dict[str, Any]) -> common_pb2.Item:
    for key in body.keys() - {"title", "images"}:
        raise BadInput(f"{key} is no field here; the body holds title, images, or both", field=str(key))
    images = body.get("images", [])
    if not isinstance(images, list):
        raise BadInput("images must be a list of base64 texts", field="images")
    return common_pb2.Item(
        title=_text(body, "title"), images=[common_pb2.Image(data=_bytes(image)) for image in images]
    )


def _item_id(body: dict[str, Any]) -> str:
    item_id = _text(body, "item_id")
    if not item_id or len(body) > 1:
        raise BadInput("item_id names one item of the catalogue, and stands alone", field="item_id")
    return item_id


def _text(body: dict[str, Any], key: str) -> str:
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


def _number(request: Request, name: str, kind: Callable[[str], int], default: int) -> int:
    text = request.query_params.get(name)
    try:
        value = kind(text) if text else default
    except ValueError as error:
        raise BadInput(f"{name} is {text!r}, it must be a whole number", field=name) from error
    if not 0 <= value <= 100_000:
        raise BadInput(f"{name} is {value}, it must be 0 to 100000", field=name)
    return value


def _dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _answer(message: Message) -> Response:
    return JSONResponse(_dict(message))
