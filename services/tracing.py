"""Traces, from the caller's span through the handler to decode, wait, engine and index.

Off unless VITRINE_OTLP_ENDPOINT names a collector: then `current()` is None and nobody makes spans. The context
travels as W3C `traceparent` (https://www.w3.org/TR/trace-context/) in gRPC metadata or an HTTP header. Stages are
recorded when they have ended, because a batch belongs to many requests and runs in another thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vitrine.errors import BadInput, Unavailable

Parent = context.Context | None
"""The span that a stage belongs to; None while tracing is off."""


class Observer(Protocol):
    """Who is told of stages; `services.metrics.Stages` is one."""

    def seen(self, stage: str, seconds: float, parent: Parent = None) -> None:
        """A stage of one input has ended."""
        ...

    def batch(self, lane: str, waits_s: list[float], engine_s: float, parents: list[Parent]) -> None:
        """A batch has left the model."""
        ...


_HEADERS = frozenset({"traceparent", "tracestate"})
_FLUSH_MS = 2_000
_propagator = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_provider: Any = None


def use(provider: Any) -> None:
    """Make spans with this tracer provider; None turns tracing off."""
    global _tracer, _provider  # noqa: PLW0603 -- one process, one destination
    _provider = provider
    _tracer = provider.get_tracer("vitrine.serving") if provider is not None else None


def configure(endpoint: str, share: float) -> None:
    """Send spans to an OTLP gRPC collector, such as `http://localhost:4317`; "" leaves tracing off.

    Args:
        endpoint: `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
        share: the share of requests that begin a trace; a caller's own decision is followed.

    Raises:
        Unavailable: the `tracing` extra is not installed.
        BadInput: the endpoint is no such address.
    """
    if not endpoint:
        return
    check_endpoint(endpoint)
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise Unavailable(
            f"VITRINE_OTLP_ENDPOINT is set but traces cannot be sent: {error}; install the extra: "
            "pip install 'vitrine-embeddings[tracing]'"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": "vitrine"}), sampler=ParentBased(TraceIdRatioBased(share))
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)


def check_endpoint(endpoint: str) -> None:
    """Refuse an address that no collector can have.

    Raises:
        BadInput: it is neither `http://HOST:PORT` nor `https://HOST:PORT`.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise BadInput(
            f"VITRINE_OTLP_ENDPOINT is {endpoint!r}, it must be http://HOST:PORT, or https://HOST:PORT for TLS",
            field="VITRINE_OTLP_ENDPOINT",
        )


def close() -> None:
    """Send what is left, for at most two seconds, and turn tracing off. It blocks."""
    provider = _provider
    use(None)
    if provider is not None:
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()


def on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def current() -> Parent:
    """What to hand to `record` as the parent."""
    return context.get_current() if _tracer is not None else None


@contextmanager
def request(name: str, headers: Iterable[tuple[str, Any]]) -> Iterator[None]:
    """A server's span around one request, under the caller's where `headers` carry one. Ask `on()` first."""
    assert _tracer is not None
    carrier = {key.lower(): str(value) for key, value in headers if key.lower() in _HEADERS}
    parent = _propagator.extract(carrier)
    with _tracer.start_as_current_span(name, parent, SpanKind.SERVER):
        yield


def outcome(code: str) -> None:
    """The gRPC code of the request whose span is open."""
    span = trace.get_current_span()
    span.set_attribute("rpc.grpc.status_code", code)
    if code != "OK":
        span.set_status(Status(StatusCode.ERROR, code))


def answered(code: int) -> None:
    """The HTTP status of the request whose span is open."""
    span = trace.get_current_span()
    span.set_attribute("http.response.status_code", code)
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR, str(code)))


def trace_id() -> str:
    """The trace of the open span in hex, "" for none."""
    found = trace.get_current_span().get_span_context()
    return format(found.trace_id, "032x") if found.is_valid else ""


def record(parent: context.Context, name: str, seconds: float, *, ago_s: float = 0.0, **attributes: str | int) -> None:
    """A span of `seconds` that ended `ago_s` ago, under `parent`."""
    if _tracer is None:  # turned off meanwhile
        return
    ended = time.time_ns() - int(ago_s * 1e9)
    span = _tracer.start_span(name, parent, attributes=attributes, start_time=ended - int(seconds * 1e9))
    span.end(ended)
