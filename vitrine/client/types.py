"""What goes into a call and what comes back, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitrine.errors import VitrineError
from vitrine.ports import Hit, Vectors


@dataclass(frozen=True)
class Listing:
    """A query item: encoded photos, and what a multimodal version can use beside them or instead."""

    images: tuple[bytes, ...] = ()
    title: str = ""
    attributes: Mapping[str, str] | None = None
    numbers: Mapping[str, float] | None = None


Query = bytes | Listing
"""One encoded photo, or an item."""


@dataclass(frozen=True)
class CatalogueItem:
    """An item of the living catalogue, with what searches filter and show.

    Attributes:
        images: encoded photos, at least one, the main one first.
        category: from the widest to the narrowest.
        time: ISO 8601.
    """

    item_id: str
    images: tuple[bytes, ...]
    title: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    product_id: str = ""
    category: tuple[str, ...] = ()
    price: float | None = None
    brand: str = ""
    seller: str = ""
    time: str = ""


@dataclass(frozen=True)
class Version:
    """The version that answered; `labels` is how many its classifier knows."""

    model: str
    version: int
    digest: str
    modalities: tuple[str, ...]
    dim: int
    labels: int

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class EmbedResult:
    """float32 (B, D) unit rows in the order asked for."""

    vectors: Vectors
    version: Version


@dataclass(frozen=True)
class StreamChunk:
    """Some consecutive items of a stream.

    Attributes:
        start: place of its first item among all that went in.
        vectors: float32 (B, D) unit rows; zero where an item failed.
        failed: place among all that went in -> why that item has no vector.
    """

    start: int
    vectors: Vectors
    failed: Mapping[int, VitrineError]
    version: Version


@dataclass(frozen=True)
class Labelled:
    """(label, probability) pairs, best first; `abstained` when the best is below the threshold."""

    labels: tuple[tuple[str, float], ...]
    abstained: bool


@dataclass(frozen=True)
class ClassifyResult:
    """One `Labelled` an item."""

    items: tuple[Labelled, ...]
    version: Version


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and the collection they come from."""

    hits: tuple[Hit, ...]
    collection: str
    version: Version


@dataclass(frozen=True)
class ChangeResult:
    """What became of items of the catalogue.

    Attributes:
        outcomes: (item id, outcome) in the order asked for: added, changed, payload_changed, unchanged, deleted, absent.
        seq: the number of the catalogue's last change, these included.
    """

    outcomes: tuple[tuple[str, str], ...]
    catalogue: str
    seq: int
    collection: str
    version: Version


@dataclass(frozen=True)
class ServerInfo:
    """What a server serves now; `collection` is empty where it cannot search.

    Attributes:
        engine, precision: what runs the version, such as onnxruntime and fp32.
        catalogue_seq: the last change of the catalogue that the collection has taken in.
    """

    version: Version
    collection: str
    items: int
    engine: str
    precision: str
    catalogue_seq: int
