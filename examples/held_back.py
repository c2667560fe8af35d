"""What a live server finds for photos and titles that neither training nor its catalogue has seen."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitrine.client import VitrineClient
from vitrine.dataset import Dataset
from vitrine.items import Item
from vitrine.ports import Hit
from vitrine.stats import wilson

DEPTH = 5
SHOWN = 10
SEED = 7


@dataclass(frozen=True)
class Answer:
    """A held-back item and the nearest items of the catalogue, best first."""

    item: Item
    hits: tuple[Hit, ...]

    @property
    def category_found(self) -> bool:
        """Whether an item of the same leaf category is among them."""
        return any(hit.payload.get("category") == list(self.item.category) for hit in self.hits)

    @property
    def product_found(self) -> bool:
        """Whether another listing of the very same product is among them."""
        return any(hit.payload.get("product_id") == self.item.product_id for hit in self.hits)


def ask_photos(client: VitrineClient, dataset: Dataset) -> list[Answer]:
    """Search with the photo of every held-back item."""
    return [Answer(item, client.search(dataset.photo(item.images[0]), k=DEPTH).hits) for item in dataset.split("test")]


def ask_titles(client: VitrineClient, dataset: Dataset) -> list[Answer]:
    """Search with the words of every held-back item."""
    return [Answer(item, client.search(text=item.title, k=DEPTH).hits) for item in dataset.split("test")]


def chance(dataset: Dataset) -> float:
    """The leaf-category hit rate of five items drawn at random from the catalogue: what any search must beat."""
    catalogue = Counter(item.category for item in dataset.catalogue_items())
    size, rates = catalogue.total(), []
    for item in dataset.split("test"):
        others = size - catalogue[item.category]
        rates.append(1 - math.comb(others, DEPTH) / math.comb(size, DEPTH))
    return sum(rates) / len(rates)


def report(what: str, answers: Sequence[Answer], by_chance: float) -> str:
    """Hit rates at 5 with 95 % Wilson intervals, a line each, and what chance would find."""
    rates: tuple[tuple[str, Callable[[Answer], bool]], ...] = (
        ("leaf category", lambda answer: answer.category_found),
        ("own product", lambda answer: answer.product_found),
    )
    lines = [f"{what}: {len(answers)} queries, found among the first {DEPTH}"]
    for name, found in rates:
        count = sum(map(found, answers))
        low, high = wilson(count, len(answers))
        lines.append(f"   {name:<14} {count / len(answers):.3f}   95 % Wilson interval {low:.3f} to {high:.3f}")
    lines.append(f"   {'by chance':<14} {by_chance:.3f}   leaf category, five items drawn at random")
    return "\n".join(lines)


def drawn(answers: Sequence[Answer], ask: Callable[[Item], str]) -> str:
    """Ten answers drawn by a fixed seed, good or bad: what was asked and what the hits are."""
    chosen = random.Random(SEED).sample(list(answers), min(SHOWN, len(answers)))
    lines = []
    for answer in chosen:
        found = ", ".join(str(hit.payload.get("title", hit.item_id)) for hit in answer.hits[:3])
        mark = "product " if answer.product_found else "category" if answer.category_found else "missed  "
        lines.append(f"   {mark}  {ask(answer.item)}  ->  {found}")
    return "\n".join(lines)
