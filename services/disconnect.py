"""A caller over HTTP that hangs up leaves the queue, as one over gRPC does.

ASGI tells of it only whoever asks (`http.disconnect`), and a handler that waits for the model does not ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class WhileConnected:
    """ASGI middleware: cancels the handler of a request whose caller has gone."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = _Caller(receive)
        work = asyncio.ensure_future(self._app(scope, caller.receive, send))
        try:
            await asyncio.wait([work, caller.gone], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work  # raises what it raised
        finally:
            caller.leave()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


class _Caller:
    """Hands the body on; once it is whole, listens for the end of the connection."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        """What the handler reads."""
        if self._watch is not None:  # the body was read
            await asyncio.shield(self.gone)
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._hung_up()
        elif not message.get("more_body"):
            self._watch = asyncio.get_running_loop().create_task(self._listen())
        return message

    def leave(self) -> None:
        """Listen no longer."""
        if self._watch is not None:
            self._watch.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._hung_up()

    def _hung_up(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
