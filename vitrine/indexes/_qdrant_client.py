"""Connections to Qdrant: retries inside a deadline, and its errors as ours.

The client itself never repeats a query. Everything that we send may be sent twice: searches, conditional upserts and
settings are idempotent. So each call is repeated while the server is away or busy, and no longer than its deadline.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from grpc import RpcError, StatusCode
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from vitrine.errors import BadInput, Overloaded, Unavailable

T = TypeVar("T")

_TIMEOUT_S = 5.0
_ATTEMPTS_IN_DEADLINE = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_BUSY = {429, StatusCode.RESOURCE_EXHAUSTED}
_PASSING = _BUSY | {502, 503, 504, StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}
_REFUSED = {401, 403, StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}
_ERRORS = (ApiException, QdrantException, RpcError, OSError)
_LOCAL_LOCK = threading.RLock()


def connect(settings: Mapping[str, Any]) -> QdrantClient:
    """A client for `url`, the one in-memory client for `location`, or the `client` that was handed over.

    Raises:
        BadInput: none of them is set, or the gRPC port is none.
    """
    if settings.get("client") is not None:
        handed: QdrantClient = settings["client"]
        return handed
    if settings.get("location"):
        return _local(str(settings["location"]))
    if not settings.get("url"):
        raise BadInput("the qdrant index needs the address of a server: set QDRANT_URL, such as http://localhost:6333")
    return QdrantClient(
        url=str(settings["url"]),
        api_key=settings.get("api_key") or os.environ.get("QDRANT_API_KEY"),
        grpc_port=_grpc_port(settings),
        prefer_grpc=bool(settings.get("prefer_grpc", True)),
        timeout=max(1, round(_timeout_s(settings))),  # the client takes whole seconds
        check_compatibility=False,
    )


def _grpc_port(settings: Mapping[str, Any]) -> int:
    named = str(settings.get("grpc_port") or os.environ.get("QDRANT_GRPC_PORT") or 6334)
    if not (named.isdigit() and 0 < int(named) < 1 << 16):
        raise BadInput(f"QDRANT_GRPC_PORT is {named!r}; it must be a port from 1 to 65535, such as 6334")
    return int(named)


@cache
def _local(location: str) -> QdrantClient:
    return QdrantClient(location)


class Server:
    """A connection that waits, repeats and speaks our errors. Safe for several threads.

    Settings: `timeout_s` for one attempt, `deadline_s` for a call with all its attempts.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.client = connect(settings)
        self._shared = bool(settings.get("location") or settings.get("client") is not None)
        self._deadline_s = float(settings.get("deadline_s", _ATTEMPTS_IN_DEADLINE * _timeout_s(settings)))
        self._where = settings.get("url") or settings.get("location") or "the engine"

    def ask(self, call: Callable[[QdrantClient], T]) -> T:
        """Make a call that may be repeated, until it is answered or its deadline is over.

        Raises:
            Overloaded: the server asks to come back later than the deadline.
            Unavailable: no answer in time, or one that is an error.
        """
        ends, wait = time.monotonic() + self._deadline_s, _FIRST_WAIT_S
        while True:
            try:
                return self._once(call)
            except _ERRORS as error:
                pause = _asked_pause(error)
                if pause is None:
                    pause, wait = wait * random.uniform(0.5, 1), min(2 * wait, _LONGEST_WAIT_S)
                if not _passes(error) or time.monotonic() + pause > ends:
                    raise self._ours(error) from error
                time.sleep(pause)

    def close(self) -> None:
        """Close the connection; one that is shared stays."""
        if not self._shared:
            self.client.close()

    def _once(self, call: Callable[[QdrantClient], T]) -> T:
        if not self._shared:
            return call(self.client)
        with _LOCAL_LOCK:  # local mode bears one thread at a time
            return call(self.client)

    def _ours(self, error: Exception) -> Overloaded | Unavailable:
        said, where = _said(error), self._where
        if _code(error) in _REFUSED:
            return Unavailable(
                f"Qdrant at {where} refused the key ({said}); set QDRANT_API_KEY to one that may do this"
            )
        if isinstance(error, ResourceExhaustedResponse) or _code(error) in _BUSY:
            pause = _asked_pause(error)
            message = f"Qdrant at {where} has too much to do; try again"
            return Overloaded(message) if pause is None else Overloaded(message, retry_after_s=pause)
        return Unavailable(
            f"Qdrant at {where} did not answer as it should ({said}); check that the server runs and QDRANT_URL"
        )


def _timeout_s(settings: Mapping[str, Any]) -> float:
    return float(settings.get("timeout_s", _TIMEOUT_S))


def _code(error: Exception) -> Any:
    """The HTTP or gRPC status; None where there was no answer."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def _passes(error: Exception) -> bool:
    """Whether the same call may be answered a moment later."""
    unanswered = isinstance(error, ResponseHandlingException | ResourceExhaustedResponse | OSError)
    return unanswered or _code(error) in _PASSING


def _asked_pause(error: Exception) -> float | None:
    """Seconds that the server asks to wait, or None."""
    asked = getattr(error, "retry_after_s", None)
    return None if asked is None else float(asked)


def _said(error: Exception) -> str:
    details = getattr(error, "details", None)
    text = str(details()) if callable(details) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
