"""A small living shop for tests: a dataset, its catalogue, a tiny version, a collection that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.catalogue import tiny_dataset
from tests.factories import photo, tiny_bundle
from vitrine.bundle import Bundle, read_bundle
from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.collection import Collection, write_collection
from vitrine.collection_content import merge
from vitrine.embedding import embed_items
from vitrine.encoder import Encoder, load_encoder
from vitrine.home import Home, find_home
from vitrine.items import Item
from vitrine.storing import photo_name

MODEL = "shop-search"


@dataclass
class Shop:
    """An installation with one catalogue; `collect` embeds it as it is now."""

    home: Home
    catalogue: Catalogue
    bundle: Bundle
    encoder: Encoder

    def collect(self, version: int = 1) -> Collection:
        """The catalogue as it is now, embedded."""
        seq, items = self.catalogue.snapshot()
        name = f"{self.catalogue.name}--{MODEL}--{version}"
        return write_collection(
            self.home.collections / name,
            name=name,
            catalogue=self.catalogue.name,
            catalogue_digest=self.catalogue.synced,
            model=MODEL,
            version=version,
            digest=self.bundle.manifest.digest,
            vectors=embed_items(self.encoder, self.catalogue, items),
            item_ids=[item.item_id for item in items],
            payloads=[item.payload() for item in items],
            seq=seq,
            history=self.catalogue.history,
        )

    def problems(self, collection: Collection) -> list[str]:
        """In what the collection, files and deltas, differs from the catalogue embedded anew, the slow way."""
        held = merge(collection, self.catalogue.deltas.read(collection.info.name, collection.info.seq))
        items = self.catalogue.snapshot()[1]
        if held.item_ids != [item.item_id for item in items]:
            return [f"items: {sorted(set(held.item_ids) ^ {item.item_id for item in items})}"]
        wanted = [embed_items(self.encoder, self.catalogue, [item])[0] for item in items]
        wrong = [
            item.item_id
            for item, payload, vector, expected in zip(items, held.payloads, held.vectors, wanted, strict=True)
            if payload != item.payload() or np.abs(vector - expected).max() > 1e-5
        ]
        return [f"content: {wrong}"] if wrong else []


def make_shop(root: Path, url: str = "", **dataset: object) -> Shop:
    """A shop of a few items in `root`; `url` is that of another database than SQLite."""
    tiny_dataset(root / "data" / "shop", **dataset)  # type: ignore[arg-type]
    tiny_bundle(root / "bundle", dim=8, seed=1)
    return open_shop(root, url)


def open_shop(root: Path, url: str = "") -> Shop:
    """The shop that `make_shop` made there, as another process opens it."""
    named = {"VITRINE_REGISTRY_URL": url} if url else {}
    home = find_home({"VITRINE_HOME": str(root / ".vitrine"), "VITRINE_DATASETS": str(root / "data"), **named})
    bundle = read_bundle(root / "bundle")
    return Shop(home, open_catalogue(home, "shop"), bundle, load_encoder(bundle, threads=1))


def listing(item_id: str, *seeds: int, **fields: object) -> tuple[Item, dict[str, bytes]]:
    """An item as a client sends it, with its photos by name."""
    photos = {photo_name(photo(seed)): photo(seed) for seed in seeds}
    return replace(Item(item_id, tuple(photos), "", "gallery"), **fields), photos  # type: ignore[arg-type]
