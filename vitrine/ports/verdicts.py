"""What a gate says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
