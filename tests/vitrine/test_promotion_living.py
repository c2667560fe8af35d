"""A catalogue that changes all the while a version is promoted and taken back: no change is lost, none comes back."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.factories import photo, tiny_bundle
from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catchup import catch_up
from vitrine.collection import open_collection
from vitrine.collection_content import content
from vitrine.encoder import Encoder, load_encoder
from vitrine.gates import GateSettings
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.items import Item
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.promotion_rollback import roll_back
from vitrine.registry import open_registry
from vitrine.storing import photo_name

MODEL, CHANGES, LOOKS = "shop-search", 1000, 30


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two versions and a dataset of LOOKS photos."""
    folder = tmp_path / "photos/mug"
    folder.mkdir(parents=True)
    for number in range(LOOKS):
        (folder / f"{number:02d}.jpg").write_bytes(photo(number))
    home = find_home({"VITRINE_HOME": str(tmp_path / "home"), "VITRINE_DATASETS": str(tmp_path / "data")})
    for seed in (1, 2):
        open_registry(home).register(MODEL, tiny_bundle(tmp_path / f"bundle-{seed}", seed=seed))
    import_dataset("image-folder", tmp_path / "photos", "shop", home.datasets / "shop", {"holdout": 0})
    return home


class Writer(threading.Thread):
    """Makes CHANGES seeded changes, one at a time, and keeps what the catalogue should be: item id -> photo, title.

    The last fifth waits for `rolling_back`, however slow the promotion is.
    """

    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        super().__init__()
        self._catalogue, self._draw = catalogue, random.Random(seed)
        self.intended = {item.item_id: (item.images, item.title) for item in catalogue.snapshot()[1]}
        self.made, self.rolling_back = 0, threading.Event()

    def run(self) -> None:
        looks = {photo_name(data): data for data in (photo(number) for number in range(LOOKS, 2 * LOOKS))}
        for number in range(CHANGES):
            if number == 4 * CHANGES // 5:
                self.rolling_back.wait(60)
            if self.intended and self._draw.random() < 0.3:
                gone = self._draw.choice(sorted(self.intended))
                self._catalogue.delete([gone])
                del self.intended[gone]
            else:
                image = self._draw.choice(sorted(looks))
                item_id, title = f"new-{self._draw.randrange(60)}", f"title {number}"
                item = Item(item_id=item_id, images=(image,), label="mug", split="gallery", title=title)
                self._catalogue.upsert([item], {image: looks[image]})
                self.intended[item_id] = ((image,), title)
            self.made += 1


def promote(home: Home, number: int) -> None:
    work = Promotion(open_registry(home), home, GateSettings(), threads=1)
    live = work.registry.state().model(MODEL).production
    name, room = f"shop--{MODEL}--{number}", Disk(1, 1, 0, 0, 10**9)
    work.carry_out(Plan(MODEL, number, live, "shop", name, LOOKS, LOOKS, 0.0, room, ()))


def as_intended(home: Home, number: int, intended: dict[str, tuple[tuple[str, ...], str]]) -> None:
    """After what every server does at each look, the collection is the intended catalogue, vectors included."""
    catalogue = open_catalogue(home, "shop")
    encoder: Encoder = load_encoder(open_registry(home).open(f"{MODEL}@{number}"), threads=1)
    collection = open_collection(home.collections / f"shop--{MODEL}--{number}")
    catch_up(collection, catalogue, encoder)
    found = content(collection, catalogue.deltas)
    vectors = dict(zip(found.item_ids, found.vectors, strict=True))
    assert {item.item_id: (item.images, item.title) for item in catalogue.snapshot()[1]} == intended
    assert set(vectors) == set(intended)
    of_image = {
        image: encoder.embed([catalogue.photo(image)]).vectors[0] for image in {one[0][0] for one in intended.values()}
    }
    for item_id, (images, _) in intended.items():
        np.testing.assert_allclose(vectors[item_id], of_image[images[0]], atol=1e-5)


@pytest.mark.slow
def test_a_thousand_changes_spread_over_a_promotion_and_a_rollback_are_all_there(home: Home) -> None:
    promote(home, 1)
    writer = Writer(open_catalogue(home, "shop"), seed=5)
    writer.start()
    while writer.made < CHANGES // 10:
        threading.Event().wait(0.01)
    began = writer.made
    promote(home, 2)
    while writer.made < CHANGES // 2:
        threading.Event().wait(0.01)
    between = writer.made
    writer.rolling_back.set()
    roll_back(Promotion(open_registry(home), home, GateSettings(), threads=1), MODEL)
    writer.join()

    assert began < between < CHANGES
    for number in (1, 2):
        as_intended(home, number, writer.intended)
