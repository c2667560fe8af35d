"""Runs in a network namespace of its own: brings up lo, serves a bento there, embeds a photo, prints what came back.

unshare --map-root-user --net python tests/e2e/offline.py TAG HTTP_PORT GRPC_PORT PHOTO
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from vitrine.client import VitrineClient

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def bring_lo_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def ready(port: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
        return bool(answer.status == 200)
    return False


def main() -> None:
    tag, http_port, grpc_port, photo = sys.argv[1:]
    bring_lo_up()
    with socket.socket() as outside:
        assert outside.connect_ex(("192.0.2.1", 80)) != 0  # there is no way out
    server = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", http_port],
        env=os.environ | {"VITRINE_GRPC_ADDR": f"127.0.0.1:{grpc_port}", "VITRINE_SETTLE_S": "0"},
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not ready(http_port) and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.2)
        with VitrineClient(f"127.0.0.1:{grpc_port}") as client:
            print(client.embed([Path(photo).read_bytes()]).vectors.shape)
        server.send_signal(signal.SIGTERM)
        print(server.wait(30))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
