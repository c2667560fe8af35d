from __future__ import annotations

import json
import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.factories import tiny_bundle
from tests.runner import Ran, run_vitrine
from vitrine.events import PromotionStarted
from vitrine.home import find_home
from vitrine.registry import open_registry


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    tiny_bundle(tmp_path / "one", labels=["mug", "jug"])
    assert models(tmp_path, "register", "one", "--name", "shop", "--why", "spring").code == 0
    return tmp_path


def models(root: Path, *arguments: str) -> Ran:
    return run_vitrine(root, "models", *arguments)


def as_json(root: Path, *arguments: str) -> Any:
    ran = models(root, *arguments, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_a_version_goes_to_another_registry_by_file(shop: Path) -> None:
    other = shop / "other"
    other.mkdir()
    wrote = as_json(shop, "export", "shop@1", "other/shop.tar", "--history")
    ran = models(other, "import", "shop.tar")

    assert (wrote["ref"], wrote["bytes"]) == ("shop@1", (other / "shop.tar").stat().st_size)
    assert ran.out.splitlines()[0] == "Imported shop@1."
    assert as_json(other, "import", "shop.tar")["new"] is False
    assert models(other, "history", "shop").out.count("imported from an export of shop@1: spring") == 1


def test_a_half_copied_export_is_one_sentence(shop: Path) -> None:
    models(shop, "export", "shop@1", "shop.tar")
    data = (shop / "shop.tar").read_bytes()
    (shop / "half.tar").write_bytes(data[: len(data) // 2])
    ran = models(shop, "import", "half.tar", "--name", "other")

    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.strip().splitlines()) == 1
    assert "half.tar is not whole or was altered" in ran.err


def test_a_card_is_printed_or_written(shop: Path) -> None:
    printed = models(shop, "card", "shop@1")
    models(shop, "card", "shop@1", "--out", "card.md")

    assert printed.out.startswith("# shop@1\n")
    assert (shop / "card.md").read_text().strip() == printed.out.strip()
    assert models(shop, "card", "shop@7").code == 4


def test_gc_shows_its_plan_and_removes_only_when_told(shop: Path) -> None:
    stray = shop / ".vitrine/artifacts/ab" / ("ab" + "0" * 62)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"nobody's")
    os.utime(stray, (time.time() - 9 * 86400,) * 2)

    dry = models(shop, "gc", "--dry-run")
    assert (dry.code, "no event and no catalogue names it" in dry.out, stray.exists()) == (0, True, True)
    asked = models(shop, "gc")
    assert (asked.code, "say --yes, or --dry-run" in asked.err, stray.exists()) == (2, True, True)
    done = as_json(shop, "gc", "--yes")
    assert (done["removed"], done["bytes"], stray.exists()) == (1, 8, False)
    assert "Nothing to remove." in models(shop, "gc").out
    assert models(shop, "verify").code == 0


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The disk is full once a file has so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_in_the_middle_is_one_sentence_and_loses_nothing(shop: Path) -> None:
    tiny_bundle(shop / "big", dim=8192)
    with files_of_at_most(1_000_000):
        full = models(shop, "register", "big", "--name", "shop")

    assert full.code == 6
    assert "nothing was stored: .vitrine/artifacts cannot be written: File too large; make room" in full.err
    assert list((shop / ".vitrine/artifacts/incoming").iterdir()) == []
    assert models(shop, "verify").code == 0
    assert as_json(shop, "register", "big", "--name", "shop")["ref"] == "shop@2"


def test_an_export_that_does_not_fit_leaves_the_older_one(shop: Path) -> None:
    tiny_bundle(shop / "big", dim=8192)
    models(shop, "register", "big", "--name", "shop")
    models(shop, "export", "shop@1", "shop.tar")
    before = (shop / "shop.tar").read_bytes()
    with files_of_at_most(1_000_000):
        full = models(shop, "export", "shop@2", "shop.tar")

    assert (full.code, "File too large; make room" in full.err) == (6, True)
    assert (shop / "shop.tar").read_bytes() == before
    assert [path.name for path in shop.glob(".shop*")] == []


def test_a_registry_of_a_newer_release_is_one_sentence(shop: Path) -> None:
    with sqlite3.connect(shop / ".vitrine/registry.db") as connection:
        connection.execute("UPDATE meta SET value = '9' WHERE key = 'schema'")
    connection.close()

    for command in (["ls"], ["register", "one", "--name", "shop"], ["gc", "--yes"], ["export", "shop", "x.tar"]):
        ran = models(shop, *command)
        assert (ran.code, ran.out, len(ran.err.strip().splitlines())) == (2, "", 1)
        assert "has schema 9 of meta, this release reads 1; it was written by a newer release" in ran.err


def test_the_history_shows_an_override_with_who_and_why(shop: Path) -> None:
    registry = open_registry(find_home({"VITRINE_HOME": str(shop / ".vitrine")}))
    registry.actor = "ann"
    verdict = {"gate": "parity", "outcome": "overridden", "reason": "0.2", "numbers": {}, "override": "a demo"}
    where = {"catalogue": "c", "collection": "x"}
    registry.append(PromotionStarted(model="shop", version=1, **where, verdicts=(verdict,), **registry.stamp()))

    line = models(shop, "history", "shop").out.splitlines()[-1]
    assert line.endswith("ann  began to promote shop@1 for c, overriding parity (a demo)")
