"""Items and datasets as values: what every importer makes and everything downstream reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "val", "test", "gallery"]
"""`gallery` items are searched but never trained on, such as other photos of held-back products."""

Relevance = Literal["label", "product_id"]
AskBy = Literal["image", "title"]

DEFAULT_PROTOCOL = "default"
"""Every dataset's first protocol has this name: it decides promotions and comparisons."""


@dataclass(frozen=True)
class Item:
    """One listing.

    Attributes:
        item_id: unique in its dataset.
        images: file names in the dataset's `images/` folder, named by content hash, main one first.
        label: the class that classification predicts and that `label` relevance compares.
        category: path from the root of the category tree to the leaf.
        product_id: what the item is of; several items may share it; None where unknown.
    """

    item_id: str
    images: tuple[str, ...]
    label: str
    split: Split
    category: tuple[str, ...] = ()
    product_id: str | None = None
    title: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    price: float | None = None
    brand: str | None = None
    seller: str | None = None
    time: str | None = None

    def payload(self) -> dict[str, object]:
        """What a search hit carries and a filter can ask for; empty fields are left out."""
        fields: dict[str, object] = {
            "product_id": self.product_id,
            "label": self.label,
            "category": list(self.category),
            "title": self.title,
            "price": self.price,
            "brand": self.brand,
            "seller": self.seller,
            "image": self.images[0] if self.images else None,
        }
        return {key: value for key, value in fields.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class LabelInfo:
    """What is known of a class apart from its photos: its tree path, a clean picture, words."""

    label: str
    category: tuple[str, ...] = ()
    description: str = ""
    image: str | None = None


@dataclass(frozen=True)
class EvalProtocol:
    """Who is searched for, among whom, and what counts as found.

    When `query` and `gallery` overlap, a query never matches itself, by item id. `ask_by="title"` is
    text-to-image search: it asks with the words of the query items and finds by the photos of the gallery.
    """

    name: str
    query: tuple[Split, ...]
    gallery: tuple[Split, ...]
    relevance: Relevance = "label"
    ask_by: AskBy = "image"
