"""What is wrong with a dataset: errors make its numbers meaningless, warnings make them doubtful."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitrine import rowreport
from vitrine.dataset import Dataset
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.importing import duplicates_in_split
from vitrine.items import EvalProtocol, Item
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet
from vitrine.thumbnails import NEAR, near_pairs, read_thumbnails

Level = Literal["error", "warning"]

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One kind of trouble.

    Attributes:
        kind: a short name such as `leak`.
        message: a sentence that says what it means and what helps.
        count: how many photos, pairs, items or classes are concerned.
        examples: the first few of them.
    """

    level: Level
    kind: str
    message: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class CheckReport:
    """The findings and the sizes they should be read against.

    Attributes:
        splits: items per split.
        classes: items per class, classes without any included.
    """

    name: str
    digest: str
    licence: str
    splits: Mapping[str, int]
    classes: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that forbid using the dataset."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings to know of."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not self.errors


def check_dataset(dataset: Dataset, *, track: Track = quiet) -> CheckReport:
    """Read every photo again and look for whatever would spoil an evaluation."""
    photos = sorted({image for item in dataset.items for image in item.images})
    thumbnails, bad = _read_photos(dataset, photos, track)
    found = [*bad, *_left_out(dataset), *_leaks(dataset.items), *_repeats(dataset.items)]
    found += _products(dataset.items)
    found += _near_leaks(dataset.items, thumbnails)
    found += _classes(dataset)
    for protocol in dataset.protocols:
        found += _protocol(dataset, protocol)
    counts = Counter({info.label: 0 for info in dataset.labels})
    counts.update(item.label for item in dataset.items)
    return CheckReport(
        name=dataset.name,
        digest=dataset.digest,
        licence=dataset.licence,
        splits=dataset.counts(),
        classes=dict(sorted(counts.items())),
        findings=tuple(sorted(found, key=lambda finding: finding.level)),
    )


def _read_photos(dataset: Dataset, photos: Sequence[str], track: Track) -> tuple[dict[str, Vectors], list[Finding]]:
    """Thumbnails of the readable photos, findings on the others."""
    thumbnails, unreadable = read_thumbnails(dataset, photos, track, "checking photos")
    trouble: dict[type, list[str]] = defaultdict(list)
    for photo, error in unreadable.items():
        trouble[type(error)].append(photo)
    again = "import the dataset again"
    return thumbnails, [
        *_finding("error", "missing", f"photos are missing from images/; {again}", trouble[NotFound]),
        *_finding("error", "tampered", f"photos were changed after the import; {again}", trouble[Tampered]),
        *_finding("error", "broken", f"photos cannot be decoded; {again}", trouble[BadInput]),
    ]


def _left_out(dataset: Dataset) -> list[Finding]:
    photos = [f"{photo}: {reason}" for photo, reason in dataset.broken]
    report = dataset.folder / rowreport.FILE
    rows = [f"row {row}: {reason}" for row, reason in rowreport.read_rejected(report)] if report.is_file() else []
    return [
        *_finding("warning", "left-out", "photos were broken at import and left out", photos),
        *_finding("warning", "rejected-rows", f"rows of the table were rejected, see {report}", rows),
    ]


def _leaks(items: Sequence[Item]) -> list[Finding]:
    """Byte-identical photos in several splits, which make a test easier than it is."""
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        for image in item.images:
            splits[image].setdefault(item.split, item.item_id)
    leaked = [" = ".join(sorted(ids.values())) for ids in splits.values() if len(ids) > 1]
    message = "identical photos lie in several splits (leakage): results are too good; keep each in one split"
    return _finding("error", "leak", message, sorted(leaked))


def _products(items: Sequence[Item]) -> list[Finding]:
    """Products that are learned and asked for: queries then find what the model was trained to find."""
    sides: dict[str, set[bool]] = defaultdict(set)
    for item in items:
        if item.product_id is not None and item.split != "gallery":
            sides[item.product_id].add(item.split == "test")
    both = sorted(product for product, tested in sides.items() if len(tested) > 1)
    message = (
        "products lie in training and in test: results hold for products that were learned; "
        "split by product to learn how new ones do"
    )
    return _finding("warning", "shared-products", message, both)


def _repeats(items: Sequence[Item]) -> list[Finding]:
    repeats = [f"{split}: {count}" for split, count in duplicates_in_split(items).items()]
    total = sum(duplicates_in_split(items).values())
    message = "photos repeat another item's photo in the same split: such a query finds its own copy"
    return _finding("warning", "repeats", message, repeats, total)


def _near_leaks(items: Sequence[Item], thumbnails: Mapping[str, Vectors]) -> list[Finding]:
    """Photos that look the same across splits; identical bytes are a leak already."""
    by_split: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in items:
        by_split[item.split] += [(item.item_id, image) for image in item.images if image in thumbnails]
    pairs: list[str] = []
    for first, second in itertools.combinations(sorted(by_split), 2):
        left, right = by_split[first], by_split[second]
        vectors = [np.stack([thumbnails[image] for _, image in side]) for side in (left, right) if side]
        if len(vectors) == 2:
            close = [(left[row], right[column]) for row, column in near_pairs(vectors[0], vectors[1], NEAR)]
            pairs += [f"{one[0]} ~ {other[0]}" for one, other in close if one[1] != other[1]]
    message = "pairs of photos look the same across splits (thumbnails alike); look at them and keep each in one split"
    return _finding("warning", "near-duplicates", message, pairs)


def _classes(dataset: Dataset) -> list[Finding]:
    used = {item.label for item in dataset.items}
    empty = [info.label for info in dataset.labels if info.label not in used]
    trained = {item.label for item in dataset.split("train", "val")}
    untrained = sorted({item.label for item in dataset.split("test")} - trained) if trained else []
    return [
        *_finding("warning", "empty-classes", "classes have no photo", empty),
        *_finding("warning", "untrained-classes", "classes of the test split have no training photo", untrained),
    ]


def _protocol(dataset: Dataset, protocol: EvalProtocol) -> list[Finding]:
    """A protocol that asks nothing, or queries that can find nothing, whatever the model."""
    queries, gallery = dataset.split(*protocol.query), dataset.split(*protocol.gallery)
    if not queries or not gallery:
        side = "queries" if not queries else "gallery"
        message = f"protocol {protocol.name} has no {side}: nothing can be evaluated with it"
        return _finding("error", "empty-protocol", message, [protocol.name])
    return [*_untitled(protocol, queries), *_lost(protocol, queries, gallery)]


def _untitled(protocol: EvalProtocol, queries: Sequence[Item]) -> list[Finding]:
    """Queries by title that have none: they are not asked."""
    silent = [item.item_id for item in queries if protocol.ask_by == "title" and not item.title]
    if len(silent) == len(queries):
        message = f"protocol {protocol.name} asks by title, and no query has one: import the titles"
        return _finding("error", "no-title", message, silent)
    return _finding("warning", "no-title", f"queries of protocol {protocol.name} have no title and do not ask", silent)


def _lost(protocol: EvalProtocol, queries: Sequence[Item], gallery: Sequence[Item]) -> list[Finding]:
    keys = Counter(getattr(item, protocol.relevance) for item in gallery)
    shared = {item.item_id for item in gallery}
    lost = Counter(
        str(key)
        for item in queries
        if (key := getattr(item, protocol.relevance)) is None or keys[key] - (item.item_id in shared) < 1
    )
    message = f"queries of protocol {protocol.name} have no other item of their {protocol.relevance} to find"
    names = [f"{key}: {count}" for key, count in sorted(lost.items())]
    return _finding("warning", "no-positive", message, names, lost.total())


def _finding(level: Level, kind: str, message: str, cases: Sequence[str], count: int | None = None) -> list[Finding]:
    number = len(cases) if count is None else count
    return [Finding(level, kind, f"{message} ({number})", number, tuple(cases[:_SHOWN]))] if number else []
