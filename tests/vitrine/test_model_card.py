from __future__ import annotations

from pathlib import Path

import pytest

from tests import team
from tests.factories import tiny_bundle
from vitrine.errors import NotFound
from vitrine.events import PromotionStarted
from vitrine.home import find_home
from vitrine.model_card import model_card
from vitrine.registry import Registry, open_registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = open_registry(find_home({"VITRINE_HOME": str(tmp_path / "home")}))
    registry.actor = "ann"
    registry.register("shop", tiny_bundle(tmp_path / "one", labels=["mug"]))
    registry.register("shop", tiny_bundle(tmp_path / "two", texts=True, seed=1))
    return registry


def part(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n\n## ", maxsplit=1)[0]


def test_a_card_says_what_a_version_is_and_where_it_ends(registry: Registry) -> None:
    card = model_card(registry, "shop@1")

    assert card.startswith(f"# shop@1\n\nDigest `{registry.resolve('shop@1').digest}`.\n")
    assert "Turns image into unit vectors of 8 numbers" in part(card, "What it is")
    assert "abstains under a probability of 0.100" in part(card, "What it is")
    assert "- dataset: photos" in part(card, "What it learned from")
    assert part(card, "Licences") == "- weights: Apache-2.0\n- data: CC-BY-4.0"
    assert part(card, "Limits") == "- Not measured.\n- Reads no text: it searches by photo alone."


def test_a_card_of_a_text_version_does_not_say_that_it_reads_none(registry: Registry) -> None:
    card = model_card(registry, "shop@2")

    assert "Turns image or title into unit vectors" in card
    assert part(card, "Limits") == "- Not measured.\n- Knows no categories of its own."


def test_figures_stand_with_their_intervals(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"any table")
    team.measure(registry, 1, tmp_path / "t.parquet")
    details = {"intervals": {"mmp@5": [0.4, 0.6]}, "unit": "product_id", "units": 40, "skipped": 3}
    where = {"dataset": "shop", "dataset_digest": "d", "protocol": "default", "via": "exact"}
    table, figures = tmp_path / "t.parquet", {"mmp@5": 0.5, "odd": 1.0}
    registry.record_evaluation(
        "shop", 1, **where, metrics=figures, queries=1, gallery=2, per_query_path=table, details=details
    )

    card = model_card(registry, "shop@1")
    measured = part(card, "How well it does")
    assert measured.count("### shop/default via exact") == 1
    assert "1 queries, 40 of product_id, gallery of 2" in measured
    assert "| mmp@5 | 0.5000 | 0.4000 to 0.6000 |\n| odd | 1.0000 | none |" in measured
    assert "- 3 queries on shop/default had nothing to find." in part(card, "Limits")
    assert "- Measured on shop alone" in part(card, "Limits")


def test_gates_and_overrides_stand_with_who_and_why(registry: Registry) -> None:
    assert part(model_card(registry, "shop@1"), "Overrides") == "None."
    verdicts = (
        {"gate": "parity", "outcome": "passed", "reason": "fine", "numbers": {}, "override": ""},
        {"gate": "health", "outcome": "overridden", "reason": "rank 2", "numbers": {}, "override": "a | *demo*"},
    )
    where = {"catalogue": "c", "collection": "x"}
    registry.append(PromotionStarted(model="shop", version=1, **where, verdicts=verdicts, **registry.stamp()))

    card = model_card(registry, "shop@1")
    assert part(card, "Gates of its last promotion").endswith(
        "| parity | passed | fine |\n| health | overridden | rank 2 |"
    )
    assert part(card, "Overrides").endswith("ann let health pass: a \\| \\*demo\\* (the gate said: rank 2)")


def test_a_retired_version_and_aliases_are_named_at_the_top(registry: Registry) -> None:
    registry.set_alias("shop", "stable", 1)
    registry.retire("shop@1", why="weak")

    assert "; also `stable`, **retired**: not to be promoted any more." in model_card(registry, "shop@stable")


def test_a_card_of_nothing_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match="no version 9"):
        model_card(registry, "shop@9")
