"""A full server: who is refused, what with, and that no place is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from services.admission import Admission, HeldBytes
from services.server import GrpcServer, Limits
from tests.services.conftest import Running, running
from tests.services.test_load import Held, one_photo, places, until
from vitrine.errors import Overloaded, Unavailable
from vitrine.home import Home
from vitrine.v1 import embedding_pb2, embedding_pb2_grpc


class SmallPort:
    """One more port over the live version, with room for two calls."""

    def __init__(self, server: Running, held: HeldBytes | None = None) -> None:
        self._running = server
        self.grpc = GrpcServer(server.live, limits=Limits(calls=2), held=held)

    def __enter__(self) -> Self:
        self._running.do(self.grpc.start("127.0.0.1:0"))
        self.address = f"127.0.0.1:{self.grpc.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._running.do(self.grpc.stop(5))


def details(error: grpc.RpcError) -> status_pb2.Status:
    told = rpc_status.from_call(error)
    assert told is not None
    return told


def test_beyond_the_calls_allowed_a_newcomer_is_told_when_to_come_back(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1)
    with running(home) as server, SmallPort(server) as port, grpc.insecure_channel(port.address) as channel:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        inside = [stub.Embed.future(one_photo(n)) for n in range(2)]
        until(lambda: port.grpc.admission.inside == 2)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(one_photo(3))
        held.release()
        assert all(call.result().embeddings.data for call in inside)
        assert stub.Embed(one_photo(3)).embeddings.data  # the places are free again
    delay = error_details_pb2.RetryInfo()
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "the server holds 2 of 2 calls; try again in 0.25 s"
    assert any(detail.Unpack(delay) for detail in details(refused.value).details)
    assert delay.retry_delay.ToMilliseconds() == 250


def test_beyond_the_bytes_allowed_a_newcomer_is_told_when_to_come_back(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1)
    bound = HeldBytes(one_photo(0).ByteSize() + 10)
    with running(home) as server, SmallPort(server, bound) as port, grpc.insecure_channel(port.address) as channel:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        inside = stub.Embed.future(one_photo(0))
        until(lambda: bound.held > 0)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(one_photo(1))
        held.release()
        assert inside.result().embeddings.data
        assert stub.Embed(one_photo(1)).embeddings.data  # there is room again
        until(lambda: bound.held == 0)
    delay = error_details_pb2.RetryInfo()

    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the server holds requests of" in refused.value.details()
    assert any(detail.Unpack(delay) for detail in details(refused.value).details)
    assert delay.retry_delay.ToMilliseconds() == 250


def test_one_request_alone_is_let_in_whatever_it_weighs() -> None:
    bound = HeldBytes(10)
    bound.take(1000)
    with pytest.raises(Overloaded, match=r"holds requests of 0.0 MB, 0.0 are allowed, and this one has 0.0"):
        bound.take(1)
    bound.give_back(1000)
    bound.take(5)
    bound.take(5)

    assert bound.held == 10


def test_whom_the_bytes_refuse_holds_no_place() -> None:
    admission = Admission(10, "calls", HeldBytes(10))
    admission.enter(8)
    with pytest.raises(Overloaded):
        admission.enter(8)
    admission.leave(8)
    admission.enter(8)

    assert (admission.inside, admission.admitted) == (1, 2)


def test_health_is_told_while_every_place_is_taken(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, SmallPort(server) as port, grpc.insecure_channel(port.address) as channel:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        inside = [stub.Embed.future(one_photo(n)) for n in range(2)]
        until(lambda: port.grpc.admission.inside == 2)
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        held.release()
        assert all(call.result().embeddings.data for call in inside)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_call_that_is_not_done_is_told_before_its_deadline(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        first = stub.Embed.future(one_photo(1))
        until(lambda: held.photos == 1)  # the model is busy with it, for longer than anybody could have known
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(one_photo(2), timeout=1.0)
        until(lambda: places(server) == 1)
        held.release()
        assert first.result().embeddings.data
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the deadline leaves" in refused.value.details()


def test_a_message_that_is_none_is_the_callers_mistake(server: Running) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/vitrine.v1.Embedding/Embed")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff")

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "the 3 bytes are no vitrine.v1.EmbedRequest; compare the client's proto files"


def test_a_message_over_the_limit_is_refused_by_the_transport(server: Running) -> None:
    port = GrpcServer(server.live, limits=Limits(message_bytes=10_000))
    server.do(port.start("127.0.0.1:0"))
    with grpc.insecure_channel(f"127.0.0.1:{port.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        embedding_pb2_grpc.EmbeddingStub(channel).Embed(embedding_pb2.EmbedRequest(model="x" * 20_000))
    server.do(port.stop(1))

    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()


def test_admission_counts_who_is_inside_and_who_ever_was() -> None:
    admission = Admission(1, "calls")
    admission.enter()
    with pytest.raises(Overloaded, match="the server holds 1 of 1 calls"):
        admission.enter()
    admission.leave()
    admission.enter()

    assert (admission.inside, admission.admitted) == (1, 2)


def test_a_closed_admission_sends_newcomers_away() -> None:
    admission = Admission(1, "calls")
    admission.close()

    with pytest.raises(Unavailable, match="this server is going out of service; send the request again"):
        admission.enter()


def test_a_health_watcher_does_not_hold_up_the_end(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        server.do(server.server.stop(20))
        assert time.monotonic() - began < 10  # far from the grace it would have had to wait
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_while_it_ends_newcomers_are_sent_away_and_running_calls_are_answered(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(1) as pool:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        running_call = stub.Embed.future(one_photo(1))
        until(lambda: held.photos == 1)
        stopping = pool.submit(server.do, server.server.stop(10))
        until(lambda: not server.server.ready)
        time.sleep(0.1)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(one_photo(2), timeout=5)
        held.release()
        stopping.result(20)
        assert running_call.result().embeddings.data
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_searching_is_not_serving_where_there_is_no_index(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        assert server.live.snapshot is not None
        object.__setattr__(server.live.snapshot, "index", None)
        server.do(server.server.report_health())
        check = health_pb2_grpc.HealthStub(channel).Check
        told = {
            name: check(health_pb2.HealthCheckRequest(service=name)).status
            for name in ("", "vitrine.v1.Embedding", "vitrine.v1.Search")
        }
    kinds = health_pb2.HealthCheckResponse
    assert told == {"": kinds.SERVING, "vitrine.v1.Embedding": kinds.SERVING, "vitrine.v1.Search": kinds.NOT_SERVING}
