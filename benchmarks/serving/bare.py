"""The bare minimum that batches over gRPC: bytes in, bytes out, no limits, no checks, no errors told apart.

What our server costs over it is what limits, errors, versions and priorities cost. usage: bare.py PORT (on|off: decoding)
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from vitrine.images import ImageSpec, decode
from vitrine.v1 import embedding_pb2

PORT, DECODING = sys.argv[1], sys.argv[2] == "on"
SPEC, ROW = ImageSpec(96, 96), np.full(128, 128**-0.5, np.float32).tobytes()
MODEL, DECODERS = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
Waiting = asyncio.Future[bytes]


def run(count: int) -> list[bytes]:
    """A batch of any size takes 5 ms."""
    time.sleep(0.005)
    return [ROW] * count


async def batch(queue: asyncio.Queue[Waiting]) -> None:
    """Take what is there, wait 2 ms for more, run."""
    loop = asyncio.get_running_loop()
    while True:
        waiting, end = [await queue.get()], loop.time() + 0.002
        while len(waiting) < 32 and (left := end - loop.time()) > 0:
            try:
                waiting.append(queue.get_nowait() if queue.qsize() else await asyncio.wait_for(queue.get(), left))
            except TimeoutError:
                break
        for future, row in zip(waiting, await loop.run_in_executor(MODEL, run, len(waiting)), strict=True):
            if not future.done():
                future.set_result(row)


async def main() -> None:
    """Serve Embed until told to stop."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Waiting]()

    async def embed(request: embedding_pb2.EmbedRequest, context: object) -> embedding_pb2.EmbedResponse:
        del context
        if DECODING:
            await loop.run_in_executor(DECODERS, decode, request.items[0].images[0].data, SPEC)
        future: Waiting = loop.create_future()
        queue.put_nowait(future)
        answer = embedding_pb2.EmbedResponse()
        answer.embeddings.data = await future
        return answer

    messages = embedding_pb2.EmbedRequest.FromString, embedding_pb2.EmbedResponse.SerializeToString
    handler = grpc.unary_unary_rpc_method_handler(embed, *messages)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("vitrine.v1.Embedding", {"Embed": handler}),))
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    await server.start()
    task, stopped = loop.create_task(batch(queue)), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    task.cancel()
    await server.stop(1)


asyncio.run(main())
