"""Traces from the caller to the index, kept in memory and sent to a collector on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services import tracing
from tests.factories import photo
from tests.services.conftest import Running
from tests.services.test_load import until
from vitrine.client import VitrineClient
from vitrine.errors import BadInput, VitrineError
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.close()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_search_is_one_trace_of_its_stages(client: VitrineClient, spans: InMemorySpanExporter) -> None:
    client.search(photo(3), k=2)

    until(lambda: "/vitrine.v1.Search/Search" in by_name(spans))
    found = by_name(spans)
    request = found.pop("/vitrine.v1.Search/Search")
    assert set(found) == {"decode", "wait", "engine", "index", "encode"}
    assert {span.parent.span_id for span in found.values() if span.parent} == {request.context.span_id}
    assert found["engine"].attributes == {"version": "tiny-search@1", "lane": "images", "batch": 1}


def test_stages_lie_within_their_request_in_their_order(client: VitrineClient, spans: InMemorySpanExporter) -> None:
    client.search(photo(3), k=2)

    until(lambda: "/vitrine.v1.Search/Search" in by_name(spans))
    found = by_name(spans)
    ends = [found[name].end_time or 0 for name in ("decode", "wait", "engine", "index", "encode")]
    assert ends == sorted(ends)
    assert all(span.start_time <= span.end_time for span in found.values() if span.start_time and span.end_time)
    assert ends[-1] <= (found["/vitrine.v1.Search/Search"].end_time or 0)


def test_the_callers_trace_goes_on(server: Running, spans: InMemorySpanExporter) -> None:
    image = common_pb2.Image(data=photo(1))
    request = embedding_pb2.EmbedRequest(items=[common_pb2.Item(images=[image])])
    with grpc.insecure_channel(server.address) as channel:
        told = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
        embedding_pb2_grpc.EmbeddingStub(channel).Embed(request, metadata=told)

    until(lambda: "/vitrine.v1.Embedding/Embed" in by_name(spans))
    span = by_name(spans)["/vitrine.v1.Embedding/Embed"]
    assert (format(span.context.trace_id, "032x"), format(span.parent.span_id, "016x")) == (TRACE, SPAN)  # type: ignore[union-attr]
    assert {format(each.context.trace_id, "032x") for each in spans.get_finished_spans()} == {TRACE}


def test_a_caller_that_does_not_sample_is_followed(server: Running, spans: InMemorySpanExporter) -> None:
    with grpc.insecure_channel(server.address) as channel:
        told = (("traceparent", f"00-{TRACE}-{SPAN}-00"),)
        embedding_pb2_grpc.EmbeddingStub(channel).Info(embedding_pb2.InfoRequest(), metadata=told)

    assert spans.get_finished_spans() == ()


def test_our_own_client_carries_the_open_span(client: VitrineClient, spans: InMemorySpanExporter) -> None:
    remote = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=True, trace_flags=trace.TraceFlags(1))
    opened = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
    try:
        client.info()
    finally:
        otel_context.detach(opened)

    until(lambda: "/vitrine.v1.Embedding/Info" in by_name(spans))
    assert format(by_name(spans)["/vitrine.v1.Embedding/Info"].context.trace_id, "032x") == TRACE


def test_a_failure_is_seen_with_its_status(client: VitrineClient, spans: InMemorySpanExporter) -> None:
    with pytest.raises(VitrineError):
        client.search(item_id="item-99")

    until(lambda: "/vitrine.v1.Search/Search" in by_name(spans))
    span = by_name(spans)["/vitrine.v1.Search/Search"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert dict(span.attributes or {})["rpc.grpc.status_code"] == "NOT_FOUND"


def test_while_it_is_off_nothing_is_made(client: VitrineClient) -> None:
    assert tracing.current() is None
    client.embed([photo(1)])
    assert not tracing.on()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What a collector is to its clients: it takes spans and says thanks."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.services: set[str] = set()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.names += [span.name for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    servicer, server = Collector(), grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(0)


def test_spans_reach_a_collector(client: VitrineClient, collector: tuple[Collector, str]) -> None:
    told, endpoint = collector
    tracing.configure(endpoint, 1.0)
    try:
        client.embed([photo(1)])
    finally:
        tracing.close()

    assert {"/vitrine.v1.Embedding/Embed", "decode", "wait", "engine", "encode"} <= set(told.names)
    assert told.services == {"vitrine"}


def test_a_collector_that_is_not_there_fails_no_request(client: VitrineClient) -> None:
    tracing.configure("http://127.0.0.1:9", 1.0)
    try:
        assert client.embed([photo(1)]).vectors.shape == (1, 8)
    finally:
        tracing.close()


def test_an_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="VITRINE_OTLP_ENDPOINT is 'collector:4317', it must be http://HOST:PORT"):
        tracing.configure("collector:4317", 1.0)


def test_without_an_endpoint_the_sdk_is_not_even_imported() -> None:
    command = (
        "import sys; from services import tracing; tracing.configure('', 1.0); "
        "print(any(n.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"
