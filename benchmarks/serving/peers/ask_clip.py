"""Asks clip-server as its own client does.

usage: ask_clip.py GRPC_PORT PHOTOS…
"""

from __future__ import annotations

import sys
from pathlib import Path

from clip_client import Client
from closed_loop import answer_lines
from docarray import Document, DocumentArray

PORT, PHOTOS = sys.argv[1], [Path(name).read_bytes() for name in sys.argv[2:]]
clients = [Client(f"grpc://127.0.0.1:{PORT}") for _ in range(8)]


def ask(caller: int, number: int) -> None:
    """One photo through."""
    found = clients[caller].encode(DocumentArray([Document(blob=PHOTOS[number % len(PHOTOS)])]), show_progress=False)
    assert found.embeddings.shape == (1, 512)


answer_lines(ask)
