"""How a client reaches its server: address, TLS, and several connections where one is not enough."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from vitrine.errors import BadInput, NotFound

DEFAULT_SERVER = "127.0.0.1:50051"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share one connection
    ("grpc.enable_retries", 0),  # retries are ours, with a budget
)


@dataclass(frozen=True)
class Tls:
    """PEM files of a connection over TLS.

    Attributes:
        ca: who signs the server's certificate; None for the system's own list.
        cert, key: the client's own certificate, where the server asks for one.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel takes.

        Raises:
            BadInput: a certificate without a key, or the other way round.
            NotFound: a file that cannot be read.
        """
        if (self.cert is None) != (self.key is None):
            raise BadInput("a client's certificate needs its key, and the key its certificate", field="tls")
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


def _pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"the certificate or key at {path} cannot be read: {error.strerror}") from error


@dataclass
class Connection:
    """A channel, the calls inside, and the callables of its methods."""

    channel: Any
    busy: int = 0
    calls: dict[str, Any] = field(default_factory=dict)


class Connections:
    """Channels of one kind, sync or asyncio; each call takes the one with the fewest calls inside. Safe for threads."""

    def __init__(self, make: Callable[[], Any], count: int) -> None:
        if count < 1:
            raise BadInput(f"{count} connections were asked for; a client needs at least 1", field="connections")
        self._all = [Connection(make()) for _ in range(count)]
        self._lock = threading.Lock()

    @contextmanager
    def least_busy(self) -> Iterator[Connection]:
        """A connection, counted as busy meanwhile."""
        with self._lock:
            connection = min(self._all, key=lambda one: one.busy)
            connection.busy += 1
            self._all.sort(key=lambda one: one is connection)  # of equally busy ones the next call takes another
        try:
            yield connection
        finally:
            with self._lock:
                connection.busy -= 1

    @property
    def channels(self) -> list[Any]:
        """All of them, to be closed."""
        return [one.channel for one in self._all]


def unary(connection: Connection, method: str, answer: Any) -> Any:
    """The callable of a unary method, made once a channel."""
    if method not in connection.calls:
        connection.calls[method] = connection.channel.unary_unary(
            method, request_serializer=_serialize, response_deserializer=answer.FromString
        )
    return connection.calls[method]


def bidirectional(connection: Connection, method: str, answer: Any) -> Any:
    """The callable of a streaming method."""
    return connection.channel.stream_stream(
        method, request_serializer=_serialize, response_deserializer=answer.FromString
    )


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
