"""A registry with a promoted tiny version, and the server in this process over a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from services import wiring
from services.batching import BatchLimits
from services.catalogue import CatalogueServicer
from services.follower import Follower
from services.keeper import Keeper
from services.lanes import Pools
from services.server import GrpcServer, searches
from services.snapshot import Live
from tests.factories import photo, tiny_bundle
from vitrine.bundle import Bundle
from vitrine.client import VitrineClient
from vitrine.collection import write_collection
from vitrine.encoder import load_encoder
from vitrine.events import Promoted
from vitrine.home import Home, find_home
from vitrine.registry import open_registry
from vitrine.v1 import catalogue_pb2

MODEL = "tiny-search"
ITEMS = 6


def promote(home: Home, scratch: Path, *, seed: int, texts: bool = False, **options: Any) -> int:
    """Register a tiny version, embed a catalogue of ITEMS photos with it, make it production."""
    bundle = tiny_bundle(scratch / f"bundle-{seed}", seed=seed, texts=texts, **options)
    return promote_bundle(home, bundle)


def promote_bundle(home: Home, bundle: Bundle) -> int:
    """The same for a version that is made already."""
    registry = open_registry(home)
    version = registry.register(MODEL, bundle).version
    name = f"shop--{MODEL}--{version}"
    write_collection(
        home.collections / name,
        name=name,
        catalogue="shop",
        catalogue_digest="0" * 64,
        model=MODEL,
        version=version,
        digest=bundle.manifest.digest,
        vectors=load_encoder(bundle, threads=1).embed([photo(n) for n in range(ITEMS)]).vectors,
        item_ids=[f"item-{n}" for n in range(ITEMS)],
        payloads=[
            {"product_id": f"p{n // 2}", "label": ["mug", "jug"][n % 2], "price": float(n)} for n in range(ITEMS)
        ],
    )
    registry.append(Promoted(model=MODEL, version=version, catalogue="shop", collection=name, **registry.stamp()))
    return version


class Running:
    """The server on an event loop in a thread of its own."""

    def __init__(self, home: Home, limits: BatchLimits) -> None:
        self.loop = uvloop.new_event_loop()  # as in the bento
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.pools, self.registry = Pools.make(2), open_registry(home)
        self.live = Live(self.pools, limits)
        self.server = GrpcServer(self.live)
        settings, self.keeper = wiring.Settings(threads=1), Keeper(home, self.pools.model)
        self.server.add(
            catalogue_pb2.DESCRIPTOR.services_by_name["Catalogue"],
            CatalogueServicer(self.live, self.keeper),
            ready=searches,
        )
        self.follower = Follower(
            self.live,
            look=lambda: wiring.choose(self.registry.state(), ""),
            load=lambda target: wiring.load_live(self.registry, home, target, settings),
            changed=self.server.report_health,
            poll_s=0.05,
            refresh=self.keeper.refresh,
        )
        self.do(self.follower.start())
        self.do(self.server.start("127.0.0.1:0"))
        self.address = f"127.0.0.1:{self.server.port}"

    def do(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(30)

    def close(self) -> None:
        self.do(self.follower.stop())
        self.do(self.server.stop(1))
        self.do(self.live.swap(None))
        self.pools.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def running(home: Home, limits: BatchLimits | None = None) -> Iterator[Running]:
    server = Running(home, limits or BatchLimits(max_batch=8, max_wait_ms=1, queue=32))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return find_home({"VITRINE_HOME": str(tmp_path / "home")})


@pytest.fixture
def promoted(home: Home, tmp_path: Path) -> Callable[..., int]:
    return lambda **options: promote(home, tmp_path, **options)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("serving")
    home = find_home({"VITRINE_HOME": str(folder / "home")})
    promote(home, folder, seed=1, labels=["jug", "mug", "cup"])
    return home


@pytest.fixture(scope="module")
def server(shared_home: Home) -> Iterator[Running]:
    with running(shared_home) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[VitrineClient]:
    with VitrineClient(server.address) as client:
        yield client
