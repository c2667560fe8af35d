"""SIGTERM to a real `bentoml serve` under real load, over gRPC and HTTP."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.test_serving import ROOT, Served, environment, served
from tests.factories import photo
from tests.services.conftest import promote
from vitrine.home import find_home
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "services.bento:Vitrine"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    promote(find_home({"VITRINE_HOME": str(tmp_path / "home")}), tmp_path, seed=1)
    return environment(tmp_path, VITRINE_HOME=str(tmp_path / "home"), VITRINE_SETTLE_S="1.5", VITRINE_GRACE_S="10")


class Load:
    """Threads that ask and ask again, until one is told that there is no server any more."""

    def __init__(self, ask: Callable[[], str], callers: int) -> None:
        self.told, self._ask, self._stop = Counter[str](), ask, threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            told = self._ask()
            with self._lock:
                self.told[told] += 1

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def over_grpc(server: Served) -> Callable[[], str]:
    stub = embedding_pb2_grpc.EmbeddingStub(grpc.insecure_channel(server.address))
    image = common_pb2.Image(data=photo(1))
    request = embedding_pb2.EmbedRequest(items=[common_pb2.Item(images=[image])] * 8)

    def ask() -> str:
        try:
            stub.Embed(request, timeout=10)
        except grpc.RpcError as error:
            time.sleep(0.02)
            return str(error.code().name)
        return "OK"

    return ask


def over_http(server: Served) -> Callable[[], str]:
    def ask() -> str:
        try:
            with urllib.request.urlopen(f"{server.http}/v1/embed", photo(1), timeout=10) as answer:
                return str(answer.status)
        except urllib.error.HTTPError as error:
            return str(error.code)
        except OSError as error:
            time.sleep(0.02)
            return type(error).__name__

    return ask


def health(server: Served) -> int | None:
    with grpc.insecure_channel(server.address) as channel, suppress(grpc.RpcError):
        return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2).status)
    return None


def readyz(server: Served) -> int | None:
    try:
        with urllib.request.urlopen(f"{server.http}/readyz", timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def logged(server: Served, message: str) -> dict[str, object]:
    lines = [line for line in server.log.read_text().splitlines() if f'"message": "{message}"' in line]
    told: dict[str, object] = json.loads(lines[-1])
    return told


def test_sigterm_under_load_loses_no_admitted_request(env: dict[str, str]) -> None:
    with served(SERVICE, ROOT, env) as server:
        server.wait().close()
        until(lambda: readyz(server) == 200)
        loads = Load(over_grpc(server), 6), Load(over_http(server), 2)
        until(lambda: loads[0].told["OK"] > 50 and loads[1].told["200"] > 10)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: health(server) == NOT_SERVING)
        before = [sum(load.told.values()) for load in loads]
        assert readyz(server) == 503
        until(lambda: all(sum(load.told.values()) > n for load, n in zip(loads, before, strict=True)))
        assert loads[0].told.keys() == {"OK"}  # told to go, but still answered
        assert server.process.wait(30) == 0
        for load in loads:
            load.finish()
        ended = logged(server, "gRPC ends")
    assert set(loads[0].told) <= {"OK", "UNAVAILABLE", "CANCELLED"}  # CANCELLED: by gRPC's core, seen by no handler
    assert (ended["admitted"], ended["cut"]) == (loads[0].told["OK"], 0)
    assert set(loads[1].told) <= {"200", "503", "URLError", "ConnectionResetError", "RemoteDisconnected"}


def test_another_sigterm_cuts_nothing_off(env: dict[str, str]) -> None:
    with served(SERVICE, ROOT, env) as server:
        server.wait().close()
        load = Load(over_grpc(server), 4)
        until(lambda: load.told["OK"] > 20)
        for _ in range(3):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.4)
        assert server.process.wait(30) == 0
        load.finish()
        ended = logged(server, "gRPC ends")
    assert (ended["admitted"], ended["cut"]) == (load.told["OK"], 0)


def test_a_request_that_is_not_done_within_the_grace_is_cut(env: dict[str, str]) -> None:
    env |= {"VITRINE_SETTLE_S": "0", "VITRINE_GRACE_S": "0.5"}
    with served(SERVICE, ROOT, env) as server:
        server.wait().close()
        channel = grpc.insecure_channel(server.address)
        hang = threading.Event()

        def requests() -> object:
            yield embedding_pb2.EmbedStreamRequest(items=[common_pb2.Item(images=[common_pb2.Image(data=photo(1))])])
            hang.wait(30)

        stream = embedding_pb2_grpc.EmbeddingStub(channel).EmbedStream(requests())
        next(stream)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 20
        with pytest.raises(grpc.RpcError):
            next(stream)
        hang.set()
        channel.close()
