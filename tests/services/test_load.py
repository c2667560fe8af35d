"""A server under pressure: overload, callers that give up, shutdown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from services.batching import BatchLimits
from tests.factories import photo
from tests.services.conftest import Running, running
from vitrine.client import VitrineClient
from vitrine.encoder import Output
from vitrine.errors import Overloaded
from vitrine.home import Home
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc


class Held:
    """The engine, stopped until `release`; counts the photos that reach it."""

    def __init__(self, server: Running) -> None:
        assert server.live.snapshot is not None
        self._encoder = server.live.snapshot.encoder
        self._run, self._gate, self.photos = self._encoder.run, threading.Event(), 0
        self._encoder.run = self._held  # type: ignore[method-assign]

    def _held(self, pixels: np.ndarray) -> Output:
        self.photos += len(pixels)
        self._gate.wait(10)
        return self._run(pixels)

    def release(self) -> None:
        self._gate.set()


def one_photo(number: int) -> embedding_pb2.EmbedRequest:
    return embedding_pb2.EmbedRequest(items=[common_pb2.Item(images=[common_pb2.Image(data=photo(number))])])


def places(server: Running) -> int:
    current = server.live._current
    assert current is not None
    return current.lanes.photos.places_taken


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_beyond_the_queue_the_answer_is_overloaded_with_a_delay(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home, BatchLimits(2, 1, 4)) as server, VitrineClient(server.address) as client:
        held = Held(server)
        with ThreadPoolExecutor(4) as pool:
            inside = [pool.submit(client.embed, [photo(n)]) for n in range(4)]
            until(lambda: places(server) == 4)
            with pytest.raises(Overloaded, match="the server holds 4 of 4 images") as refused:
                client.embed([photo(9)])
            held.release()
            assert all(future.result().vectors.shape == (1, 8) for future in inside)
        assert refused.value.retry_after_s > 0


@pytest.mark.parametrize("way", ["cancelled", "deadline"])
def test_a_caller_that_gives_up_leaves_the_queue(home: Home, promoted: Callable[..., int], way: str) -> None:
    promoted(seed=1)
    with running(home, BatchLimits(1, 1, 8)) as server, grpc.insecure_channel(server.address) as channel:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        first = stub.Embed.future(one_photo(1))
        until(lambda: held.photos == 1)  # the model is busy with it
        gone = stub.Embed.future(one_photo(2), timeout=0.3 if way == "deadline" else None)
        until(lambda: places(server) == 2)
        if way == "cancelled":
            gone.cancel()
        until(lambda: places(server) == 1)
        held.release()
        assert list(first.result().embeddings.shape) == [1, 8]
        assert held.photos == 1


def test_a_stopping_server_finishes_what_it_has_begun(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, grpc.insecure_channel(server.address) as channel:
        held = Held(server)
        begun = embedding_pb2_grpc.EmbeddingStub(channel).Embed.future(one_photo(1))
        until(lambda: held.photos == 1)
        threading.Timer(0.2, held.release).start()
        server.do(server.server.stop(5))
        assert list(begun.result().embeddings.shape) == [1, 8]
