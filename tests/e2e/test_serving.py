"""A real `bentoml build` and real `bentoml serve` processes, each with its own BENTOML_HOME."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import reflected
from tests.factories import photo
from tests.services.conftest import MODEL, promote
from vitrine.client import Listing, VitrineClient
from vitrine.errors import Unavailable, Unsupported, VitrineError
from vitrine.home import find_home

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "BENTOML_", "QDRANT_"))}
    return kept | {"BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"} | more


class Served:
    def __init__(self, process: subprocess.Popen[bytes], http: int, address: str, log: Path) -> None:
        self.process, self.http, self.address, self.log = process, f"http://127.0.0.1:{http}", address, log

    def wait(self, seconds: float = 60) -> VitrineClient:
        """Until gRPC answers at all, ready or not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with grpc.insecure_channel(self.address) as channel:
                try:
                    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.RpcError:
                    time.sleep(0.2)
                else:
                    return VitrineClient(self.address)
        raise AssertionError(self.log.read_text())


@contextmanager
def served(what: str, cwd: Path, env: dict[str, str]) -> Iterator[Served]:
    http, grpc_port = free_port(), free_port()
    log = cwd / f"serve-{http}.log" if cwd != ROOT else Path(env["BENTOML_HOME"]).parent / f"serve-{http}.log"
    address = f"127.0.0.1:{grpc_port}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", what, "--host", "127.0.0.1", "--port", str(http)],
            cwd=cwd,
            env=env | {"VITRINE_GRPC_ADDR": address},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield Served(process, http, address, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the workers too, whatever became of the parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def bento(folder: Path) -> str:
    home = find_home({"VITRINE_HOME": str(folder / "home")})
    promote(home, folder, seed=1, labels=["jug", "mug"], texts=True)
    built = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "-o", "tag"],
        cwd=ROOT,
        env=environment(folder, VITRINE_HOME=str(folder / "home")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return built.stdout.strip().splitlines()[-1].removeprefix("__tag__:")


def found_by_words(http: str, title: str) -> str:
    """The first item that `POST /v1/search` finds."""
    body = json.dumps({"title": title}).encode()
    request = urllib.request.Request(f"{http}/v1/search?k=1", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["hits"][0]["item_id"])


def test_a_built_bento_without_a_registry_embeds_and_classifies_but_does_not_search(bento: str, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    with served(bento, elsewhere, environment(folder)) as server, server.wait() as client:
        assert client.embed([photo(1), Listing(title="red mug")]).vectors.shape == (2, 8)
        assert reflected.embed(server.address, photo(1)).version.model == MODEL
        assert len(client.classify([photo(1)]).items[0].labels) == 2
        with pytest.raises(Unsupported, match=r"has tiny-search@1 but no embedded catalogue.*VITRINE_HOME"):
            client.search(photo(1))


def test_a_built_bento_with_a_registry_follows_production(bento: str, folder: Path) -> None:
    root = str(folder / "home")
    with served(bento, folder, environment(folder, VITRINE_HOME=root)) as server, server.wait() as client:
        assert client.search(photo(3), k=1).hits[0].item_id == "item-3"
        with urllib.request.urlopen(f"{server.http}/") as page:
            assert b"Search by photo" in page.read()
        assert found_by_words(server.http, "red mug") == client.search(text="red mug", k=1).hits[0].item_id
        version = promote(find_home({"VITRINE_HOME": root}), folder, seed=2)
        deadline = time.monotonic() + 20
        while client.info().version.version != version and time.monotonic() < deadline:
            time.sleep(0.1)
        found = client.search(photo(3), k=1)
        assert (str(found.version), found.collection) == (f"{MODEL}@{version}", f"shop--{MODEL}--{version}")


def test_a_server_with_nothing_promoted_waits_and_becomes_ready(tmp_path: Path) -> None:
    home = find_home({"VITRINE_HOME": str(tmp_path / "home")})
    env = environment(tmp_path, VITRINE_HOME=str(tmp_path / "home"))
    with served("services.bento:Vitrine", ROOT, env) as server, server.wait() as client:
        with pytest.raises(Unavailable, match="nothing is served yet: no model has a production version"):
            client.info()
        promote(home, tmp_path, seed=1)
        deadline = time.monotonic() + 20
        answer = None
        while answer is None and time.monotonic() < deadline:
            try:
                answer = client.search(photo(2), k=1)
            except VitrineError:
                time.sleep(0.1)
        assert answer is not None, server.log.read_text()
        assert answer.hits[0].item_id == "item-2"
        with urllib.request.urlopen(f"{server.http}/readyz") as ready:
            assert ready.status == 200
