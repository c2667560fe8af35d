"""What surrounds every HTTP request to `/v1/`: bounds, a deadline, a span, and an end in time at shutdown.

It is ASGI middleware around our own routes; BentoML's `/readyz`, `/livez` and `/metrics` do not pass through it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from services import status, tracing
from services.admission import Admission, within
from services.json_requests import MAX_JSON_BYTES
from vitrine.errors import Overloaded, Unavailable, VitrineError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_OURS = "/v1/"


class Edge:
    """Middleware: `Edge(app, admission, timeout_s)` is an ASGI application.

    Args:
        app: the routes.
        admission: the bound on requests and their bytes.
        timeout_s: seconds for a request, its body included; callers over HTTP say no deadline of their own.
    """

    def __init__(self, app: App, admission: Admission, timeout_s: float) -> None:
        self._app, self.admission, self._timeout_s = app, admission, timeout_s
        self._running: set[asyncio.Task[None]] = set()
        self._ending = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith(_OURS):
            await self._app(scope, receive, send)
            return
        with _span(scope):
            size, answer = _size(scope), _Answer(send)
            try:
                self.admission.enter(size)
            except VitrineError as error:
                await answer.refuse(error)
                return
            try:
                await self._bounded(scope, receive, answer)
            finally:
                self.admission.leave(size)

    async def stop(self, grace_s: float) -> None:
        """Refuse newcomers, let running requests end within `grace_s` seconds, then cut them."""
        self._ending = True
        self.admission.close()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in self._running:
            task.cancel()

    async def _bounded(self, scope: Message, receive: Receive, answer: _Answer) -> None:
        """The request in a task of its own, so that it can be cut and still answered."""
        with within(self._timeout_s):
            task = asyncio.get_running_loop().create_task(self._run(scope, receive, answer.send))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            async with asyncio.timeout(self._timeout_s) as timer:
                await task
        except TimeoutError:
            if not timer.expired():
                raise
            await answer.refuse(_too_slow(self._timeout_s))
        except asyncio.CancelledError:
            if not self._ending or answer.begun:
                raise
            await answer.refuse(Unavailable("the server ended before this request did; send it again"))

    async def _run(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Answer:
    """Passes an answer on and remembers that it has begun."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            if tracing.on():
                tracing.answered(message["status"])
        await self._send(message)

    async def refuse(self, error: VitrineError) -> None:
        """Send this instead; too late for an answer that has begun, which ends where it is."""
        if self.begun:
            return
        told = status.http_error(error)
        headers = {"content-type": "application/json", **told.headers}
        if isinstance(error, Unavailable) and not isinstance(error, Overloaded):
            headers["connection"] = "close"
        raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        await self.send({"type": "http.response.start", "status": told.code, "headers": raw})
        await self.send({"type": "http.response.body", "body": json.dumps(told.body).encode()})


def _size(scope: Message) -> int:
    """Bytes that the request will hold: its body as it announces it; the most that is read where it does not."""
    if scope["method"] in {"GET", "HEAD"}:
        return 0
    told = dict(scope["headers"]).get(b"content-length", b"")
    return min(int(told), MAX_JSON_BYTES) if told.isdigit() else MAX_JSON_BYTES


def _too_slow(timeout_s: float) -> VitrineError:
    return Unavailable(
        f"the request was not done within {timeout_s:g} s, its body included (VITRINE_HTTP_TIMEOUT_S); send a smaller "
        "photo, or try again when the server is less busy"
    )


def _span(scope: Message) -> AbstractContextManager[None]:
    """Named by the route and not by the item, so that names stay few."""
    if not tracing.on():
        return nullcontext()
    headers = ((key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"])
    route = "/".join(scope["path"].split("/")[:3])
    return tracing.request(f"{scope['method']} {route}", headers)
