"""Progress as a parameter: library code reports through `Track`, the command line draws the bar."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Yield the things given, telling somebody how far it is."""

    def __call__(self, things: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
        """`what` names the work in a few words; `total` is needed where `things` has no length."""
        ...


def quiet(things: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Report nothing."""
    del what, total
    return things
