"""The page of a planned promotion: what it says, what it draws, which photos it shows; and the same as a comment."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gate_shop import LIVE, GateShop, build_shop, plan_of
from vitrine.errors import BadInput
from vitrine.gate_comment import MARKER
from vitrine.gate_comment import render as comment
from vitrine.gate_report import drawn, pictures, render, write_report
from vitrine.gates import GateSettings
from vitrine.lifecycle import Production
from vitrine.ports import Verdict


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> GateShop:
    return build_shop(tmp_path_factory.mktemp("gate-shop"))


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def compared(low: float, value: float, high: float, outcome: str = "passed") -> Verdict:
    one = {
        "dataset": "shop",
        "metric": "mmp@5",
        "difference": value,
        "ci95": [low, high],
        "margin": 0.01,
        "outcome": outcome,
    }
    return Verdict("quality against incumbent", "passed", "fine", {"compared": [one]})


def test_every_verdict_is_on_the_page_with_its_reason(shop: GateShop) -> None:
    plan = shop.plan(2)

    page = words(render(plan))

    for verdict in plan.verdicts:
        assert verdict.gate in page
        assert verdict.reason.split(";")[0].replace("'", "&#39;") in page
    assert "Refused" in page
    assert "Compared with shop-search@1, which is live." in page


def test_the_worst_categories_are_shown_with_what_both_versions_find(shop: GateShop) -> None:
    groups = pictures(shop.plan(2), shop.registry, shop.home)

    assert len(groups) == 3
    assert groups[0].row["difference"] <= groups[1].row["difference"] <= groups[2].row["difference"] < 0
    for group in groups:
        for loss in group.losses:
            assert loss.query.caption == group.name
            assert loss.value < loss.before
            assert len(loss.ours) == len(loss.theirs) == 5
            assert sum(bool(one.right) for one in loss.ours) < sum(bool(one.right) for one in loss.theirs)
            assert all(one.uri.startswith("data:image/jpeg;base64,") for one in (loss.query, *loss.ours, *loss.theirs))


def test_categories_of_the_tree_are_found_by_their_path(shop: GateShop) -> None:
    plan = shop.plan(2, settings=GateSettings(category_level=1))

    assert [len(group.losses) for group in pictures(plan, shop.registry, shop.home)] == [2, 2, 2]


def test_a_first_version_has_no_pictures_and_says_that_it_is_the_first(shop: GateShop) -> None:
    plan = shop.plan(1, None)

    assert pictures(plan, shop.registry, shop.home) == []
    assert "It would be the first version to go live." in words(render(plan))


def test_a_dataset_that_is_gone_leaves_the_page_without_pictures(shop: GateShop, tmp_path: Path) -> None:
    elsewhere = replace(shop.home, datasets=tmp_path)

    assert pictures(shop.plan(2), shop.registry, elsewhere) == []


def test_equal_plans_give_equal_pages(shop: GateShop, tmp_path: Path) -> None:
    pages = [write_report(shop.plan(2), tmp_path / name, shop.registry, shop.home).read_bytes() for name in ("a", "b")]

    assert pages[0] == pages[1]


def test_a_folder_is_refused_as_a_page(shop: GateShop, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder; name the file"):
        write_report(shop.plan(2), tmp_path, shop.registry, shop.home)


def test_intervals_lie_in_order_on_one_scale() -> None:
    (line,) = drawn(compared(-0.03, 0.01, 0.05))

    assert 0 < line.low < line.margin < line.zero < line.value < line.high < 1
    assert line.value - line.low == pytest.approx(line.high - line.value)
    assert line.told == "+0.0100 [-0.0300, +0.0500]"


def test_an_interval_of_unknown_reach_is_drawn_to_the_edges() -> None:
    (line,) = drawn(compared(-float("inf"), 0.0, float("inf")))

    assert (line.low, line.high) == (0.0, 1.0)


def test_nothing_compared_draws_nothing() -> None:
    assert drawn(None) == drawn(Verdict("quality against incumbent", "failed", "not measured")) == []


def test_an_override_stands_beside_what_the_gate_said() -> None:
    verdict = Verdict("parity", "overridden", "worst cosine 0.99", override="seen <on> the device")

    page = render(plan_of(2, LIVE, (verdict,)))

    assert "worst cosine 0.99" in page
    assert "<b>Overridden:</b> seen &lt;on&gt; the device" in page
    assert "Every gate lets it pass" in page


# --- the comment ----------------------------------------------------------------------------------


def as_comment(*verdicts: Verdict, incumbent: Production | None = LIVE, link: str = "") -> str:
    return comment(plan_of(2, incumbent, verdicts).as_json(), link)


def test_a_comment_begins_with_its_marker_and_the_decision() -> None:
    lines = as_comment(Verdict("parity", "failed", "worst cosine 0.9")).splitlines()

    assert lines[0] == MARKER
    assert lines[1] == "### shop-search@2 is refused by 1 gate"
    assert "| ❌ failed | parity | worst cosine 0.9 |" in lines


def test_a_plan_that_passes_says_so() -> None:
    assert "### shop-search@2 may go live" in as_comment(Verdict("parity", "passed", "fine"))


def test_a_first_version_is_told_as_such() -> None:
    assert "as the first version" in as_comment(Verdict("parity", "passed", "fine"), incumbent=None)


def test_differences_are_folded_away_with_their_intervals() -> None:
    said = as_comment(compared(-0.03, 0.01, float("inf")))

    assert "<details><summary>Differences</summary>" in said
    assert "| shop | mmp@5 | +0.0100 | -0.0300 to unknown | -0.0100 |" in said


def test_words_of_others_cannot_break_the_table_nor_call_anybody() -> None:
    said = as_comment(Verdict("parity", "overridden", "a|b <img> `x`\n| c", override="ask @somebody"))

    row = next(line for line in said.splitlines() if "parity" in line)
    assert row.count("|") - row.count("\\|") == 4
    assert "<img>" not in row
    assert "@somebody" not in row
    assert "**override:** ask @\u200bsomebody" in row


def test_a_long_reason_is_cut_and_the_report_linked() -> None:
    said = as_comment(Verdict("parity", "failed", "x" * 2000), link="https://example.org/report")

    assert "x" * 600 + "…" in said
    assert "x" * 601 not in said
    assert said.endswith("[Report with pictures](https://example.org/report)\n")
