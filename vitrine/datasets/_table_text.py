"""Lines of a text file in whatever encoding each of them is."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vitrine.errors import BadInput

Trouble = tuple[str, str]
"""(reason of `REASONS`, detail)."""

_HEAD = 1 << 20  # bytes looked at to learn the encoding


@dataclass(frozen=True, slots=True)
class Text:
    """A line with its number, from 1, and what was wrong with its letters."""

    number: int
    text: str
    trouble: tuple[Trouble, ...] = ()


def check_encoding(encoding: str) -> None:
    """Refuse the name of an encoding that there is not.

    Raises:
        BadInput: Python does not know it.
    """
    try:
        "x".encode(encoding)
    except LookupError as error:
        raise BadInput(
            f"option encoding={encoding!r} is no encoding that Python knows; such are cp1252, cp1250, iso-8859-15",
            field="encoding",
        ) from error


def read_texts(path: Path, encoding: str) -> Iterator[Text]:
    """The lines of a text file, each decoded by itself: exports get glued together from two systems.

    Raises:
        BadInput: the file is no text, or in an encoding whose letters are wider than a byte and that does not say so.
    """
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as stream:
        head = stream.read(_HEAD)
        stream.seek(0)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not head.startswith(codecs.BOM_UTF32_LE):
            yield from _wide(stream)
            return
        if head.count(0) * 4 > len(head):
            raise BadInput(
                f"{path} holds more null bytes than text has: it is UTF-32, UTF-16 without its mark, or no text; "
                "export it as UTF-8"
            )
        usual = _usual_encoding(head, encoding)
        for number, raw in enumerate(stream, 1):
            yield _decoded(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, encoding, usual)


def _usual_encoding(head: bytes, encoding: str) -> str:
    """UTF-8, unless the beginning of the file has letters beyond ASCII and no line with them is UTF-8."""
    lines = [line for line in head.split(b"\n")[:-1] or [head] if not line.isascii()]
    return "UTF-8" if not lines or any(map(_is_utf8, lines)) else encoding


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _wide(stream: IO[bytes]) -> Iterator[Text]:
    for number, text in enumerate(io.TextIOWrapper(stream, "utf-16", errors="replace", newline=""), 1):
        yield Text(number, text, (("unreadable letters", "UTF-16"),) if "\ufffd" in text else ())


def _decoded(number: int, raw: bytes, encoding: str, usual: str) -> Text:
    """One line as UTF-8 if it is that, else in the other encoding; the one that is not usual is remarked on."""
    used = "UTF-8" if _is_utf8(raw) else encoding
    text = raw.decode(used, errors="replace")
    trouble: list[Trouble] = []
    if used != usual and not raw.isascii():
        trouble.append(("other encoding", used))
    if used != "UTF-8" and "\ufffd" in text:
        trouble.append(("unreadable letters", used))
    return Text(number, text, tuple(trouble))
