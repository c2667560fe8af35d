"""What surrounds every HTTP request to `/v1/`: a bound, a span, and an end in time at shutdown.

It is ASGI middleware around our own routes; BentoML's `/readyz`, `/livez` and `/metrics` do not pass through it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from services import status, tracing
from services.calls import Admission
from vitrine.errors import Overloaded, Unavailable, VitrineError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_OURS = "/v1/"


class Edge:
    """Middleware: `Edge(app, admission)` is an ASGI application."""

    def __init__(self, app: App, admission: Admission) -> None:
        self._app, self.admission = app, admission
        self._running: set[asyncio.Task[None]] = set()
        self._ending = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith(_OURS):
            await self._app(scope, receive, send)
            return
        try:
            self.admission.enter()
        except VitrineError as error:
            await _refuse(error, send)
            return
        try:
            with _span(scope):
                await self._bounded(scope, receive, send)
        finally:
            self.admission.leave()

    async def stop(self, grace_s: float) -> None:
        """Refuse newcomers, let running requests end within `grace_s` seconds, then cut them."""
        self._ending = True
        self.admission.close()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in self._running:
            task.cancel()

    async def _bounded(self, scope: Message, receive: Receive, send: Send) -> None:
        """The request in a task of its own, so that it can be cut and still answered."""
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        task = asyncio.get_running_loop().create_task(self._run(scope, receive, told))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await task
        except asyncio.CancelledError:
            if not self._ending or begun:
                task.cancel()
                raise
            await _refuse(Unavailable("the server ended before this request did; send it again"), send)

    async def _run(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _span(scope: Message) -> AbstractContextManager[None]:
    if not tracing.on():
        return nullcontext()
    headers = ((key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"])
    return tracing.request(f"{scope['method']} {scope['path']}", headers)


async def _refuse(error: VitrineError, send: Send) -> None:
    told = status.http_error(error)
    headers = {"content-type": "application/json", **told.headers}
    if isinstance(error, Unavailable) and not isinstance(error, Overloaded):
        headers["connection"] = "close"
    raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": told.code, "headers": raw})
    await send({"type": "http.response.body", "body": json.dumps(told.body).encode()})
