"""Asks infinity over HTTP, one connection a caller.

usage: ask_infinity.py HTTP_PORT PHOTOS…
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
from pathlib import Path

from closed_loop import answer_lines

PORT = int(sys.argv[1])
PHOTOS = ["data:image/jpeg;base64," + base64.b64encode(Path(name).read_bytes()).decode() for name in sys.argv[2:]]
connections = [http.client.HTTPConnection("127.0.0.1", PORT, timeout=60) for _ in range(8)]


def ask(caller: int, number: int) -> None:
    """One photo through."""
    body = {"model": "clip", "modality": "image", "encoding_format": "base64", "input": [PHOTOS[number % len(PHOTOS)]]}
    connections[caller].request("POST", "/embeddings", json.dumps(body), {"Content-Type": "application/json"})
    answer = connections[caller].getresponse()
    text = answer.read()
    assert answer.status == 200, text
    assert len(base64.b64decode(json.loads(text)["data"][0]["embedding"])) == 512 * 4


answer_lines(ask)
