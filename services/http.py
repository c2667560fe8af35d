"""HTTP for people and low rates: the search page and the same RPCs as JSON, through the same micro-batchers.

`services/json_requests.py` says what a body may be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services import json_requests, status
from services.disconnect import WhileConnected
from services.embed import EmbeddingServicer
from services.facets import Facets
from services.page import page
from services.pictures import Pictures
from services.search import SearchServicer
from services.shadow import Shadowing
from vitrine.errors import Unsupported, VitrineError
from vitrine.v1 import embedding_pb2


class Api:
    """The routes, over the servicers that gRPC uses. The servicers arrive when the server has started."""

    def __init__(self) -> None:
        self.embedding: EmbeddingServicer | None = None
        self.searching: SearchServicer | None = None
        self.shadow: Shadowing | None = None
        self.facets: Facets | None = None
        self.pictures: Pictures | None = None

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", page),
            Route("/v1/info", self._info),
            Route("/v1/facets", self._facets),
            Route("/v1/shadow", self._shadow),
            Route("/v1/items/{item_id:path}/photo", self._photo),
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

    async def _facets(self, request: Request) -> Response:
        del request
        assert self.facets is not None
        return JSONResponse(await self.facets.told())

    async def _shadow(self, request: Request) -> Response:
        del request
        if self.shadow is None:
            raise Unsupported("this server follows no registry, so it tries no candidate; start it with VITRINE_HOME")
        return JSONResponse(self.shadow.report())

    async def _photo(self, request: Request) -> Response:
        if self.pictures is None:
            raise Unsupported("this server follows no registry, so it has no photos; start it with VITRINE_HOME")
        picture = await self.pictures.of(request.path_params["item_id"])
        headers = {"ETag": f'"{picture.name}"', "Cache-Control": "private, max-age=300"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(picture.jpeg, media_type="image/jpeg", headers=headers)

    async def _embed(self, request: Request) -> Response:
        assert self.embedding is not None
        items = [await json_requests.item(request)]
        answer = await self.embedding.Embed(embedding_pb2.EmbedRequest(items=items))
        vector = np.frombuffer(answer.embeddings.data, "<f4")
        return JSONResponse({"version": _dict(answer.version), "embedding": vector.tolist()})

    async def _classify(self, request: Request) -> Response:
        assert self.embedding is not None
        top_k, items = json_requests.number(request, "top_k", 0), [await json_requests.item(request)]
        answer = await self.embedding.Classify(embedding_pb2.ClassifyRequest(items=items, top_k=top_k))
        return JSONResponse({"version": _dict(answer.version), **_dict(answer.classifications[0])})

    async def _search(self, request: Request) -> Response:
        assert self.searching is not None
        return _answer(await self.searching.Search(await json_requests.search(request)))


async def _refuse(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, VitrineError)
    told = status.http_error(error)
    return JSONResponse(told.body, told.code, told.headers)


async def _gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=499)  # nobody reads it


def _dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _answer(message: Message) -> Response:
    return JSONResponse(_dict(message))
