"""Changes since a collection's file was written, as a second, small table beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitrine.indexes._checks import FieldType, field_types
from vitrine.indexes._rows import Rows
from vitrine.ports import Delta, Vectors

_FIRST_ROOM = 64


@dataclass(frozen=True)
class Overlay:
    """M rows, never changed: `after` makes the next one, which shares what they have in common.

    Attributes:
        rows: what the changes brought, in the order they came; replaced ones stay until they are the most.
        room: float32 (at least M, D); rows beyond M belong to overlays that came later.
        place_of: each changed item -> its row here, None where it was deleted.
        seq_of: each changed item -> the number of its last change.
        dead: rows of this overlay that a later change replaced, rising.
        types: fields of its payloads.
    """

    rows: Rows
    room: Vectors
    place_of: Mapping[str, int | None] = field(default_factory=dict)
    seq_of: Mapping[str, int] = field(default_factory=dict)
    dead: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    types: Mapping[str, FieldType] = field(default_factory=dict)

    @classmethod
    def empty(cls, dim: int) -> Overlay:
        """No change yet."""
        return cls(Rows([], []), np.empty((_FIRST_ROOM, dim), np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def vectors(self) -> Vectors:
        """float32 (M, D)."""
        return self.room[: len(self.rows)]

    def after(self, changes: Sequence[Delta], written: int) -> Overlay:
        """With one change for each of some items; those that an item is past already change nothing.

        Only the newest overlay may be asked, by one thread at a time.

        Args:
            changes: at most one an item.
            written: number of the last change that the collection's file holds.
        """
        fresh = [change for change in changes if change.seq > self.seq_of.get(change.item_id, written)]
        return _compact(self._with(fresh)) if fresh else self

    def _with(self, changes: Sequence[Delta]) -> Overlay:
        replaced = [place for change in changes if (place := self.place_of.get(change.item_id)) is not None]
        held = [(change, change.vector, change.payload) for change in changes]
        added = [
            (change.item_id, vector, payload)
            for change, vector, payload in held
            if vector is not None and payload is not None
        ]
        places = dict(self.place_of) | dict.fromkeys(change.item_id for change in changes)
        places |= {item_id: len(self) + number for number, (item_id, _, _) in enumerate(added)}
        rows = Rows(
            [*self.rows.item_ids, *(item_id for item_id, _, _ in added)],
            [*self.rows.payloads, *(payload for _, _, payload in added)],
        )
        return Overlay(
            rows,
            self._roomy([vector for _, vector, _ in added]),
            places,
            {**self.seq_of, **{change.item_id: change.seq for change in changes}},
            np.union1d(self.dead, np.array(replaced, np.int64)),
            {**field_types(payload for _, _, payload in added), **self.types},
        )

    def _roomy(self, vectors: Sequence[Vectors]) -> Vectors:
        """Room that holds some more vectors behind the present ones; doubled where it is too small."""
        count, room = len(self) + len(vectors), self.room
        if count > len(room):
            room = np.empty((max(count, 2 * len(room)), room.shape[1]), np.float32)
            room[: len(self)] = self.vectors
        if vectors:
            room[len(self) : count] = np.stack(vectors)
        return room


def _compact(overlay: Overlay) -> Overlay:
    """Without the dead rows, once they are more than the living."""
    if 2 * len(overlay.dead) <= max(len(overlay), _FIRST_ROOM):
        return overlay
    kept = np.setdiff1d(np.arange(len(overlay)), overlay.dead)
    rows = Rows([overlay.rows.item_ids[row] for row in kept], [overlay.rows.payloads[row] for row in kept])
    places = dict(overlay.place_of) | {item_id: place for place, item_id in enumerate(rows.item_ids)}
    return Overlay(rows, overlay.vectors[kept], places, overlay.seq_of, types=overlay.types)
