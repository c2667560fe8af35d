from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import photo, tiny_bundle
from vitrine.catalogue import open_catalogue
from vitrine.collection import open_collection
from vitrine.collection_content import Content, content
from vitrine.collection_gc import Removal, carry_out, plan_gc
from vitrine.dataset import find_dataset
from vitrine.errors import Conflict, Refused, Unavailable
from vitrine.events import PromotionStarted
from vitrine.gates import FIRM, GATES, GateSettings
from vitrine.home import Home, find_home
from vitrine.importing import import_dataset
from vitrine.indexes import exact
from vitrine.ports import Delta, Verdict
from vitrine.promotion import Promotion
from vitrine.promotion_check import check_counts
from vitrine.promotion_plan import Disk, Plan
from vitrine.promotion_rollback import roll_back
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
    return Plan("shop-search", 1, live, "shop", COLLECTION, 4, 4, 0.0, Disk(1, 1, 0, 0, 10**9), verdicts)


def content_of(home: Home) -> Content:
    return content(open_collection(home.collections / COLLECTION), open_catalogue(home, "shop").deltas)


def history(home: Home) -> list[str]:
    return [type(event).__name__ for event in open_registry(home).history("shop-search")]


def test_a_promotion_that_is_overtaken_is_told_by_whom(home: Home) -> None:
    seen = plan(home)
    winner = promotion(home)
    winner.registry.actor = "bea"
    winner.carry_out(seen)

    with pytest.raises(Conflict, match="changed while this promotion worked: bea promoted shop-search@1 on shop at 2"):
        promotion(home).carry_out(seen)
    assert history(home).count("Promoted") == 1


def test_promoting_again_repairs_a_damaged_collection(home: Home) -> None:
    promotion(home).carry_out(plan(home))
    vectors = open_collection(home.collections / COLLECTION).folder / "vectors.npy"
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


def test_what_changed_in_the_dataset_is_in_the_collection_after_promoting_again(home: Home, tmp_path: Path) -> None:
    registry = open_registry(home)
    promotion(home).carry_out(plan(home))
    add_photos(tmp_path, range(4, 7))
    (tmp_path / "photos/jug/0.png").unlink()
    import_shop(home, tmp_path)

    promotion(home).carry_out(plan(home))

    dataset = find_dataset(home, "shop")
    assert set(content_of(home).item_ids) == {item.item_id for item in dataset.items}
    assert len(dataset.items) == 6
    assert len(registry.state().model("shop-search").productions) == 1


def test_promoting_what_is_live_and_complete_says_nothing_in_the_history(home: Home) -> None:
    promotion(home).carry_out(plan(home))
    before = history(home)

    promotion(home).carry_out(plan(home))

    assert history(home) == before


def test_a_refused_plan_is_plain_json_and_changes_nothing(home: Home) -> None:
    refused = plan(home, Verdict("quality floor", "failed", "one class", {"ci95": [-float("inf"), float("inf")]}))

    assert refused.as_json()["verdicts"][0]["numbers"] == {"ci95": [None, None]}
    with pytest.raises(Refused, match=r"\[quality floor\] one class"):
        promotion(home).carry_out(refused)
    assert history(home) == ["Registered"]


def test_a_collection_or_an_index_that_lacks_an_item_is_not_put_live(home: Home) -> None:
    promotion(home).carry_out(plan(home))
    catalogue, found = open_catalogue(home, "shop"), content_of(home)
    index = exact.open(open_collection(home.collections / COLLECTION), {})
    check_counts(found, index, catalogue, catalogue.seq)
    lost = found.item_ids[1]

    with pytest.raises(
        Unavailable, match=f"1 items are in the catalogue shop or in the collection, .* such as '{lost}'"
    ):
        check_counts(Content([i for i in found.item_ids if i != lost], found.vectors), index, catalogue, catalogue.seq)
    index.apply([Delta(10**6, lost, None, None)])
    with pytest.raises(Unavailable, match="the index holds 3 of 4 items; promote again"):
        check_counts(found, index, catalogue, catalogue.seq)


def test_what_changes_during_the_checks_is_no_fault(home: Home) -> None:
    promotion(home).carry_out(plan(home))
    catalogue, found = open_catalogue(home, "shop"), content_of(home)
    before = catalogue.seq
    catalogue.delete([found.item_ids[0]])

    check_counts(found, exact.open(open_collection(home.collections / COLLECTION), {}), catalogue, before)


def test_a_candidate_is_built_whatever_the_gates_say_and_production_stays(home: Home) -> None:
    refused = plan(home, Verdict("quality floor", "failed", "one class"))

    built = promotion(home).build(refused)

    assert open_registry(home).state().model("shop-search").production is None
    assert len(content_of(home).item_ids) == 4
    assert built.collection == COLLECTION
    assert history(home) == ["Registered", "IndexBuilt"]


def test_a_clean_up_during_a_build_leaves_the_candidate_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Removal] = []

    def clean_up(*_: object) -> float:
        registry = open_registry(home)
        found = plan_gc(registry, home)
        candidate = Removal("collection", COLLECTION, "planned before", 0, home.collections / COLLECTION)
        removed.extend(carry_out(registry, home, [*found, candidate], index="exact", settings={}))
        return 1.0

    monkeypatch.setattr("vitrine.promotion.check_recall", clean_up)
    promotion(home).build(plan(home))

    assert removed == []
    assert len(content_of(home).item_ids) == 4
    assert plan_gc(open_registry(home), home) == []
    assert not list((home.root / "building").iterdir())


def test_a_candidate_that_was_taken_back_is_needed_again_once_it_is_built(home: Home, tmp_path: Path) -> None:
    promotion(home).carry_out(plan(home))
    open_registry(home).register("shop-search", tiny_bundle(tmp_path / "second", seed=2))
    second = replace(plan(home), version=2, collection="shop--shop-search--2")
    promotion(home).carry_out(second)
    roll_back(promotion(home), "shop-search")
    assert [removal.name for removal in plan_gc(open_registry(home), home)] == ["shop--shop-search--2"]

    promotion(home).build(replace(second, incumbent=plan(home).incumbent))

    assert plan_gc(open_registry(home), home) == []


def test_a_plan_tells_what_is_left_to_embed_and_what_that_costs(home: Home) -> None:
    work = replace(promotion(home), prices={"device_hour": 3600.0, "currency": "EUR"})

    first = work.plan("shop-search@1", "shop")
    work.build(first)
    second = work.plan("shop-search@1", "shop")

    assert (first.items, first.to_embed, second.to_embed) == (4, 4, 0)
    assert first.price == pytest.approx(first.seconds)
    assert first.currency == "EUR"
    assert second.seconds == 0


def test_an_override_is_in_the_plan_and_in_the_history(home: Home) -> None:
    why = {gate: "a demonstration" for gate in GATES if gate not in FIRM}
    work = replace(promotion(home), overrides=why)

    work.carry_out(work.plan("shop-search@1", "shop"))

    started = next(e for e in open_registry(home).history("shop-search") if isinstance(e, PromotionStarted))
    overridden = [verdict for verdict in started.verdicts if verdict["outcome"] == "overridden"]
    assert overridden
    assert {verdict["override"] for verdict in overridden} == {"a demonstration"}
