"""What a promotion would do, and whether it may."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitrine.errors import Refused, Unavailable
from vitrine.evaluation import plain
from vitrine.lifecycle import Production
from vitrine.ports import Verdict


@dataclass(frozen=True)
class Plan:
    """What a promotion would do, decided before anything is changed."""

    model: str
    version: int
    incumbent: Production | None
    catalogue: str
    collection: str
    items: int
    seconds: float
    disk_bytes: int
    disk_free: int
    verdicts: tuple[Verdict, ...]

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """The verdicts that stand in the way."""
        return tuple(verdict for verdict in self.verdicts if not verdict.lets_pass)

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready; an unknown end of an interval is null."""
        value: dict[str, Any] = plain({**asdict(self), "refused": [verdict.gate for verdict in self.refused]})
        return value

    def insist(self) -> None:
        """Go on only if nothing stands in the way.

        Raises:
            Refused: a gate failed; the message names each with its numbers.
            Unavailable: the disk is too full for a second collection.
        """
        if self.refused:
            reasons = "; ".join(f"[{verdict.gate}] {verdict.reason}" for verdict in self.refused)
            raise Refused(f"{self.model}@{self.version} is not promoted: {reasons}")
        if self.disk_bytes * 2 > self.disk_free:
            raise Unavailable(
                f"the collection needs about {self.disk_bytes * 2 / 1e6:.0f} MB while it is written, "
                f"{self.disk_free / 1e6:.0f} MB are free; free some space and promote again"
            )
