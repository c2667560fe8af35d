"""Format `demo`: a generated catalogue of homeware and fashion; needs no input and no network.

Every photo is a listing of its own (item `h0012-3` of product `h0012`): sellers list the same product
with their own photo, title, price and date. The same options give the same bytes
(with the same numpy and Pillow). A product is the same,
photos and split included, whatever the domain or the number of products asked for, so that what is trained
on `domain: both` has never seen the held-back products of one domain.
"""

from __future__ import annotations

import datetime as dt
import itertools
import multiprocessing
import os
import random
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine.datasets import _studio
from vitrine.datasets._catalogue import BRANDS, DOMAINS, SELLERS, Leaf, title
from vitrine.datasets._looks import design
from vitrine.datasets._options import choice, whole
from vitrine.items import EvalProtocol, LabelInfo, Split
from vitrine.ports import RawItem, Source

OPTIONS: Mapping[str, str] = {
    "domain": "which half of the catalogue: homeware, fashion or both (both)",
    "seed": "another seed, another catalogue (0)",
    "products": "how many products, 4 to 20000 (600)",
    "photos": "how many photos of each product, 2 to 50 (5)",
}

_SPLITS: tuple[Split, ...] = (
    "train", "test", "train", "val", "train", "train", "test", "train", "train", "train",
    "test", "train", "val", "train", "train", "test", "train", "train", "test", "val",
)  # fmt: skip
"""By a product's place in its leaf, over and over: 60 % train, 15 % val, 25 % test. Products are drawn
independently, so their order says nothing about them."""

_IN_ONE_PROCESS = 40
"""So few products are drawn sooner than other processes start."""

_FIRST_DAY = dt.date(2024, 1, 1)


@dataclass(frozen=True)
class _Product:
    """What to draw: `number` counts within the domain."""

    seed: int
    domain: str
    number: int
    photos: int

    @property
    def product_id(self) -> str:
        return f"{self.domain[0]}{self.number:04d}"

    @property
    def leaf(self) -> Leaf:
        """Two products a leaf at a time, so that even a tiny catalogue has train and test of each of its leaves."""
        leaves = DOMAINS[self.domain]
        return leaves[self.number // 2 % len(leaves)]

    @property
    def split(self) -> Split:
        rounds = self.number // (2 * len(DOMAINS[self.domain]))
        return _SPLITS[(2 * rounds + self.number % 2) % len(_SPLITS)]


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Describe the catalogue; photos are drawn as the items are read. `path` is ignored."""
    del path
    domain = choice(options, "domain", (*DOMAINS, "both"), None) or "both"
    seed = whole(options, "seed", 0, 0, 2**31)
    count = whole(options, "products", 600, 4, 20_000)
    photos = whole(options, "photos", 5, 2, 50)
    domains = (domain,) if domain in DOMAINS else tuple(DOMAINS)
    products = [_nth(place, seed, domains, photos) for place in range(count)]
    leaves = dict.fromkeys(product.leaf for product in products)
    return Source(
        items=_items(products),
        count=count * photos,
        protocols=(
            EvalProtocol("default", ("test",), ("train",)),
            EvalProtocol("product", ("test",), ("gallery", "train"), "product_id"),
            EvalProtocol("text", ("test",), ("gallery", "train"), "label", "title"),
        ),
        licence="CC0-1.0",
        labels=tuple(LabelInfo(leaf.name, leaf.category, leaf.description) for leaf in leaves),
    )


def _nth(place: int, seed: int, domains: tuple[str, ...], photos: int) -> _Product:
    """Domains take turns, two products at a time."""
    turn, second = divmod(place, 2)
    return _Product(seed, domains[turn % len(domains)], 2 * (turn // len(domains)) + second, photos)


def _items(products: list[_Product]) -> Iterator[RawItem]:
    """All listings in the products' order, drawn in as many processes as there are cores (8 at most)."""
    workers = min(os.cpu_count() or 1, 8)
    if workers == 1 or len(products) <= _IN_ONE_PROCESS:
        for product in products:
            yield from _listings(product)
        return
    waiting: deque[Future[list[RawItem]]] = deque()
    # New processes rather than forks: the importer's own threads must not be copied half-way.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        rest = iter(products)
        waiting.extend(pool.submit(_listings, product) for product in itertools.islice(rest, 8 * workers))
        while waiting:
            yield from waiting.popleft().result()
            waiting.extend(pool.submit(_listings, product) for product in itertools.islice(rest, 1))


def _listings(product: _Product) -> list[RawItem]:
    """Every photo of a product; of a test product the first is asked with, the others are only searched."""
    leaf = product.leaf
    rng = random.Random(f"{product.seed}:{product.product_id}")
    look = design(leaf.name, leaf.materials, leaf.patterns, rng)
    brand = rng.choice(BRANDS[product.domain])
    price, weight = rng.uniform(*leaf.price), round(rng.uniform(*leaf.weight))
    listings: list[RawItem] = []
    for photo in range(product.photos):
        shot = random.Random(f"{product.seed}:{product.product_id}:{photo}")
        asked, seller = round(price * shot.uniform(0.88, 1.12), 2), shot.randrange(len(SELLERS))
        wordings = (title(leaf, look, brand, seller, shot) for _ in range(20))
        taken = {listing.title for listing in listings}
        listings.append(
            RawItem(
                item_id=f"{product.product_id}-{photo}",
                images=(_studio.photograph(look, asked, shot),),
                label=leaf.name,
                split="gallery" if product.split == "test" and photo else product.split,
                category=leaf.category,
                product_id=product.product_id,
                title=next((words for words in wordings if words not in taken), leaf.name),
                attributes={"colour": look.colour, "pattern": look.pattern, "material": look.material},
                numbers={"weight_g": weight},
                price=asked,
                brand=brand,
                seller=SELLERS[seller],
                time=(_FIRST_DAY + dt.timedelta(days=shot.randrange(730))).isoformat(),
            )
        )
    return listings
