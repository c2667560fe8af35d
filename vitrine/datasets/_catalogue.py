"""The words of the demo catalogue: categories, brands, sellers and how each seller writes a title."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from vitrine.datasets._looks import PATTERNS, Look

_ALL = ("plain", "plain", "plain", *PATTERNS)  # most of what a shop sells is plain
_WORN = ("plain", "plain", "plain", "striped", "banded", "dotted", "checked", "floral", "two-tone", "printed", "zigzag")


@dataclass(frozen=True)
class Leaf:
    """A category that products lie in.

    Attributes:
        category: domain, department, leaf.
        words: what sellers call it; the first is the leaf's own name.
        price: lowest and highest, in the shop's currency.
        weight: lightest and heaviest, in grams.
    """

    category: tuple[str, str, str]
    words: tuple[str, ...]
    description: str
    materials: tuple[str, ...]
    price: tuple[float, float]
    weight: tuple[float, float]
    patterns: tuple[str, ...] = _ALL

    @property
    def name(self) -> str:
        """The leaf, which is also the items' label."""
        return self.category[-1]


def _home(department: str, words: str, description: str, materials: str, price: tuple[float, float],
          weight: tuple[float, float], patterns: tuple[str, ...] = _ALL) -> Leaf:  # fmt: skip
    names = tuple(words.split(", "))
    return Leaf(
        ("homeware", department, names[0]), names, description, tuple(materials.split()), price, weight, patterns
    )


def _wear(department: str, words: str, description: str, materials: str, price: tuple[float, float],
          weight: tuple[float, float], patterns: tuple[str, ...] = _WORN) -> Leaf:  # fmt: skip
    names = tuple(words.split(", "))
    return Leaf(
        ("fashion", department, names[0]), names, description, tuple(materials.split()), price, weight, patterns
    )


DOMAINS: Mapping[str, tuple[Leaf, ...]] = {
    "homeware": (
        _home("kitchen", "mug, coffee mug, tea mug", "A cup with a handle for hot drinks.",
              "stoneware porcelain enamel", (6, 24), (220, 460)),
        _home("kitchen", "bowl, serving bowl, salad bowl", "A round open dish.", "stoneware porcelain oak", (8, 40), (300, 900)),
        _home("kitchen", "plate, dinner plate, side plate", "A flat round dish.", "stoneware porcelain enamel", (5, 30), (250, 700)),
        _home("kitchen", "teapot, tea pot, pot for tea", "A pot with a spout and a lid.", "stoneware porcelain enamel", (18, 80), (500, 1200)),
        _home("kitchen", "pan, frying pan, saucepan", "A cooking vessel with a long handle.", "enamel steel", (15, 110), (700, 2200),
              ("plain", "plain", "banded", "dotted", "two-tone")),
        _home("kitchen", "carafe, water carafe, bottle", "A tall bottle for the table.", "glass stoneware porcelain", (9, 45), (300, 900)),
        _home("decoration", "vase, flower vase, bud vase", "A tall vessel for flowers.", "glass stoneware porcelain", (12, 90), (400, 1800)),
        _home("decoration", "planter, plant pot, flower pot", "A pot with a plant in it.", "terracotta stoneware porcelain", (10, 60), (600, 2600)),
        _home("decoration", "candlestick, candle holder, candle stand", "A stand for one candle.", "brass oak stoneware", (8, 55), (200, 900)),
        _home("living", "lamp, table lamp, bedside lamp", "A lamp with a shade.", "linen paper cotton", (25, 160), (900, 2600)),
        _home("living", "cushion, sofa cushion, throw pillow", "A soft pillow for a sofa.", "cotton linen velvet", (10, 55), (250, 700)),
        _home("living", "stool, footstool, bar stool", "A seat without a back.", "oak linen velvet", (35, 180), (2500, 7000)),
    ),
    "fashion": (
        _wear("clothing", "t-shirt, tee, short-sleeved shirt", "A short-sleeved top.", "cotton linen", (9, 45), (120, 220)),
        _wear("clothing", "jumper, sweater, pullover", "A warm long-sleeved top.", "wool cotton", (25, 120), (300, 700)),
        _wear("clothing", "jacket, coat, blazer", "An outer garment that opens in front.", "denim wool nylon leather", (45, 260), (600, 1600)),
        _wear("clothing", "dress, summer dress, frock", "A one-piece garment with a skirt.", "cotton viscose linen", (25, 140), (200, 500)),
        _wear("clothing", "skirt, midi skirt, flared skirt", "A garment that hangs from the waist.", "cotton denim viscose", (18, 90), (180, 450)),
        _wear("clothing", "trousers, pants, chinos", "A garment with two legs.", "denim linen cotton", (25, 120), (300, 700)),
        _wear("shoes", "trainers, sneakers, running shoes", "Sports shoes with laces.", "canvas leather suede", (35, 160), (500, 900)),
        _wear("shoes", "boots, ankle boots, winter boots", "Shoes that cover the ankle.", "leather suede", (60, 240), (900, 1700)),
        _wear("accessories", "handbag, bag, shoulder bag", "A bag carried by hand.", "leather canvas suede", (20, 220), (350, 1000)),
        _wear("accessories", "backpack, rucksack, day pack", "A bag carried on the back.", "canvas nylon leather", (25, 150), (500, 1300)),
        _wear("accessories", "cap, baseball cap, peaked cap", "A hat with a peak.", "cotton wool suede", (8, 40), (70, 130)),
        _wear("accessories", "sunglasses, shades, sun glasses", "Dark glasses against the sun.", "plastic", (12, 170), (25, 60),
              ("plain", "plain", "striped", "checked")),
    ),
}  # fmt: skip

BRANDS: Mapping[str, tuple[str, ...]] = {
    "homeware": ("Alder & Co", "Brightwell", "Casa Nove", "Fjordlys", "Gable", "Halvard"),
    "fashion": ("Dune", "Ester", "Marlowe", "Northline", "Pico", "Sable & Finch"),
}
SELLERS = (
    "nordmarket.example",
    "velvetloft.example",
    "cornershop.example",
    "oldtownstore.example",
    "attic-finds.example",
)

_TITLES: tuple[tuple[str, ...], ...] = (
    ("{Brand} {word}, {colour}", "{Brand} {word} in {colour}, {pattern}, {material}", "{Brand} {material} {word}"),
    ("{Colour} {material} {word} by {brand}", "{Colour} {pattern} {word}, {material}", "{Material} {word}"),
    ("{word} {colour} NEW", "{pattern} {word} - {brand} - free shipping", "{word} NEW, fast delivery"),
    ("{Pattern} {word} in {colour} and {accent}", "{Material} {word}, {colour} with {accent}", "{Word}, {pattern}"),
    ("used {colour} {word}, good condition", "lovely {pattern} {word}, {colour}", "{word}, hardly used"),
)
"""By seller: a department store, a boutique, a corner shop, an old town shop, a second-hand dealer."""


def title(leaf: Leaf, look: Look, brand: str, seller: int, rng: random.Random) -> str:
    """One of the ways in which a seller may name a product."""
    pattern = f"{look.motif} print" if look.pattern == "printed" else look.pattern
    words = {"word": rng.choice(leaf.words), "colour": look.colour, "accent": look.accent, "pattern": pattern,
             "material": look.material, "brand": brand}  # fmt: skip
    upper = {key.capitalize(): value[0].upper() + value[1:] for key, value in words.items()}
    text = rng.choice(_TITLES[seller]).format(**words, **upper)
    return text[0].upper() + text[1:]
