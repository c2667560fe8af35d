"""The HTTP side of a running test server: a real uvicorn on the server's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from services.facets import Facets
from services.http import Api
from services.pictures import Pictures
from tests.services.conftest import Running
from tests.services.test_load import until


@contextmanager
def listening(server: Running) -> Iterator[int]:
    """Give its port."""
    api, pictures = Api(), Pictures(server.live, server.keeper)
    api.embedding, api.searching = server.server.embedding, server.server.searching
    api.facets, api.pictures = Facets(server.live), pictures
    web = uvicorn.Server(uvicorn.Config(api.app(), host="127.0.0.1", port=0, log_level="error"))
    ended = asyncio.run_coroutine_threadsafe(web.serve(), server.loop)
    until(lambda: web.started)
    try:
        yield web.servers[0].sockets[0].getsockname()[1]
    finally:
        web.should_exit = True
        ended.result(10)
        pictures.close()
