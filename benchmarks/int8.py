"""int8 on the processor: how quick, and what it costs in retrieval. Prints benchmarks/int8.md.

    python benchmarks/int8.py --photos data/grocery-store bundles/full--mini--grocery-store ... > benchmarks/int8.md

Speed: processor seconds of one thread, engines alternating round by round on the same photos, among them the image tower
of a CLIP ViT-B/32 with random weights. Quality: each version given, photo by photo against its float32 self. Engines are
built by `vitrine engine build`'s own code, calibrated and judged on training photos; the test photos are used here alone.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrine.bundle import Bundle, read_bundle
from vitrine.dataset import Dataset, load_dataset
from vitrine.embedding import EmbeddedDataset
from vitrine.encoder import Encoder, load_encoder
from vitrine.engine_build import BuildPlan, Built, build_engine
from vitrine.errors import Refused
from vitrine.home import Home
from vitrine.metrics import resolve_metric
from vitrine.progress import bar
from vitrine.ranking import measure
from vitrine.registry import open_registry
from vitrine.retrieval import Retrieval, retrieve
from vitrine.stats import Interval, paired_bootstrap

BATCHES = (1, 8, 32)
ROUNDS = 15
MARGIN = 0.01
ENOUGH = 1.5
METRIC = "mmp@5"
K = 10
RANDOM = "ViT-B-32"


@dataclass(frozen=True)
class Pair:
    """A version in float32 and in int8."""

    name: str
    fp32: Encoder
    int8: Encoder
    built: Built


def main() -> None:
    """Measure and print the page."""
    arguments = _arguments()
    dataset = load_dataset(arguments.photos)
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch), f"sqlite:///{scratch}/registry.db", arguments.photos.parent)
        speeds, qualities = [], []
        for folder in [_random_clip(Path(scratch), dataset), *arguments.bundles]:
            bundle = read_bundle(folder)
            try:
                pair = _pair(home, folder.name, bundle, dataset)
            except Refused as error:
                speeds.append(f"| {folder.name} | not built: {error} | | |")
                continue
            ratios = _speed(pair, dataset)
            speeds.append(_speed_row(pair, ratios))
            if folder in arguments.bundles:
                qualities.append(_quality(pair, dataset, float(np.median(ratios[8][2]))))
    print(_page(speeds, qualities, dataset))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="an imported dataset with a train split")
    parser.add_argument("bundles", type=Path, nargs="*", help="versions trained on it")
    return parser.parse_args()


def _random_clip(scratch: Path, dataset: Dataset) -> Path:
    """The image tower of CLIP ViT-B/32 with random weights, as a bundle; fetches nothing."""
    from vitrine import plugins
    from vitrine.export import export_version
    from vitrine.manifest import Licences
    from vitrine.ports import BackboneSpec

    backbone = plugins.load("families", "open-clip").load(BackboneSpec("open-clip", RANDOM, "random"))
    photos = [dataset.photo(item.images[0]) for item in dataset.split("train")[:4]]
    folder = scratch / f"{RANDOM} random"
    lineage = {"dataset": dataset.name}
    export_version(
        folder, replace(backbone, text=None), photos=photos, licences=Licences("none", "none"), lineage=lineage
    )
    return folder


def _pair(home: Home, name: str, bundle: Bundle, dataset: Dataset) -> Pair:
    registry = open_registry(home)
    model = f"v{len(registry.state().models)}"
    registry.register(model, bundle)
    plan = BuildPlan("onnxruntime", "int8", dataset.name)
    built = build_engine(registry, home, f"{model}@1", plan, threads=1, track=bar)
    fp32, int8 = (
        load_encoder(bundle, precision=precision, threads=1, engines=home.engines) for precision in ("fp32", "int8")
    )
    return Pair(name, fp32, int8, built)


def _speed(pair: Pair, dataset: Dataset) -> dict[int, tuple[float, float, NDArray[np.float64]]]:
    """Batch -> median processor ms a photo in float32 and in int8, and the ratio of each round (ROUNDS,)."""
    items = dataset.split("train")[: max(BATCHES)]
    pixels = np.stack([pair.fp32.decode(dataset.photo(item.images[0])) for item in items])
    found = {}
    for batch in BATCHES:
        times: list[tuple[float, float]] = []
        for turn in range(ROUNDS + 1):
            first, second = (pair.fp32, pair.int8) if turn % 2 else (pair.int8, pair.fp32)
            taken = {id(one): _milliseconds(one, pixels[:batch]) for one in (first, second)}
            times.append((taken[id(pair.fp32)], taken[id(pair.int8)]))
        table = np.array(times[1:])  # the first round warms up
        found[batch] = (float(np.median(table[:, 0])), float(np.median(table[:, 1])), table[:, 0] / table[:, 1])
    return found


def _milliseconds(encoder: Encoder, pixels: NDArray[np.uint8]) -> float:
    """Processor ms a photo, of runs that last at least 50 ms together so that the clock's step does not count."""
    runs, began = 0, time.process_time()
    while not runs or time.process_time() - began < 0.05:
        encoder.run(pixels)
        runs += 1
    return (time.process_time() - began) / runs / len(pixels) * 1000


def _median_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    draws = np.random.default_rng(0).choice(values, (5000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def _speed_row(pair: Pair, found: dict[int, tuple[float, float, NDArray[np.float64]]]) -> str:
    cells = []
    for fp32, int8, ratios in found.values():
        middle, low, high = _median_interval(ratios)
        cells.append(f"{fp32:.2f} / {int8:.2f} = {middle:.2f} ({low:.2f} to {high:.2f})")
    return f"| {pair.name} | " + " | ".join(cells) + " |"


def _quality(pair: Pair, dataset: Dataset, speedup: float) -> str:
    ours, theirs = (
        retrieve(EmbeddedDataset(one, dataset, track=bar), dataset.protocol()) for one in (pair.int8, pair.fp32)
    )
    metric = resolve_metric(METRIC)
    mixed = measure(ours.query_vectors, theirs.gallery_vectors, theirs.relevance).metrics[metric]
    base = theirs.exact.metrics[metric]
    both, asked = (_difference(values, base, theirs) for values in (ours.exact.metrics[metric], mixed))
    fine = both.low > -MARGIN
    verdict = (
        "shipped"
        if fine and speedup >= ENOUGH
        else "not shipped: "
        + " and ".join(
            why
            for why, wrong in (
                (f"{speedup:.2f}x at batch 8 is under {ENOUGH}x", speedup < ENOUGH),
                ("not non-inferior", not fine),
            )
            if wrong
        )
    )
    parity = pair.built.record.parity
    cells = [
        pair.name,
        f"{len(theirs.queries)} / {len(theirs.gallery)}",
        f"{np.nanmean(base):.4f}",
        f"{both.value:+.4f} ({both.low:+.4f} to {both.high:+.4f})",
        f"{asked.value:+.4f} ({asked.low:+.4f} to {asked.high:+.4f})",
        f"{_overlap(ours, theirs):.3f}",
        f"{parity['min_cosine']:.4f}",
        verdict,
    ]
    return "| " + " | ".join(cells) + " |"


def _difference(values: NDArray[np.float64], base: NDArray[np.float64], task: Retrieval) -> Interval:
    return paired_bootstrap(values, base, task.units, unit=task.unit_kind)


def _overlap(one: Retrieval, other: Retrieval) -> float:
    """Mean share of the K nearest gallery items in common; ties are in order of item id on both sides."""
    pairs = zip(one.exact.top_rows[:, :K].tolist(), other.exact.top_rows[:, :K].tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / K for a, b in pairs]))


def _page(speeds: Sequence[str], qualities: Sequence[str], dataset: Dataset) -> str:
    return "\n".join(
        ["# int8 on the processor", "", *_how(), "", *_speed_part(speeds), "", *_quality_part(qualities, dataset)]
    )


def _how() -> list[str]:
    words = ["benchmarks/int8.py", *(Path(one).name if "/" in one else one for one in sys.argv[1:])]
    cpu = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    how = (
        "Static QDQ, weights int8 per channel, activations uint8, ranges from 128 training photos; what is quantised is the "
        "quickest of three choices (`vitrine/quantize.py`)."
    )
    return [
        f"`python {shlex.join(words)}`",
        f"{dt.datetime.now(dt.UTC).date()}, {cpu}, {os.cpu_count()} cores shared with other work.",
        "",
        how,
    ]


def _speed_part(speeds: Sequence[str]) -> list[str]:
    said = f"Processor ms a photo on one thread, float32 / int8 = median ratio of {ROUNDS} alternating rounds (95 % interval)."
    columns = " | ".join(f"batch {batch}" for batch in BATCHES)
    return ["## Speed", "", said, "", f"| version | {columns} |", "|---|" + "---|" * len(BATCHES), *speeds]


def _quality_part(qualities: Sequence[str], dataset: Dataset) -> list[str]:
    said = (
        f"On {dataset.name}, its default protocol. Differences are int8 - float32 over the same queries (95 % cluster bootstrap); "
        f"non-inferior if the lower end is above {-MARGIN}. `Queries only` searches the float32 gallery with int8 queries. "
        f"Overlap@{K}: share of the {K} nearest gallery items in common, exact search, ties by rising item id."
    )
    columns = (
        f"| version | queries / gallery | {METRIC} float32 | both sides int8 | queries only | overlap@{K} | "
        "worst cosine on training photos | verdict |"
    )
    end = f"Shipped means: at least {ENOUGH}x at batch 8 and non-inferior. `VITRINE_BACKEND=auto` measures anew on each machine."
    return ["## Quality", "", said, "", columns, "|---|---|---|---|---|---|---|---|", *qualities, "", end]


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
