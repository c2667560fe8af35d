"""Is one version better than another? Paired differences over the same queries, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vitrine.errors import BadInput, NotFound
from vitrine.evaluation import plain
from vitrine.events import Evaluated
from vitrine.items import DEFAULT_PROTOCOL
from vitrine.metrics import PRIMARY, resolve_metric
from vitrine.names import parse_ref
from vitrine.significance import UnitSums, detectable_difference, holm, means_differ, needed_units, permutation_test
from vitrine.stats import decision, paired_bootstrap

if TYPE_CHECKING:
    from vitrine.registry import Registry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Two versions' values on the same queries, in order of query id.

    Attributes:
        name_a, name_b: `model@version`.
        evaluated: the first one's evaluation.
        column: of the per-query tables, such as `mmp@5` or `own_correct`.
        a, b: float64 (Q,), NaN where a query has nothing to find.
        table_a, table_b: the per-query tables, Q rows each.
    """

    name_a: str
    name_b: str
    evaluated: Evaluated
    column: str
    a: Floats
    b: Floats
    table_a: pa.Table
    table_b: pa.Table

    @property
    def units(self) -> list[str]:
        """The unit of each query."""
        found: list[str] = self.table_a.column("unit").to_pylist()
        return found

    @property
    def unit(self) -> str:
        """What the units are."""
        return str(self.table_a.column("unit_kind")[0].as_py()) if self.table_a.num_rows else "label"

    def units_within(self) -> list[str]:
        """Units within one label: products where they are known, else single queries."""
        return [str(row) for row in range(len(self.a))] if self.unit == "label" else self.units


@dataclass(frozen=True)
class LabelDifference:
    """One category: how many queries, both means and their difference.

    Attributes:
        p_holm: p-value of "no difference" by Student's t with a careful spread (`vitrine.significance.means_differ`), over
            products where items have one, else over queries; corrected for the number of categories (Holm).
    """

    label: str
    queries: int
    value_a: float
    value_b: float
    difference: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """`a` minus `b` on the same queries.

    Attributes:
        difference: value_a - value_b; `ci95` its two-sided 95 % interval, resampling units.
        unit: what was resampled, `n_units` of them, holding `n_queries` queries.
        p_value: of "no difference", by flipping whole units (permutation test).
        detectable: the smallest true difference that this sample shows with 80 % power.
        needed_units: units like these that would show the difference that was asked for with that power; None where
            none was asked for, or where fewer than two units leave their spread unknown.
        decision: `better`, `worse` or `no difference shown`, of `a` against `b`, by the interval.
        by_label: per category, the largest loss first.
    """

    a: str
    b: str
    dataset: str
    protocol: str
    via: str
    metric: str
    value_a: float
    value_b: float
    difference: float
    ci95: tuple[float, float]
    unit: str
    n_units: int
    n_queries: int
    p_value: float
    detectable: float
    decision: str
    by_label: tuple[LabelDifference, ...] = ()
    needed_units: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; an unknown end of the interval is null."""
        value: dict[str, Any] = plain(asdict(self))
        return value


def compare(
    registry: Registry,
    ref_a: str,
    ref_b: str,
    dataset: str,
    metric: str = PRIMARY,
    protocol: str | None = None,
    via: str = "exact",
    detect: float | None = None,
) -> Comparison:
    """Compare two versions by their newest evaluations.

    Args:
        registry: where both versions and their evaluations are.
        ref_a: `name@7`, `name@alias` or `name`.
        ref_b: what it is compared with.
        dataset: by name.
        metric: a ranking metric, or `own/accuracy`, `knn/accuracy`, `probe/accuracy`.
        via: `exact` or `qdrant`.
        protocol: by name; the dataset's default if not given.
        detect: a true difference of interest, above 0; how many units would show it is told.

    Raises:
        NotFound: a version or its evaluation does not exist; the message says which command makes it.
        BadInput: unknown metric, a difference of 0 or less, or the evaluations saw different data.
    """
    pairs = pair(registry, ref_a, ref_b, dataset, metric, protocol, via)
    found = _compared(pairs)
    if detect is None:
        return found
    return replace(found, needed_units=needed_units(UnitSums.of(pairs.a - pairs.b, pairs.units), detect))


def pair(
    registry: Registry,
    ref_a: str,
    ref_b: str,
    dataset: str,
    metric: str = PRIMARY,
    protocol: str | None = None,
    via: str = "exact",
) -> Pairs:
    """The newest evaluations of two versions, query by query; arguments and errors as of `compare`."""
    (name_a, of_a), (name_b, of_b) = (_evaluations(registry, ref, dataset, via) for ref in (ref_a, ref_b))
    wanted = protocol or DEFAULT_PROTOCOL
    newest_a, newest_b = _newest(of_a, name_a, dataset, wanted, via), _newest(of_b, name_b, dataset, wanted, via)
    again = f"evaluate both again: vitrine evaluate {name_a} --dataset {dataset}, and {name_b} likewise"
    if newest_a.dataset_digest != newest_b.dataset_digest:
        raise BadInput(f"{name_a} and {name_b} were evaluated on different contents of {dataset}; {again}")
    column = metric_column(metric, newest_a.metrics)
    table_a, table_b = (pq.read_table(registry.artifacts.path(one.per_query)) for one in (newest_a, newest_b))
    table_a, table_b = _paired(table_a, table_b, column, again)
    values_a, values_b = _values(table_a, column), _values(table_b, column)
    return Pairs(name_a, name_b, newest_a, column, values_a, values_b, table_a, table_b)


def _evaluations(registry: Registry, ref: str, dataset: str, via: str) -> tuple[str, list[Evaluated]]:
    version = registry.resolve(ref)
    name = f"{parse_ref(ref).name}@{version.number}"
    return name, [one for one in version.evaluations if (one.dataset, one.via) == (dataset, via)]


def _newest(found: list[Evaluated], name: str, dataset: str, protocol: str, via: str) -> Evaluated:
    fitting = [one for one in found if one.protocol == protocol]
    if not fitting:
        raise _missing(name, dataset, via, protocol if found else None)
    return fitting[-1]


def _missing(name: str, dataset: str, via: str, protocol: str | None = None) -> NotFound:
    under = f" under protocol {protocol}" if protocol else ""
    option = f" --protocol {protocol}" if protocol else ""
    return NotFound(
        f"{name} was not evaluated on {dataset}{under} via {via}; run: "
        f"vitrine evaluate {name} --dataset {dataset}{option} --via {via}"
    )


def metric_column(metric: str, known: Mapping[str, float]) -> str:
    """The per-query column of a metric; `own/accuracy` and its like are `own_correct`.

    Raises:
        BadInput: no such metric, or one without a value a query.
    """
    kind, slash, score = metric.partition("/")
    if not slash or kind not in ("own", "knn", "probe"):
        return resolve_metric(metric)
    if score != "accuracy" or metric not in known:
        raise BadInput(
            f"{metric!r} has no value a query to compare; of the classifiers, own/accuracy, knn/accuracy and "
            "probe/accuracy have, where the evaluation measured them",
            field="metric",
        )
    return f"{kind}_correct"


def _paired(table_a: pa.Table, table_b: pa.Table, column: str, again: str) -> tuple[pa.Table, pa.Table]:
    for table in (table_a, table_b):
        if column not in table.column_names:
            raise BadInput(f"one of the evaluations has no {column}; {again}", field="metric")
    table_a, table_b = table_a.sort_by("query_id"), table_b.sort_by("query_id")
    if table_a.column("query_id").to_pylist() != table_b.column("query_id").to_pylist():
        raise BadInput(f"the evaluations asked different queries; {again}")
    return table_a, table_b


def _values(table: pa.Table, column: str) -> Floats:
    return np.asarray(table.column(column).to_numpy(zero_copy_only=False), dtype=np.float64)


def _compared(pairs: Pairs) -> Comparison:
    a, b, evaluated = pairs.a, pairs.b, pairs.evaluated
    interval = paired_bootstrap(a, b, pairs.units, unit=pairs.unit)
    sums = UnitSums.of(a - b, pairs.units)
    kept = ~np.isnan(a - b)
    labels, within = _texts(pairs.table_a.column("label").to_pylist()), _texts(pairs.units_within())
    return Comparison(
        a=pairs.name_a,
        b=pairs.name_b,
        dataset=evaluated.dataset,
        protocol=evaluated.protocol,
        via=evaluated.via,
        metric=pairs.column.replace("_correct", "/accuracy"),
        value_a=float(a[kept].mean()) if kept.any() else float("nan"),
        value_b=float(b[kept].mean()) if kept.any() else float("nan"),
        difference=interval.value,
        ci95=(interval.low, interval.high),
        unit=interval.unit,
        n_units=interval.units,
        n_queries=interval.queries,
        p_value=permutation_test(sums),
        detectable=detectable_difference(sums),
        decision=decision(interval),
        by_label=by_category(a[kept], b[kept], labels[kept], within[kept]),
    )


def _texts(values: Sequence[str]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)


def by_category(
    a: Floats, b: Floats, labels: NDArray[np.object_], units: NDArray[np.object_]
) -> tuple[LabelDifference, ...]:
    """Each category's difference of (Q,) values, tested as the promotion gate does, but on both sides of 0.

    Args:
        a: one version's values, float64 without NaN.
        b: the other's, on the same queries.
        labels: the category of each query.
        units: what each query belongs to within its category.

    Returns:
        One entry a category, the largest loss of `a` first.
    """
    names = sorted(set(labels))
    chosen = [labels == name for name in names]
    corrected = holm(means_differ([UnitSums.of((a - b)[one], units[one].tolist()) for one in chosen]))
    rows = []
    for name, one, p_holm in zip(names, chosen, corrected, strict=True):
        mean_a, mean_b = float(a[one].mean()), float(b[one].mean())
        rows.append(LabelDifference(str(name), int(one.sum()), mean_a, mean_b, mean_a - mean_b, p_holm))
    return tuple(sorted(rows, key=lambda row: (row.difference, row.label)))
