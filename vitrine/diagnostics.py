"""Everything about an evaluation that is no score: the state of the space, weak spots, copies, and what to beware of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vitrine.dataset import Dataset
from vitrine.embedding import Space
from vitrine.health import health
from vitrine.items import Item
from vitrine.leakage import Leakage, leakage, why_no_leakage
from vitrine.metrics import PRIMARY
from vitrine.neighbourhoods import hubness, near_copies, near_copies_json
from vitrine.progress import Track, quiet
from vitrine.retrieval import Retrieval
from vitrine.sampling import sample_rows
from vitrine.slices import hardest_queries, worst_slices

_NORMS = 32
"""Items whose photos are run once more to know the length of their vectors before normalisation."""


def diagnose(
    task: Retrieval, space: Space, trained_on: Dataset | str | None = None, track: Track = quiet
) -> dict[str, Any]:
    """Diagnostics of one exact ranking, as plain values of bounded size.

    Args:
        task: the ranking.
        space: its vectors; results that several protocols share are kept there.
        trained_on: what the version was trained on, or the name of what is not here; the dataset at hand by default.
        track: progress over vectors and over photos that are read.

    Returns:
        `health` with `norm_before`, `hubness` and, where photos ask, `near_copies`; `slices`; `hardest`; `leakage`; `warnings`.
    """
    seen = task.seen
    state: dict[str, Any] = dict(health(space.vectors(seen), seen, track=track))
    gallery_ids, query_ids = ([item.item_id for item in side] for side in (task.gallery, task.queries))
    state["norm_before"] = _norm_before(space, seen)
    state["hubness"] = asdict(hubness(task.exact.top_rows, gallery_ids))
    if task.protocol.ask_by == "image":
        groups = near_copies(task.exact.top_rows, task.exact.top_scores, query_ids, gallery_ids)
        state["near_copies"] = near_copies_json(groups)
    leaked = _leakage(task, space, trained_on or space.dataset, track)
    return {
        "health": state,
        **_weak_spots(task),
        "leakage": leaked if isinstance(leaked, str) else asdict(leaked),
        "warnings": [*_remarks(state), *_doubts(leaked, trained_on)],
    }


def _norm_before(space: Space, seen: Sequence[Item]) -> dict[str, float | int] | None:
    """Lengths before normalisation, of a seeded sample of items; None where they cannot be known."""
    some = [seen[row] for row in sample_rows(len(seen), _NORMS)]
    norms = space.norms_before(some)
    if norms is None:
        return None
    low, middle, high = (float(value) for value in np.quantile(norms, (0, 0.5, 1)))
    return {"min": low, "median": middle, "max": high, "items": len(some)}


def _doubts(leaked: Leakage | str, trained_on: Dataset | str | None) -> list[str]:
    if isinstance(leaked, Leakage):
        return leaked.warnings()
    return [f"leakage is {leaked}"] if isinstance(trained_on, str) else []


def _weak_spots(task: Retrieval) -> dict[str, Any]:
    metrics = task.exact.metrics
    hardest = hardest_queries(metrics[PRIMARY], metrics["mrr"], task.queries, task.gallery, task.exact.top_rows[:, 0])
    slices = worst_slices(metrics[PRIMARY], task.queries, task.units, task.unit_kind)
    return {"slices": {"metric": PRIMARY, **asdict(slices)}, "hardest": [asdict(one) for one in hardest]}


def _leakage(task: Retrieval, space: Space, trained: Dataset | str, track: Track) -> Leakage | str:
    """Found once for all protocols that ask the same items."""
    reason = why_no_leakage(trained, task.protocol, task.queries, space.dataset)
    if reason is not None or isinstance(trained, str):
        return reason or ""
    key = ("leakage", task.protocol.query, trained.digest)
    kept = space.shared.get(key)
    if not isinstance(kept, Leakage):
        kept = leakage(trained, trained.split("train"), space.dataset, task.queries, track=track)
        space.shared[key] = kept
    return kept


def _remarks(state: dict[str, Any]) -> list[str]:
    told = []
    if state["finite"] and state["sampled"] < state["items"]:
        told.append(
            f"effective rank, uniformity and alignment are those of a sample of {state['sampled']} of {state['items']} items"
        )
    copies = state.get("near_copies", {})
    if copies.get("groups"):
        told.append(
            f"{copies['items']} items in {copies['groups']} groups have all but the same vector (cosine "
            f"{copies['cosine']} or more): near-copies in the data, or a space that cannot tell them apart"
        )
    return told
