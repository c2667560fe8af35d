"""Embedding a dataset's items: one pooled vector an item, each item once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitrine.dataset import Dataset
from vitrine.encoder import Encoder, pool_images, pool_probabilities
from vitrine.errors import BadInput
from vitrine.items import Item
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.raw_norms import raw_norms

_TITLES = 256  # at a time, between two steps of the progress bar


class Photos(Protocol):
    """Where an item's photos come from: a dataset, or a living catalogue."""

    @property
    def name(self) -> str: ...  # noqa: D102  for messages

    def photo(self, image: str) -> bytes:
        """The verified bytes of an image of that name."""
        ...


@dataclass(frozen=True)
class Embedded:
    """Items as the version sees them.

    Attributes:
        vectors: float32 (items, D), mean over each item's images, unit length.
        probabilities: float32 (items, C), calibrated, mean over each item's images; None without a classifier.
    """

    vectors: Vectors
    probabilities: NDArray[np.float32] | None


def embed_items(
    encoder: Encoder, dataset: Photos, items: Sequence[Item], *, batch: int = 32, track: Track = quiet
) -> Vectors:
    """One unit vector an item, float32 (len(items), D), in the order given.

    Raises:
        BadInput: an item without an image, or a photo that cannot be decoded.
        NotFound, Tampered: a photo is missing or was changed since the import.
    """
    return embed(encoder, dataset, items, batch=batch, track=track).vectors


def embed(
    encoder: Encoder, dataset: Photos, items: Sequence[Item], *, batch: int = 32, track: Track = quiet
) -> Embedded:
    """As `embed_items`, with the classifier's answer for each item, as a server gives it."""
    for item in items:
        if not item.images:
            raise BadInput(f"item {item.item_id} of dataset {dataset.name} has no image to embed; import it again")
    counts = [len(item.images) for item in items]

    def photos() -> Iterator[bytes]:
        for item in items:
            for image in item.images:
                yield dataset.photo(image)

    outputs = list(encoder.stream(track(photos(), f"embedding {dataset.name}", sum(counts)), batch=batch))
    if not outputs:
        return Embedded(np.zeros((0, encoder.manifest.dim), np.float32), None)
    logits = [output.logits for output in outputs if output.logits is not None]
    answers = encoder.probabilities(np.concatenate(logits)) if logits and encoder.label_names else None
    return Embedded(
        pool_images(np.concatenate([output.vectors for output in outputs]), counts),
        pool_probabilities(answers, counts) if answers is not None else None,
    )


class Space(Protocol):
    """A dataset's items as vectors, wherever these come from: all that an evaluation needs.

    Attributes:
        dataset: items, splits and protocols.
        engine: what made the vectors, for the record.
        label_names: labels of the classifier whose answers `probabilities` gives, in its order.
        reads_text: whether `texts` works.
        seconds, photos, titles: what was embedded so far, and how long it took.
        shared: results that several evaluations of these vectors have in common.
    """

    dataset: Dataset
    seconds: float
    photos: int
    shared: dict[object, object]

    @property
    def engine(self) -> str: ...  # noqa: D102  see the class

    @property
    def label_names(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def reads_text(self) -> bool: ...  # noqa: D102

    @property
    def titles(self) -> int: ...  # noqa: D102

    def vectors(self, items: Sequence[Item]) -> Vectors:
        """float32 (len(items), D), unit rows in the order given."""
        ...

    def probabilities(self, items: Sequence[Item]) -> NDArray[np.float32] | None:
        """float32 (len(items), C); None without a classifier or without items."""
        ...

    def texts(self, strings: Sequence[str]) -> Vectors:
        """float32 (len(strings), D), unit rows in the space of the items.

        Raises:
            Unsupported: nothing here reads text.
        """
        ...

    def norms_before(self, items: Sequence[Item]) -> NDArray[np.float32] | None:
        """Lengths float32 (len(items),) before vectors are made unit length, of each item's main photo; None if unknown."""
        ...


class EmbeddedDataset:
    """A dataset through one encoder; every item and every title is embedded once, when it is first asked for.

    Attributes:
        seconds: time spent embedding so far.
        photos: photos embedded so far.
        shared: results that several evaluations of these vectors have in common.
    """

    def __init__(self, encoder: Encoder, dataset: Dataset, *, track: Track = quiet) -> None:
        self.encoder = encoder
        self.dataset = dataset
        self.seconds = 0.0
        self.photos = 0
        self.shared: dict[object, object] = {}
        self._track = track
        self._vectors: dict[str, Vectors] = {}
        self._probabilities: dict[str, NDArray[np.float32]] = {}
        self._texts: dict[str, Vectors] = {}

    @property
    def engine(self) -> str:
        """What runs the version."""
        return f"{self.encoder.engine.name} {self.encoder.engine.precision}"

    @property
    def label_names(self) -> Sequence[str]:
        """Labels of the version's classifier, in its order; empty without one."""
        return self.encoder.label_names

    @property
    def reads_text(self) -> bool:
        """Whether the version embeds titles."""
        return self.encoder.reads_text

    @property
    def titles(self) -> int:
        """How many different titles were embedded so far."""
        return len(self._texts)

    def vectors(self, items: Sequence[Item]) -> Vectors:
        """float32 (len(items), D), unit rows in the order given."""
        self._embed_missing(items)
        if not items:
            return np.zeros((0, self.encoder.manifest.dim), np.float32)
        return np.stack([self._vectors[item.item_id] for item in items])

    def probabilities(self, items: Sequence[Item]) -> NDArray[np.float32] | None:
        """float32 (len(items), C), mean over images; None without a classifier or without items."""
        self._embed_missing(items)
        if not items or items[0].item_id not in self._probabilities:
            return None
        return np.stack([self._probabilities[item.item_id] for item in items])

    def texts(self, strings: Sequence[str]) -> Vectors:
        """float32 (len(strings), D), unit rows in the order given, in the space of the photos.

        Raises:
            Unsupported: the version reads no text.
        """
        missing = list(dict.fromkeys(text for text in strings if text not in self._texts))
        began = time.perf_counter()
        starts = range(0, len(missing), _TITLES)
        for at in self._track(starts, f"reading titles of {self.dataset.name}", len(starts)):
            some = missing[at : at + _TITLES]
            self._texts.update(zip(some, self.encoder.embed_texts(some), strict=True))
        self.seconds += time.perf_counter() - began
        if not strings:
            return self.encoder.embed_texts([])
        return np.stack([self._texts[text] for text in strings])

    def norms_before(self, items: Sequence[Item]) -> NDArray[np.float32] | None:
        """See `Space`; the photos are read and run again."""
        if not items:
            return None
        photos = [self.encoder.decode(self.dataset.photo(item.images[0])) for item in items]
        return raw_norms(self.encoder.bundle, np.stack(photos))

    def _embed_missing(self, items: Sequence[Item]) -> None:
        missing = [item for item in items if item.item_id not in self._vectors]
        if not missing:
            return
        began = time.perf_counter()
        found = embed(self.encoder, self.dataset, missing, track=self._track)
        self.seconds += time.perf_counter() - began
        self.photos += sum(len(item.images) for item in missing)
        ids = [item.item_id for item in missing]
        self._vectors.update(zip(ids, found.vectors, strict=True))
        if found.probabilities is not None:
            self._probabilities.update(zip(ids, found.probabilities, strict=True))
