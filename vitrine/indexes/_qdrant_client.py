"""Connections to Qdrant, and its errors as ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from grpc import RpcError
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException

from vitrine.errors import BadInput, Overloaded, Unavailable


def connect(settings: Mapping[str, Any]) -> QdrantClient:
    """A client for `url`, or the one in-memory client for `location`.

    Raises:
        BadInput: neither is set.
    """
    if settings.get("location"):
        return _local(str(settings["location"]))
    if not settings.get("url"):
        raise BadInput("the qdrant index needs the address of a server: set QDRANT_URL, such as http://localhost:6333")
    with speaking(settings):
        return QdrantClient(
            url=str(settings["url"]),
            api_key=settings.get("api_key") or os.environ.get("QDRANT_API_KEY"),
            grpc_port=int(settings.get("grpc_port", 6334)),
            prefer_grpc=bool(settings.get("prefer_grpc", True)),
            timeout=max(1, round(float(settings.get("timeout_s", 10)))),
            check_compatibility=False,
        )


@cache
def _local(location: str) -> QdrantClient:
    return QdrantClient(location)


def release(client: QdrantClient, settings: Mapping[str, Any]) -> None:
    """Close the connection; the shared in-memory client stays."""
    if not settings.get("location"):
        client.close()


_LOCAL_LOCK = threading.RLock()


@contextmanager
def speaking(settings: Mapping[str, Any]) -> Iterator[None]:
    """Turn the client's errors into `Unavailable`; local mode bears one thread at a time.

    Raises:
        Overloaded: the server asks to come back later.
        Unavailable: no answer, or one that is an error.
    """
    where = settings.get("url") or settings.get("location")
    try:
        if settings.get("location"):
            with _LOCAL_LOCK:
                yield
        else:
            yield
    except ResourceExhaustedResponse as error:
        raise Overloaded(
            f"Qdrant at {where} has too much to do; try again", retry_after_s=error.retry_after_s
        ) from error
    except (ApiException, QdrantException, RpcError, OSError) as error:
        raise Unavailable(
            f"Qdrant at {where} did not answer as it should ({_said(error)}); check that the server runs and QDRANT_URL"
        ) from error


def _said(error: Exception) -> str:
    details = getattr(error, "details", None)
    text = str(details()) if callable(details) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
