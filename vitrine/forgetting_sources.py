"""Erasing an item from what vectors are made of: the dataset, photos, cached features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitrine import forgetting_files as files
from vitrine.artifacts import ArtifactStore
from vitrine.catalogue import catalogue_names, open_catalogue
from vitrine.dataset import IMAGES, Dataset, dataset_names, find_dataset
from vitrine.home import Home


@dataclass(frozen=True)
class Sources:
    """Where photos and records of an item lie.

    Attributes:
        store: where photos of upserts lie.
        work: the pipeline's folder.
        photos: image names of the item.
    """

    store: ArtifactStore
    home: Home
    work: Path
    catalogue: str
    item_id: str
    photos: tuple[str, ...]

    def dataset(self) -> Dataset | None:
        """The imported dataset of the catalogue's name, if there is one."""
        return find_dataset(self.home, self.catalogue) if self.catalogue in dataset_names(self.home) else None

    def _own_photos(self) -> list[str]:
        """Image names of the item that no other item of any catalogue shows."""
        shown: set[str] = set()
        for name in {*catalogue_names(self.home), self.catalogue}:
            living = open_catalogue(self.home, name) if name in catalogue_names(self.home) else None
            items = living.snapshot()[1] if living else []
            items += find_dataset(self.home, name).items if name in dataset_names(self.home) else ()
            shown |= {
                image
                for item in items
                if (name, item.item_id) != (self.catalogue, self.item_id)
                for image in item.images
            }
        return [image for image in self.photos if image not in shown]

    def in_dataset(self) -> str:
        """What the dataset holds of the item, in words."""
        dataset = self.dataset()
        if dataset is None:
            return ""
        held = [image for image in self._own_photos() if (dataset.folder / IMAGES / image).is_file()]
        listed = any(item.item_id == self.item_id for item in dataset.items)
        return f"its record and {len(held)} photos" if listed or held else ""

    def clean_dataset(self) -> None:
        """Write the dataset without the item and its photos."""
        dataset = self.dataset()
        if dataset is not None and self.in_dataset():
            files.without_item(dataset, self.item_id, set(self._own_photos()))

    def artifacts(self) -> list[str]:
        """Digests of the item's photos that came with an upsert."""
        shas = [image.partition(".")[0] for image in self._own_photos()]
        return [sha for sha in shas if self.store.has(sha)]

    def remove_artifacts(self) -> None:
        """Remove those."""
        for sha in self.artifacts():
            self.store.remove(sha)

    def _stale_features(self) -> list[Path]:
        dataset = self.dataset()
        found = sorted((self.work / "features").glob(f"*--{self.catalogue}"))
        return [folder for folder in found if dataset and files.stale(folder, dataset, self.item_id)]

    def features(self) -> list[str]:
        """Names of the cached features that hold the item's photos or title."""
        return [folder.name for folder in self._stale_features()]

    def clean_features(self) -> None:
        """Write those without them."""
        for folder in self._stale_features():
            dataset = self.dataset()
            if dataset is not None:
                files.keep_features(folder, dataset, self.item_id)
