"""Tables of the report: each is a CSV file, and the only source of the numbers that the page shows.

A template never formats a float of its own. It asks a `Row`, which writes the number into a `<data>` element that
names file, line and column; so each figure of the page can be traced, and a test does so for all of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Value = str | int | float | None

UNKNOWN = Markup('<span class="soft" title="not known">–</span>')  # noqa: RUF001  a dash says: not known


@dataclass(frozen=True)
class Row:
    """One line of a table, counted from 1 below the header."""

    file: str
    line: int
    texts: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """The value as it stands in the file; "" where unknown."""
        return self.texts[column]

    def value(self, column: str) -> float | None:
        """The number as it stands in the file; None where unknown."""
        return float(self.texts[column]) if self.texts.get(column) else None

    def known(self, *columns: str) -> bool:
        """Whether the file has a value in each of these columns."""
        return all(self.texts.get(column) for column in columns)

    def figure(self, column: str) -> Markup:
        """A metric: three digits."""
        return self._shown(column, ".3f")

    def signed(self, column: str) -> Markup:
        """A difference: three digits, always with its sign."""
        return self._shown(column, "+.3f")

    def count(self, column: str) -> Markup:
        """A whole number with separated thousands."""
        return self._shown(column, ",.0f")

    def tenth(self, column: str) -> Markup:
        """A duration or a speed: one digit."""
        return self._shown(column, ",.1f")

    def money(self, column: str) -> Markup:
        """A price: four digits, small jobs cost less than a cent."""
        return self._shown(column, ",.4f")

    def span(self, low: str, high: str, style: str = "figure") -> Markup:
        """Both ends of an interval, or that it is unknown."""
        if not self.known(low, high):
            return Markup('<span class="soft">interval unknown</span>')
        show = {"figure": self.figure, "signed": self.signed}[style]
        return Markup('<span class="span">{} to {}</span>').format(show(low), show(high))

    def _shown(self, column: str, form: str) -> Markup:
        value = self.value(column)
        if value is None:
            return UNKNOWN
        return Markup('<data value="{}" data-csv="{}" data-row="{}" data-col="{}">{}</data>').format(
            self.texts[column], self.file, self.line, column, format(value, form)
        )


class Table:
    """Rows under named columns, written to `NAME.csv`."""

    def __init__(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Value]]) -> None:
        """A column that a row lacks is unknown there; a key that is no column is a mistake of the caller.

        Raises:
            KeyError: a row has a key that is no column.
        """
        self.file = f"{name}.csv"
        self.columns = tuple(columns)
        self.rows = tuple(self._row(line, row) for line, row in enumerate(rows, start=1))

    def __bool__(self) -> bool:
        """Whether there is a row."""
        return bool(self.rows)

    def where(self, **wanted: str) -> list[Row]:
        """The rows with these values, in order."""
        return [row for row in self.rows if all(row[column] == value for column, value in wanted.items())]

    def csv(self) -> str:
        """The file's text."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([row[column] for column in self.columns] for row in self.rows)
        return stream.getvalue()

    def _row(self, line: int, row: Mapping[str, Value]) -> Row:
        strange = set(row) - set(self.columns)
        if strange:
            raise KeyError(f"{self.file} has no column {', '.join(sorted(strange))}")
        return Row(self.file, line, {column: as_text(row.get(column)) for column in self.columns})


def as_text(value: Value) -> str:
    """As it is written to the file: six digits of a float, nothing for what is unknown or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(int(value)) if isinstance(value, bool) else str(value)


def code(text: str) -> Markup:
    """A name, such as a version's, that may hold digits but is no number."""
    return Markup("<code>{}</code>").format(escape(text))
