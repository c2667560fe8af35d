"""A shop's export as they really come: 10,000 rows in which everything goes wrong somewhere.

The generator knows what is wrong with each row that it spoils, and writes the report that it expects
beside the table: (line, item id, reason, column, given).
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HEADER = ("Artikelnummer", "Produktnr", "Bezeichnung", "Warengruppe", "Preis", "Hersteller", "Bild", "Datum")
ROWS = 10_000
CATEGORIES = [f"Haus > {room} > {thing}" for room in ("Küche", "Bad", "Flur", "Büro") for thing in "ABCDE"]

Expected = tuple[int, str, str, str, str]


@dataclass
class Row:
    """One row on its way to the file."""

    cells: dict[str, str]
    encoding: str = "utf-8"
    text: str | None = None  # the line as it is, where its cells do not say

    @property
    def item_id(self) -> str:
        return self.cells["Artikelnummer"]


@dataclass
class Nasty:
    """What was written, and what an import must say about it."""

    path: Path
    expected: set[Expected] = field(default_factory=set)
    prices: dict[str, float | None] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    photos: dict[str, int] = field(default_factory=dict)  # item id -> how many photos it keeps
    spoiled: dict[str, int] = field(default_factory=dict)  # kind of trouble -> rows
    empty_lines: int = 0


def tiny_photo(number: int) -> bytes:
    """An 8x8 bitmap that no other number has."""
    pixels = hashlib.shake_128(str(number).encode()).digest(192)
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 246, 0, 0, 54, 40, 8, 8, 1, 24, 0, 192, 0, 0, 0, 0) + pixels


def price(number: int) -> tuple[str, float]:
    """A price in one of the shapes that German exports have, and its value."""
    whole, cents = 5 + number * 37 % 4000, number % 100
    grouped = f"{whole:,}".replace(",", ".")
    shapes = (
        (f"{grouped},{cents:02} €", whole + cents / 100),
        (f"{whole},{cents:02}", whole + cents / 100),
        (f"EUR {grouped},-", float(whole)),
        (f"{whole:,}.{cents:02}", whole + cents / 100),
        (f"{grouped} €", float(whole)),
    )
    return shapes[number % len(shapes)]


def sound_row(number: int, url: str) -> tuple[Row, float]:
    """A row without fault; four in a row are one product; every 25th photo lies on the server."""
    shown, value = price(number)
    title = f'Tässe "Nr. {number}"' if number % 11 else f"Tässe {number}\nzweizeilig"
    photo = f"{url}/{number}.bmp" if number % 25 == 0 else f"fotos/{number % 50}/{number}.bmp"
    cells = (
        f"A{number:05}",
        f"P{number // 4:04}",
        title,
        CATEGORIES[number // 4 % len(CATEGORIES)],
        shown,
        "Müller",
        photo,
        f"{1 + number % 28:02}.{1 + number % 12:02}.2025",
    )
    return Row(dict(zip(HEADER, cells, strict=True))), value


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in '";\n') else cell


class _Writer:
    """Spoils rows one kind of trouble after the other, each row once, and never the row before a spoiled one."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.nasty = Nasty(folder / "export.csv")
        made = [sound_row(number, url) for number in range(ROWS)]
        self.rows = [row for row, _ in made]
        self.values: list[float | None] = [value for _, value in made]
        self.wrong: dict[int, list[tuple[str, str, str]]] = {}  # row -> (reason, column, given)
        self.lost: set[int] = set()
        self.merged: set[int] = set()
        self.left: dict[int, int] = {}
        free = [number for number in range(1, ROWS, 4) if number % 11 and number % 25 and (number - 1) % 25]
        random.Random(0).shuffle(free)
        self.free = free

    def spoil(self, kind: str, count: int, how: Callable[[int], None]) -> None:
        for _ in range(count):
            how(self.free.pop())
        self.nasty.spoiled[kind] = count

    def note(self, number: int, reason: str, column: str = "", given: str = "") -> None:
        self.wrong.setdefault(number, []).append((reason, column, given))

    def cell(self, number: int, column: str, value: str, reason: str, *, lost: bool = False) -> None:
        """Put a bad value into a cell that the report must show."""
        self.rows[number].cells[column] = value
        self.note(number, reason, column, value)
        if lost:
            self.lost.add(number)

    def no_photo(self, number: int, given: str, reason: str) -> None:
        """The only photo of an item cannot be had: one remark on the photo, one rejection of the row."""
        self.cell(number, "Bild", given, reason, lost=True)
        self.note(number, "no photo left", "Bild")

    def second_photo_dead(self, number: int) -> None:
        dead = f"{self.url}/gone/{number}.bmp"
        self.rows[number].cells["Bild"] += f"|{dead}"
        self.note(number, "dead link", "Bild", dead)

    def raw(self, number: int, text: str, reason: str, *, lost: bool) -> None:
        self.rows[number].text = text
        self.note(number, reason)
        if lost:
            self.lost.add(number)

    def open_quote(self, number: int) -> None:
        cells = [quoted(cell) for cell in self.rows[number].cells.values()]
        cells[2] = '"nicht zu'
        self.raw(number, ";".join(cells), "open quote", lost=True)

    def long_row(self, number: int) -> None:
        cells = [quoted(cell) for cell in self.rows[number].cells.values()]
        self.raw(number, ";".join([*cells, "zu", "viel"]), "long row", lost=True)

    def short_row(self, number: int) -> None:
        cells = [quoted(cell) for cell in self.rows[number].cells.values()]
        self.raw(number, ";".join(cells[:7]), "short row", lost=False)

    def other_encoding(self, number: int) -> None:
        self.rows[number].encoding = "cp1252"
        self.note(number, "other encoding")

    def torn_letter(self, number: int) -> None:
        """0x81 is no letter in either encoding."""
        self.rows[number].encoding = "cp1252"
        self.rows[number].cells["Hersteller"] = "M\udc81ller"
        self.note(number, "other encoding")
        self.note(number, "unreadable letters")

    def repeated(self, number: int) -> None:
        self.rows[number].cells = dict(self.rows[number - 1].cells)
        self.note(number, "repeated row")
        self.merged.add(number)

    def joined(self, number: int) -> None:
        photo = self.rows[number].cells["Bild"]
        self.rows[number].cells = {**self.rows[number - 1].cells, "Bild": photo}
        self.note(number, "photos joined")
        self.merged.add(number)
        self.left[number - 1] = 2

    def clashing(self, number: int) -> None:
        self.rows[number].cells["Artikelnummer"] = self.rows[number - 1].item_id
        self.note(number, "duplicate id", "", self.rows[number].item_id)
        self.lost.add(number)

    def no_price(self, number: int, given: str, reason: str) -> None:
        self.cell(number, "Preis", given, reason)
        self.values[number] = None

    def spoil_all(self) -> None:
        gone = f"{self.url}/gone"
        self.spoil("letters of another encoding", 120, self.other_encoding)
        self.spoil("letters that are none", 6, self.torn_letter)
        self.spoil("cut off", 14, self.short_row)
        self.spoil("shifted", 17, self.long_row)
        self.spoil("open quote", 9, self.open_quote)
        self.spoil("no id", 21, lambda n: self.cell(n, "Artikelnummer", "  ", "no item id", lost=True))
        self.spoil("no class", 23, lambda n: self.cell(n, "Warengruppe", "", "no label", lost=True))
        self.spoil("no photo", 31, lambda n: self.cell(n, "Bild", "", "no photo named", lost=True))
        self.spoil("dead link", 90, lambda n: self.no_photo(n, f"{gone}/{n}.bmp", "dead link"))
        self.spoil("web page", 16, lambda n: self.no_photo(n, f"{self.url}/page/{n}.bmp", "dead link"))
        self.spoil("silent", 5, lambda n: self.no_photo(n, f"{self.url}/silent/{n}.bmp", "dead link"))
        self.spoil("no file", 33, lambda n: self.no_photo(n, f"fotos/weg/{n}.bmp", "missing photo"))
        self.spoil("torn file", 27, lambda n: self.no_photo(n, f"fotos/torn/{n}.bmp", "broken photo"))
        self.spoil("second photo dead", 19, self.second_photo_dead)
        self.spoil("repeated", 44, self.repeated)
        self.spoil("joined", 26, self.joined)
        self.spoil("clashing", 35, self.clashing)
        self.spoil("no number", 28, lambda n: self.no_price(n, "auf Anfrage", "no number"))
        self.spoil("two numbers", 7, lambda n: self.no_price(n, "10,00 - 12,00", "no number"))
        self.spoil("below zero", 8, lambda n: self.no_price(n, "-5,00", "negative price"))
        self.spoil("no date", 13, lambda n: self.cell(n, "Datum", "demnächst", "no time"))
        self.spoil("doubtful date", 12, lambda n: self.cell(n, "Datum", "03/04/2025", "doubtful date"))

    def write(self) -> Nasty:
        self.spoil_all()
        nasty, line = self.nasty, 1
        out = bytearray((";".join(HEADER) + "\r\n").encode())
        for number, row in enumerate(self.rows):
            line += 1
            if number % 2500 == 2499:
                out += b";;;;;;;\r\n"
                line, nasty.empty_lines = line + 1, nasty.empty_lines + 1
            seen = "" if {"long row", "open quote"} & {why for why, *_ in self.wrong.get(number, [])} else row.item_id
            for reason, column, given in self.wrong.get(number, []):
                nasty.expected.add((line, seen.strip(), reason, column, given))
            text = row.text or ";".join(map(quoted, row.cells.values()))
            line += text.count("\n")
            out += text.encode(row.encoding, "surrogateescape") + b"\r\n"
            if number not in self.lost | self.merged:
                nasty.prices[row.item_id] = self.values[number]
                nasty.titles[row.item_id] = " ".join(row.cells["Bezeichnung"].split())
                nasty.photos[row.item_id] = self.left.get(number, 1)
        nasty.path.write_bytes(out)
        return nasty


def write_nasty_table(folder: Path, url: str) -> Nasty:
    """Write table and photos into `folder`; `url` is a server that answers as `tests.nasty_table` asks.

    Below `url`: `gone/` is 404, `page/` a web page, `silent/` no answer, anything else `tiny_photo(N)`.
    """
    writer = _Writer(folder, url)
    for shelf in (*range(50), "torn"):
        (folder / f"fotos/{shelf}").mkdir(parents=True)
    for number in range(ROWS):
        (folder / f"fotos/{number % 50}/{number}.bmp").write_bytes(tiny_photo(number))
    nasty = writer.write()
    for row in writer.rows:
        if row.cells["Bild"].startswith("fotos/torn/"):
            (folder / row.cells["Bild"]).write_bytes(tiny_photo(0)[:60])
    return nasty
