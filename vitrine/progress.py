"""Progress as a parameter: library code reports through `Track`, the command line draws the bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")

Words = str | Callable[[], str]
"""What is worked at, in a few words; a function says it anew after each thing."""


class Track(Protocol):
    """Yield the things given, telling somebody how far it is."""

    def __call__(self, things: Iterable[T], what: Words, total: int | None = None) -> Iterable[T]:
        """`what` names the work in a few words; `total` is needed where `things` has no length."""
        ...


def quiet(things: Iterable[T], what: Words, total: int | None = None) -> Iterable[T]:
    """Report nothing."""
    del what, total
    return things


def bar(things: Iterable[T], what: Words, total: int | None = None) -> Iterable[T]:
    """Draw a progress bar on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(_text(what), total=total)
        for thing in progress.track(things, total=total, task_id=task):
            yield thing
            if callable(what):
                progress.update(task, description=_text(what))


def _text(what: Words) -> str:
    return what() if callable(what) else what
