"""Production changes in the registry; the server follows without a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.factories import photo
from tests.services.conftest import ITEMS, MODEL, Running, running
from vitrine.client import VitrineClient
from vitrine.collection import open_collection, write_collection
from vitrine.encoder import load_encoder
from vitrine.errors import Unavailable
from vitrine.events import IndexBuilt, RolledBack
from vitrine.home import Home
from vitrine.registry import open_registry


def wait_for(version: int, client: VitrineClient) -> None:
    deadline = time.monotonic() + 10
    while client.info().version.version != version:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def health(server: Running) -> int:
    with grpc.insecure_channel(server.address) as channel:
        return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status)


def test_nothing_promoted_means_not_serving_until_something_is(home: Home, promoted: Callable[..., int]) -> None:
    with running(home) as server, VitrineClient(server.address) as client:
        assert health(server) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(Unavailable, match="nothing is served yet: no model has a production version yet; promote"):
            client.embed([photo(1)])
        promoted(seed=1)
        deadline = time.monotonic() + 10
        while health(server) != health_pb2.HealthCheckResponse.SERVING:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert str(client.info().version) == f"{MODEL}@1"


def test_a_rollback_brings_the_old_version_and_its_collection_back(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1), promoted(seed=2)
    with running(home) as server, VitrineClient(server.address) as client:
        assert client.search(photo(1)).collection == f"shop--{MODEL}--2"
        registry = open_registry(home)
        registry.append(
            RolledBack(
                model=MODEL,
                version=1,
                catalogue="shop",
                collection=f"shop--{MODEL}--1",
                previous=2,
                **registry.stamp(),
            )
        )
        wait_for(1, client)
        assert client.search(photo(1)).collection == f"shop--{MODEL}--1"


def test_a_catalogue_embedded_anew_is_served_without_a_restart(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    name, registry = f"shop--{MODEL}--1", open_registry(home)
    with running(home) as server, VitrineClient(server.address) as client:
        old = open_collection(home.collections / name)
        fields = {key: getattr(old.info, key) for key in ("name", "catalogue", "model", "version", "digest")}
        write_collection(
            home.collections / name,
            **fields,
            catalogue_digest="1" * 64,
            vectors=np.array(old.vectors[:2]),
            item_ids=["new-0", "new-1"],
            payloads=[{}, {}],
        )
        where = {"catalogue": "shop", "catalogue_digest": "1" * 64, "collection": name}
        registry.append(IndexBuilt(model=MODEL, version=1, items=2, **where, **registry.stamp()))
        deadline = time.monotonic() + 10
        while client.info().items != 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert {hit.item_id for hit in client.search(photo(1)).hits} == {"new-0", "new-1"}


def test_no_answer_fails_or_mixes_versions_during_swaps(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    answers: list[tuple[int, str, float]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def ask(address: str) -> None:
        with VitrineClient(address) as client:
            while not done.is_set():
                try:
                    found = client.search(photo(4), k=ITEMS)
                except Exception as error:
                    failures.append(error)
                    return
                answers.append((found.version.version, found.collection, found.hits[0].score))

    with running(home) as server, VitrineClient(server.address) as client:
        threads = [threading.Thread(target=ask, args=(server.address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for seed in (2, 3, 4):
            wait_for(promoted(seed=seed, dim=8 * seed), client)
        done.set()
        for thread in threads:
            thread.join()

    assert failures == []
    assert {version for version, _, _ in answers} == {1, 2, 3, 4}
    assert all(collection == f"shop--{MODEL}--{version}" for version, collection, _ in answers)
    # the query and the catalogue were embedded by the same version: the same photo scores 1
    np.testing.assert_allclose([score for _, _, score in answers], 1, atol=1e-4)


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(
    home: Home, promoted: Callable[..., int], tmp_path: Path
) -> None:
    promoted(seed=1)
    with running(home) as server, VitrineClient(server.address) as client:
        server.do(server.follower.stop())  # so that the damage is done before it looks
        second = promoted(seed=2)
        damaged = open_registry(home).open(f"{MODEL}@{second}").paths["image.onnx"]
        damaged.chmod(0o644)
        damaged.write_bytes(b"not the bytes that were registered")
        server.follower._thread = type(server.follower._thread)(1)
        server.do(server.follower.step())

        assert str(client.info().version) == f"{MODEL}@1"
        expected = load_encoder(open_registry(home).open(f"{MODEL}@1"), threads=1).embed([photo(1)]).vectors
        np.testing.assert_allclose(client.embed([photo(1)]).vectors, expected, atol=1e-6)
