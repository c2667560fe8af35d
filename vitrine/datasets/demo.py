"""Format `demo`: a generated catalogue of homeware and fashion; needs no input and no network.

Every photo is a listing of its own (item `p0012-3` of product `p0012`): sellers list the same product
with their own photo, title and price. The same options give the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine.datasets import _studio
from vitrine.datasets._options import whole
from vitrine.items import EvalProtocol, LabelInfo, Split
from vitrine.ports import RawItem, Source

OPTIONS: Mapping[str, str] = {
    "seed": "another seed, another catalogue (0)",
    "products": "how many products, 20 to 20000 (160)",
    "photos": "how many photos of each product, 2 to 50 (5)",
}


@dataclass(frozen=True)
class _Leaf:
    category: tuple[str, str, str]
    description: str
    materials: tuple[str, ...]
    price: tuple[float, float]


_LEAVES = (
    _Leaf(("homeware", "kitchen", "mug"), "A cup with a handle for hot drinks.", ("stoneware", "porcelain"), (6, 24)),
    _Leaf(("homeware", "kitchen", "bowl"), "A round open dish.", ("stoneware", "glass", "wood"), (8, 40)),
    _Leaf(("homeware", "living", "vase"), "A tall vessel for flowers.", ("glass", "stoneware", "porcelain"), (12, 90)),
    _Leaf(("homeware", "living", "lamp"), "A table lamp with a shade.", ("linen", "metal", "paper"), (25, 160)),
    _Leaf(("homeware", "living", "cushion"), "A soft pillow for a sofa.", ("cotton", "linen", "velvet"), (10, 55)),
    _Leaf(("fashion", "clothing", "t-shirt"), "A short-sleeved top.", ("cotton", "jersey"), (9, 45)),
    _Leaf(("fashion", "clothing", "dress"), "A one-piece garment with a skirt.", ("cotton", "viscose"), (25, 140)),
    _Leaf(("fashion", "clothing", "trousers"), "A garment with two legs.", ("denim", "linen", "cotton"), (25, 120)),
    _Leaf(("fashion", "accessories", "bag"), "A bag carried by hand.", ("leather", "canvas"), (20, 220)),
    _Leaf(("fashion", "accessories", "cap"), "A peaked hat.", ("cotton", "wool"), (8, 40)),
)
_BRANDS = ("Alder & Co", "Brightwell", "Casa Nove", "Dune", "Ester", "Fjordlys", "Gable", "Halvard")
_SELLERS = ("nordmarket.example", "velvetloft.example", "cornershop.example", "oldtownstore.example")
_TITLES = (
    "{brand} {leaf}, {colour} {pattern}",
    "{colour} {leaf} in {material}",
    "{material} {leaf} by {brand}",
    "{leaf} {pattern}, {colour} and {accent}",
    "{brand} {material} {leaf}",
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Describe the catalogue; photos are drawn as the items are read. `path` is ignored."""
    del path
    seed = whole(options, "seed", 0, 0, 2**31)
    products = whole(options, "products", 160, 20, 20_000)
    photos = whole(options, "photos", 5, 2, 50)
    return Source(
        items=_items(seed, products, photos),
        count=products * photos,
        protocols=(
            EvalProtocol("default", ("test",), ("train",)),
            EvalProtocol("product", ("test",), ("test",), "product_id"),
        ),
        licence="CC0-1.0",
        labels=tuple(LabelInfo(leaf.category[-1], leaf.category, leaf.description) for leaf in _LEAVES),
    )


def _items(seed: int, products: int, photos: int) -> Iterator[RawItem]:
    splits = _splits(seed, products)
    for number in range(products):
        yield from _product(seed, number, photos, splits[number])


def _splits(seed: int, products: int) -> dict[int, Split]:
    """Whole products go to one split: 60 % train, 15 % val, 25 % test of each category."""
    splits: dict[int, Split] = {}
    for leaf in range(len(_LEAVES)):
        numbers = list(range(leaf, products, len(_LEAVES)))
        random.Random(f"{seed}:split:{leaf}").shuffle(numbers)
        test, val = max(1, round(0.25 * len(numbers))), round(0.15 * len(numbers))
        for place, number in enumerate(numbers):
            splits[number] = "test" if place < test else "val" if place < test + val else "train"
    return splits


def _product(seed: int, number: int, photos: int, split: Split) -> Iterator[RawItem]:
    leaf = _LEAVES[number % len(_LEAVES)]
    rng = random.Random(f"{seed}:product:{number}")
    look = _studio.design(leaf.category[-1], rng)
    picture = _studio.draw(look)
    words = {
        "leaf": look.kind,
        "colour": look.colour,
        "accent": look.accent,
        "pattern": look.pattern,
        "material": rng.choice(leaf.materials),
        "brand": rng.choice(_BRANDS),
    }
    price, weight = rng.uniform(*leaf.price), rng.uniform(80, 1500)
    for photo in range(photos):
        shot = random.Random(f"{seed}:photo:{number}:{photo}")
        yield RawItem(
            item_id=f"p{number:04d}-{photo}",
            images=(_studio.photograph(picture, shot),),
            label=look.kind,
            split=split,
            category=leaf.category,
            product_id=f"p{number:04d}",
            title=_TITLES[photo % len(_TITLES)].format(**words),
            attributes={key: words[key] for key in ("colour", "pattern", "material")},
            numbers={"weight_g": round(weight)},
            price=round(price * shot.uniform(0.9, 1.1), 2),
            brand=words["brand"],
            seller=_SELLERS[photo % len(_SELLERS)],
        )
