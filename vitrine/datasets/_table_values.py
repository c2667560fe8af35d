"""Values as shops write them: prices with commas and signs, dates, category paths, lists of photos."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from datetime import UTC, datetime
from typing import Literal

Cell = str | int | float | tuple[str, ...]
Mark = Literal[",", "."]
Dates = Literal["auto", "dmy", "mdy"]

_EMPTY = {"", "null", "none", "nan", "n/a", "na", "#n/a", "-", "–"}  # noqa: RUF001 - shops write the dash too
_LEVELS = re.compile(r"\s*[>›»|]\s*|\s+/\s+")  # noqa: RUF001 - the arrows of breadcrumbs
_PHOTOS = re.compile(r"\s*[|\n]\s*|\s*[,;]\s*(?=[a-z][a-z0-9+.]*://)", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d.,'’ ]*")  # noqa: RUF001 - the Swiss apostrophe
_DATE = re.compile(r"(\d{1,4})[./-](\d{1,2})[./-](\d{2,4})(?:[ T]+(\d{1,2}:\d{2}(?::\d{2})?))?")


class Doubtful(ValueError):
    """The value has two readings and nothing says which one is meant."""


def text_of(cell: Cell | None) -> str:
    """A cell as one line of text: trimmed, in composed Unicode; the words for "nothing" become ""."""
    if cell is None:
        return ""
    text = ", ".join(cell) if isinstance(cell, tuple) else str(cell)
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    return "" if text.lower() in _EMPTY else text


def photos_of(cell: Cell | None, separator: str) -> tuple[str, ...]:
    """The addresses in a cell: a list, a JSON list, or text cut at `separator`.

    Without a separator it is cut at `|`, at line ends, and at commas and semicolons before an address
    with a scheme; other commas may belong to a file name.
    """
    if isinstance(cell, tuple):
        parts = list(cell)
    else:
        text = "" if cell is None else str(cell).strip()
        listed = _json_list(text)
        parts = listed if listed is not None else text.split(separator) if separator else _PHOTOS.split(text)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip().lower() not in _EMPTY))


def category_of(cell: Cell | None, separator: str) -> tuple[str, ...]:
    """The path in a cell, root first; without a separator cut at `>`, `|` and ` / `."""
    if isinstance(cell, tuple):
        parts = list(cell)
    else:
        text = text_of(cell)
        listed = _json_list(text)
        parts = listed if listed is not None else text.split(separator) if separator else _LEVELS.split(text)
    return tuple(part for part in map(text_of, parts) if part)


def number_of(cell: Cell, mark: Mark | None = None) -> float:
    """The one number in a cell, whatever stands around it: `1.234,56 €` is 1234.56.

    Args:
        cell: text or a number.
        mark: the decimal mark where the text itself leaves it open.

    Raises:
        Doubtful: `1.234` may be both and `mark` is None.
        ValueError: no number, or several.
    """
    if isinstance(cell, int | float):
        value = float(cell)
    else:
        digits, evidence = _shape(text_of(cell))
        decimal = evidence or mark
        if decimal is None and ("," in digits or "." in digits):
            raise Doubtful(digits)
        value = float(digits.replace("." if decimal == "," else ",", "").replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(f"{cell} is not finite")
    return value


def decimal_mark(cell: Cell) -> Mark | None:
    """The decimal mark that a text gives away: `,` in `1.234,56`; None where it is no number or tells nothing."""
    try:
        return _shape(text_of(cell))[1] if isinstance(cell, str) else None
    except ValueError:
        return None


def time_of(text: str, dates: Dates = "auto") -> str:
    """A point in time in ISO 8601, so that texts sort as times do: UTC where a zone is given, else as it stands.

    Raises:
        Doubtful: `03/04/2025` and `dates` is `auto`.
        ValueError: no point in time.
    """
    if re.fullmatch(r"\d{10}(\.\d+)?|\d{13}", text):  # seconds or milliseconds since 1970
        seconds = float(text) / (1000 if len(text) == 13 else 1)
        return _iso(datetime.fromtimestamp(seconds, UTC))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _written_date(text, dates)
    return text if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else _iso(moment)


def _shape(text: str) -> tuple[str, Mark | None]:
    """Digits and marks of the only number in a text, and its decimal mark if it is certain."""
    text = re.sub(r"^(?=[.,]\d)", "0", unicodedata.normalize("NFKC", text))
    found = _NUMBER.findall(text)
    if len(found) != 1:
        raise ValueError(f"{text!r} holds {len(found)} numbers")
    digits = _ungrouped(found[0].strip(" .,"))
    if re.search(r"[-−]\s*[^\d\s]{0,3}\s*$", text[: text.index(found[0][0])]):  # noqa: RUF001 - the real minus
        digits = "-" + digits
    marks = [sign for sign in digits if sign in ",."]
    if not marks:
        return digits, None
    if len(set(marks)) == 2:
        return _grouped(digits, "," if marks[-1] == "," else ".")
    if len(marks) > 1:
        return _grouped(digits, "." if marks[0] == "," else ",")
    whole, _, fraction = digits.lstrip("-").partition(marks[0])
    certain = len(fraction) != 3 or len(whole) > 3 or whole.startswith("0")
    return digits, ("," if marks[0] == "," else ".") if certain else None


def _ungrouped(digits: str) -> str:
    """Without spaces and apostrophes between groups of three."""
    plain = re.sub(r"[ '’](?=\d{3}(?!\d))", "", digits)  # noqa: RUF001 - the Swiss apostrophe
    if re.search(r"[ '’]", plain):  # noqa: RUF001
        raise ValueError(f"{digits!r} is not one number")
    return plain


def _grouped(digits: str, decimal: Mark) -> tuple[str, Mark]:
    group = re.escape("." if decimal == "," else ",")
    if not re.fullmatch(rf"-?\d{{1,3}}({group}\d{{3}})+({re.escape(decimal)}\d+)?", digits):
        raise ValueError(f"{digits!r} is not grouped by thousands")
    return digits, decimal


def _written_date(text: str, dates: Dates) -> str:
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no date")
    first, middle, last, clock = found.groups()
    if len(first) == 4:
        year, month, day = first, middle, last
    else:
        # A dot is written between day and month in the countries that write one at all.
        day_first = _day_first(int(first), int(middle), "dmy" if "." in text else dates)
        year, month, day = (last, middle, first) if day_first else (last, first, middle)
    if len(year) == 2:
        year = f"20{year}"
    date = datetime(int(year), int(month), int(day), tzinfo=UTC).date().isoformat()
    if not clock:
        return date
    hours, _, rest = clock.partition(":")
    return _iso(datetime.fromisoformat(f"{date}T{int(hours):02}:{rest}"))


def _day_first(first: int, second: int, dates: Dates) -> bool:
    if dates != "auto":
        return dates == "dmy"
    if first <= 12 and second <= 12 and first != second:
        raise Doubtful(f"{first}/{second}")
    return second <= 12


def _iso(moment: datetime) -> str:
    plain = moment.astimezone(UTC) if moment.tzinfo else moment
    return plain.replace(tzinfo=None, microsecond=0).isoformat()


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else None
