"""Which threads give way to others."""

from __future__ import annotations

import os
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
def test_a_sandbox_that_forbids_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    entered = []
    with patient_threads():
        entered.append(True)

    assert entered


def test_work_of_a_background_thread_is_done_normally_where_it_asks_for_that() -> None:
    threads = background_thread("behind")

    assert threads.submit(lambda: (lowered(), normally(lowered))).result() == (True, False)
