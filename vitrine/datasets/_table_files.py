"""Rows of CSV, JSONL and Parquet files, one at a time; what cannot be read is handed on with its reason."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from vitrine.datasets._table_text import Text, Trouble, check_encoding, read_texts
from vitrine.datasets._table_values import Cell
from vitrine.errors import BadInput

EMPTY: Trouble = ("empty row", "")
"""The trouble of a line without any cell filled, which spreadsheets write below their table."""

_CSV, _JSONL, _PARQUET = {".csv", ".tsv", ".txt"}, {".jsonl", ".ndjson"}, {".parquet", ".pq"}
_DELIMITERS = (",", ";", "\t", "|")
_PEEK = 1000  # rows looked at to learn the columns of a file without a header
_BATCH = 1024  # rows of Parquet in memory


@dataclass(frozen=True, slots=True)
class Line:
    """One row: column -> cell; no cells where it could not be read."""

    number: int
    cells: Mapping[str, Cell]
    trouble: tuple[Trouble, ...] = ()


@dataclass(frozen=True)
class Table:
    """An open table: its columns, its rows (read once), and how it was understood."""

    columns: tuple[str, ...]
    lines: Iterator[Line]
    about: str


def open_table(path: Path, *, delimiter: str = "", encoding: str = "cp1252") -> Table:
    """Open a table by the ending of its name; `.gz` behind it is unpacked on the way.

    Args:
        path: the file.
        delimiter: of CSV; found out if empty.
        encoding: of lines that are not UTF-8; UTF-16 is known by its first two bytes.

    Raises:
        BadInput: no such file, an unknown ending or encoding, no header, or a damaged Parquet file.
    """
    check_encoding(encoding)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    ending = suffixes[-1] if suffixes else ""
    if not path.is_file():
        raise BadInput(f"{path} is no file; give the table: {', '.join(sorted(_CSV | _JSONL | _PARQUET))}")
    if ending in _CSV:
        return _open_csv(path, "\t" if ending == ".tsv" and not delimiter else delimiter, encoding)
    if ending in _JSONL:
        return _open_jsonl(path, encoding)
    if ending in _PARQUET:
        return _open_parquet(path)
    raise BadInput(
        f"{path} is no table that can be read; its name must end in {', '.join(sorted(_CSV | _JSONL | _PARQUET))}"
    )


# --- CSV ------------------------------------------------------------------------------------


class _Feed:
    """Lines for `csv.reader`; it keeps those of the row in hand, so that they can be read again."""

    def __init__(self, texts: Iterator[Text]) -> None:
        self._texts = texts
        self._again: deque[Text] = deque()
        self.taken: list[Text] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        self.taken.append(self._again.popleft() if self._again else next(self._texts))
        return self.taken[-1].text

    def read_again(self, texts: Iterable[Text]) -> None:
        """Put lines back in front."""
        self._again.extendleft(reversed(list(texts)))


def _open_csv(path: Path, delimiter: str, encoding: str) -> Table:
    texts = read_texts(path, encoding)
    peeked = list(itertools.islice(texts, 20))
    if not any(text.text.strip() for text in peeked):
        raise BadInput(f"{path} is empty; its first line must name the columns")
    feed = _Feed(itertools.chain(peeked, texts))
    try:
        delimiter = delimiter or _sniff([text.text[:5000] for text in peeked])
        reader = csv.reader(feed, delimiter=delimiter)
        header = next(row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise BadInput(f"the first line of {path} names no columns: {error}; is it a table?") from error
    feed.taken.clear()
    columns = _header(path, header)
    shown = {"\t": "tab"}.get(delimiter, delimiter)
    return Table(
        tuple(name for name in columns if name), _csv_lines(reader, feed, columns, delimiter), f"CSV, delimiter {shown}"
    )


def _sniff(lines: Sequence[str]) -> str:
    """The delimiter that cuts the first lines into the most equal number of cells above one."""

    def fit(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        width, times = max(widths.items(), key=lambda pair: (pair[0] > 1, pair[1]))
        return (times if width > 1 else 0, width)

    return max(_DELIMITERS, key=fit)


def _header(path: Path, header: Sequence[str]) -> list[str]:
    names = [" ".join(cell.split()) for cell in header]
    twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if twice:
        raise BadInput(f"{path} has two columns called {', '.join(twice)}; give each a name of its own")
    while names and not names[-1]:  # a delimiter at the end of each line
        names.pop()
    return names


def _csv_lines(reader: Iterator[list[str]], feed: _Feed, columns: Sequence[str], delimiter: str) -> Iterator[Line]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row, problem = [], str(error)
        else:
            problem = ""
        taken, feed.taken = feed.taken, []
        while len(row) > len(columns) and not row[-1].strip():
            row.pop()
        if len(taken) > 1 and (problem or len(row) != len(columns) or not _well_quoted(taken, delimiter)):
            feed.read_again(taken[1:])
            yield Line(taken[0].number, {}, (*taken[0].trouble, ("open quote", "")))
        elif problem:
            yield Line(taken[0].number, {}, (("unreadable row", problem),))
        elif any(cell.strip() for cell in row):
            yield _csv_line(row, taken, columns)
        else:
            yield Line(taken[0].number, {}, (EMPTY,))


def _well_quoted(taken: Sequence[Text], delimiter: str) -> bool:
    """False where a quote that is left open ran on to the quote of a later row, which would then be lost."""
    try:
        list(csv.reader([text.text for text in taken], delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return True


def _csv_line(row: Sequence[str], taken: Sequence[Text], columns: Sequence[str]) -> Line:
    trouble = tuple(dict.fromkeys(trouble for text in taken for trouble in text.trouble))
    width = f"{len(row)} instead of {len(columns)}"
    if len(row) > len(columns):
        return Line(taken[0].number, {}, (*trouble, ("long row", width)))
    if len(row) < len(columns):
        trouble = (*trouble, ("short row", width))
    return Line(taken[0].number, {name: cell for name, cell in zip(columns, row, strict=False) if name}, trouble)


# --- JSONL and Parquet ----------------------------------------------------------------------


def _open_jsonl(path: Path, encoding: str) -> Table:
    lines = (_json_line(text) for text in read_texts(path, encoding) if text.text.strip())
    peeked = list(itertools.islice(lines, _PEEK))
    columns = tuple(dict.fromkeys(name for line in peeked for name in line.cells))
    if not columns:
        raise BadInput(f"{path} has no JSON object in its first {_PEEK} lines; write one object a line")
    return Table(columns, itertools.chain(peeked, lines), "JSONL")


def _json_line(text: Text) -> Line:
    try:
        value = json.loads(text.text)
    except (ValueError, RecursionError) as error:
        return Line(text.number, {}, (*text.trouble, ("unreadable row", f"no JSON: {error}")))
    if not isinstance(value, dict):
        return Line(text.number, {}, (*text.trouble, ("unreadable row", "it is no JSON object")))
    return Line(text.number, dict(_flat(value)), text.trouble)


def _open_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} is no readable Parquet file: {error}; export it again") from error
    rows = (row for batch in file.iter_batches(batch_size=_BATCH) for row in batch.to_pylist())
    lines = (Line(number, dict(_flat(row))) for number, row in enumerate(rows, 1))
    first = next(lines, None)
    if first is None:
        raise BadInput(f"{path} has no row; nothing can be imported")
    flat = tuple(
        dict.fromkeys([*first.cells, *(name for name in file.schema_arrow.names if name not in _parents(first))])
    )
    return Table(flat, itertools.chain([first], lines), "Parquet")


def _parents(line: Line) -> set[str]:
    return {name.partition(".")[0] for name in line.cells if "." in name}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Nested objects as `outer.inner`; lists as tuples of text; everything else as text or number."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{name}.")
        elif isinstance(inner, list):
            yield name, tuple(str(part) for part in inner if part is not None)
        elif isinstance(inner, bool):
            yield name, str(inner).lower()
        elif isinstance(inner, int | float | str):
            yield name, inner
        elif isinstance(inner, Decimal):
            yield name, float(inner)
        elif isinstance(inner, bytes):
            yield name, f"{len(inner)} bytes"
        else:
            yield name, "" if inner is None else inner.isoformat() if hasattr(inner, "isoformat") else str(inner)
