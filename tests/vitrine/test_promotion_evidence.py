from __future__ import annotations

from pathlib import Path

from vitrine.dataset import Dataset
from vitrine.items import EvalProtocol, Item
from vitrine.promotion_evidence import chance


def dataset(products: list[str | None]) -> Dataset:
    items = tuple(Item(f"{n}", (f"{n}.jpg",), "mug", "test", product_id=name) for n, name in enumerate(products))
    return Dataset(Path(), "shop", "d", items, (EvalProtocol("default", ("test",), ("test",), "product_id"),), "CC0")


def test_random_order_finds_the_share_of_relevant_items() -> None:
    assert chance(dataset(["a", "a", "b", "b", "b"])) == (2 * 1 / 4 + 3 * 2 / 4) / 5


def test_items_of_unknown_product_are_relevant_to_none() -> None:
    assert chance(dataset(["a", "a", None, None, None])) == 1 / 4
