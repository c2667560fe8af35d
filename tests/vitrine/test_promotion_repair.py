from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import photo, tiny_bundle
from vitrine.errors import Refused
from vitrine.gates import GateSettings
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.ports import Verdict
from vitrine.promotion import Plan, Promotion
from vitrine.registry import open_registry

COLLECTION = "shop--shop-search--1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A registry with `shop-search@1` and the dataset `shop`."""
    add_photos(tmp_path, range(4))
    home = find_home({"VITRINE_HOME": str(tmp_path / "home"), "VITRINE_DATASETS": str(tmp_path / "data")})
    open_registry(home).register("shop-search", tiny_bundle(tmp_path / "bundle"))
    import_shop(home, tmp_path)
    return home


def add_photos(root: Path, numbers: range) -> None:
    for number in numbers:
        folder = root / "photos" / ("mug" if number % 2 else "jug")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(photo(number))


def import_shop(home: Home, root: Path) -> None:
    import_dataset("image-folder", root / "photos", "shop", home.datasets / "shop", {"holdout": 0})


def promotion(home: Home) -> Promotion:
    return Promotion(open_registry(home), home, GateSettings(), threads=1)


def plan(home: Home, *verdicts: Verdict) -> Plan:
    live = open_registry(home).state().model("shop-search").production
    return Plan("shop-search", 1, live, "shop", COLLECTION, 4, 0.0, 1, 10**9, verdicts)


def history(home: Home) -> list[str]:
    return [type(event).__name__ for event in open_registry(home).history("shop-search")]


def test_promoting_again_repairs_a_damaged_collection(home: Home) -> None:
    promotion(home).carry_out(plan(home))
    vectors = home.collections / COLLECTION / "vectors.npy"
    sound = vectors.read_bytes()
    vectors.write_bytes(sound[:-4] + b"\0\0\0\0")

    promotion(home).carry_out(plan(home))

    assert vectors.read_bytes() == sound
    assert history(home) == [
        "Registered",
        *["PromotionStarted", "IndexBuilt"],
        "Promoted",
        "PromotionStarted",
        "IndexBuilt",
    ]


def test_a_changed_catalogue_is_embedded_anew_and_what_was_live_before_stays(home: Home, tmp_path: Path) -> None:
    registry = open_registry(home)
    promotion(home).carry_out(plan(home))
    add_photos(tmp_path, range(4, 7))
    import_shop(home, tmp_path)

    promotion(home).carry_out(plan(home))

    indexes = registry.resolve("shop-search@1").indexes
    assert [event.items for event in indexes] == [4, 7]
    assert len(registry.state().model("shop-search").productions) == 1


def test_a_refused_plan_is_plain_json_and_changes_nothing(home: Home) -> None:
    refused = plan(home, Verdict("quality floor", "failed", "one class", {"ci95": [-float("inf"), float("inf")]}))

    assert refused.as_json()["verdicts"][0]["numbers"] == {"ci95": [None, None]}
    with pytest.raises(Refused, match=r"\[quality floor\] one class"):
        promotion(home).carry_out(refused)
    assert history(home) == ["Registered"]
