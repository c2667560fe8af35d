"""Two evaluations of the same queries, metric by metric: every difference with its interval and corrected p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrine.errors import BadInput
from vitrine.evaluation import Evaluation
from vitrine.metrics import METRICS
from vitrine.significance import UnitSums, holm, permutation_test
from vitrine.stats import Verdict, bootstrap_means, decision

LEVEL = 0.05


@dataclass(frozen=True)
class MetricDifference:
    """One metric of `a` less that of `b`.

    Attributes:
        ci95: two-sided 95 % interval, resampling units.
        p_holm: p-value of "no difference", corrected for the number of metrics.
        decision: `better` or `worse` where the interval leaves out 0 and the corrected p-value is at most 0.05.
    """

    metric: str
    value_a: float
    value_b: float
    difference: float
    ci95: tuple[float, float]
    p_holm: float
    decision: Verdict


def metric_differences(a: Evaluation, b: Evaluation) -> list[MetricDifference]:
    """Every ranking metric that both have, paired by query.

    Raises:
        BadInput: the evaluations asked different queries.
    """
    tables = [one.per_query.sort_by("query_id") for one in (a, b)]
    if tables[0].column("query_id").to_pylist() != tables[1].column("query_id").to_pylist():
        raise BadInput("the two evaluations asked different queries; give both the same labels file")
    units = tables[0].column("unit").to_pylist()
    names = [name for name in METRICS if all(name in table.column_names for table in tables)]
    columns = {name: [np.asarray(table.column(name).to_numpy(), np.float64) for table in tables] for name in names}
    intervals = bootstrap_means({name: mine - theirs for name, (mine, theirs) in columns.items()}, units, unit=a.unit)
    corrected = holm([permutation_test(UnitSums.of(columns[name][0] - columns[name][1], units)) for name in names])
    return [
        MetricDifference(
            metric=name,
            value_a=a.metrics[name],
            value_b=b.metrics[name],
            difference=intervals[name].value,
            ci95=(intervals[name].low, intervals[name].high),
            p_holm=p_holm,
            decision=decision(intervals[name]) if p_holm <= LEVEL else "no difference shown",
        )
        for name, p_holm in zip(names, corrected, strict=True)
    ]
