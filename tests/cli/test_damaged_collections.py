"""A collection of another version and one that is half written: one clear sentence from each command, nothing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services import wiring
from services.config import Settings
from tests.factories import tiny_bundle
from tests.living import MODEL, Shop, make_shop
from tests.runner import run_vitrine
from vitrine.collection import POINTER, ROWS, VECTORS, open_collection
from vitrine.encoder import load_encoder
from vitrine.errors import VitrineError
from vitrine.events import Promoted
from vitrine.registry import open_registry

NAME = f"shop--{MODEL}--1"
AGAIN = f"vitrine promote {MODEL}@1"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Version 1 was live and version 2 is."""
    shop = make_shop(tmp_path)
    registry = open_registry(shop.home)
    for number in (1, 2):
        shop.bundle = tiny_bundle(tmp_path / f"version-{number}", dim=8, seed=number)
        shop.encoder = load_encoder(shop.bundle, threads=1)
        registry.register(MODEL, shop.bundle)
        name = shop.collect(number).info.name
        registry.append(Promoted(model=MODEL, version=number, catalogue="shop", collection=name, **registry.stamp()))
    return shop


def of_another_version(shop: Shop) -> str:
    """Version 2's files under version 1's name."""
    there = shop.home.collections / f"shop--{MODEL}--2"
    here = shop.home.collections / NAME
    told = json.loads((there / POINTER).read_text())
    shutil.copytree(there / told["segment"], here / told["segment"])
    (here / POINTER).write_text(json.dumps({**told, "name": NAME, "version": 1}))
    return f"collection {NAME} was embedded by other content than {MODEL}@1; embed the catalogue again: {AGAIN}"


def without_its_pointer(shop: Shop) -> str:
    (shop.home.collections / NAME / POINTER).unlink()
    return f"collections/{NAME}; a promotion makes it: vitrine promote NAME@N"


def with_half_a_pointer(shop: Shop) -> str:
    pointer = shop.home.collections / NAME / POINTER
    pointer.write_text(pointer.read_text()[:40])
    return "embed the catalogue again: vitrine promote NAME@N"


def without_vectors(shop: Shop) -> str:
    (open_collection(shop.home.collections / NAME).folder / VECTORS).unlink()
    return f"{VECTORS} of collection {NAME} is missing or was changed; embed the catalogue again: {AGAIN}"


def with_half_its_vectors(shop: Shop) -> str:
    path = open_collection(shop.home.collections / NAME).folder / VECTORS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return f"{VECTORS} of collection {NAME} is missing or was changed; embed the catalogue again: {AGAIN}"


def with_half_its_rows(shop: Shop) -> str:
    path = open_collection(shop.home.collections / NAME).folder / ROWS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return f"{ROWS} of collection {NAME} is missing or was changed; embed the catalogue again: {AGAIN}"


DAMAGES = [
    of_another_version, without_its_pointer, with_half_a_pointer, without_vectors, with_half_its_vectors,
    with_half_its_rows,
]  # fmt: skip


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_rollback_to_it_is_refused_and_production_stays(
    shop: Shop, tmp_path: Path, damage: Callable[[Shop], str]
) -> None:
    sentence = damage(shop)
    ran = run_vitrine(tmp_path, "rollback", MODEL)
    assert ran.code in {1, 4, 5}
    assert sentence in flat(ran.err)
    live = open_registry(shop.home).state().model(MODEL).production
    assert live is not None
    assert live.version == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_sync_says_which_collection_is_wrong(shop: Shop, tmp_path: Path, damage: Callable[[Shop], str]) -> None:
    sentence = damage(shop)
    shop.catalogue.delete(["jug-train-0"])
    ran = run_vitrine(tmp_path, "index", "sync")
    assert ran.code in {1, 4, 5}
    assert sentence in flat(ran.err)


@pytest.mark.parametrize("damage", [one for one in DAMAGES if one is not without_its_pointer])
def test_verify_names_it_beside_what_is_sound(shop: Shop, tmp_path: Path, damage: Callable[[Shop], str]) -> None:
    sentence = damage(shop)
    ran = run_vitrine(tmp_path, "index", "verify")
    assert ran.code == 1
    assert sentence in flat(ran.out)
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_list_shows_the_others_still(shop: Shop, tmp_path: Path, damage: Callable[[Shop], str]) -> None:
    damage(shop)
    ran = run_vitrine(tmp_path, "index", "ls", "--json")
    assert ran.code == 0, ran.err
    rows = {row["collection"] for row in json.loads(ran.out)["collections"]}
    assert f"shop--{MODEL}--2" in rows


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_server_says_why_it_does_not_load_it(shop: Shop, damage: Callable[[Shop], str]) -> None:
    registry = open_registry(shop.home)
    registry.append(Promoted(model=MODEL, version=1, catalogue="shop", collection=NAME, **registry.stamp()))
    target = wiring.choose(registry.state(), "")
    assert isinstance(target, wiring.Target)
    sentence = damage(shop)
    with pytest.raises(VitrineError) as caught:
        wiring.load_live(registry, shop.home, target, Settings(threads=1, max_batch=1))
    assert sentence in flat(str(caught.value))


def test_a_list_says_what_is_wrong(shop: Shop, tmp_path: Path) -> None:
    with_half_its_rows(shop)
    ran = run_vitrine(tmp_path, "index", "ls")
    assert f"{NAME}: its files are missing or damaged; see: vitrine index verify" in flat(ran.out)
