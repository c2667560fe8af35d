"""The state of a log that several commands write to at once: follow it, decide on it, append to it.

Decisions are optimistic. An event is appended after exactly the state that it was decided on; where
somebody is faster, the decision is taken again, and raises if its ground is gone.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from vitrine.eventlog import EventLog, Overtaken, lost_to
from vitrine.events import Event
from vitrine.lifecycle import State, advance, check_promotion

_E = TypeVar("_E", bound=Event)
_TRIES = 200
_PAUSE_S = 0.02


class Ledger:
    """A log with its state. Safe for several threads and processes."""

    def __init__(self, log: EventLog, actor: str) -> None:
        self.log = log
        self.actor = actor
        self._state = State()
        self._identity = ""
        self._lock = threading.Lock()

    def state(self) -> State:
        """What the events say now. A state once returned does not change any more."""
        with self._lock:
            identity, events = self.log.follow(self._identity, self._state.seq)
            if identity != self._identity or (events and events[0].seq <= self._state.seq):
                self._identity, self._state = identity, State()  # somebody replaced or restored the log
            if events:
                self._state = advance(self._state, events)
            return self._state

    def now(self) -> str:
        """The time in UTC, ISO 8601 with microseconds."""
        return datetime.now(UTC).isoformat(timespec="microseconds")

    def stamp(self) -> dict[str, Any]:
        """`at` and `actor` for a new event."""
        return {"at": self.now(), "actor": self.actor}

    def append(self, *events: Event, expected_seq: int | None = None) -> list[Event]:
        """Add events, all or none; returns them with `seq` set.

        Args:
            events: facts that do not depend on what others do meanwhile, unless `expected_seq` is given.
            expected_seq: the state on which the caller decided; then nothing may have happened since.

        Raises:
            Conflict: somebody else was first, or the events contradict the state.
            NotFound: an event is about a version that does not exist.
        """
        if expected_seq is None:
            return self.settle(lambda _state: events)
        state = self.state()
        if state.seq == expected_seq:
            for event in events:
                check_promotion(state, event)
            advance(state, events)
        return self.log.append(events, expected_seq=expected_seq)

    def settle(self, decide: Callable[[State], Sequence[Event]]) -> list[Event]:
        """Append what `decide` makes of the present state; where somebody is faster, it decides again.

        So two commands that do not touch each other both succeed, whatever their order; one whose ground is
        gone raises in `decide` (see `unless`). No events: nothing is appended.

        Raises:
            Conflict: the events contradict the state, or others were faster for too long.
        """
        for attempt in range(_TRIES):
            state = self.state()
            events = decide(state)
            try:
                return self.append(*events, expected_seq=state.seq)
            except Overtaken:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(random.uniform(0, _PAUSE_S))
        raise AssertionError  # pragma: no cover

    def once(self, kind: type[_E], known: Callable[[State], _E | None], make: Callable[[State], _E]) -> _E:
        """The event of `kind` that says it already, else the one that `make` gives, appended."""
        found: list[Event] = []

        def decide(state: State) -> list[Event]:
            there = known(state)
            found[:] = [there] if there else []
            return [] if there else [make(state)]

        return only(kind, self.settle(decide) or found)

    def unless(self, name: str, since: int, concerns: Callable[[Event], bool]) -> None:
        """Go on if nothing that concerns the caller happened to a model after the event `since`.

        Raises:
            Conflict: something did; the message says what was first and by whom.
        """
        winner = next((event for event in self.log.read(after=since, model=name) if concerns(event)), None)
        if winner is not None:
            raise lost_to(winner)


def only(kind: type[_E], events: Sequence[Event]) -> _E:
    """The one event of a list that was made to hold one of that kind."""
    (event,) = events
    assert isinstance(event, kind)
    return event
