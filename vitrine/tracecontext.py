"""The caller's side of a trace: a client span, and the headers that carry it to the server.

It costs nothing where nobody traces: a program that traces has imported `opentelemetry` itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

Headers = tuple[tuple[str, str], ...]


@contextmanager
def client_span(name: str, target: str) -> Iterator[Headers]:
    """A span around a call to `target`, and its W3C `traceparent` as gRPC metadata; no headers where nobody traces."""
    if "opentelemetry.trace" not in sys.modules:
        yield ()
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    tracer = trace.get_tracer("vitrine.client")
    with tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT, attributes={"server.address": target}):
        TraceContextTextMapPropagator().inject(carrier)
        yield tuple(carrier.items())
