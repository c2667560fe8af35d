"""Tables with one row a version: quality, other protocols, approximate search, health; and what each dataset says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrine.metrics import METRICS, PRIMARY
from vitrine.report_data import BASELINE, Cell, baseline_of, comparable, difference
from vitrine.report_tables import Table, Value
from vitrine.stats import Interval, decision

SHOWN = (PRIMARY, "mr@1", "map@10[/min(R,k)]", "mrr", "ndcg@10")
CLASSIFIERS = {"own": "own classifier", "knn": "neighbours' vote", "probe": "linear probe"}

_WHO = ("dataset", "cell", "version", "strategy", "backbone")
_GAP = ("difference", "difference low", "difference high", "verdict")


def leaderboard(cells: Sequence[Cell]) -> Table:
    """Every metric of every version, and the paired difference to its untuned backbone."""
    names = metric_names(cells)
    columns = (*_WHO, "tuned on", "dim", *names, f"{PRIMARY} low", f"{PRIMARY} high", *_GAP)
    return Table("leaderboard", columns, (_standing(cell, cells, names) for cell in cells))


def metric_names(cells: Sequence[Cell]) -> list[str]:
    """Ranking metrics in the order of their definitions, then the classifiers'."""
    found = {name for cell in cells for name in cell.exact["metrics"]}
    return [name for name in METRICS if name in found] + sorted(found - set(METRICS))


def who(cell: Cell) -> dict[str, Value]:
    """The columns that say which version a row is about."""
    names = (cell.dataset, cell.key, cell.ref, cell.strategy, cell.backbone)
    return dict(zip(_WHO, names, strict=True))


def gap(interval: Interval | None, otherwise: str) -> dict[str, Value]:
    """A paired difference as columns; `otherwise` is the verdict where there is none."""
    if interval is None:
        return {"verdict": otherwise}
    return dict(zip(_GAP, (interval.value, interval.low, interval.high, decision(interval)), strict=True))


def _standing(cell: Cell, cells: Sequence[Cell], names: Sequence[str]) -> dict[str, Value]:
    baseline = baseline_of(cell, cells)
    low, high = cell.ends(PRIMARY) or (None, None)
    otherwise = "the untuned backbone" if cell.strategy == BASELINE else "no untuned cell"
    return {
        **who(cell),
        "tuned on": None if cell.strategy == BASELINE else cell.tuned_on,
        "dim": cell.dim,
        **{name: _number(cell.exact["metrics"].get(name)) for name in names},
        f"{PRIMARY} low": low,
        f"{PRIMARY} high": high,
        **gap(difference(cell, baseline) if baseline else None, otherwise),
    }


def summary(cells: Sequence[Cell], costs: Sequence[Mapping[str, Any]]) -> Table:
    """One row a dataset: the best version, whether it beats the next one, what it took, how it was measured."""
    ours = ("dataset", "cell", "version", PRIMARY, "low", "high", "queries", "gallery", "skipped", "unit", "units")
    rival = ("runner-up", "runner-up version", "runner-up value", *_GAP)
    taken = ("tuning seconds", "price", "currency", "images_per_s")
    datasets = dict.fromkeys(cell.dataset for cell in cells)
    rows = (_headline([cell for cell in cells if cell.dataset == name], costs) for name in datasets)
    return Table("summary", (*ours, *rival, *taken, "data"), rows)


def _headline(cells: Sequence[Cell], costs: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    best = cells[0]
    low, high = best.ends(PRIMARY) or (None, None)
    facts = {name: best.exact.get(name) for name in ("queries", "gallery", "skipped", "unit", "units")}
    return {
        "dataset": best.dataset,
        "cell": best.key,
        "version": best.ref,
        PRIMARY: _number(best.exact["metrics"].get(PRIMARY)),
        "low": low,
        "high": high,
        **facts,
        **_runner_up(best, cells),
        **effort(best, costs),
        "data": str(best.exact["dataset_digest"])[:12],
    }


def _runner_up(best: Cell, cells: Sequence[Cell]) -> dict[str, Value]:
    others = [cell for cell in cells[1:] if comparable(cell, best)]
    if not others:
        return gap(None, "nothing to compare with")
    other = others[0]
    named = {"runner-up": other.key, "runner-up version": other.ref}
    value = {"runner-up value": _number(other.exact["metrics"].get(PRIMARY))}
    return {**named, **value, **gap(difference(best, other), "they share no query")}


def effort(cell: Cell, costs: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    """What tuning took (nothing for a cross: it was tuned elsewhere), and how fast the version embeds photos."""
    by_stage = {(cost["stage"], cost["cell"]): cost for cost in costs}
    tuned: Mapping[str, Any] = by_stage.get(("tune", cell.key), {})
    ran: Mapping[str, Any] = by_stage.get(("evaluate", cell.key)) or by_stage.get(("cross", cell.key), {})
    return {
        "tuning seconds": _number(tuned.get("seconds")),
        "price": _number(tuned.get("price")),
        "currency": tuned.get("currency"),
        "images_per_s": _number(ran.get("images_per_s")) or None,
    }


def protocols(cells: Sequence[Cell]) -> Table:
    """The other protocols of each version, exactly searched; `asks` tells photos from words."""
    rows = (
        {
            **who(cell),
            "protocol": other.protocol,
            "asks": "words" if other.by_words else "photo",
            "queries": other.exact["queries"],
            "gallery": other.exact["gallery"],
            **{name: _number(other.exact["metrics"].get(name)) for name in METRICS},
        }
        for cell in cells
        for other in cell.others
    )
    return Table("protocols", (*_WHO, "protocol", "asks", "queries", "gallery", *METRICS), rows)


def approximate(cells: Sequence[Cell]) -> Table:
    """Exact minus Qdrant for each version that was searched through Qdrant."""
    columns = (*_WHO, "engine", "graph", *(f"loss {name}" for name in SHOWN), "same top 10")
    return Table("qdrant", columns, (_losses(cell, cell.qdrant) for cell in cells if cell.qdrant))


def _losses(cell: Cell, qdrant: Mapping[str, Any]) -> dict[str, Value]:
    ours, theirs, details = cell.exact["metrics"], qdrant["metrics"], qdrant["details"]
    both = [name for name in SHOWN if ours.get(name) is not None and theirs.get(name) is not None]
    return {
        **who(cell),
        "engine": details.get("engine"),
        "graph": details.get("graph"),
        **{f"loss {name}": float(ours[name]) - float(theirs[name]) for name in both},
        "same top 10": _number(details.get("recall_against_exact@10")),
    }


def health(cells: Sequence[Cell]) -> Table:
    """State of each version's vectors, and every remark that its evaluation made about vectors or data."""
    columns = (*_WHO, "finite", "effective rank", "mean cosine", "copies", "remarks")
    return Table("health", columns, (_state(cell) for cell in cells if cell.exact["details"].get("health")))


def _state(cell: Cell) -> dict[str, Value]:
    details = cell.exact["details"]
    found = details["health"]
    finite = found.get("finite")
    return {
        **who(cell),
        "finite": None if finite is None else "yes" if finite else "no",
        "effective rank": _number(found.get("effective_rank")),
        "mean cosine": _number(found.get("mean_cosine")),
        "copies": _number(found.get("duplicate_share")),
        "remarks": "; ".join(_remarks(details)) or None,
    }


def _remarks(details: Mapping[str, Any]) -> list[str]:
    """The sentences under `warnings`, where an evaluation has them."""
    return [str(sentence) for sentence in details.get("warnings") or []]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
