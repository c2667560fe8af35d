"""Reading options: they come as text from the command line and as values from params.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vitrine.errors import BadInput

T = TypeVar("T")


def whole(options: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """An integer option in [low, high].

    Raises:
        BadInput: no integer, or outside.
    """
    given = options.get(name, default)
    try:
        value = int(str(given))
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise BadInput(f"option {name}={given!r} is no whole number from {low} to {high}", field=name)
    return value


def flag(options: Mapping[str, Any], name: str) -> bool:
    """A yes-or-no option; no where it is not given.

    Raises:
        BadInput: neither true nor false.
    """
    given = str(options.get(name, "false")).lower()
    if given not in ("true", "false"):
        raise BadInput(f"option {name}={options[name]!r} is neither true nor false", field=name)
    return given == "true"


def share(options: Mapping[str, Any], name: str, default: float) -> float:
    """A share in [0, 1).

    Raises:
        BadInput: no number, or outside.
    """
    given = options.get(name, default)
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < 1:
        raise BadInput(f"option {name}={given!r} is no share: give a number from 0 to below 1, such as 0.1", field=name)
    return value


def choice(options: Mapping[str, Any], name: str, allowed: Sequence[T], default: T | None) -> T | None:
    """One of a few words.

    Raises:
        BadInput: another word.
    """
    if name not in options:
        return default
    for word in allowed:
        if str(options[name]) == word:
            return word
    raise BadInput(f"option {name}={options[name]!r} is none of {', '.join(map(str, allowed))}", field=name)
