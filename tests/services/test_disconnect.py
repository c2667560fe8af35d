"""Callers over HTTP that hang up, at a real uvicorn on the server's own event loop."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx
import pytest

from services.batching import BatchLimits
from tests.factories import photo
from tests.services.conftest import running
from tests.services.test_load import Held, places, until
from tests.services.web import listening
from vitrine.home import Home


def begin(port: int, body: bytes, length: int | None = None) -> socket.socket:
    """Send a photo to be embedded and read nothing."""
    caller = socket.create_connection(("127.0.0.1", port))
    head = f"POST /v1/embed HTTP/1.1\r\nhost: here\r\ncontent-length: {length or len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    return caller


def test_a_caller_that_hangs_up_leaves_the_queue(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home, BatchLimits(1, 1, 8)) as server, listening(server) as port:
        held = Held(server)
        first = begin(port, photo(1))
        until(lambda: held.photos == 1)  # the model is busy with it
        gone = begin(port, photo(2))
        until(lambda: places(server) == 2)
        gone.close()
        until(lambda: places(server) == 1)
        held.release()
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        first.close()
        assert held.photos == 1


def test_a_caller_that_hangs_up_in_the_middle_of_its_photo_holds_nothing(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1)
    with running(home) as server, listening(server) as port:
        begin(port, photo(1)[:100], length=len(photo(1))).close()
        assert httpx.post(f"http://127.0.0.1:{port}/v1/embed", content=photo(2)).status_code == 200
        assert places(server) == 0


@pytest.mark.parametrize(("body", "code"), [(photo(1), 200), (b"no photo", 400)])
def test_callers_that_wait_get_their_answer(home: Home, promoted: Callable[..., int], body: bytes, code: int) -> None:
    promoted(seed=1)
    with running(home) as server, listening(server) as port, httpx.Client() as caller:
        for _ in range(3):  # over one connection
            assert caller.post(f"http://127.0.0.1:{port}/v1/embed", content=body).status_code == code
