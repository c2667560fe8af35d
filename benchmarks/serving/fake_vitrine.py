"""Our gRPC server over a model that sleeps: what remains is the way of a request. Limits, metrics and deadlines are on.

usage: fake_vitrine.py PORT (on|off: decoding) [METRICS_PORT]
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray
from prometheus_client import start_http_server

from services import memory
from services.batching import BatchLimits
from services.lanes import Pools
from services.server import GrpcServer
from services.snapshot import Live, Snapshot
from vitrine.encoder import Encoder, Output
from vitrine.images import MAX_PIXELS, ImageSpec, decode
from vitrine.manifest import Licences, Manifest

SECONDS, DIM = 0.005, 128
SPEC = ImageSpec(96, 96)


class Fake(Encoder):
    """A batch of any size takes 5 ms and no CPU."""

    def __init__(self, *, decoding: bool) -> None:
        self.manifest = Manifest({}, DIM, SPEC, Licences("none", "none"))
        self.label_names: list[str] = []
        self._decoding, self._texts = decoding, None
        self._row = np.full(DIM, DIM**-0.5, np.float32)
        self._pixels = np.zeros((1, 1, 3), np.uint8)

    def decode(self, data: bytes, *, most_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """The photo to 96 x 96, or nothing at all."""
        return decode(data, SPEC, most_pixels=most_pixels) if self._decoding else self._pixels

    def run(self, pixels: NDArray[np.uint8]) -> Output:
        """One vector a photo, after 5 ms."""
        time.sleep(SECONDS)
        return Output(np.broadcast_to(self._row, (len(pixels), DIM)), None)


async def serve(port: int, *, decoding: bool) -> None:
    """Serve until told to stop."""
    memory.spare_the_collector()
    pools = Pools.make(2)
    live = Live(pools, BatchLimits(max_batch=32, max_wait_ms=2.0, queue=1024))
    await live.swap(Snapshot("fake", 1, Fake(decoding=decoding)))
    server = GrpcServer(live)
    await server.start(f"127.0.0.1:{port}")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(1)


def main(arguments: list[str]) -> Any:
    """Read the arguments, serve."""
    if len(arguments) > 2:
        start_http_server(int(arguments[2]), "127.0.0.1")
    uvloop.run(serve(int(arguments[0]), decoding=arguments[1] == "on"))


main(sys.argv[1:])
