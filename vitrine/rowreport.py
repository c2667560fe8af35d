"""What became of each row of a table: nothing is dropped without a line that says why and what helps."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitrine.files import write_atomic

FILE = "import-report.csv"
COLUMNS = ("row", "item_id", "severity", "reason", "column", "given", "happened", "todo")

Severity = Literal["remark", "merged", "rejected"]
_SHOWN = 200  # characters of a given value; a whole description helps nobody


@dataclass(frozen=True, slots=True)
class Reason:
    """One kind of trouble: how grave, what it does to the row, what its owner can do.

    `happened` and `todo` are sentences; `{detail}` in them is filled in case by case.
    """

    severity: Severity
    happened: str
    todo: str


@dataclass(frozen=True, slots=True)
class Remark:
    """One line of the report.

    Attributes:
        row: line of the file where the row starts; in Parquet the number of the row, from 1.
        column: as the table calls it, or "" where the whole row is meant.
        given: what stood there, shortened.
    """

    row: int
    item_id: str
    severity: Severity
    reason: str
    column: str
    given: str
    happened: str
    todo: str


@dataclass(frozen=True)
class RowSummary:
    """How many rows ended how; the five outcomes add up to `read`, the first two to the items.

    Attributes:
        imported: without a remark.
        remarked: imported, with at least one remark.
        merged: part of the item of another row with the same id.
        rejected: no part of the dataset.
        not_sampled: sound, but outside the sample that was asked for.
        reasons: reason -> how many rows have it; a row may have several.
    """

    read: int
    imported: int
    remarked: int
    merged: int
    rejected: int
    not_sampled: int
    reasons: Mapping[str, int]


@dataclass
class Ledger:
    """Collects remarks while a table is read.

    Attributes:
        reasons: the kinds of trouble that may be noted.
        read: rows met so far.
        not_sampled: rows left out by the sample.
        notes: sentences about the table as a whole, such as which column was taken for what.
    """

    reasons: Mapping[str, Reason]
    read: int = 0
    not_sampled: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def note(
        self, reason: str, row: int, item_id: str = "", *, column: str = "", given: object = "", detail: object = ""
    ) -> None:
        """Write down what happened to a row."""
        kind = self.reasons[reason]
        text = str(given)
        self.remarks.append(
            Remark(
                row=row,
                item_id=item_id,
                severity=kind.severity,
                reason=reason,
                column=column,
                given=text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…",
                happened=kind.happened.format(detail=detail),
                todo=kind.todo.format(detail=detail),
            )
        )

    def summary(self) -> RowSummary:
        """Count rows by outcome and by reason."""
        rejected = {remark.row for remark in self.remarks if remark.severity == "rejected"}
        outside = self.not_sampled - rejected
        merged = {remark.row for remark in self.remarks if remark.severity == "merged"} - rejected - outside
        remarked = {remark.row for remark in self.remarks} - rejected - outside - merged
        reasons = Counter(reason for _, reason in {(remark.row, remark.reason) for remark in self.remarks})
        return RowSummary(
            read=self.read,
            imported=self.read - len(rejected) - len(outside) - len(merged) - len(remarked),
            remarked=len(remarked),
            merged=len(merged),
            rejected=len(rejected),
            not_sampled=len(outside),
            reasons=dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        )


def write_report(path: Path, remarks: Iterable[Remark]) -> None:
    """Write the remarks as CSV for a spreadsheet (UTF-8 with BOM), sorted by row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for remark in sorted(remarks, key=lambda remark: (remark.row, remark.severity, remark.reason)):
        writer.writerow([_harmless(getattr(remark, column)) for column in COLUMNS])
    write_atomic(path, text.getvalue().encode("utf-8-sig"))


def read_rejected(path: Path) -> list[tuple[int, str]]:
    """(row, reason) of the rejected rows of a written report."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["severity"] == "rejected"]
    return [(int(line["row"]), line["reason"]) for line in lines]


def _harmless(cell: object) -> object:
    """A foreign text that a spreadsheet would run as a formula, kept from it by an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@"} and cell[1:] else cell
