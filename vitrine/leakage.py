"""Whether a version has seen its exam: photos of the queries among the photos it was trained on.

Exact copies share the hash that is their name. Near copies look the same at 16 x 16 pixels, as in `vitrine data check`.
Everything here depends on photos alone, so every version that was trained on a dataset gets the same answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrine.dataset import Dataset
from vitrine.errors import NotFound
from vitrine.items import EvalProtocol, Item
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.sampling import sample_rows
from vitrine.thumbnails import NEAR, near_pairs, read_thumbnails

PHOTOS = 10_000
"""Most photos of a side that near copies are looked for among; of more a seeded sample is."""

_SHOWN = 20


@dataclass(frozen=True)
class Leak:
    """Queries with a photo that is, or looks like, a training photo.

    Attributes:
        queries: how many.
        examples: pairs of a query's and a training item's id, the first ones by query.
    """

    queries: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Leakage:
    """What was found between the queries and the training items of a dataset.

    Attributes:
        trained_on: the dataset whose `train` split was looked at.
        exact: photos of equal bytes.
        near: photos of other bytes whose thumbnails have a cosine of at least `NEAR`.
        compared, photos: training photos and query photos that the near copies were looked for among, and of how many.
    """

    trained_on: str
    asked: int
    exact: Leak
    near: Leak
    compared: tuple[int, int]
    photos: tuple[int, int]

    def warnings(self) -> list[str]:
        """A sentence for each kind of copy that was found, and one where not every photo was looked at."""
        of, split = f"of {self.asked} queries have a photo", f"training split of {self.trained_on}"
        told = []
        if self.exact.queries:
            told.append(f"leakage: {self.exact.queries} {of} that is also in the {split}: results are too good")
        if self.near.queries:
            told.append(f"leakage: {self.near.queries} {of} that looks like one of the {split}: look at the pairs")
        if self.photos != self.compared:
            told.append(
                f"copies by looks were sought among {self.compared[0]} of {self.photos[0]} training photos and "
                f"{self.compared[1]} of {self.photos[1]} photos of queries"
            )
        return told


def leakage(
    trained: Dataset, train: Sequence[Item], asked: Dataset, queries: Sequence[Item], *, track: Track = quiet
) -> Leakage:
    """Compare the photos of training items with those of queries, by bytes and by looks.

    Args:
        trained: the dataset of `train`.
        train: what a version learned from.
        asked: the dataset of `queries`; may be the same.
        queries: what it is asked.
        track: progress over the photos that are read.
    """
    owners = [_owners(items) for items in (train, queries)]
    exact = [(asks, owners[0][photo][0]) for photo in owners[1] if photo in owners[0] for asks in owners[1][photo]]
    names = [_sample(sorted(side)) for side in owners]
    looks = [_thumbnails(dataset, photos, track) for dataset, photos in zip((trained, asked), names, strict=True)]
    return Leakage(
        trained_on=trained.name,
        asked=len(queries),
        exact=_leak(exact),
        near=_leak(_near(owners[0], owners[1], *looks)),
        compared=(len(looks[0]), len(looks[1])),
        photos=(len(owners[0]), len(owners[1])),
    )


def training_dataset(lineage: Mapping[str, Any], dataset: Dataset, find: Callable[[str], Dataset]) -> Dataset | str:
    """The dataset that a version was tuned on: this one where its lineage names no other; only a name where it is gone.

    The lineage of a cross (a version tuned for one catalogue and registered for another) says so in `tuned_on`; its
    `dataset` is then the catalogue that it is for.

    Args:
        lineage: the version's.
        dataset: what it is evaluated on.
        find: a dataset by name; raises NotFound where there is none.
    """
    name = str(lineage.get("tuned_on") or lineage.get("dataset") or dataset.name)
    if name == dataset.name:
        return dataset
    try:
        return find(name)
    except NotFound:
        return name


def why_no_leakage(trained: Dataset | str, protocol: EvalProtocol, queries: Sequence[Item], own: Dataset) -> str | None:
    """Why training items and queries cannot be compared; None where they can."""
    if protocol.ask_by == "title":
        return "not applicable: the queries are titles"
    if isinstance(trained, str):
        return f"unknown: dataset {trained}, which the version was trained on, is not here"
    if trained is own and "train" in protocol.query:
        return "not applicable: the protocol asks with training items"
    if not any(item.images for item in queries) or not any(item.images for item in trained.split("train")):
        return f"not applicable: no photos of queries, or dataset {trained.name} has no training photos"
    return None


def _owners(items: Sequence[Item]) -> dict[str, list[str]]:
    """Photo -> ids of the items that show it."""
    found: dict[str, list[str]] = defaultdict(list)
    for item in items:
        for image in item.images:
            found[image].append(item.item_id)
    return dict(found)


def _sample(photos: list[str]) -> list[str]:
    return [photos[row] for row in sample_rows(len(photos), PHOTOS)]


def _thumbnails(dataset: Dataset, photos: Sequence[str], track: Track) -> dict[str, Vectors]:
    return read_thumbnails(dataset, photos, track, f"looking for copies in {dataset.name}")[0]


def _near(
    trained: Mapping[str, Sequence[str]],
    asked: Mapping[str, Sequence[str]],
    left: Mapping[str, Vectors],
    right: Mapping[str, Vectors],
) -> list[tuple[str, str]]:
    """Pairs of a query's and a training item's id whose photos look the same and are not."""
    if not left or not right:
        return []
    ours, theirs = list(right), list(left)
    close = near_pairs(np.stack(list(right.values())), np.stack(list(left.values())), NEAR)
    names = [(ours[row], theirs[column]) for row, column in close]
    return [(asks, trained[other][0]) for one, other in names if one != other for asks in asked[one]]


def _leak(pairs: Sequence[tuple[str, str]]) -> Leak:
    first = dict(sorted(pairs, reverse=True))  # one training item a query, the first by id
    return Leak(len(first), sorted(first.items())[:_SHOWN])
