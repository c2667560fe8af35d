"""CPU and memory of a server on this machine, its child processes included."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil

from vitrine.errors import BadInput


@dataclass(frozen=True)
class Usage:
    """What a process and its children have used: CPU seconds so far, resident bytes now."""

    cpu_s: float
    rss: int


def listening_on(address: str) -> int | None:
    """The process of this machine that listens on `HOST:PORT`; None if it is elsewhere or another user's.

    Raises:
        BadInput: no `HOST:PORT`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise BadInput(f"{address!r} is no address; write HOST:PORT, such as localhost:50051", field="server")
    if host not in {"localhost", "127.0.0.1", "[::1]", "0.0.0.0"}:  # noqa: S104 -- compared, not bound
        return None
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == int(port):
                pid: int | None = connection.pid
                return pid
    return None


def usage(pid: int) -> Usage:
    """CPU and memory of a process and everything under it.

    Raises:
        BadInput: there is no such process.
    """
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess as error:
        raise BadInput(f"there is no process {pid}; give the server's --pid", field="pid") from error
    cpu_s, rss = 0.0, 0
    for process in family:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_s += times.user + times.system
            rss += process.memory_info().rss
    return Usage(cpu_s, rss)
