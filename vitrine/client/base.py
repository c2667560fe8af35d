"""What the sync and the asyncio client have in common: their arguments, connections and retries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from vitrine.client.bulk import ANSWER, METHOD, Bulk, OnSwitch
from vitrine.client.channels import DEFAULT_SERVER, OPTIONS, Connection, Connections, Tls, bidirectional
from vitrine.client.operations import DType, Operation, Result
from vitrine.client.retries import Budget, Retries, Steps
from vitrine.tracecontext import client_span


class BaseClient:
    """A client of one server.

    Args:
        target: `HOST:PORT` of the gRPC server.
        timeout_s: deadline of each call, further attempts and pauses included.
        connections: how many; more than one helps where a balancer spreads connections over several servers.
        retries: further attempts of a call that met a full or absent server; all calls share a budget of a fifth.
        tls: PEM files where the server speaks TLS.
    """

    _insecure: ClassVar[Callable[..., Any]]
    _secure: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        target: str = DEFAULT_SERVER,
        *,
        timeout_s: float = 10.0,
        connections: int = 1,
        retries: int = 2,
        tls: Tls | None = None,
    ) -> None:
        self.target, self._timeout_s = target, timeout_s
        self._retries = Retries(retries, Budget())
        credentials = tls.credentials() if tls else None
        self._connections = Connections(lambda: self._channel(credentials), connections)

    def _channel(self, credentials: Any) -> Any:
        if credentials is None:
            return self._insecure(self.target, options=OPTIONS)
        return self._secure(self.target, credentials, options=OPTIONS)

    def _steps(self, operation: Operation[Result]) -> Steps[Result]:
        return Steps(operation, self._retries, self.target, self._timeout_s)

    def _bulk(self, dtype: DType, model: str, on_switch: OnSwitch, stall_s: float) -> Bulk:
        return Bulk(dtype, model, on_switch, self._retries, self.target, stall_s)

    def _open(self, connection: Connection, requests: Any, stall_s: float) -> Any:
        """A bulk stream that is fed by an iterator of requests."""
        self._retries.budget.earn()
        with client_span(
            "EmbedStream", self.target
        ) as headers:  # not around the answers: the caller works between them
            return bidirectional(connection, METHOD, ANSWER)(requests, timeout=stall_s, metadata=headers)
