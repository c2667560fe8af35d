"""A gRPC server on loopback that answers as a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from grpc_status import rpc_status

from services import status
from vitrine.errors import VitrineError
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc

DIM = 2


class Scripted(embedding_pb2_grpc.EmbeddingServicer):  # type: ignore[misc]
    """Raises the `refusals` first, one a call; then answers. A title that is a number n has the vector (n, -n).

    Attributes:
        breaks: of each stream in turn, after how many answers it ends, and with which error.
        version: who answers; a break may change it.
        peers: where each call came from.
    """

    def __init__(self, refusals: list[VitrineError] | None = None) -> None:
        self.refusals = list(refusals or [])
        self.breaks: list[tuple[int, VitrineError]] = []
        self.version = 1
        self.calls = 0
        self.peers: list[str] = []
        self.then: Callable[[], None] = lambda: None

    def __enter__(self) -> str:
        self._server = grpc.server(ThreadPoolExecutor(8))
        embedding_pb2_grpc.add_EmbeddingServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return f"127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def Info(self, request: Any, context: Any) -> embedding_pb2.InfoResponse:  # noqa: N802 -- the RPC's name
        del request
        self.calls += 1
        self.peers.append(context.peer())
        if self.refusals:
            refuse(context, self.refusals.pop(0))
        return embedding_pb2.InfoResponse(version=self._who())

    def EmbedStream(self, requests: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.calls += 1
        ends = self.breaks.pop(0) if self.breaks else None
        for place, request in enumerate(requests):
            if ends and place == ends[0]:
                self.then()
                refuse(context, ends[1])
            yield answer_to(request, self.version)

    def _who(self) -> common_pb2.VersionInfo:
        return common_pb2.VersionInfo(model="scripted", version=self.version, dim=DIM)


def answer_to(request: embedding_pb2.EmbedStreamRequest, version: int = 1) -> embedding_pb2.EmbedStreamResponse:
    """The answer to a request whose titles are numbers; other titles fail."""
    rows, failed = [], []
    for place, item in enumerate(request.items):
        if not item.title.isdigit():
            failed.append(
                embedding_pb2.ItemError(item=place, code="INVALID_ARGUMENT", message=f"{item.title} is no number")
            )
        number = int(item.title) if item.title.isdigit() else 0
        rows.append([number, -number])
    data = np.array(rows, "<f4")
    return embedding_pb2.EmbedStreamResponse(
        version=common_pb2.VersionInfo(model="scripted", version=version, dim=DIM),
        embeddings=common_pb2.Tensor(dtype=common_pb2.Tensor.FLOAT32, shape=data.shape, data=data.tobytes()),
        failed=failed,
    )


def refuse(context: Any, error: VitrineError) -> None:
    """End a call as our server would."""
    context.abort_with_status(rpc_status.to_status(status.rpc_status(error)))
