"""Which threads give way to others."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from services.priority import background_thread, lowered, normally, patient_threads

linux = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="scheduling policies are Linux's")


def policy_of_a_new_thread() -> int:
    found = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return found[0]


@linux
def test_threads_made_as_patient_ones_interrupt_nobody() -> None:
    with patient_threads():
        assert policy_of_a_new_thread() == os.SCHED_BATCH


@linux
def test_the_thread_that_makes_patient_ones_and_its_later_threads_stay_as_they_are() -> None:
    with patient_threads():
        pass

    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert policy_of_a_new_thread() == os.SCHED_OTHER


@linux
def test_a_process_with_a_policy_of_its_own_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_FIFO)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *arguments: asked.append(arguments))
    with patient_threads():
        pass

    assert asked == []


@linux
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSYS])
def test_a_sandbox_that_forbids_it_is_no_error(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    entered = []
    with patient_threads():
        entered.append(True)

    assert entered


_POLICIES = """
import asyncio, os
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from services.batching import BatchLimits
from services.lanes import Pools
from services.priority import background_thread, make_grpc_threads
from services.server import GrpcServer
from services.snapshot import Live
import grpc

def use_grpc():
    with grpc.insecure_channel("ipv4:127.0.0.1:1") as channel:
        try:
            grpc.channel_ready_future(channel).result(0.2)
        except grpc.FutureTimeoutError:
            pass

async def main():
    make_grpc_threads()
    background_thread("behind").submit(use_grpc).result()  # as a version over Qdrant is loaded
    pools = Pools.make(1)
    server = GrpcServer(Live(pools, BatchLimits()))
    await server.start("127.0.0.1:0")
    await asyncio.sleep(0.2)
    for task in Path("/proc/self/task").iterdir():
        number = int(task.name)
        name, nice = (task / "comm").read_text().strip(), os.getpriority(os.PRIO_PROCESS, number)
        print(name, os.sched_getscheduler(number), nice, number == os.getpid())
    os._exit(0)

asyncio.run(main())
"""


@linux
def test_the_servers_grpc_threads_are_patient_and_its_event_loop_is_not() -> None:
    told = subprocess.run([sys.executable, "-c", _POLICIES], capture_output=True, text=True, check=True).stdout
    threads = [line.rsplit(maxsplit=3) for line in told.splitlines()]

    assert {(policy, nice) for name, policy, nice, _ in threads if name == "event_engine"} == {
        (str(os.SCHED_BATCH), "0")
    }
    assert [policy for _, policy, _, main in threads if main == "True"] == [str(os.SCHED_OTHER)]


def test_work_of_a_background_thread_is_done_normally_where_it_asks_for_that() -> None:
    threads = background_thread("behind")

    assert threads.submit(lambda: (lowered(), normally(lowered))).result() == (True, False)
