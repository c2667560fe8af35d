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
    status, text = post(connections[caller], json.dumps(body))
    assert status == 200, text
    assert len(base64.b64decode(json.loads(text)["data"][0]["embedding"])) == 512 * 4


def post(connection: http.client.HTTPConnection, body: str, *, again: bool = True) -> tuple[int, bytes]:
    """The answer; an idle connection that the server has closed meanwhile is opened anew."""
    try:
        connection.request("POST", "/embeddings", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
        connection.close()
        if not again:
            raise
        return post(connection, body, again=False)


answer_lines(ask)
