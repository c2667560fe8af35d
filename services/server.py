"""The gRPC server: its services, health of each, reflection, TLS, and how it ends.

It needs no BentoML: tests start it on a free port, the bento starts it on its own event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services import metrics
from services.admission import Admission, HeldBytes
from services.calls import handlers
from services.embed import EmbeddingServicer
from services.priority import make_grpc_threads, patient_threads
from services.search import SearchServicer
from services.snapshot import Live, Snapshot
from vitrine.errors import Unavailable
from vitrine.v1 import embedding_pb2, search_pb2

log = logging.getLogger("vitrine.serving")

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_HELD_BYTES = 512 * 1024 * 1024
MAX_CALLS = 2048  # the batcher bounds images; this bounds everything, searches by item id included
_SPARE_CALLS = 256  # beyond MAX_CALLS: health checks, reflection, and calls that are about to be refused with a delay
_QUIET_S = 0.15  # calls that the transport has read but no handler has begun get this long to begin


@dataclass(frozen=True)
class Limits:
    """What the server holds at a time, and what a message may weigh."""

    calls: int = MAX_CALLS
    message_bytes: int = MAX_MESSAGE_BYTES


@dataclass(frozen=True)
class _Service:
    descriptor: Any
    servicer: Any
    ready: Callable[[Snapshot], bool]


class GrpcServer:
    """A grpc.aio server over the live snapshot.

    Args:
        live: what answers.
        limits: calls at a time and bytes of a message.
        held: bounds the bytes of all messages inside; HTTP may share it.
        credentials: for TLS; without them the port is plain.
    """

    def __init__(
        self,
        live: Live,
        *,
        limits: Limits = Limits(),
        held: HeldBytes | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.embedding = EmbeddingServicer(live)
        self.searching = SearchServicer(live)
        self.admission = Admission(limits.calls, "calls", held or HeldBytes(MAX_HELD_BYTES))
        self.port = 0
        self._live, self._limits, self._credentials = live, limits, credentials
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._services: list[_Service] = []
        self._stopping = False
        self._sampler = metrics.Sampler(self._fill)
        self.add(embedding_pb2.DESCRIPTOR.services_by_name["Embedding"], self.embedding)
        self.add(search_pb2.DESCRIPTOR.services_by_name["Search"], self.searching, ready=searches)

    def add(
        self,
        descriptor: Any,
        servicer: Any,
        *,
        ready: Callable[[Snapshot], bool] = lambda _: True,
    ) -> None:
        """Serve one more service from the next `start` on.

        Args:
            descriptor: `…_pb2.DESCRIPTOR.services_by_name[NAME]`.
            servicer: what answers.
            ready: whether the live snapshot can answer it; its health says so.
        """
        self._services.append(_Service(descriptor, servicer, ready))

    @property
    def ready(self) -> bool:
        """Whether requests are taken: what gRPC health says of the server as a whole."""
        return self._server is not None and not self._stopping and self._live.snapshot is not None

    async def start(self, address: str) -> None:
        """Listen on `HOST:PORT`; port 0 takes a free one (see `port`).

        Raises:
            Unavailable: nobody can listen there; most often the port is taken.
        """
        make_grpc_threads()
        with patient_threads():  # its poller
            server = self._made(address)
        await server.start()
        self._server = server
        await self.report_health()
        self._sampler.start()
        log.info("gRPC listens", extra={"address": address, "port": self.port, "tls": self._credentials is not None})

    def _made(self, address: str) -> grpc.aio.Server:
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=self._limits.calls + _SPARE_CALLS)
        server.add_generic_rpc_handlers(
            tuple(handlers(service.servicer, service.descriptor, self.admission) for service in self._services)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.descriptor.full_name for service in self._services]
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self.port = self._listen(server, address)
        return server

    async def report_health(self) -> None:
        """Publish what can be answered: each service, and "" for the server as a whole."""
        snapshot = self._live.snapshot
        await self._set("", snapshot is not None)
        for service in self._services:
            await self._set(service.descriptor.full_name, snapshot is not None and service.ready(snapshot))

    async def leave(self) -> None:
        """Tell health checkers that this server is going, for good; requests are still taken."""
        self._stopping = True
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Tell health checkers, refuse newcomers, let running calls end within `grace_s` seconds."""
        server, self._server = self._server, None
        if server is None:
            return
        await self.leave()
        await self._sampler.stop()
        # Calls that the transport holds and no handler has begun would be CANCELLED by its end: tell them UNAVAILABLE.
        self.admission.close()
        await asyncio.sleep(_QUIET_S)
        ending = asyncio.get_running_loop().create_task(server.stop(grace_s))
        await self._wait_until_idle(ending)
        log.info("gRPC ends", extra={"admitted": self.admission.admitted, "cut": self.admission.inside})
        await server.stop(None)  # health watchers hold streams open for ever; nobody else is left
        await ending

    async def _wait_until_idle(self, ending: asyncio.Task[None]) -> None:
        quiet_since = time.monotonic()
        while not ending.done() and time.monotonic() - quiet_since < _QUIET_S:
            await asyncio.sleep(0.01)
            if self.admission.inside:
                quiet_since = time.monotonic()

    async def _set(self, name: str, serving: bool) -> None:
        kinds = health_pb2.HealthCheckResponse
        await self._health.set(name, kinds.SERVING if serving else kinds.NOT_SERVING)

    def _listen(self, server: grpc.aio.Server, address: str) -> int:
        try:
            if self._credentials is None:
                return int(server.add_insecure_port(address))
            return int(server.add_secure_port(address, self._credentials))
        except RuntimeError as error:
            raise Unavailable(
                f"gRPC cannot listen on {address}: another server may be there, or it is no address of this machine; "
                "choose another with VITRINE_GRPC_ADDR"
            ) from error

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 0),  # or a second server would silently share the traffic
            ("grpc.max_receive_message_length", self._limits.message_bytes),
            ("grpc.max_send_message_length", self._limits.message_bytes),
        ]

    def _fill(self) -> tuple[str, Mapping[str, tuple[int, int]]]:
        metrics.IN_FLIGHT.set(self.admission.inside)
        if self._live.snapshot is None:
            return "", {}
        with self._live.lease() as service:
            photos, titles = service.lanes.photos, service.lanes.titles
            return service.snapshot.name, {
                "images": (photos.places_taken, photos.waiting),
                "titles": (titles.places_taken, titles.waiting),
            }


def searches(snapshot: Snapshot) -> bool:
    """Whether it has a collection."""
    return snapshot.index is not None
