"""What a promotion would do and cost, and whether it may."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitrine.errors import Refused, Unavailable
from vitrine.evaluation import plain
from vitrine.items import Item
from vitrine.lifecycle import Production
from vitrine.ports import Verdict

_INDEX_FACTOR = {"exact": 0.0}
"""Bytes of an index beside the collection's files, as a multiple of its vectors; exact search reads the files."""

_OTHER_INDEX = 1.5
"""A vector engine keeps its own copy of the vectors and a graph over them."""


@dataclass(frozen=True)
class Disk:
    """Bytes of a promotion, estimated from the number of items.

    Attributes:
        collection: the new collection's files.
        building: what is kept beside them until they are whole, so that a killed promotion goes on.
        index: of the new collection.
        incumbent: the live collection, which stays for the rollback.
        free: on the disk where they go.
    """

    collection: int
    building: int
    index: int
    incumbent: int
    free: int

    @property
    def needed(self) -> int:
        """The most that is taken at one time; the incumbent is there already."""
        return self.collection + self.building + self.index


@dataclass(frozen=True)
class Plan:
    """What a promotion would do, decided before anything is changed.

    Attributes:
        items: of the catalogue as it is now.
        to_embed: those of them whose vectors are not on disk yet.
        seconds: to embed them, measured on a sample.
        price: of those seconds; None where `prices` in params.yaml has none for this device.
    """

    model: str
    version: int
    incumbent: Production | None
    catalogue: str
    collection: str
    items: int
    to_embed: int
    seconds: float
    disk: Disk
    verdicts: tuple[Verdict, ...]
    price: float | None = None
    currency: str = field(default="")

    @property
    def ref(self) -> str:
        """The version's reference."""
        return f"{self.model}@{self.version}"

    @property
    def target(self) -> Production:
        """What is live when the plan was carried out."""
        return Production(self.version, self.catalogue, self.collection)

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """The verdicts that stand in the way."""
        return tuple(verdict for verdict in self.verdicts if not verdict.lets_pass)

    @property
    def overridden(self) -> tuple[str, ...]:
        """Gates that failed and were overridden."""
        return tuple(verdict.gate for verdict in self.verdicts if verdict.outcome == "overridden")

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready; an unknown end of an interval is null."""
        disk = {**asdict(self.disk), "needed": self.disk.needed}
        value: dict[str, Any] = plain(
            {**asdict(self), "disk": disk, "refused": [verdict.gate for verdict in self.refused]}
        )
        return value

    def insist(self) -> None:
        """Go on only if nothing stands in the way.

        Raises:
            Refused: a gate failed; the message names each with its numbers.
            Unavailable: as `insist_on_disk`.
        """
        if self.refused:
            reasons = "; ".join(f"[{verdict.gate}] {verdict.reason}" for verdict in self.refused)
            raise Refused(f"{self.ref} is not promoted: {reasons}")
        self.insist_on_disk()

    def insist_on_disk(self) -> None:
        """Go on only if a second collection fits beside the live one.

        Raises:
            Unavailable: the disk is too full for it.
        """
        if self.disk.needed > self.disk.free:
            raise Unavailable(
                f"the new collection and its index need about {_mb(self.disk.needed)} while they are made, "
                f"{_mb(self.disk.free)} are free; free some space (see: vitrine index gc) and promote again"
            )


def estimate_disk(items: Sequence[Item], dim: int, index: str, root: Path, incumbent: Path | None) -> Disk:
    """Bytes for a collection of these items with vectors of length D = `dim`.

    Args:
        items: the whole catalogue.
        dim: length of a vector, float32.
        index: the kind of index.
        root: a folder on the disk where the collection goes.
        incumbent: folder of the live collection.
    """
    vectors = len(items) * dim * 4
    sample = items[:: max(1, len(items) // 100)]
    payload = sum(len(str(item.payload())) + len(item.item_id) for item in sample) / max(1, len(sample))
    return Disk(
        collection=vectors + int(payload * len(items)),
        building=vectors + 32 * len(items),
        index=int(_INDEX_FACTOR.get(index, _OTHER_INDEX) * vectors),
        incumbent=_size(incumbent) if incumbent is not None else 0,
        free=shutil.disk_usage(_existing(root)).free,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
