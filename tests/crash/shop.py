"""A small installation with a life: photos that change, versions of random weights, and what is true of it now."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.factories import photo, tiny_bundle
from vitrine.catalogue import open_catalogue
from vitrine.collection import Collection, open_collection
from vitrine.home import Home, find_home
from vitrine.lifecycle import ModelState, Production
from vitrine.registry import Registry, open_registry

MODEL, CATALOGUE = "shop-search", "shop"
CLASSES, PHOTOS, DIM = 5, 8, 16


@dataclass
class Shop:
    """One installation; every answer is read anew from its files and databases.

    Attributes:
        root: the folder in which the commands run.
        random: draws what changes.
        made: how many things were made so far, so that each has a name of its own.
    """

    root: Path
    random: Random
    made: int = 0

    @property
    def environment(self) -> Mapping[str, str]:
        """What the commands are told."""
        return {"VITRINE_HOME": str(self.root / ".vitrine"), "VITRINE_DATASETS": str(self.root / "data")}

    @property
    def home(self) -> Home:
        """Where things lie."""
        return find_home(self.environment)

    @property
    def registry(self) -> Registry:
        """Opened anew, as another process would."""
        return open_registry(self.home)

    @property
    def model(self) -> ModelState:
        """What the events say of the model now."""
        return self.registry.state().model(MODEL)

    @property
    def live(self) -> Production:
        """What is in production; there is something from the first promotion on."""
        production = self.model.production
        assert production is not None, "nothing is in production"
        return production

    def collection(self, production: Production) -> Collection:
        """As it is on disk now."""
        return open_collection(self.home.collections / production.collection)

    def item_ids(self) -> list[str]:
        """Items of the living catalogue."""
        return [item.item_id for item in open_catalogue(self.home, CATALOGUE).snapshot()[1]]

    def next_number(self) -> int:
        """A number that was never given."""
        self.made += 1
        return self.made

    def bundle(self) -> str:
        """A new version's folder, below `root`."""
        number = self.next_number()
        tiny_bundle(self.root / f"bundles/{number}", dim=DIM, seed=number, dataset=CATALOGUE)
        return f"bundles/{number}"

    def change_photos(self) -> None:
        """A photo comes, one is replaced, one goes: what a shop's own export does between two imports."""
        folders = sorted((self.root / "photos").iterdir())
        for change in ("add", "replace", "remove"):
            folder, number = self.random.choice(folders), self.next_number()
            there = sorted(folder.iterdir())
            if change == "add":
                (folder / f"new-{number}.jpg").write_bytes(photo(50_000 + number))
            elif change == "replace":
                self.random.choice(there).write_bytes(photo(50_000 + number))
            elif len(there) > PHOTOS // 2:
                self.random.choice(there).unlink()


def make_photos(root: Path) -> None:
    """The shop's own export: one folder a class."""
    for label in range(CLASSES):
        folder = root / f"photos/class-{label}"
        folder.mkdir(parents=True)
        for number in range(PHOTOS):
            (folder / f"{number}.jpg").write_bytes(photo(100 * label + number))


def copied(template: Path, root: Path, seed: int) -> Shop:
    """The installation that `template` is, to be treated roughly."""
    shutil.copytree(template, root)
    return Shop(root, Random(seed), made=1000)
