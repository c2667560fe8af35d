"""How often the promotion gates are right, counted: `make gate-simulation` prints benchmarks/gates.md.

Pairs of versions with a known true difference are simulated, query by query, and handed to the real gates: the paired
cluster bootstrap, Student's test within categories, Holm's correction and the told sample size are those of a promotion.
`gate_differences.csv` holds real paired differences: mMP@5 of two fully tuned versions on the 1,243 test photos of
grocery-store (MIT), with the number of each photo's label, one of 81. There a label is a product, such as a kind of apple.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vitrine.compare import by_category
from vitrine.gates import Category, Evidence, GateSettings, Quality
from vitrine.gates.categories import categories
from vitrine.gates.quality import allowance, quality_against_incumbent, units_to_pass
from vitrine.significance import UnitSums
from vitrine.stats import bootstrap_mean, paired_bootstrap, student_quantile

Floats = NDArray[np.float64]
DATA = Path(__file__).with_name("gate_differences.csv")
HIGH_CORRELATION = 0.22
"""Within labels, of the differences of a fully tuned and a head-tuned version on the same photos."""


# --- worlds: units of paired differences whose mean over queries is 0 --------------------------


@dataclass(frozen=True)
class World:
    """Where units are drawn from.

    Attributes:
        draw: (how many units, generator) -> the differences of each unit's queries.
        sums: units of this world in large number, for the sample size and the power that are computed.
    """

    name: str
    draw: Callable[[int, np.random.Generator], list[Floats]]
    sums: UnitSums


def real_units() -> list[Floats]:
    """The measured differences of each label, less their mean over all queries."""
    with DATA.open() as lines:
        rows = [(int(row["label"]), float(row["difference"])) for row in csv.DictReader(lines)]
    labels, values = (np.array(column) for column in zip(*rows, strict=True))
    return [(values - values.mean())[labels == label] for label in range(labels.max() + 1)]


def resampled() -> World:
    """Whole labels as they were measured, drawn with replacement: skew, ties and sizes are the real ones."""
    units = real_units()

    def draw(count: int, rng: np.random.Generator) -> list[Floats]:
        return [units[place] for place in rng.integers(0, len(units), count)]

    return World("photos of grocery-store, whole labels drawn anew", draw, _sums(units))


def correlated() -> World:
    """Normal differences, more alike within a label than measured, in labels of very unequal size."""
    spread = float(np.concatenate(real_units()).std())
    shared, own = spread * HIGH_CORRELATION**0.5, spread * (1 - HIGH_CORRELATION) ** 0.5

    def draw(count: int, rng: np.random.Generator) -> list[Floats]:
        sizes = rng.geometric(1 / 8, count)
        return [rng.normal(0, shared) + rng.normal(0, own, size) for size in sizes]

    name = f"normal, correlation {HIGH_CORRELATION} within labels of 1 to about 50 photos"
    return World(name, draw, _sums(draw(20_000, np.random.default_rng(99))))


def _sums(units: Sequence[Floats]) -> UnitSums:
    return UnitSums(np.array([unit.sum() for unit in units]), np.array([float(len(unit)) for unit in units]))


def correlation(units: Sequence[Floats]) -> float:
    """Share of the variance that lies between units, from a one-way analysis of variance (Donner 1986)."""
    sizes, every = np.array([len(unit) for unit in units]), np.concatenate(units)
    between = sum(len(unit) * (unit.mean() - every.mean()) ** 2 for unit in units) / (len(units) - 1)
    within = sum(((unit - unit.mean()) ** 2).sum() for unit in units) / (len(every) - len(units))
    typical = (len(every) - (sizes**2).sum() / len(every)) / (len(units) - 1)
    share = max(0.0, (between - within) / typical)
    return float(share / (share + within))


# --- non-inferiority ----------------------------------------------------------------------------


def accepted(world: World, units: int, margin: float, true: float, seed: int) -> bool:
    """One simulated pair through the real gate."""
    rng = np.random.default_rng([seed, units])
    drawn = world.draw(units, rng)
    names = [str(unit) for unit, values in enumerate(drawn) for _ in values]
    incumbent = rng.choice([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], len(names))
    candidate = incumbent + np.concatenate(drawn) + true
    quality = Quality(
        "simulated",
        "mmp@5",
        bootstrap_mean(candidate, names, resamples=10),
        paired_bootstrap(candidate, incumbent, names),
        chance=0.0,
        sums=UnitSums.of(candidate - incumbent, names),
    )
    evidence = Evidence("new@2", "new@1", quality=(quality,))
    return quality_against_incumbent(evidence, GateSettings(margin=margin)).lets_pass


def computed_power(world: World, units: int, margin: float) -> float:
    """Chance that the interval of two equally good versions, less the allowance, begins above minus the margin."""
    error = world.sums.standard_error * (len(world.sums.sums) / units) ** 0.5
    less = allowance(world.sums) * len(world.sums.sums) / units
    return NormalDist().cdf((margin - less) / error - student_quantile(0.975, units - 1))


def advised_units(world: World, margin: float) -> int:
    """The sample size that the gate tells for this margin."""
    found = units_to_pass(world.sums, margin)
    assert found is not None  # there are thousands of units
    return found


# --- categories -----------------------------------------------------------------------------------


def refused(groups: Sequence[Floats], settings: GateSettings, bad: int, loss: float, seed: int) -> tuple[bool, bool]:
    """One simulated pair through the real gate: whether a category at the margin is named, and whether the bad one is.

    Every category is worse by exactly the margin, the least favourable case that must pass; the first `bad` ones lose
    `loss` more. Each draws its queries anew from its own measured ones.
    """
    rng = np.random.default_rng([seed, len(groups)])
    found = []
    for number, group in enumerate(groups):
        true = -settings.category_margin - (loss if number < bad else 0.0)
        values = rng.choice(group - group.mean(), len(group)) + true
        sums = UnitSums(values, np.ones(len(values)))
        found.append(Category("simulated", "mmp@5", str(number), "query", sums, 0.5 + values.mean(), 0.5))
    verdict = categories(Evidence("new@2", "new@1", categories=tuple(found)), settings)
    named = [int(row["category"]) for row in verdict.numbers["worst"] if row["p_holm"] <= settings.family_error]
    return any(number >= bad for number in named), any(number < bad for number in named)


def named_by_compare(groups: Sequence[Floats], seed: int) -> bool:
    """Two equally good versions through the test of `vitrine compare`: whether it names any category at all."""
    rng = np.random.default_rng([seed, len(groups)])
    values = np.concatenate([rng.choice(group - group.mean(), len(group)) for group in groups])
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups]).astype(str).astype(object)
    queries = np.arange(len(values)).astype(str).astype(object)
    found = by_category(values, np.zeros(len(values)), labels, queries)
    return any(one.p_holm <= 0.05 for one in found)


def category_groups(least: int) -> list[Floats]:
    """The measured differences of every label with enough photos."""
    return [unit for unit in real_units() if len(unit) >= least]


# --- the page -------------------------------------------------------------------------------------


def share(outcomes: Sequence[bool]) -> tuple[float, float]:
    """How often, and the standard error of that."""
    rate = float(np.mean(outcomes))
    return rate, (max(rate * (1 - rate), 1e-12) / len(outcomes)) ** 0.5


_WORLDS = {"resampled": resampled, "correlated": correlated}


def _accepted(world: str, units: int, margin: float, true: float, seed: int) -> bool:
    return accepted(_known(world), units, margin, true, seed)


def _known(name: str, kept: dict[str, World] = {}) -> World:  # noqa: B006  one world a process
    if name not in kept:
        kept[name] = _WORLDS[name]()
    return kept[name]


def margin_rows(pool: ProcessPoolExecutor, runs: int) -> list[str]:
    """The table of the non-inferiority gate."""
    rows = []
    for name, margin in (("resampled", 0.05), ("correlated", 0.05), ("resampled", 0.02), ("resampled", 0.01)):
        world = _known(name)
        units = advised_units(world, margin)
        cells = []
        for true in (-margin, 0.0, -2 * margin):
            one = partial(_accepted, name, units, margin, true)
            rate, _ = share(list(pool.map(one, range(runs), chunksize=20)))
            cells.append(f"{100 * rate:.1f} %")
            print(f"{name}, margin {margin}, {units} units, true {true:+.2f}: {rate:.3f}", file=sys.stderr, flush=True)
        power = f"{100 * computed_power(world, units, margin):.1f} %"
        rows.append(f"| {world.name} | {margin} | {units} | {cells[0]} | {cells[1]} | {power} | {cells[2]} |")
    return rows


def category_rows(pool: ProcessPoolExecutor, runs: int) -> list[str]:
    """The table of the categories' gate."""
    rows = []
    for least, bad, loss in ((20, 0, 0.0), (10, 0, 0.0), (20, 1, 0.2), (20, 1, 0.3), (10, 1, 0.4)):
        groups, settings = category_groups(least), GateSettings(min_category_queries=least)
        one = partial(refused, groups, settings, bad, loss)
        found = list(pool.map(one, range(runs), chunksize=20))
        wrong, right = (share([pair[side] for pair in found])[0] for side in (0, 1))
        print(f"{len(groups)} categories, {bad} worse by {loss}: {wrong:.3f} {right:.3f}", file=sys.stderr, flush=True)
        named = f"{100 * right:.1f} %" if bad else "-"
        worse = f"one, by {settings.category_margin + loss:.1f}" if bad else "none"
        rows.append(f"| {len(groups)} | {least} | {worse} | {100 * wrong:.1f} % | {named} |")
    return rows


def compare_rows(pool: ProcessPoolExecutor, runs: int) -> list[str]:
    """The table of `vitrine compare`."""
    rows = []
    for least in (20, 10):
        groups = category_groups(least)
        rate, _ = share(list(pool.map(partial(named_by_compare, groups), range(runs), chunksize=20)))
        print(f"compare, {len(groups)} categories: {rate:.3f}", file=sys.stderr, flush=True)
        rows.append(f"| {len(groups)} | {least} | {100 * rate:.1f} % |")
    return rows


def page(runs: int, workers: int) -> str:
    """benchmarks/gates.md."""
    began = time.perf_counter()
    with ProcessPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        margins, groups, compared = margin_rows(pool, runs), category_rows(pool, runs), compare_rows(pool, runs)
    bound = 100 * (0.025 + 3 * (0.025 * 0.975 / runs) ** 0.5)
    family = 100 * (0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5)
    units = real_units()
    facts = {
        "runs": f"{runs:,}",
        "command": "make gate-simulation",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "minutes": f"{(time.perf_counter() - began) / 60:.0f}",
        "correlation": f"{correlation(units):.3f}",
        "spread": f"{np.concatenate(units).std():.3f}",
        "bound": f"{bound:.1f}",
        "family": f"{family:.1f}",
        "margins": "\n".join(margins),
        "groups": "\n".join(groups),
        "compared": "\n".join(compared),
    }
    return _PAGE.format(**facts)


_PAGE = """# The gates, checked by simulation

Printed by `{command}` on {date}: {machine}; {runs} simulated pairs of versions a cell, {minutes} minutes.

Each pair is made of query by query differences with a known mean, and goes through the gates of a promotion: paired cluster
bootstrap, Student's test within categories, Holm's correction. Differences are those of two fully tuned versions on the 1,243 test photos
of grocery-store, in 81 labels of 5 to 34 photos: standard deviation {spread}, correlation within a label {correlation}.
They lie in `gate_differences.csv`; each simulated experiment draws whole labels from them with replacement. A second, harder
world is made up: more correlation than measured, sizes that differ more.

## quality against incumbent

"labels" is the number that the gate itself advises for that margin. Wanted: at a true difference of minus the margin at most
2.5 % + 3 standard errors = {bound} % accepted; without a difference the computed power; at twice the margin at least 95 %
refused, so at most 5 % accepted.

| differences | margin | labels | accepted at -margin | accepted at 0 | computed power | accepted at -2 x margin |
|---|---|---|---|---|---|---|
{margins}

## no worse category

Every category is truly worse by exactly the margin of 0.1, the hardest case that must still pass; in the later rows one
category loses more. Wanted: a category at the margin is named in at most 5 % + 3 standard errors = {family} % of the
experiments, whatever their number.

| categories | photos each, at least | worse than the margin | named wrongly | named rightly |
|---|---|---|---|---|
{groups}

## vitrine compare, category by category

Both versions are equally good in every category. `vitrine compare` tests each on both sides, with the spread and the correction of
the gate. Wanted: any category is named in at most {family} % of the experiments.

| categories | photos each, at least | any named |
|---|---|---|
{compared}
"""


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated pairs a cell")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    print(page(given.runs, given.workers), end="")


if __name__ == "__main__":
    main()
