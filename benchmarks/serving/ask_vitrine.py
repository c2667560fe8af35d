"""Asks Vitrine's Embed in a closed loop, as told line by line.

usage: ask_vitrine.py GRPC_PORT PHOTOS…
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import grpc
from closed_loop import answer_lines

from vitrine.bench.asking import METHODS, requests
from vitrine.v1 import embedding_pb2

PORT, BODIES = sys.argv[1], requests("embed", [Path(name).read_bytes() for name in sys.argv[2:]])
_CHANNELS = [grpc.insecure_channel(f"127.0.0.1:{PORT}", [("grpc.use_local_subchannel_pool", 1)]) for _ in range(8)]
_STUBS = [channel.unary_unary(METHODS["embed"]) for channel in _CHANNELS]


def ask(caller: int, number: int) -> None:
    """One photo through."""
    found = embedding_pb2.EmbedResponse.FromString(_STUBS[caller](BODIES[number % len(BODIES)], timeout=60))
    assert list(found.embeddings.shape) == [1, 512]


answer_lines(ask)
