"""A registry in which `shop-search@1` is live and `@2` and `@3` were evaluated beside it: real versions, real photos.

@1 and @3 look at colours in places, @2 has two dimensions and confuses most classes. @1 and @2 have a classifier.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.factories import tiny_bundle
from vitrine.dataset import Dataset, load_dataset
from vitrine.encoder import load_encoder
from vitrine.evaluation import per_query_parquet, record
from vitrine.evaluator import evaluate
from vitrine.events import Promoted
from vitrine.files import write_atomic
from vitrine.gates import Evidence, GateSettings, run_gates
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.lifecycle import Production
from vitrine.ports import Verdict
from vitrine.promotion_evidence import gather_evidence
from vitrine.promotion_plan import Disk, Plan
from vitrine.registry import Registry, open_registry

CLASSES, PHOTOS = 6, 24
LIVE = Production(1, "shop", "shop--shop-search--1")


@dataclass(frozen=True)
class GateShop:
    """The home, its registry and the catalogue."""

    home: Home
    registry: Registry
    dataset: Dataset

    def evidence(
        self, number: int, incumbent: Production | None = LIVE, settings: GateSettings | None = None, **given: object
    ) -> Evidence:
        """Of one version."""
        version = self.registry.resolve(f"shop-search@{number}")
        return gather_evidence(
            self.registry,
            version,
            incumbent,
            self.dataset,
            settings or GateSettings(),
            **given,  # type: ignore[arg-type]
        )

    def plan(self, number: int, incumbent: Production | None = LIVE, settings: GateSettings | None = None) -> Plan:
        """What a dry run of one version would give."""
        wanted = settings or GateSettings()
        return plan_of(number, incumbent, run_gates(self.evidence(number, incumbent, wanted), wanted))


def plan_of(number: int, incumbent: Production | None, verdicts: tuple[Verdict, ...]) -> Plan:
    """A plan with these verdicts and made-up work."""
    return Plan(
        model="shop-search",
        version=number,
        incumbent=incumbent,
        catalogue="shop",
        collection=f"shop--shop-search--{number}",
        items=1440,
        to_embed=1400,
        seconds=12.3,
        disk=Disk(1_000_000, 500_000, 0, 1_000_000, 10**9),
        verdicts=verdicts,
        price=0.0007,
        currency="USD",
    )


def class_photo(label: int, number: int) -> bytes:
    """Photos of one class share a pattern of colours under noise of their own."""
    pattern = np.random.default_rng(label).integers(60, 196, (4, 4, 3))
    noise = np.random.default_rng(1000 * label + number + 1).normal(0, 45, (4, 4, 3))
    image = Image.fromarray(np.clip(pattern + noise, 0, 255).astype(np.uint8)).resize((48, 48))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def build_shop(root: Path) -> GateShop:
    """Import, register, evaluate by exact search; takes some seconds."""
    for label in range(CLASSES):
        for number in range(PHOTOS):
            write_atomic(root / f"photos/class-{label}/{number}.jpg", class_photo(label, number))
    home = find_home({"VITRINE_HOME": str(root / "home"), "VITRINE_DATASETS": str(root / "data")})
    import_dataset(
        "image-folder", root / "photos", "shop", home.datasets / "shop", {"holdout": 0, "licence": "CC0-1.0"}
    )
    dataset, registry = load_dataset(home.datasets / "shop"), open_registry(home)
    labels = [f"class-{label}" for label in range(CLASSES)]
    for number, (dim, names) in enumerate([(96, labels), (2, labels), (64, None)], start=1):
        bundle = tiny_bundle(root / f"bundle-{number}", dim=dim, labels=names, seed=number, dataset="shop")
        registry.register("shop-search", bundle)
        evaluation, path = evaluate(load_encoder(bundle, threads=1), dataset), root / f"{number}.parquet"
        write_atomic(path, per_query_parquet(evaluation))
        record(registry, "shop-search", number, evaluation, path)
    registry.append(
        Promoted(model="shop-search", version=1, catalogue="shop", collection=LIVE.collection, **registry.stamp())
    )
    return GateShop(home, registry, dataset)
