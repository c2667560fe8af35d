"""What an importer decides last: splits, when it is known which photos could be stored and which are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrine.items import EvalProtocol, Item
from vitrine.rowreport import Ledger


@dataclass(frozen=True)
class Located:
    """A photo under the address that its owner knows it by.

    Attributes:
        path: the file; None where the photo could not be fetched, for the reason in `trouble`.
    """

    address: str
    path: Path | None
    trouble: str = ""


Photo = Path | bytes | Located
"""A photo as an importer hands it on: a file, encoded bytes, or a file that came from elsewhere."""

Failures = Mapping[str, Sequence[tuple[Photo, str]]]
"""Item id -> (photo, reason) of each of its photos that could not be stored."""


@dataclass(frozen=True)
class Conclusion:
    """What an importer decides when it knows which photos could be stored and which are the same.

    Attributes:
        items: those given to it, with their final splits.
        ledger: what became of each row of its source.
        refusal: why nothing may be imported, or "".
    """

    items: Sequence[Item]
    protocols: tuple[EvalProtocol, ...]
    ledger: Ledger
    refusal: str = ""
