"""Threads that work behind the live ones: loading, warming up, shadow searches; and threads that interrupt nobody.

On Linux each thread has a nice value of its own, and a new thread inherits its maker's. An engine made in a
lowered thread would keep lowered threads for ever, so engines are made through `normally`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import grpc

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


@cache
def make_grpc_threads() -> grpc.Channel:
    """Make the threads that gRPC shares in a process, as patient ones: call it before anything else uses gRPC.

    They live as long as something of gRPC's does, and take policy and nice value from whoever uses it first: that could
    be the thread that loads a version in the background.
    """
    with patient_threads():
        return grpc.insecure_channel("ipv4:127.0.0.1:1")  # nobody calls anything through it


@contextmanager
def patient_threads() -> Iterator[None]:
    """Threads that are made in this block take nobody's core at the moment they wake: they get the next turn.

    gRPC's threads wake several times a request. Where each time interrupts the event loop on its core, a request costs a
    sixth more. Linux gives new threads the scheduling policy of the thread that makes them. Where there is no such policy,
    or a sandbox forbids it, or the process was given another one than the usual, this does nothing.
    """
    patient = _set_policy("SCHED_OTHER", "SCHED_BATCH")
    try:
        yield
    finally:
        if patient:
            _set_policy("SCHED_BATCH", "SCHED_OTHER")


def _set_policy(before: str, after: str) -> bool:
    """Change how this thread is scheduled; whether that was possible."""
    try:
        if os.sched_getscheduler(0) != getattr(os, before):
            return False
        os.sched_setscheduler(0, getattr(os, after), os.sched_param(0))
    except (AttributeError, OSError):
        return False
    return True


@cache
def _normal_thread() -> ThreadPoolExecutor:
    thread = ThreadPoolExecutor(1, "engine-maker")
    thread.submit(int).result()  # an executor makes its thread at its first task
    return thread


def _lower() -> None:
    _here.lowered = True
    own = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + NICE))
