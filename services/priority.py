"""Threads that work behind the live ones: loading, warming up, shadow searches; and threads that interrupt nobody.

On Linux each thread has a nice value of its own, and a new thread inherits its maker's. An engine made in a
lowered thread would keep lowered threads for ever, so engines are made through `normally`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import TypeVar

Result = TypeVar("Result")

NICE = 10
_here = threading.local()


def background_thread(name: str) -> ThreadPoolExecutor:
    """One thread of lower priority. Call this from a thread of normal priority."""
    _normal_thread()  # made here, before any lowered thread could make it
    return ThreadPoolExecutor(1, name, initializer=_lower)


def normally(work: Callable[[], Result]) -> Result:
    """Call `work` at the process's own priority and wait for it; in a thread that was never lowered, just call it."""
    return _normal_thread().submit(work).result() if lowered() else work()


def lowered() -> bool:
    """Whether the present thread works behind the live ones."""
    return getattr(_here, "lowered", False)


@contextmanager
def patient_threads() -> Iterator[None]:
    """Threads that are made in this block take nobody's core at the moment they wake: they get the next turn.

    gRPC's threads wake several times a request. Where each time interrupts the event loop on its core, a request costs a
    sixth more. Linux gives new threads the scheduling policy of the thread that makes them; elsewhere, and where the
    process was given another policy than the usual one, this does nothing.
    """
    usual = hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER
    with suppress(PermissionError):  # in some sandboxes
        if usual:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if usual:
            with suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@cache
def _normal_thread() -> ThreadPoolExecutor:
    thread = ThreadPoolExecutor(1, "engine-maker")
    thread.submit(int).result()  # an executor makes its thread at its first task
    return thread


def _lower() -> None:
    _here.lowered = True
    own = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + NICE))
