"""A promotion and a rollback that are killed at their named moments, for real, and repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.factories import photo, tiny_bundle
from vitrine import failpoints
from vitrine.catalogue import open_catalogue
from vitrine.collection import open_collection
from vitrine.collection_content import content
from vitrine.dataset import find_dataset
from vitrine.embedding import embed_items
from vitrine.encoder import load_encoder
from vitrine.gates import GateSettings
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.items import Item
from vitrine.promotion import Promotion
from vitrine.promotion_build import Workplace
from vitrine.promotion_plan import Disk, Plan
from vitrine.registry import open_registry

MODEL, ITEMS = "shop-search", 12

_RUN = """
import json, sys
from vitrine import failpoints, promotion_build, promotion_rollback
from vitrine.gates import GateSettings
from vitrine.home import find_home
from vitrine.promotion import Promotion
from vitrine.promotion_plan import Disk, Plan
from vitrine.registry import open_registry

promotion_build._ITEMS_IN_CHUNK = 5
home = find_home()
work = Promotion(open_registry(home), home, GateSettings(), threads=1)
if sys.argv[1] == "rollback":
    live = promotion_rollback.roll_back(work, "shop-search")
else:
    number = int(sys.argv[1])
    now = work.registry.state().model("shop-search").production
    plan = Plan("shop-search", number, now, "shop", f"shop--shop-search--{number}", 12, 12, 0.0, Disk(1, 1, 0, 0, 10**9), ())
    live = work.carry_out(plan)
print(json.dumps(live.version))
"""

PROMOTE = ("started", "chunk:2", "embedded", "written", "indexed", "checked", "switched")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two versions, and a dataset of ITEMS photos."""
    folder = tmp_path / "photos/mug"
    folder.mkdir(parents=True)
    for number in range(ITEMS):
        (folder / f"{number:02d}.jpg").write_bytes(photo(number))
    home = find_home({"VITRINE_HOME": str(tmp_path / "home"), "VITRINE_DATASETS": str(tmp_path / "data")})
    for seed in (1, 2):
        open_registry(home).register(MODEL, tiny_bundle(tmp_path / f"bundle-{seed}", seed=seed))
    import_dataset("image-folder", tmp_path / "photos", "shop", home.datasets / "shop", {"holdout": 0})
    return home


def run(home: Home, what: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "VITRINE_HOME": str(home.root), "VITRINE_DATASETS": str(home.datasets)}
    if crash_at:
        env["VITRINE_CRASH_AT"] = crash_at
    return subprocess.run(
        [sys.executable, "-c", _RUN, what], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def promote(home: Home, number: int) -> None:
    """As `run`, in this process, where nothing is killed."""
    work = Promotion(open_registry(home), home, GateSettings(), threads=1)
    now = work.registry.state().model(MODEL).production
    name, room = f"shop--{MODEL}--{number}", Disk(1, 1, 0, 0, 10**9)
    work.carry_out(Plan(MODEL, number, now, "shop", name, ITEMS, ITEMS, 0.0, room, ()))


def live(home: Home) -> int | None:
    production = open_registry(home).state().model(MODEL).production
    return production.version if production else None


def complete(home: Home, number: int) -> None:
    """The collection holds the vectors that the version gives each item of the catalogue now."""
    catalogue = open_catalogue(home, "shop")
    found = content(open_collection(home.collections / f"shop--{MODEL}--{number}"), catalogue.deltas)
    items = catalogue.snapshot()[1]
    encoder = load_encoder(open_registry(home).open(f"{MODEL}@{number}"), threads=1)
    by_id = dict(zip(found.item_ids, found.vectors, strict=True))
    assert set(by_id) == {item.item_id for item in items}
    wanted = embed_items(encoder, catalogue, items)
    np.testing.assert_allclose(np.stack([by_id[item.item_id] for item in items]), wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("moment", PROMOTE)
def test_a_killed_promotion_leaves_one_version_live_and_the_same_command_finishes_it(home: Home, moment: str) -> None:
    killed = run(home, "1", f"promote.{moment}")
    live_then = live(home)
    again = run(home, "1")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert live_then == (1 if moment == "switched" else None)
    assert again.returncode == 0, again.stderr
    assert live(home) == 1
    complete(home, 1)
    assert not (home.root / "building" / f"shop--{MODEL}--1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["rollback.caught_up", "rollback.switched"])
def test_a_killed_rollback_leaves_one_version_live_with_all_that_changed(home: Home, moment: str) -> None:
    for number in (1, 2):
        promote(home, number)
    catalogue = open_catalogue(home, "shop")
    gone, kept = catalogue.snapshot()[1][:2]
    catalogue.delete([gone.item_id])
    catalogue.upsert([Item(**{**vars(kept), "title": "another title"})])

    killed = run(home, "rollback", moment)
    live_then = live(home)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert live_then == (1 if moment == "rollback.switched" else 2)
    if live_then == 2:
        again = run(home, "rollback")
        assert json.loads(again.stdout) == 1, again.stderr
    complete(home, 1)


def test_what_was_embedded_before_a_kill_is_not_embedded_again(home: Home) -> None:
    killed = run(home, "1", "promote.chunk:2")
    work = Promotion(open_registry(home), home, GateSettings())
    place = work.workplace(f"shop--{MODEL}--1", work.registry.resolve(f"{MODEL}@1").digest)
    before = place.known()

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(before) == 10  # two chunks of five
    items = find_dataset(home, "shop").catalogue_items()
    assert len({place.key(item) for item in items} - set(before)) == ITEMS - 10


def test_vectors_of_another_engine_are_not_taken_for_these(home: Home) -> None:
    registry, item = open_registry(home), find_dataset(home, "shop").items[0]
    full, half = (
        Promotion(registry, home, GateSettings(), precision=precision).workplace("c", "d").key(item)
        for precision in ("fp32", "int8")
    )
    default = Promotion(registry, home, GateSettings()).workplace("c", "d").key(item)

    assert full == default != half


def test_damaged_vectors_of_an_unfinished_run_are_made_anew(tmp_path: Path) -> None:
    place = Workplace(tmp_path / "place", "d" * 64)
    place.keep([b"a" * 32], np.ones((1, 4), np.float32))
    place.keep([b"b" * 32], np.ones((1, 4), np.float32))
    damaged = min(place.folder.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")

    assert len(place.known()) == 1


def test_every_step_of_a_promotion_and_a_rollback_has_a_name_to_be_killed_at() -> None:
    import vitrine.promotion
    import vitrine.promotion_rollback  # noqa: F401 -- declares its points

    named = {f"promote.{moment.partition(':')[0]}" for moment in PROMOTE} | {"rollback.caught_up", "rollback.switched"}
    assert {name for name in failpoints.POINTS if name.startswith(("promote.", "rollback."))} == named
