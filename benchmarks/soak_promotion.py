"""Promotions and rollbacks in a row under open-loop search load: `make soak-promotion` prints the page.

A real `bentoml serve` over a copy of an installation (by default `.vitrine`, as `make demo` leaves it), both
collections built beforehand by `vitrine promote --build-only`. Every answer is compared with the exact result of the
version that it names. Server and load have cores of their own where there are two.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.exact_answers import Truth
from benchmarks.promotion_load import Course, K, run
from benchmarks.promotion_page import Page
from benchmarks.promotion_switcher import Switcher
from benchmarks.soak_server import serving
from vitrine.dataset import load_dataset
from vitrine.home import Home, find_home
from vitrine.registry import Registry, open_registry


def main() -> None:
    """Run everything and print the page; exit code 1 where a promise is broken."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that the server ends too
    with tempfile.TemporaryDirectory(prefix="soak-promotion-") as name:
        home = _copied(options.home, options.datasets, Path(name))
        registry = open_registry(home)
        course = _course(options, registry)
        photos = _photos(home, course, options.queries)
        _prepare(home, course)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:-1] or cores)  # what is started now inherits it
        with serving(home.root, datasets=home.datasets, model=course.model, standby=options.standby) as server:
            server.wait_until_ready()
            os.sched_setaffinity(0, cores[-1:])
            result = asyncio.run(run(course, home, server, photos, cores))
        truths = {
            number: Truth(registry, home.collections, f"{course.model}@{number}", course.collection(number), photos, K)
            for number in course.versions
        }
    page = Page(course, result, truths, standby=options.standby)
    print(page.text())
    broken = page.broken(options.max_ratio)
    if broken:
        sys.exit(f"not as promised: {', '.join(broken)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"), help="an installation with two versions; copied")
    parser.add_argument("--datasets", type=Path, default=Path("data"))
    parser.add_argument("--model", default="", help="the only model with two versions and a production by default")
    parser.add_argument("--versions", type=int, nargs=2, default=None)
    parser.add_argument("--catalogue", default="")
    parser.add_argument("--switches", type=int, default=100, help="promotions and rollbacks, half of each")
    parser.add_argument("--every", type=float, default=8.0, help="seconds from one to the next")
    parser.add_argument("--quiet", type=float, default=120.0, help="seconds of load without a switch")
    parser.add_argument("--step", type=float, default=5.0, help="seconds of each rate when saturation is looked for")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument(
        "--standby", default="on", choices=("on", "off"), help="off: each switch loads its version anew"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-ratio", type=float, default=2.0, help="of p99 near a switch to quiet p99; 0: only told")
    return parser.parse_args()


def _copied(root: Path, datasets: Path, folder: Path) -> Home:
    """A copy of the installation, so that the original stays as it is; photos are only read."""
    if not (root / "registry.db").is_file():
        sys.exit(f"there is no installation at {root}; make one first (make demo), or name one: --home FOLDER")
    shutil.copytree(root, folder / "home", ignore=shutil.ignore_patterns("bentoml", "collections", "*.log"))
    os.environ |= {"VITRINE_HOME": str(folder / "home"), "VITRINE_DATASETS": str(datasets.resolve())}
    os.environ.pop("VITRINE_REGISTRY_URL", None)
    return find_home()


def _course(options: argparse.Namespace, registry: Registry) -> Course:
    models = registry.state().models
    fitting = [name for name, model in models.items() if len(model.versions) > 1 and model.production]
    name = options.model or (fitting[0] if fitting else sys.exit("no model has two versions and a production"))
    model = models[name]
    newest = sorted(model.versions)[-2:]
    catalogue = options.catalogue or (model.production.catalogue if model.production else "")
    first, second = options.versions or newest
    return Course(
        name,
        (first, second),
        catalogue,
        options.switches,
        options.every,
        options.quiet,
        options.step,
        options.seed,
    )


def _photos(home: Home, course: Course, count: int) -> list[bytes]:
    """Photos of the dataset, those that are not in the catalogue first."""
    dataset = load_dataset(home.datasets / course.catalogue)
    inside = {item.item_id for item in dataset.catalogue_items()}
    items = sorted(dataset.items, key=lambda item: (item.item_id in inside, item.item_id))[:count]
    return [dataset.photo(item.images[0]) for item in items]


def _prepare(home: Home, course: Course) -> None:
    """Both collections, and the first version live."""
    for number in course.versions:
        _vitrine(
            "promote", f"{course.model}@{number}", "--catalogue", course.catalogue, "--build-only", "--index", "exact"
        )
    with Switcher(course.model, course.catalogue) as switcher:
        switcher.ask("promote", course.versions[0])
    shutil.rmtree(home.root.parent / "bentoml", ignore_errors=True)


def _vitrine(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from vitrine.cli import main; main()", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"vitrine {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")


if __name__ == "__main__":
    main()
