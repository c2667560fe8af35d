"""What must hold whenever a process has died, and what a server over the remains must answer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.crash.shop import CATALOGUE, Shop
from tests.services.conftest import running
from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catchup import applied_seq
from vitrine.client import VitrineClient
from vitrine.collection_audit import verify_collections
from vitrine.collection_content import Content, content
from vitrine.dataset import find_dataset
from vitrine.embedding import embed_items
from vitrine.encoder import Encoder, load_encoder
from vitrine.errors import NotFound
from vitrine.items import Item

_SAME = 1e-5
_TIE = 1e-4
_ASKED = 3
_LONGEST_S = 15.0
_HALF_WRITTEN = re.compile(r"^\.(.+)\.((old-)?[0-9a-f]{8}|dropped)$|^\.segment$")


def broken(shop: Shop) -> list[str]:
    """One sentence for whatever does not hold; none if all is well. The installation is only read."""
    found = [f"registry: {problem}" for problem in shop.registry.verify()]
    production = shop.model.production
    if found or production is None:
        return found or ["nothing is in production"]
    _, problems = verify_collections(shop.registry, shop.home, production.collection, "exact")
    return problems or list(_wrong_vectors(shop))


def unanswered(shop: Shop) -> list[str]:
    """What a server that starts now, in this process, gets wrong."""
    with running(shop.home) as server:
        return wrong_answers(shop, server.address)


def wrong_answers(shop: Shop, address: str) -> list[str]:
    """What a server gets wrong: its version, its catalogue, or its nearest items."""
    production = shop.live
    with VitrineClient(address, timeout_s=30) as client:
        info = client.info()
        if (info.version.version, info.collection) != (production.version, production.collection):
            return [f"a server answers with {info.version} over {info.collection}, production is {production}"]
        _wait_until_followed(shop)
        catalogue = open_catalogue(shop.home, CATALOGUE)
        held = content(shop.collection(production), catalogue.deltas)
        items = catalogue.snapshot()[1]
        if list(held.item_ids) != [item.item_id for item in items]:
            return ["a server does not bring its collection up to the catalogue"]
        there = [item for item in items if _has_photos(shop, catalogue, item)]
        asked = shop.random.sample(there, min(_ASKED, len(there)))
        encoder = _encoder(shop)
        return [problem for item in asked for problem in _wrong_hits(client, catalogue, encoder, held, item)]


def half_written(shop: Shop) -> list[str]:
    """Folders and files that a killed process left, to be looked for after both clean-ups."""
    found = [path for top in (shop.home.root, shop.home.datasets) for path in _left(top)]
    return [f"left over after the clean-ups: {path.relative_to(shop.root)}" for path in found]


def _left(top: Path) -> Iterator[Path]:
    for path in sorted(top.rglob("*")):
        if _HALF_WRITTEN.match(path.name) or path.parent.name in {"incoming", "forgetting"}:
            yield path


def _encoder(shop: Shop) -> Encoder:
    production = shop.live
    model = shop.model.name
    return load_encoder(shop.registry.open(f"{model}@{production.version}"), threads=1)


def _wrong_vectors(shop: Shop) -> Iterator[str]:
    """Vectors, as far as the collection claims to follow the catalogue, are those of the version, made anew."""
    catalogue, collection = open_catalogue(shop.home, CATALOGUE), shop.collection(shop.live)
    held, applied = content(collection, catalogue.deltas), applied_seq(collection, catalogue.deltas)
    vector_of = dict(zip(held.item_ids, held.vectors, strict=True))
    changes = [change for change in catalogue.changes(0) if change.seq <= applied]
    settled = [
        change.item for change in changes if change.item is not None and _has_photos(shop, catalogue, change.item)
    ]
    wanted = embed_items(_encoder(shop), catalogue, settled)
    for item, vector in zip(settled, wanted, strict=True):
        if np.abs(vector_of[item.item_id] - vector).max() > _SAME:
            yield f"{collection.info.name}: the vector of {item.item_id} is not what the version gives"


def _has_photos(shop: Shop, catalogue: Catalogue, item: Item) -> bool:
    """Whether they can be read: all must, but those of a dataset that was imported anew and not taken over yet."""
    if find_dataset(shop.home, CATALOGUE).digest == catalogue.synced:
        return True
    try:
        return all(catalogue.photo(image) for image in item.images)
    except NotFound:
        return False


def _wait_until_followed(shop: Shop) -> None:
    deadline = time.monotonic() + _LONGEST_S
    catalogue = open_catalogue(shop.home, CATALOGUE)
    while applied_seq(shop.collection(shop.live), catalogue.deltas) < catalogue.seq and time.monotonic() < deadline:
        time.sleep(0.02)


def _wrong_hits(
    client: VitrineClient, catalogue: Catalogue, encoder: Encoder, held: Content, item: Item
) -> Iterator[str]:
    """The ten nearest, up to ties, are those of the version's own vectors compared one by one."""
    photo = catalogue.photo(item.images[0])
    scores = dict(zip(held.item_ids, (held.vectors @ encoder.embed([photo]).vectors[0]).tolist(), strict=True))
    depth = min(10, len(scores))
    least = sorted(scores.values())[-depth] - _TIE
    hits = client.search(photo, k=depth).hits
    if len(hits) != depth or any(scores.get(hit.item_id, -2.0) < least for hit in hits):
        yield f"the nearest items of {item.item_id} are not those of the collection"
