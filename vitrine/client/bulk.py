"""A bulk embedding without its I/O: requests out of items, a bounded number ahead, answers in order, what a break means.

The window is the client's memory of what was sent and not answered. When a stream breaks, a new one is opened and the window
is sent again; nothing is lost or comes twice, because answers come in the order of requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import grpc

from vitrine.client import operations
from vitrine.client.leaves import item_leaf, leaf
from vitrine.client.operations import DType
from vitrine.client.retries import Retries
from vitrine.client.types import Listing, Query, StreamChunk, Version
from vitrine.errors import Conflict, Unavailable
from vitrine.v1 import embedding_pb2

METHOD = "/vitrine.v1.Embedding/EmbedStream"
ANSWER = embedding_pb2.EmbedStreamResponse

OnSwitch = Literal["stop", "continue"]

REQUEST_ITEMS = 32
REQUEST_BYTES = 8_000_000
_SEND_FAILED = "Internal error from Core"  # grpc.aio says this, and not why, where a stream ends while it is written to
AHEAD = 4  # as many as the server reads ahead


class Bulk:
    """The state of one bulk embedding.

    Args:
        on_switch: what happens when another version goes live in the middle: `stop` raises, `continue` goes on with the new one.
    """

    def __init__(
        self, dtype: DType, model: str, on_switch: OnSwitch, retries: Retries, target: str, stall_s: float
    ) -> None:
        self._dtype, self._model, self._on_switch = operations.wire_dtype(dtype), model, on_switch
        self._retries, self._target, self._stall_s = retries.patient(), target, stall_s
        self._window: deque[embedding_pb2.EmbedStreamRequest] = deque()
        self._answered = 0  # items
        self._broken = 0  # streams since the last answer
        self._version: Version | None = None

    @property
    def room(self) -> bool:
        """Whether one more request may be sent."""
        return len(self._window) < AHEAD

    @property
    def waiting(self) -> bool:
        """Whether an answer is due."""
        return bool(self._window)

    def request(self, items: list[Query]) -> embedding_pb2.EmbedStreamRequest:
        """The request for some items; counted as sent."""
        messages = [operations.item(one) for one in items]
        request = embedding_pb2.EmbedStreamRequest(model=self._model, items=messages, dtype=self._dtype)
        self._window.append(request)
        return request

    def unanswered(self) -> list[embedding_pb2.EmbedStreamRequest]:
        """What a new stream has to send first."""
        return list(self._window)

    def answered(self, answer: embedding_pb2.EmbedStreamResponse | None) -> StreamChunk:
        """The answer to the oldest request; None where the stream ended without one.

        Raises:
            Conflict: it is another version's, and that is not wanted.
            Unavailable: it is none.
        """
        if answer is None:
            raise Unavailable(
                f"the server at {self._target} ended the stream after {self._answered} items; run it again"
            )
        version = operations.version(answer.version)
        if self._version not in (None, version) and self._on_switch == "stop":
            raise self._switched()
        self._version, self._broken = version, 0
        self._window.popleft()
        start = self._answered
        vectors = operations.vectors(answer.embeddings)
        self._answered += len(vectors)
        failed = {start + one.item: item_leaf(one) for one in answer.failed}
        return StreamChunk(start, vectors, failed, version)

    def pause_s(self, error: Any) -> float:
        """Seconds until a new stream may be opened after one that broke.

        Raises:
            VitrineError: it must not be, or not again.
        """
        code, told = error.code(), leaf(error, self._target, self._stall_s)
        if code == grpc.StatusCode.INTERNAL and _SEND_FAILED in (error.details() or ""):
            code = grpc.StatusCode.UNAVAILABLE
            told = Unavailable(f"the stream to {self._target} broke while a request was being sent; run it again")
        self._broken += 1
        if isinstance(told, Conflict):
            if self._on_switch == "stop" and self._version is not None:
                raise self._switched() from error
            return 0.0  # nothing is mixed
        if code == grpc.StatusCode.DEADLINE_EXCEEDED and self._broken == 1:
            return 0.0  # the stream was old; it is stalled only if a whole one brings no answer
        pause = self._retries.pause_s(code, told, self._broken - 1, self._stall_s)
        if pause is None:
            raise told from error
        return pause

    def _switched(self) -> Conflict:
        return Conflict(
            f"another version went live after {self._answered} items were embedded by {self._version}. Vectors of "
            'two versions cannot be compared; embed all items again, or go on with on_switch="continue"'
        )


def grouped(items: Iterable[Query]) -> Iterator[list[Query]]:
    """Items in groups of one request, by number and by bytes; a large one stands alone."""
    group: list[Query] = []
    size = 0
    for one in items:
        own = _size(one)
        if group and (len(group) == REQUEST_ITEMS or size + own > REQUEST_BYTES):
            yield group
            group, size = [], 0
        group.append(one)
        size += own
    if group:
        yield group


def _size(query: Query) -> int:
    return sum(map(len, query.images)) if isinstance(query, Listing) else len(query)
