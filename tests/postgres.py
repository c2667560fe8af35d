"""A real PostgreSQL server on loopback for tests: made in a temporary folder, gone afterwards.

with postgres_server() as server:
    url = server.database()     # postgresql://... of a new, empty database
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)


@dataclass(frozen=True)
class Server:
    """A running server; `stop` and `start` are there for tests of a server that goes away."""

    binaries: Path
    folder: Path
    port: int

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"d{uuid4().hex}"
        run(self.binaries / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Begin to listen; returns when connections are taken."""
        # Nothing here must survive a power cut, so nothing waits for the disk.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        log = self.folder / "log"
        run(self.binaries / "pg_ctl", "-D", str(self.folder / "data"), "-l", str(log), "-w", "-o", options, "start")

    def stop(self) -> None:
        """Cut every connection and end the server."""
        run(self.binaries / "pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs, or None where it is not installed."""
    found = shutil.which("initdb")
    folders = [*_DEBIAN, *([Path(found).resolve().parent] if found else [])]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def postgres_server() -> Iterator[Server]:
    """A server of its own; the test is skipped where PostgreSQL is not installed."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # Not pytest's folder: that belongs to the user who runs the tests, and the server refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="vitrine-postgres-") as temporary:
        folder = Path(temporary)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        run(programs / "initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        server = Server(programs, folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()


def run(program: Path, *arguments: str) -> None:
    """Call one of PostgreSQL's programs, as the user `postgres` where we are root."""
    as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryFile() as said:  # no pipe: the server inherits it, and its end would never come
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            timeout=60,
            check=False,
            **as_user,  # type: ignore[call-overload]
        )
        said.seek(0)
        assert done.returncode == 0, f"{program.name} {' '.join(arguments)} failed: {said.read().decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
