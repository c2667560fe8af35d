"""What surrounds HTTP requests: bounds, a deadline, a span, and the end of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services import tracing
from services.admission import Admission, HeldBytes, left_s
from services.edge import Edge
from services.json_requests import MAX_JSON_BYTES

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Inside = Callable[[], Awaitable[int]]


class Asked:
    """One request and what came back; the body never comes unless it is given."""

    def __init__(self, edge: Edge, path: str = "/v1/search", *, length: int | None = 10, **headers: str) -> None:
        told = {**headers, **({} if length is None else {"content-length": str(length)})}
        raw = [(name.encode(), value.encode()) for name, value in told.items()]
        self.scope = {"type": "http", "method": "POST", "path": path, "headers": raw}
        self.sent: list[Any] = []
        self.task = asyncio.get_running_loop().create_task(edge(self.scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def answer(self) -> tuple[int, dict[str, Any]]:
        await asyncio.wait_for(self.task, 20)
        return self.sent[0]["status"], json.loads(self.sent[1]["body"])

    def header(self, name: str) -> str:
        return str(dict(self.sent[0]["headers"])[name.encode()].decode())


def answering(inside: Inside) -> Any:
    """An application that answers with the status that `inside` gives."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status = await inside()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


async def at_once() -> int:
    return 200


async def never() -> int:
    await asyncio.Event().wait()
    return 0


def edge_over(inside: Inside, *, calls: int = 10, held: int = 10**9, timeout_s: float = 30) -> Edge:
    return Edge(answering(inside), Admission(calls, "HTTP calls", HeldBytes(held)), timeout_s)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.close()


def test_a_request_that_is_not_done_in_time_is_told_so_and_gives_its_place_back() -> None:
    async def work() -> None:
        edge = edge_over(never, timeout_s=0.05)
        code, body = await Asked(edge).answer()

        assert (code, body["error"]) == (503, "Unavailable")
        assert body["message"].startswith("the request was not done within 0.05 s, its body included")
        assert edge.admission.inside == 0

    asyncio.run(work())


def test_the_deadline_reaches_whoever_answers() -> None:
    async def work() -> None:
        told: list[float | None] = []

        async def inside() -> int:
            told.append(left_s(None))
            return 200

        await Asked(edge_over(inside, timeout_s=30)).answer()

        assert told[0] is not None
        assert 25 < told[0] <= 30
        assert left_s(None) is None  # and nobody else

    asyncio.run(work())


def test_an_answer_that_has_begun_is_cut_and_not_followed_by_another() -> None:
    async def work() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await never()

        asked = Asked(Edge(app, Admission(1, "HTTP calls"), 0.05))
        await asyncio.wait_for(asked.task, 20)

        assert [message["type"] for message in asked.sent] == ["http.response.start"]

    asyncio.run(work())


def test_beyond_the_requests_allowed_a_newcomer_is_told_when_to_come_back() -> None:
    async def work() -> None:
        edge = edge_over(never, calls=1)
        first = Asked(edge)
        await asyncio.sleep(0)
        second = Asked(edge)
        code, body = await second.answer()
        first.task.cancel()
        await asyncio.gather(first.task, return_exceptions=True)

        assert (code, body["message"]) == (429, "the server holds 1 of 1 HTTP calls; try again in 0.25 s")
        assert second.header("retry-after") == "1"
        assert edge.admission.inside == 0

    asyncio.run(work())


@pytest.mark.parametrize(
    ("length", "weight"), [(600, 600), (None, MAX_JSON_BYTES), (10 * MAX_JSON_BYTES, MAX_JSON_BYTES)]
)
def test_a_body_is_weighed_before_it_is_read(length: int | None, weight: int) -> None:
    async def work() -> None:
        held = HeldBytes(10**9)
        asked = Asked(Edge(answering(never), Admission(1, "HTTP calls", held), 30), length=length)
        await asyncio.sleep(0)
        assert held.held == weight
        asked.task.cancel()
        await asyncio.gather(asked.task, return_exceptions=True)
        assert held.held == 0

    asyncio.run(work())


def test_a_body_for_which_there_is_no_room_is_refused_unread() -> None:
    async def work() -> None:
        edge = edge_over(never, held=1000)
        first = Asked(edge, length=600)
        await asyncio.sleep(0)
        code, body = await Asked(edge, length=600).answer()
        first.task.cancel()
        await asyncio.gather(first.task, return_exceptions=True)

        assert (code, body["error"]) == (429, "Overloaded")

    asyncio.run(work())


def test_what_is_no_route_of_ours_passes_through_whatever_the_load() -> None:
    async def work() -> None:
        edge = edge_over(at_once, calls=0)
        assert (await Asked(edge, "/").answer())[0] == 200
        assert (await Asked(edge).answer())[0] == 429

    asyncio.run(work())


def test_the_end_refuses_newcomers_and_tells_those_that_are_cut() -> None:
    async def work() -> None:
        edge = edge_over(never)
        running = Asked(edge)
        await asyncio.sleep(0.01)
        await edge.stop(0.01)
        cut, late = await running.answer(), await Asked(edge).answer()

        assert (cut[0], cut[1]["message"]) == (503, "the server ended before this request did; send it again")
        assert (late[0], late[1]["message"]) == (503, "this server is going out of service; send the request again")
        assert running.header("connection") == "close"

    asyncio.run(work())


def test_a_span_continues_the_callers_trace_and_has_the_status(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        await Asked(edge_over(at_once), traceparent=f"00-{TRACE}-{SPAN}-01").answer()

    asyncio.run(work())
    (span,) = spans.get_finished_spans()

    assert (span.name, span.kind) == ("POST /v1/search", trace.SpanKind.SERVER)
    assert (format(span.context.trace_id, "032x"), format(span.parent.span_id, "016x")) == (TRACE, SPAN)  # type: ignore[union-attr]
    assert dict(span.attributes or {}) == {"http.response.status_code": 200}
    assert span.status.is_ok


def test_stages_are_under_the_span_of_their_request(spans: InMemorySpanExporter) -> None:
    async def inside() -> int:
        parent = tracing.current()
        assert parent is not None
        tracing.record(parent, "decode", 0.001)
        return 200

    async def work() -> None:
        await Asked(edge_over(inside)).answer()

    asyncio.run(work())
    stage, request = spans.get_finished_spans()

    assert stage.parent is not None
    assert (stage.name, stage.parent.span_id) == ("decode", request.context.span_id)


def test_a_span_is_named_by_the_route_and_not_by_the_item(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        await Asked(edge_over(at_once), "/v1/items/mug-17/photo").answer()

    asyncio.run(work())

    assert [span.name for span in spans.get_finished_spans()] == ["POST /v1/items"]


def test_a_request_that_is_cut_is_an_error_in_its_span(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        await Asked(edge_over(never, timeout_s=0.05)).answer()

    asyncio.run(work())
    (span,) = spans.get_finished_spans()

    assert dict(span.attributes or {}) == {"http.response.status_code": 503}
    assert span.status.status_code is trace.StatusCode.ERROR
