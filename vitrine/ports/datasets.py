"""What a dataset format offers: items before their photos are stored, and how they may be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vitrine.conclusion import Conclusion, Failures, Photo
from vitrine.items import EvalProtocol, Item, LabelInfo, Split


@dataclass(frozen=True)
class RawItem:
    """An item before its photos are stored."""

    item_id: str
    images: tuple[Photo, ...]
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


@dataclass(frozen=True)
class Source:
    """Everything an importer found: items (read once, lazily), how to evaluate, the licence.

    Attributes:
        notes: sentences that the import shows, such as found against published counts.
        conclude: asked once all photos are stored, with the items that have any and with the failures;
            its answer takes the place of the splits and of `protocols`.
    """

    items: Iterator[RawItem]
    count: int
    protocols: tuple[EvalProtocol, ...]
    licence: str
    labels: tuple[LabelInfo, ...] = ()
    label_images: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conclude: Callable[[Sequence[Item], Failures], Conclusion] | None = None


class Importer(Protocol):
    """A module in `vitrine/datasets/`.

    One that works for long before its first photo also has `read_tracked(path, options, track)`.
    """

    OPTIONS: Mapping[str, str]
    """Option name -> help text; anything else is refused. `name.*` stands for every option of that beginning."""

    def read(self, path: Path, options: Mapping[str, Any]) -> Source:
        """Look at `path` and describe what is there.

        Raises:
            BadInput: the layout is not this format's; the message names the missing file.
        """
        ...
