"""The seams: what a plug-in module offers. A plug-in is a module; `vitrine.plugins` finds it.

Dim names: B batch, Q queries, N gallery, K depth, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vitrine.conclusion import Conclusion, Failures, Photo
from vitrine.images import ImageSpec
from vitrine.items import EvalProtocol, Item, LabelInfo, Split
from vitrine.progress import Track

if TYPE_CHECKING:
    import torch

    from vitrine.bundle import Bundle
    from vitrine.collection import Collection

Vectors = NDArray[np.float32]
"""float32 (rows, D), each row of unit length."""


# --- datasets -------------------------------------------------------------------------------


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


# --- backbones --------------------------------------------------------------------------------


@dataclass(frozen=True)
class BackboneSpec:
    """A network and where its weights come from.

    Attributes:
        family: a module in `vitrine/families/`: `timm` or `open-clip`.
        architecture: the library's own name, such as `convnext_base`.
        weights: `hub` or `hub:TAG`, `file:PATH` to a safetensors file, or `random`.
        image_size: side in pixels, or None for the model's own.
        licence: licence of the weights.
    """

    family: str
    architecture: str
    weights: str
    image_size: int | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class TextTower:
    """The text half of a text-image backbone.

    Attributes:
        module: token ids int64 (B, L) -> float32 (B, D), not unit length, in the space of the image features.
        tokenizer: a tokenizer as the `tokenizers` library writes it, JSON; it pads and cuts to L by itself.
        context_length: L, tokens of a text.
    """

    module: torch.nn.Module
    tokenizer: bytes
    context_length: int


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder of images and, for some, of texts.

    Attributes:
        module: float32 (B, 3, H, W), normalised by mean and std -> float32 (B, D), not unit length.
        image: preprocessing outside the graph, from the model's own configuration.
        mean, std: per channel, for pixels scaled to [0, 1].
        text: the text tower of the same space; None for image-only networks.
    """

    module: torch.nn.Module
    dim: int
    image: ImageSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    text: TextTower | None = None


class Family(Protocol):
    """A module in `vitrine/families/`."""

    def load(self, spec: BackboneSpec) -> Backbone:
        """Build the network with its weights, in evaluation mode.

        Raises:
            BadInput: unknown architecture or tag (the message suggests near names), or weights
                that do not fit.
            NotFound: the weights file does not exist.
            Unavailable: the hub cannot be reached.
        """
        ...


# --- engines ----------------------------------------------------------------------------------


class Engine(Protocol):
    """A version loaded for running. Safe to call from one thread at a time."""

    name: str
    precision: str

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one named graph of the manifest: input name -> array, output name -> array."""
        ...


Precision = Literal["fp32", "fp16", "bf16", "int8"]

GraphRows = Mapping[str, NDArray[Any]]
"""Name of a graph -> rows of its one input: pixels uint8 (N, H, W, 3) or token ids int64 (N, L)."""


class Backend(Protocol):
    """A module in `vitrine/backends/`: runs a version's graphs, some precisions after building files for them."""

    PRECISIONS: tuple[Precision, ...]
    """What it can run; the first is its default."""

    BUILT: tuple[Precision, ...]
    """Those of them that need files built first; the others run straight from the bundle."""

    def worthwhile(self) -> tuple[Precision, ...]:
        """Those of `PRECISIONS` that may be the quickest on this machine: what `auto` measures."""
        ...

    def target(self) -> str:
        """What built files are bound to, such as GPU architecture and library version; equal targets may share them.

        Raises:
            Unavailable: the device or library is missing; nothing can be built here.
        """
        ...

    def build(
        self, bundle: Bundle, *, precision: Precision, folder: Path, calibration: GraphRows, track: Track
    ) -> None:
        """Write the files of a precision in `BUILT` to an empty folder.

        Args:
            bundle: a verified version.
            precision: one of `BUILT`.
            folder: where the files go; the caller digests them and keeps the folder whole or not at all.
            calibration: typical rows of each graph, from training items only; ranges are read off them.
            track: told of each step.

        Raises:
            Unavailable: the device or library is missing.
            Unsupported: a graph that the library cannot build; the message holds its own words.
        """
        ...

    def load(self, bundle: Bundle, *, threads: int, precision: Precision = "fp32", built: Path | None = None) -> Engine:
        """Load a verified bundle; `built` is the verified folder of what `build` wrote, for precisions in `BUILT`.

        Raises:
            Unavailable: the device or library is missing.
            BadInput: a precision that is not in `PRECISIONS`.
        """
        ...


# --- indexes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """One filter on a payload field; exactly one of the three is set.

    Attributes:
        any_of: the field equals one of these; on a list field such as `category`, holds one.
        low, high: the number lies in [low, high]; None leaves that end open.
    """

    field: str
    any_of: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


Filter = tuple[Condition, ...]
"""All conditions must hold; the empty tuple lets everything pass."""


@dataclass(frozen=True)
class Hit:
    """One item found. `score` is the cosine similarity in [-1, 1]."""

    item_id: str
    score: float
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Delta:
    """A change of one item since the collection's files were written.

    Attributes:
        seq: number of the catalogue's change that it follows from; a later one of the same item replaces it.
        vector: float32 (D,), unit length; None where the item was deleted.
        payload: what searches filter and show; None where the item was deleted.
    """

    seq: int
    item_id: str
    vector: NDArray[np.float32] | None
    payload: Mapping[str, Any] | None


class Index(Protocol):
    """An open index over one collection, which one version embedded. Safe for several threads.

    Order: falling score, equal scores by rising item id. An approximate index may miss items, never invent
    or reorder them.
    """

    collection: str

    def search(
        self, vectors: Vectors, k: int, where: Filter = (), *, exact: bool = False, by_product: bool = False
    ) -> list[list[Hit]]:
        """The K nearest items of each of Q unit vectors (Q, D), fewer where fewer pass the filter.

        With `by_product` the best item of each product only; an item without a `product_id` is a product of its own.

        Raises:
            BadInput: wrong D, k < 1, or a filter on a field that no payload has.
            Unavailable: the index server does not answer in time.
        """
        ...

    def vectors(self, item_ids: Sequence[str]) -> Vectors:
        """Stored unit vectors (len(item_ids), D) in the order asked for.

        Raises:
            NotFound: an id that the collection does not hold; the message names it.
        """
        ...

    def apply(self, deltas: Sequence[Delta]) -> None:
        """Take changes in, in any order, as often as one likes: of each item the highest `seq` counts.

        A search that runs meanwhile sees each item before or after its change, never both and never half.

        Raises:
            Unavailable: the index server does not answer in time; apply them again.
        """
        ...

    def count(self) -> int:
        """How many items the index really holds, changes included."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class IndexKind(Protocol):
    """A module in `vitrine/indexes/`: builds an index from a collection, opens it, drops it."""

    def build(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        """Make the collection searchable; a repeated call finishes what an interrupted one began."""
        ...

    def open(self, collection: Collection, settings: Mapping[str, Any]) -> Index:
        """Open it for searching.

        Raises:
            NotFound: it was never built.
            Unavailable: the server cannot be reached.
        """
        ...

    def publish(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        """Let other people's programs find the collection under a lasting name; ours use its own."""
        ...

    def forget(self, collection: Collection, item_ids: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Take items out without a trace, also what `apply` keeps of deleted ones; unknown ones are no error."""
        ...

    def drop(self, collection: Collection, settings: Mapping[str, Any]) -> None:
        """Remove it; nothing happens if it is not there. The collection's files stay."""
        ...


# --- gates ------------------------------------------------------------------------------------

Outcome = Literal["passed", "failed", "not applicable", "overridden"]


@dataclass(frozen=True)
class Verdict:
    """What a gate says.

    Attributes:
        reason: why, in words; an override leaves it as it was.
        numbers: everything that the reason mentions.
        override: why somebody let it pass though it failed; also kept, to no effect, where it did not fail.
    """

    gate: str
    outcome: Outcome
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    override: str = ""

    @property
    def lets_pass(self) -> bool:
        """Whether a promotion may go on."""
        return self.outcome != "failed"
