"""EmbedStream: bulk over a real socket, with a real tiny version."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services import stream
from services.batching import BatchLimits
from services.embed import MAX_STREAMS
from services.lanes import Pools
from services.snapshot import Live, Snapshot
from services.stream import REQUESTS_AHEAD, Stream
from tests.factories import photo, tiny_bundle
from tests.services.conftest import MODEL, Running, running
from tests.services.test_load import Held, until
from vitrine.client import VitrineClient
from vitrine.encoder import Encoder, load_encoder
from vitrine.errors import BadInput
from vitrine.home import Home
from vitrine.ports import Vectors
from vitrine.registry import open_registry
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc

Request = embedding_pb2.EmbedStreamRequest
Response = embedding_pb2.EmbedStreamResponse


def item(data: bytes) -> common_pb2.Item:
    return common_pb2.Item(images=[common_pb2.Image(data=data)])


def request(photos: Sequence[bytes], **options: Any) -> Request:
    return Request(items=[item(data) for data in photos], **options)


def streamed(server: Running, requests: Sequence[Request]) -> list[Response]:
    with grpc.insecure_channel(server.address) as channel:
        return list(embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(iter(requests), timeout=30))


def rows(answer: Response) -> Vectors:
    return np.frombuffer(answer.embeddings.data, "<f4").reshape(tuple(answer.embeddings.shape))


@pytest.fixture(scope="module")
def encoder(shared_home: Home) -> Encoder:
    return load_encoder(open_registry(shared_home).open(MODEL), threads=1)


def test_every_request_is_answered_in_order(server: Running, encoder: Encoder) -> None:
    sizes = [1, 7, 2, 40, 3, 1, 1, 12, 5]  # 40 are more than bulk may hold at once here
    groups = [[photo(100 * n + k) for k in range(size)] for n, size in enumerate(sizes)]

    answers = streamed(server, [request(group) for group in groups])

    assert [list(answer.embeddings.shape) for answer in answers] == [[size, 8] for size in sizes]
    for answer, group in zip(answers, groups, strict=True):
        np.testing.assert_allclose(rows(answer), encoder.embed(group).vectors, atol=1e-6)
        assert (answer.version.model, list(answer.failed)) == (MODEL, [])


def test_a_stream_without_requests_has_no_answers(server: Running) -> None:
    assert streamed(server, []) == []


def test_broken_items_fail_alone_and_the_stream_goes_on(server: Running, encoder: Encoder) -> None:
    mixed = Request(items=[item(photo(1)), item(photo(2)[:300]), common_pb2.Item(title="a mug"), item(photo(3))])

    first, second = streamed(server, [mixed, request([photo(4)])])

    assert [(error.item, error.code, error.field) for error in first.failed] == [
        (1, "INVALID_ARGUMENT", "items[1].images[0].data"),
        (2, "INVALID_ARGUMENT", "items[2].title"),
    ]
    assert "cannot be read" in first.failed[0].message
    expected = encoder.embed([photo(1), photo(3)]).vectors
    np.testing.assert_allclose(rows(first), np.stack([expected[0], *np.zeros((2, 8)), expected[1]]), atol=1e-6)
    assert not second.failed


def test_an_item_with_more_photos_than_bulk_may_hold_fails_alone(server: Running) -> None:
    images = [common_pb2.Image(data=photo(1))] * 17  # half of the queue's 32 is for bulk

    (answer,) = streamed(server, [Request(items=[item(photo(1)), common_pb2.Item(images=images)])])

    assert [(error.item, error.code) for error in answer.failed] == [(1, "INVALID_ARGUMENT")]
    assert "17 images at a time, 16 are allowed in bulk; split it" in answer.failed[0].message


def test_several_photos_and_a_title_of_an_item_become_one_row(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=3, texts=True)
    images = [common_pb2.Image(data=photo(n)) for n in (1, 2)]
    items = [common_pb2.Item(images=images, title="mug"), common_pb2.Item(title="jug"), common_pb2.Item(images=images)]
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        single = embedding_pb2_grpc.EmbeddingStub(channel).Embed(embedding_pb2.EmbedRequest(items=items))
        (answer,) = streamed(server, [Request(items=items)])

    assert list(answer.embeddings.shape) == [3, 8]
    np.testing.assert_allclose(
        np.frombuffer(answer.embeddings.data, "<f4"), np.frombuffer(single.embeddings.data, "<f4"), atol=1e-6
    )


def test_float16_is_float16(server: Running, encoder: Encoder) -> None:
    (answer,) = streamed(server, [request([photo(1)], dtype=common_pb2.Tensor.FLOAT16)])

    vectors = np.frombuffer(answer.embeddings.data, "<f2")
    np.testing.assert_allclose(vectors, encoder.embed([photo(1)]).vectors[0], atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "code", "told"),
    [
        (Request(), grpc.StatusCode.INVALID_ARGUMENT, "the request has no items"),
        (request([photo(1)], dtype=9), grpc.StatusCode.INVALID_ARGUMENT, "dtype 9 is unknown"),
        (request([photo(1)], model="other"), grpc.StatusCode.NOT_FOUND, "this server serves tiny-search@1"),
    ],
    ids=["empty", "dtype", "model"],
)
def test_a_wrong_request_ends_the_stream_after_the_answers_before_it(
    server: Running, wrong: Request, code: grpc.StatusCode, told: str
) -> None:
    requests = [request([photo(1)]), request([photo(2)]), wrong, request([photo(3)])]
    with grpc.insecure_channel(server.address) as channel:
        answers = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(iter(requests))
        assert [len(rows(next(answers))) for _ in range(2)] == [1, 1]
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)

    assert refused.value.code() == code
    assert told in refused.value.details()


def test_an_engine_that_fails_is_told_item_by_item_and_nothing_else_is(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=6)

    def explode(_pixels: object) -> None:
        raise RuntimeError("a secret path")

    with running(home) as broken:
        assert broken.live.snapshot is not None
        broken.live.snapshot.encoder.run = explode  # type: ignore[assignment,method-assign]
        (answer,) = streamed(broken, [request([photo(1), photo(2)])])

    assert [(error.item, error.code) for error in answer.failed] == [(0, "INTERNAL"), (1, "INTERNAL")]
    assert {error.message for error in answer.failed} == {"unexpected error; the server's log has the details"}


def test_another_version_ends_the_stream_and_what_was_answered_stands(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        go_on = threading.Event()

        def requests() -> Iterator[Request]:
            yield request([photo(1)])
            go_on.wait(10)
            yield request([photo(2)])

        answers = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(requests())
        first = next(answers)
        promoted(seed=2)
        until(lambda: server.live.snapshot is not None and server.live.snapshot.version == 2)
        go_on.set()
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)

        assert first.version.version == 1
        assert ended.value.code() == grpc.StatusCode.ABORTED
        assert "this stream began with tiny-search@1 and tiny-search@2 is live now" in ended.value.details()
        assert "its 1 answers stand, open a new one for the requests that were not answered" in ended.value.details()
        (again,) = streamed(server, [request([photo(2)])])
        assert again.version.version == 2


def test_a_version_is_retired_while_a_stream_of_it_is_open_and_idle(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        assert server.live._current is not None
        old, done = server.live._current, threading.Event()

        def requests() -> Iterator[Request]:
            yield request([photo(1)])
            done.wait(10)

        answers = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(requests())
        next(answers)
        promoted(seed=2)
        until(lambda: old.lanes.photos._task is None)  # its lanes were stopped
        done.set()
        assert list(answers) == []


def test_a_cancelled_stream_leaves_nothing_behind(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home, BatchLimits(2, 1, 32)) as server, grpc.insecure_channel(server.address) as channel:
        held = Held(server)
        answers = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(iter([request([photo(1)] * 5)] * 9))
        assert server.live._current is not None
        places = server.live._current.lanes.places
        until(lambda: held.photos > 0 and places.bulk_taken == 15)
        in_the_model = held.photos  # the first batch, of one or two
        answers.cancel()
        until(lambda: places.taken == 0 and server.server.embedding._streams == 0)
        assert server.live._current.leases == 0
        held.release()
        assert held.photos == in_the_model  # no other batch began


def test_single_calls_pass_while_a_stream_fills_the_server(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with (
        running(home, BatchLimits(2, 1, 8)) as server,
        grpc.insecure_channel(server.address) as channel,
        VitrineClient(server.address) as client,
    ):
        answers = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(iter([request([photo(1)] * 30)] * 8))
        for number in range(20):
            assert client.embed([photo(number)]).vectors.shape == (1, 8)
        assert [len(rows(answer)) for answer in answers] == [30] * 8


def test_more_streams_than_the_server_holds_are_refused(server: Running) -> None:
    done = threading.Event()

    def requests() -> Iterator[Request]:
        yield request([photo(1)])
        done.wait(20)

    with grpc.insecure_channel(server.address) as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        held = [stub.EmbedStream(requests()) for _ in range(MAX_STREAMS)]
        for answers in held:
            next(answers)
        with pytest.raises(grpc.RpcError) as refused:
            streamed(server, [request([photo(1)])])
        done.set()
        assert [list(answers) for answers in held] == [[]] * MAX_STREAMS

    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the server has 8 of 8 streams; try again in 1 s" in refused.value.details()
    assert len(streamed(server, [request([photo(1)])])) == 1


# --- flow control -----------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_not_read(home: Home, promoted: Callable[..., int]) -> None:
    """Answers of 256 kB pile up in the connection first; then the server stops embedding."""
    promoted(seed=1, texts=True, dim=4096)
    titles = Request(items=[common_pb2.Item(title=f"mug {n}") for n in range(16)])
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        assert server.live.snapshot is not None
        encoder, seen = server.live.snapshot.encoder, list[int]()
        run = encoder.run_tokens

        def counted(tokens: np.ndarray) -> Vectors:
            seen.append(len(tokens))
            return run(tokens)

        encoder.run_tokens = counted  # type: ignore[method-assign]
        answers = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(iter([titles] * 200))
        until(lambda: len(seen) > 0 and _still(seen))
        before = sum(seen)
        assert before < 100 * 16
        assert sum(1 for _ in answers) == 200
        assert sum(seen) == 200 * 16


def _still(seen: list[int]) -> bool:
    before = len(seen)
    time.sleep(0.5)
    return len(seen) == before


async def taken_ahead(folder: Path, requests: Sequence[Request], answered: int) -> int:
    """How many requests a stream has read after `answered` answers, the last of which nobody fetches."""
    encoder = load_encoder(tiny_bundle(folder / "bundle"), threads=1)
    pools, taken = Pools.make(2), [0]

    async def come() -> AsyncIterator[Request]:
        for one in requests:
            taken[0] += 1
            yield one

    live = Live(pools, BatchLimits(8, 1, 32))
    await live.swap(Snapshot(MODEL, 1, encoder))
    answers = Stream(live).answers(come())
    for _ in range(answered):
        await anext(answers)
    await asyncio.sleep(0.1)
    await answers.aclose()
    await live.swap(None)
    pools.close()
    return taken[0]


def test_a_bounded_number_of_requests_is_read_ahead(tmp_path: Path) -> None:
    taken = asyncio.run(taken_ahead(tmp_path, [request([photo(1)])] * 20, answered=3))

    assert taken == 2 + REQUESTS_AHEAD  # the third counts as unanswered until the next is asked for


def test_few_requests_are_read_ahead_where_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = request([photo(1)])
    monkeypatch.setattr(stream, "BYTES_AHEAD", 2 * large.ByteSize())

    taken = asyncio.run(taken_ahead(tmp_path, [large] * 20, answered=3))

    assert taken == 2 + 2


def test_a_request_iterator_that_fails_ends_the_stream_after_its_answers(tmp_path: Path) -> None:
    async def main() -> None:
        encoder = load_encoder(tiny_bundle(tmp_path / "bundle"), threads=1)
        pools = Pools.make(2)

        async def come() -> AsyncIterator[Request]:
            yield request([photo(1)])
            raise BadInput("a message that cannot be parsed")

        live = Live(pools, BatchLimits(8, 1, 32))
        await live.swap(Snapshot(MODEL, 1, encoder))
        answers = Stream(live).answers(come())
        assert list((await anext(answers)).embeddings.shape) == [1, 8]
        with pytest.raises(BadInput, match="cannot be parsed"):
            await anext(answers)
        await live.swap(None)
        pools.close()

    asyncio.run(main())
