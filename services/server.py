"""The gRPC server: both services, health, reflection, metrics and one place that turns errors into statuses.

It needs no BentoML: tests start it on a free port, the bento starts it on its own event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from prometheus_client import Counter, Gauge, Histogram

from services import status
from services.embed import EmbeddingServicer
from services.search import SearchServicer
from services.snapshot import Live
from vitrine.errors import VitrineError
from vitrine.v1 import embedding_pb2, embedding_pb2_grpc, search_pb2, search_pb2_grpc

log = logging.getLogger("vitrine.serving")

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_CALLS = 2048  # the batcher bounds images; this bounds everything, searches by item id included
SERVICES = (
    embedding_pb2.DESCRIPTOR.services_by_name["Embedding"].full_name,
    search_pb2.DESCRIPTOR.services_by_name["Search"].full_name,
)

CALLS = Counter("vitrine_grpc_requests_total", "gRPC calls by outcome", ["method", "code"])
SECONDS = Histogram("vitrine_grpc_seconds", "Seconds in a gRPC handler", ["method"])
IN_FLIGHT = Gauge("vitrine_grpc_in_flight", "gRPC calls in progress", multiprocess_mode="livesum")

Handler = Callable[[Any, Any], Awaitable[Any]]


class Outcomes(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Counts and times calls; a VitrineError becomes its status, anything else INTERNAL and a log line."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap unary handlers; health and reflection streams pass through."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _observed(handler.unary_unary, details.method), handler.request_deserializer, handler.response_serializer
        )


def _observed(call: Handler, method: str) -> Handler:
    async def observed(request: Any, context: Any) -> Any:
        began, code = time.perf_counter(), "OK"
        IN_FLIGHT.inc()
        try:
            return await call(request, context)
        except VitrineError as error:
            code = error.grpc_status
            await context.abort_with_status(rpc_status.to_status(status.rpc_status(error)))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = context.code().name
            raise
        except Exception:
            code = "INTERNAL"
            log.exception("a request failed unexpectedly", extra={"method": method})
            await context.abort(grpc.StatusCode.INTERNAL, "unexpected error; the server's log has the details")
        finally:
            seconds = time.perf_counter() - began
            IN_FLIGHT.dec()
            SECONDS.labels(method).observe(seconds)
            CALLS.labels(method, code).inc()
            log.debug("call", extra={"method": method, "code": code, "ms": round(1000 * seconds, 1)})

    return observed


class GrpcServer:
    """A grpc.aio server over the live snapshot."""

    def __init__(self, live: Live) -> None:
        self.embedding = EmbeddingServicer(live)
        self.searching = SearchServicer(live)
        self._live = live
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on `HOST:PORT`; port 0 takes a free one (see `port`).

        Raises:
            RuntimeError: the port is taken.
        """
        options = [
            ("grpc.so_reuseport", 0),  # or a second server would silently share the traffic
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        server = grpc.aio.server(interceptors=[Outcomes()], options=options, maximum_concurrent_rpcs=MAX_CALLS)
        embedding_pb2_grpc.add_EmbeddingServicer_to_server(self.embedding, server)
        search_pb2_grpc.add_SearchServicer_to_server(self.searching, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        self.port = server.add_insecure_port(address)
        await server.start()
        self._server = server
        await self.report_health()
        log.info("gRPC listens", extra={"address": address, "port": self.port})

    async def report_health(self) -> None:
        """Publish whether requests can be answered: SERVING once a snapshot is live."""
        kinds = health_pb2.HealthCheckResponse
        state = kinds.SERVING if self._live.snapshot else kinds.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, state)

    async def stop(self, grace_s: float) -> None:
        """Tell health checkers, refuse newcomers, let running calls end within `grace_s` seconds."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace_s)
            self._server = None
