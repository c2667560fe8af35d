"""1,000 changes of the catalogue spread over a promotion and a rollback, through a real server: none is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.test_promotion import class_photo
from tests.e2e.test_serving import ROOT, Served, environment, served
from tests.factories import photo, tiny_bundle
from tests.runner import run_vitrine
from vitrine.catalogue import open_catalogue
from vitrine.client import VitrineClient
from vitrine.dataset import find_dataset
from vitrine.encoder import Encoder, load_encoder, normalise
from vitrine.home import Home, find_home
from vitrine.registry import open_registry
from vitrine.v1 import catalogue_pb2, catalogue_pb2_grpc, common_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODEL, CHANGES, LABELS, PHOTOS = "shop-search", 1000, 12, 10


@dataclass
class Twin:
    """What the catalogue should be, as a plain dictionary, and a writer that changes both."""

    stub: Any
    items: dict[str, tuple[tuple[bytes, ...], float | None]]
    draw: random.Random = field(default_factory=lambda: random.Random(7))
    sent: int = 0

    def change(self) -> None:
        """One request of one to four items: new ones, other photos, other prices, deletions."""
        ids = [f"own-{n}" for n in self.draw.sample(range(80), 4)]
        ids = self.draw.sample([*ids, *self.draw.sample(sorted(self.items), 4)], self.draw.randint(1, 4))
        ids = sorted(set(ids))
        if self.draw.random() < 0.3:
            self.stub.Delete(catalogue_pb2.DeleteRequest(item_ids=ids), timeout=30)
            for item_id in ids:
                self.items.pop(item_id, None)
        else:
            wanted = {item_id: self._drawn(item_id) for item_id in ids}
            request = catalogue_pb2.UpsertRequest(items=[_message(i, *content) for i, content in wanted.items()])
            self.stub.Upsert(request, timeout=30)
            self.items |= wanted
        self.sent += len(ids)

    def _drawn(self, item_id: str) -> tuple[tuple[bytes, ...], float | None]:
        photos, price = self.items.get(item_id, ((), None))
        if not photos or self.draw.random() < 0.6:
            photos = tuple(photo(self.draw.randrange(500, 540)) for _ in range(self.draw.randint(1, 2)))
        return tuple(dict.fromkeys(photos)), self.draw.choice([price, 1.0, 2.0, None])


def _message(item_id: str, photos: tuple[bytes, ...], price: float | None) -> catalogue_pb2.CatalogueItem:
    item = common_pb2.Item(id=item_id, images=[common_pb2.Image(data=data) for data in photos])
    return catalogue_pb2.CatalogueItem(item=item, price=price)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two versions with their evaluations, the first one live."""
    root = tmp_path_factory.mktemp("living")
    for label in range(LABELS):
        (root / "photos" / f"class-{label:02d}").mkdir(parents=True)
        for number in range(PHOTOS):
            (root / "photos" / f"class-{label:02d}" / f"{number}.jpg").write_bytes(class_photo(label, number))
    tiny_bundle(root / "good", dataset="shop", dim=10, seed=1)
    tiny_bundle(root / "better", dataset="shop", dim=96, seed=2)
    commands = [("data", "import", "image-folder", "photos", "--name", "shop")]
    commands += [("models", "register", bundle, "--name", MODEL) for bundle in ("good", "better")]
    commands += [("evaluate", f"{MODEL}@{number}", "--dataset", "shop") for number in (1, 2)]
    commands += [("promote", f"{MODEL}@1", "--catalogue", "shop")]
    for command in commands:
        ran = run_vitrine(root, *command)
        assert ran.code == 0, ran.err
    return find_home({"VITRINE_HOME": str(root / ".vitrine"), "VITRINE_DATASETS": str(root / "data")})


@pytest.fixture
def server(home: Home) -> Iterator[Served]:
    named = {"VITRINE_HOME": str(home.root), "VITRINE_DATASETS": str(home.datasets), "VITRINE_THREADS": "1"}
    with served("services.bento:Vitrine", ROOT, environment(home.root.parent, **named)) as server:
        yield server


def test_no_change_is_lost_over_a_promotion_and_a_rollback(home: Home, server: Served) -> None:
    dataset = find_dataset(home, "shop")
    start = {i.item_id: (tuple(dataset.photo(image) for image in i.images), None) for i in dataset.catalogue_items()}
    with server.wait() as client, grpc.insecure_channel(server.address) as channel:
        ready(client)
        twin = Twin(catalogue_pb2_grpc.CatalogueStub(channel), dict(start))
        during(twin, CHANGES // 2, home, "promote", f"{MODEL}@2", "--catalogue", "shop")
        compare(twin, home, client, version=2)
        during(twin, CHANGES, home, "rollback", MODEL)
        compare(twin, home, client, version=1)
    assert twin.sent >= CHANGES
    assert run_vitrine(home.root.parent, "index", "sync").code == 0
    assert run_vitrine(home.root.parent, "index", "verify").out.strip() == "2 collections are as they should be."


def ready(client: VitrineClient) -> None:
    wait_until(lambda: client.info().version.version == 1)


def during(twin: Twin, until: int, home: Home, *command: str) -> None:
    """Change the catalogue before, while and after a command runs, until so many changes are sent."""
    for _ in range(20):
        twin.change()
    running = subprocess.Popen(
        [sys.executable, "-c", "from vitrine.cli import main; main()", *command],
        cwd=home.root.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    before = twin.sent
    while running.poll() is None:
        twin.change()
        time.sleep(0.02)  # the command has to get on, on a machine of two cores
    assert running.returncode == 0, running.stderr and running.stderr.read().decode()
    assert twin.sent - before > 20, "the command was over before anything changed meanwhile"
    while twin.sent < until:
        twin.change()


def compare(twin: Twin, home: Home, client: VitrineClient, *, version: int) -> None:
    """The catalogue, and every item that the server finds, with score and price, are the twin's."""
    wait_until(lambda: client.info().version.version == version)
    items = open_catalogue(home, "shop").snapshot()[1]
    assert {item.item_id: item.price for item in items} == {
        item_id: price for item_id, (_, price) in twin.items.items()
    }
    encoder = load_encoder(open_registry(home).open(f"{MODEL}@{version}"), threads=1)
    expected = scores(encoder, twin)
    wait_until(lambda: len(client.search(photo(500), k=1000, exact=True).hits) == len(twin.items))
    found = client.search(photo(500), k=1000, exact=True)
    assert found.version.version == version
    assert {hit.item_id: hit.payload.get("price") for hit in found.hits} == {i: p for i, (_, p) in twin.items.items()}
    assert {hit.item_id: hit.score for hit in found.hits} == pytest.approx(expected, abs=1e-4)


def scores(encoder: Encoder, twin: Twin) -> dict[str, float]:
    """Similarity of every intended item to one photo, computed here and alone."""
    query = normalise(encoder.embed([photo(500)]).vectors)[0]
    vectors = {
        item_id: normalise(encoder.embed(photos).vectors).mean(axis=0) for item_id, (photos, _) in twin.items.items()
    }
    return {item_id: float(vector @ query / np.linalg.norm(vector)) for item_id, vector in vectors.items()}


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen in 60 s"
        time.sleep(0.05)
