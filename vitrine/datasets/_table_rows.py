"""Lines of a table -> rows of an import: checked, merged where an id comes twice, sampled if asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from vitrine.datasets._sampling import stable_order
from vitrine.datasets._table_columns import Columns
from vitrine.datasets._table_files import EMPTY, Line
from vitrine.datasets._table_values import (
    Cell,
    Dates,
    Doubtful,
    Mark,
    category_of,
    decimal_mark,
    number_of,
    photos_of,
    text_of,
    time_of,
)
from vitrine.items import Split
from vitrine.rowreport import Ledger

SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "query": "test",
    "gallery": "gallery",
}
_SMALLEST = 4  # items of a class in a sample, if it has so many: to train on, ask for and find


@dataclass(frozen=True)
class Reading:
    """How cells are read.

    Attributes:
        label_from: the field that is the class: `label`, `category` or `product_id`.
        photo_separator, category_separator: "" finds them out.
        decimal: the decimal mark where a text leaves it open; None takes the one that the column uses elsewhere.
    """

    columns: Columns
    label_from: str
    photo_separator: str = ""
    category_separator: str = ""
    decimal: Mark | None = None
    dates: Dates = "auto"


@dataclass(slots=True)
class Row:
    """One item of a table before its photos are read.

    Attributes:
        number: its line; `also` has the lines that were merged into it.
        figures: price and numbers as they stand, until the decimal mark of their column is known.
    """

    number: int
    item_id: str
    images: tuple[str, ...]
    label: str
    category: tuple[str, ...]
    product_id: str | None
    title: str
    brand: str | None
    seller: str | None
    time: str | None
    split: Split | None
    attributes: dict[str, str]
    figures: dict[str, Cell]
    price: float | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    also: tuple[int, ...] = ()


_CONTENT = [one.name for one in fields(Row) if one.name not in {"number", "images", "also"}]


def read_rows(lines: Iterable[Line], reading: Reading, ledger: Ledger) -> list[Row]:
    """Every line as a row of its own, part of another row, or a rejection in the ledger."""
    rows: dict[str, Row] = {}
    empty = 0
    for line in lines:
        if line.trouble == (EMPTY,):
            empty += 1
            continue
        ledger.read += 1
        row = _row(line, reading, ledger)
        if row is None:
            continue
        first = rows.setdefault(row.item_id, row)
        if first is not row:
            _merge(first, row, ledger)
    if empty:
        ledger.notes.append(f"{empty} empty lines passed over")
    found = list(rows.values())
    _settle_figures(found, reading, ledger)
    return found


def sample_rows(rows: Sequence[Row], wanted: int, seed: int, ledger: Ledger) -> list[Row]:
    """At most `wanted` rows: whole products, spread over the classes in proportion; the rest is set aside.

    Where there are too many classes for four rows each, a choice of classes is taken whole or in part.
    """
    classes: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    label_of: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.item_id):  # the order of the table decides nothing
        group = f"p:{row.product_id}" if row.product_id else f"i:{row.item_id}"
        classes[label_of.setdefault(group, row.label)][group].append(row)  # a product lies in its first class
    order = sorted(classes, key=lambda label: stable_order(label, seed))[: max(1, wanted // _SMALLEST)]
    sizes = {label: sum(map(len, classes[label].values())) for label in order}
    spare = max(0, wanted - _SMALLEST * len(order)) / max(1, sum(sizes.values()))
    kept: list[Row] = []
    for label in order:
        left = min(_SMALLEST + int(sizes[label] * spare), wanted - len(kept))
        for group in sorted(classes[label], key=lambda group: stable_order(group, seed)):
            members = classes[label][group]
            if len(members) <= left:
                kept += members
                left -= len(members)
    inside = {row.item_id for row in kept}
    ledger.not_sampled |= {number for row in rows if row.item_id not in inside for number in (row.number, *row.also)}
    return sorted(kept, key=lambda row: row.number)


def _row(line: Line, reading: Reading, ledger: Ledger) -> Row | None:
    item_id = text_of(line.cells.get(reading.columns.one["item_id"]))
    for reason, detail in line.trouble:
        ledger.note(reason, line.number, item_id, detail=detail)
    if any(ledger.reasons[reason].severity == "rejected" for reason, _ in line.trouble):
        return None
    row = _values(line, item_id, reading, ledger)
    refused = _refusal(row, line, reading)
    if refused:
        reason, name, detail = refused
        columns = reading.columns.images if name == "images" else (reading.columns.one.get(name, ""),)
        given = " + ".join(str(line.cells.get(column, "")) for column in columns)
        ledger.note(reason, line.number, item_id, column=" + ".join(columns), given=given, detail=detail)
        return None
    return row


def _refusal(row: Row, line: Line, reading: Reading) -> tuple[str, str, str] | None:
    """Why a row cannot become an item: (reason, field, detail)."""
    if not row.item_id:
        return "no item id", "item_id", ""
    if not all(_is_unicode(cell) for cell in line.cells.values()):
        return "bad text", "", ""
    if not row.images:
        return "no photo named", "images", ""
    if not row.label:
        return "no label", reading.label_from, reading.label_from
    if row.split is None and "split" in reading.columns.one:
        return "unknown split", "split", ", ".join(SPLITS)
    return None


def _values(line: Line, item_id: str, reading: Reading, ledger: Ledger) -> Row:
    columns, cells = reading.columns, line.cells

    def text(name: str) -> str:
        return text_of(cells.get(columns.one.get(name, "")))

    category = category_of(cells.get(columns.one.get("category", "")), reading.category_separator)
    product_id = text("product_id") or None
    label = {"label": text("label"), "category": "/".join(category), "product_id": product_id or ""}
    figures = {"price": columns.one["price"]} if "price" in columns.one else {}
    figures |= {f"numbers.{name}": column for name, column in columns.numbers.items()}
    return Row(
        number=line.number,
        item_id=item_id,
        images=tuple(
            dict.fromkeys(one for name in columns.images for one in photos_of(cells.get(name), reading.photo_separator))
        ),
        label=label[reading.label_from],
        category=category,
        product_id=product_id,
        title=text("title"),
        brand=text("brand") or None,
        seller=text("seller") or None,
        time=_time(line, text("time"), item_id, reading, ledger),
        split=SPLITS.get(text("split").lower()),
        attributes={
            name: value for name, column in columns.attributes.items() if (value := text_of(cells.get(column)))
        },
        figures={name: cells[column] for name, column in figures.items() if text_of(cells.get(column))},
    )


def _time(line: Line, text: str, item_id: str, reading: Reading, ledger: Ledger) -> str | None:
    if not text:
        return None
    try:
        return time_of(text, reading.dates)
    except (ValueError, OverflowError, OSError) as error:
        reason = "doubtful date" if isinstance(error, Doubtful) else "no time"
        ledger.note(reason, line.number, item_id, column=reading.columns.one["time"], given=text)
        return None


def _merge(first: Row, row: Row, ledger: Ledger) -> None:
    """Bring a second row of an id into the first, or reject it."""
    if any(getattr(first, name) != getattr(row, name) for name in _CONTENT):
        ledger.note("duplicate id", row.number, row.item_id, given=row.item_id, detail=first.number)
        return
    new = tuple(image for image in row.images if image not in first.images)
    ledger.note("photos joined" if new else "repeated row", row.number, row.item_id, detail=first.number)
    first.images += new
    first.also += (row.number,)


def _settle_figures(rows: Sequence[Row], reading: Reading, ledger: Ledger) -> None:
    """Turn texts into numbers, now that each column has shown its decimal mark."""
    seen: dict[str, Counter[Mark]] = defaultdict(Counter)
    for row in rows:
        for name, cell in row.figures.items():
            mark = decimal_mark(cell)
            if mark:
                seen[name][mark] += 1
    usual: dict[str, Mark] = {name: marks.most_common(1)[0][0] for name, marks in seen.items()}
    for row in rows:
        for name, cell in row.figures.items():
            value = _figure(name, cell, reading.decimal or usual.get(name), _noter(row, name, cell, reading, ledger))
            if name == "price":
                row.price = value
            elif value is not None:
                row.numbers[name.removeprefix("numbers.")] = value
        row.figures = {}


def _figure(name: str, cell: Cell, mark: Mark | None, note: Callable[[str, object], None]) -> float | None:
    try:
        value = number_of(cell, mark)
    except Doubtful as doubt:
        # Nothing in the column tells. Three digits behind a mark are thousands far more often than a fraction.
        value = number_of(cell, "." if "," in str(doubt) else ",")
        note("doubtful number", value)
    except ValueError:
        note("no number", "")
        return None
    if name == "price" and value < 0:
        note("negative price", "")
        return None
    return value


def _noter(row: Row, name: str, cell: Cell, reading: Reading, ledger: Ledger) -> Callable[[str, object], None]:
    columns = reading.columns
    column = columns.one["price"] if name == "price" else columns.numbers[name.removeprefix("numbers.")]
    return lambda reason, detail: ledger.note(reason, row.number, row.item_id, column=column, given=cell, detail=detail)


def _is_unicode(cell: Cell) -> bool:
    """False for lone surrogates, which JSON can smuggle in and no file can hold."""
    try:
        str(cell).encode()
    except UnicodeEncodeError:
        return False
    return True
