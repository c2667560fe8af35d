"""Format `table`: a shop's export as CSV, JSONL or Parquet, photos by path or address.

One row an item. Columns are taken as told or guessed from their names. Every row ends up in the dataset,
in the dataset with a remark, or rejected with a reason: see `vitrine.rowreport`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vitrine.conclusion import Conclusion, Failures, Located
from vitrine.datasets._options import choice, flag, share, whole
from vitrine.datasets._table_columns import NAMES, Columns, find_columns
from vitrine.datasets._table_files import Table, open_table
from vitrine.datasets._table_photos import Downloads, Limits, is_remote, resolve
from vitrine.datasets._table_reasons import REASONS
from vitrine.datasets._table_rows import Reading, Row, read_rows, sample_rows
from vitrine.datasets._table_splits import Cut, Divided, SplitBy, divide, unanswerable
from vitrine.datasets._table_values import Dates
from vitrine.errors import BadInput
from vitrine.home import find_home
from vitrine.items import Item
from vitrine.ports import RawItem, Source
from vitrine.progress import Track, quiet
from vitrine.rowreport import Ledger

OPTIONS: Mapping[str, str] = {
    **{name: "column with it; an empty value leaves the field out (guessed)" for name in NAMES if name != "split"},
    "images": "column with the photos, or several with commas between (guessed)",
    "attributes.*": "column of an attribute, such as attributes.colour=Farbe (none)",
    "numbers.*": "column of a number, such as numbers.weight=Gewicht (none)",
    "label_from": "what is the class: label, category or product_id (the first of them that the table has)",
    "base": "folder or address that relative photo paths start from (the table's folder)",
    "separator": "between several photos in a cell (| and line ends; , and ; before another address)",
    "category_separator": "between the levels of a category (> or | or / with spaces around)",
    "delimiter": "between the cells of CSV, `tab` for the tabulator (found out)",
    "encoding": "of lines that are not UTF-8 (cp1252)",
    "decimal": "the decimal mark , or . where a number leaves it open (what the column uses elsewhere)",
    "dates": "order of dates with slashes: dmy or mdy (only dates that can be told apart)",
    "split": f"what is held back as a whole: {', '.join(get_args(SplitBy))} (product where there are any, else item)",
    "split_column": "with split=column: the column that says train, val, test or gallery (guessed)",
    "holdout": "share of the items held back for the test; 0 makes everything test (0.2)",
    "validation": "share of the remaining items for the val split (0.1)",
    "sample": "import at most so many items, chosen before anything is fetched; 0 takes all (0)",
    "seed": "seed of these choices (0)",
    "jobs": "photos fetched at once, at most 8 of them from one host (16)",
    "timeout": "seconds without an answer after which a photo is given up, 1 to 600 (20)",
    "tries": "how often a photo is tried that may come later (3)",
    "refresh": "true fetches photos again that were fetched before (false)",
    "max_rejected": "share of rejected rows above which nothing is imported (0.5)",
    "strict": "true imports nothing if any row is rejected (false)",
    "licence": "licence of the photos, free text (unknown)",
}

_CLASSES = ("label", "category", "product_id")


@dataclass(frozen=True)
class _Plan:
    """The options that matter once the rows are read."""

    cut: Cut
    max_rejected: float
    strict: bool


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Read the table and fetch its photos; see `read_tracked`."""
    return read_tracked(path, options, quiet)


def read_tracked(path: Path, options: Mapping[str, Any], track: Track) -> Source:
    """Read the table, take the sample, fetch the photos.

    Raises:
        BadInput: no table, one that breaks off, a wrong option, or no column for the ids, the photos or the classes.
        Unavailable: the library for a kind of address is missing.
    """
    downloads = Downloads(find_home().root / "downloads", _limits(options), refresh=flag(options, "refresh"))
    ledger = Ledger(REASONS)
    with _reading_file(path):
        table = _open(path, options)
        reading = _reading(path, table.columns, options)
        plan = _plan(options, reading.columns)
        ledger.notes += [f"read as {table.about}", *reading.columns.notes(), f"class from {reading.label_from}"]
        rows = read_rows(track(table.lines, "reading rows"), reading, ledger)
    if not ledger.read:
        raise BadInput(f"{path} has no row below the names of its columns; nothing can be imported")
    wanted = whole(options, "sample", 0, 0, 10**9)
    if wanted:
        rows = sample_rows(rows, wanted, plan.cut.seed, ledger)
    base = str(options.get("base") or path.parent)
    addresses = (resolve(image, base) for row in rows for image in row.images)
    downloads.fetch(list(dict.fromkeys(filter(is_remote, addresses))), track)
    return Source(
        items=_items(rows, base, downloads),
        count=len(rows),
        protocols=(),
        licence=str(options.get("licence", "unknown")),
        conclude=lambda items, failures: _conclude(rows, items, failures, reading.columns, plan, ledger),
    )


def _open(path: Path, options: Mapping[str, Any]) -> Table:
    delimiter = str(options.get("delimiter", ""))
    return open_table(
        path,
        delimiter="\t" if delimiter == "tab" else delimiter,
        encoding=str(options.get("encoding", "cp1252")),
    )


@contextmanager
def _reading_file(path: Path) -> Iterator[None]:
    """A file that breaks off or holds damaged blocks is told as such, wherever in it that shows."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(f"{path} cannot be read to its end ({reason}); export or copy it again") from error


def _reading(path: Path, present: Sequence[str], options: Mapping[str, Any]) -> Reading:
    named = {key: value for key, value in options.items() if (key in NAMES and key != "split") or "." in key}
    by_column = options.get("split") == "column"
    if not by_column:
        named["split"] = ""  # a column of that name decides only where it is asked for
    elif options.get("split_column"):
        named["split"] = options["split_column"]
    columns = find_columns(path, present, named)
    if by_column and "split" not in columns.one:
        raise BadInput(
            f"{path} has no column that looks like a split; it has: {', '.join(present)}; "
            "say which one it is: -o split_column=COLUMN",
            field="split_column",
        )
    return Reading(
        columns=columns,
        label_from=_label_from(path, present, columns, options),
        photo_separator=str(options.get("separator", "")),
        category_separator=str(options.get("category_separator", "")),
        decimal=choice(options, "decimal", (",", "."), None),
        dates=choice(options, "dates", get_args(Dates), "auto") or "auto",
    )


def _label_from(path: Path, present: Sequence[str], columns: Columns, options: Mapping[str, Any]) -> str:
    there = [name for name in _CLASSES if name in columns.one]
    if not there:
        raise BadInput(
            f"{path} has no column that looks like {', '.join(_CLASSES[:-1])} or {_CLASSES[-1]}, and one of them must be "
            f"the class; it has: {', '.join(present)}; say which one it is: -o category=COLUMN",
            field="label",
        )
    return choice(options, "label_from", tuple(there), there[0]) or there[0]


def _plan(options: Mapping[str, Any], columns: Columns) -> _Plan:
    usual: SplitBy = "product" if "product_id" in columns.one else "item"
    by: SplitBy = choice(options, "split", get_args(SplitBy), usual) or usual
    needed = {"product": "product_id", "seller": "seller", "time": "time"}.get(by)
    if needed and needed not in columns.one:
        raise BadInput(f"split={by} needs the column of {needed}; name it: -o {needed}=COLUMN", field="split")
    return _Plan(
        cut=Cut(
            by, share(options, "holdout", 0.2), share(options, "validation", 0.1), whole(options, "seed", 0, 0, 2**31)
        ),
        max_rejected=share(options, "max_rejected", 0.5),
        strict=flag(options, "strict"),
    )


def _limits(options: Mapping[str, Any]) -> Limits:
    return Limits(
        jobs=whole(options, "jobs", 16, 1, 256),
        timeout_s=whole(options, "timeout", 20, 1, 600),
        tries=whole(options, "tries", 3, 1, 10),
    )


def _items(rows: Sequence[Row], base: str, downloads: Downloads) -> Iterator[RawItem]:
    for row in rows:
        yield RawItem(
            item_id=row.item_id,
            images=tuple(downloads.located(image, resolve(image, base)) for image in row.images),
            label=row.label,
            split=row.split or "train",  # `conclude` says the last word, when photos are known by content
            category=row.category,
            product_id=row.product_id,
            title=row.title,
            attributes=row.attributes,
            numbers=row.numbers,
            price=row.price,
            brand=row.brand,
            seller=row.seller,
            time=row.time,
        )


def _conclude(
    rows: Sequence[Row],
    items: Sequence[Item],
    failures: Failures,
    columns: Columns,
    plan: _Plan,
    ledger: Ledger,
) -> Conclusion:
    """Splits of the items whose photos could be stored, and the last remarks."""
    lines = {row.item_id: (row.number, *row.also) for row in rows}
    _note_photos(rows, {item.item_id for item in items}, failures, columns, ledger)
    refusal = _refusal(items, plan, ledger)
    if refusal:
        return Conclusion((), (), ledger, refusal)
    divided = divide(items, plan.cut)
    for reason, ids in (("straddles the split", divided.straddling), ("no time to split by", divided.untimed)):
        for item_id in ids:
            ledger.note(reason, lines[item_id][0], item_id)
    for item_id, label in unanswerable(divided).items():
        ledger.note("nothing to find", lines[item_id][0], item_id, given=label, detail=label)
    ledger.notes += _about_splits(divided, plan.cut)
    return Conclusion(divided.items, divided.protocols, ledger)


def _note_photos(
    rows: Sequence[Row],
    kept: set[str],
    failures: Failures,
    columns: Columns,
    ledger: Ledger,
) -> None:
    column = " + ".join(columns.images)
    for row in rows:
        for photo, reason in failures.get(row.item_id, ()):
            assert isinstance(photo, Located)  # `_items` hands on no others
            kind = "dead link" if photo.path is None else "broken photo" if photo.path.is_file() else "missing photo"
            ledger.note(kind, row.number, row.item_id, column=column, given=photo.address, detail=reason)
        if row.item_id not in kept:
            for number in (row.number, *row.also):
                ledger.note("no photo left", number, row.item_id, column=column, detail=len(row.images))


def _refusal(items: Sequence[Item], plan: _Plan, ledger: Ledger) -> str:
    """Why nothing may be imported, or ""."""
    summary = ledger.summary()
    reasons = {
        reason: count for reason, count in summary.reasons.items() if ledger.reasons[reason].severity == "rejected"
    }
    most = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    told = f"{summary.rejected} of {summary.read} rows are rejected{f' ({most})' if most else ''}"
    if summary.rejected and plan.strict:
        return f"{told}, and strict allows none"
    if summary.rejected > plan.max_rejected * summary.read:
        return f"{told}, more than the allowed share of {plan.max_rejected:g} (-o max_rejected=…)"
    if items:
        return ""
    return f"no item is left: {told}, {summary.not_sampled} lie outside the sample (-o sample=…)"


def _about_splits(divided: Divided, cut: Cut) -> list[str]:
    lines = [f"split by {cut.by}, seed {cut.seed}"]
    if not any(item.split == "test" for item in divided.items):
        lines.append("nothing is held back for the test: give a larger share (-o holdout=…), or split by item")
    if divided.straddling:
        lines.append(
            f"{len(divided.straddling)} items straddle the split and went to the gallery: searched, not trained on, not asked"
        )
    return lines
