"""Rows of a table: merged, read in the convention of their column, sampled, counted; and when too many are bad."""

import csv
import io
import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrine import datasets
from vitrine.datasets._table_columns import find_columns
from vitrine.datasets._table_files import Line
from vitrine.datasets._table_reasons import REASONS
from vitrine.datasets._table_rows import Reading, read_rows, sample_rows
from vitrine.errors import BadInput
from vitrine.importing import import_dataset, refused_report
from vitrine.rowreport import Ledger, read_rejected, write_report

HEADER = ("id", "image", "label", "product", "title", "price")


def read(*rows, decimal=None):
    """Rows of `HEADER`'s cells, read; the ledger beside them."""
    lines = [Line(number, dict(zip(HEADER, row, strict=False))) for number, row in enumerate(rows, 2)]
    ledger = Ledger(REASONS)
    reading = Reading(find_columns("shop.csv", HEADER, {}), "label", decimal=decimal)
    return read_rows(lines, reading, ledger), ledger


def noted(ledger):
    return [(remark.row, remark.reason) for remark in ledger.remarks]


def row(number, label="mug", product="", image="", price=""):
    return (f"i{number}", image or f"{number}.jpg", label, product, f"title {number}", price)


def test_identical_rows_are_one_item_and_a_remark():
    rows, ledger = read(row(1), row(1), row(2))
    assert [(r.item_id, r.also) for r in rows] == [("i1", (3,)), ("i2", ())]
    assert noted(ledger) == [(3, "repeated row")]
    assert ledger.remarks[0].happened == "the row repeats row 2 and was merged with it"


def test_rows_that_differ_in_photos_only_give_one_item_with_all_photos():
    rows, ledger = read(row(1, image="a.jpg"), row(1, image="b.jpg"), row(1, image="b.jpg|a.jpg|c.jpg"))
    assert rows[0].images == ("a.jpg", "b.jpg", "c.jpg")
    assert noted(ledger) == [(3, "photos joined"), (4, "photos joined")]


def test_another_content_under_the_same_id_is_rejected_and_the_first_row_kept():
    rows, ledger = read(row(1, price="5,00"), row(1, price="6,00"))
    assert [r.price for r in rows] == [5.0]
    assert noted(ledger) == [(3, "duplicate id")]
    assert ledger.remarks[0].happened == "row 2 has the same id and other content; the first one was kept"


@pytest.mark.parametrize(
    ("prices", "decimal", "expected", "reasons"),
    [
        (("1.234", "5,50"), None, [1234.0, 5.5], []),
        (("1.234", "5.50"), None, [1.234, 5.5], []),
        (("1.234", "5,50", "6.50", "7.50"), None, [1.234, 5.5, 6.5, 7.5], []),
        (("1.234", "7"), None, [1234.0, 7.0], [(2, "doubtful number")]),
        (("1,234", "7"), None, [1234.0, 7.0], [(2, "doubtful number")]),
        (("1.234", "7"), ".", [1.234, 7.0], []),
        (("1.234", "5.50"), ",", [1234.0, 5.5], []),
        (("-3,00", "on request"), None, [None, None], [(2, "negative price"), (3, "no number")]),
        (("", "n/a"), None, [None, None], []),
    ],
)
def test_a_number_that_leaves_its_mark_open_follows_its_column(prices, decimal, expected, reasons):
    rows, ledger = read(*(row(n, price=price) for n, price in enumerate(prices)), decimal=decimal)
    assert [r.price for r in rows] == expected
    assert noted(ledger) == reasons


labels = st.sampled_from(["mug", "vase", "lamp", "rug", ""])
cells = st.tuples(
    st.integers(0, 25), labels, st.sampled_from(["", "p1", "p2", "p3"]), st.sampled_from(["", "a.jpg", "b.jpg"])
)


@settings(max_examples=100, deadline=None)
@given(st.lists(cells, max_size=60), st.integers(0, 40))
def test_the_sums_add_up_whatever_is_in_the_rows(drawn, wanted):
    rows, ledger = read(*((f"i{n}" if n else "", image, label, product) for n, label, product, image in drawn))
    kept = sample_rows(rows, wanted, 0, ledger) if wanted else rows
    told = ledger.summary()
    assert told.read == len(drawn)
    assert told.imported + told.remarked + told.merged + told.rejected + told.not_sampled == len(drawn)
    assert told.imported + told.remarked == len(kept)
    assert told.rejected == len({remark.row for remark in ledger.remarks if remark.severity == "rejected"})


def catalogue(draw_products):
    return read(*(row(n, label, product) for n, (label, product) in enumerate(draw_products)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "p1", "p2", "p3", "p4"])), min_size=1, max_size=80
    ),
    st.integers(1, 90),
    st.integers(0, 3),
)
def test_a_sample_has_whole_products_is_no_larger_than_asked_and_follows_its_seed(drawn, wanted, seed):
    rows, ledger = catalogue(drawn)
    kept = sample_rows(rows, wanted, seed, ledger)
    assert len(kept) <= wanted
    inside = {r.item_id for r in kept}
    for product, members in itertools.groupby(sorted(rows, key=lambda r: r.product_id or ""), lambda r: r.product_id):
        if product is not None:
            assert len({r.item_id in inside for r in members}) == 1
    again = sample_rows(list(reversed(rows)), wanted, seed, Ledger(REASONS))
    assert {r.item_id for r in again} == inside
    assert ledger.not_sampled == {r.number for r in rows if r.item_id not in inside}


def test_a_sample_of_a_large_table_has_every_class_in_proportion():
    rows, ledger = catalogue([("mug" if n % 4 else "vase", f"p{n}") for n in range(400)])
    counts = Counter(r.label for r in sample_rows(rows, 100, 0, ledger))
    assert 95 <= counts.total() <= 100
    assert 70 <= counts["mug"] <= 80


def test_another_seed_is_another_sample():
    rows, _ = catalogue([("mug", f"p{n}") for n in range(100)])
    first, second = ({r.item_id for r in sample_rows(rows, 20, seed, Ledger(REASONS))} for seed in (0, 1))
    assert first != second


def table(folder, good, bad):
    """A table with sound rows and rows without a class, photos included."""
    folder.mkdir(exist_ok=True)
    lines = ["id,image,label"]
    for number in range(good + bad):
        photo = Image.new("RGB", (8, 8), (number * 7 % 256, number * 3 % 256, 90))
        photo.save(folder / f"{number}.png")
        lines.append(f"i{number},{number}.png,{'mug' if number < good else ''}")
    (folder / "shop.csv").write_text("\n".join(lines))
    return folder / "shop.csv"


def imported(tmp_path, path, **options):
    return import_dataset("table", path, "shop", tmp_path / "data/shop", options)


def test_more_rejected_rows_than_allowed_refuse_the_import_and_leave_the_report(tmp_path):
    path = table(tmp_path / "source", 4, 6)
    with pytest.raises(BadInput) as refused:
        imported(tmp_path, path)
    report = refused_report(tmp_path / "data/shop")
    assert str(refused.value) == (
        "6 of 10 rows are rejected (no label 6), more than the allowed share of 0.5 (-o max_rejected=…); "
        f"nothing was imported, {report} says what is wrong with each row"
    )
    assert read_rejected(report) == [(number, "no label") for number in range(6, 12)]
    assert not (tmp_path / "data/shop").exists()


def test_the_allowed_share_can_be_raised_and_the_old_report_then_goes_away(tmp_path):
    path = table(tmp_path / "source", 4, 6)
    with pytest.raises(BadInput):
        imported(tmp_path, path)
    assert imported(tmp_path, path, max_rejected="0.6").items == 4
    assert not refused_report(tmp_path / "data/shop").exists()


def test_strict_allows_none(tmp_path):
    with pytest.raises(BadInput, match=r"1 of 10 rows are rejected \(no label 1\), and strict allows none"):
        imported(tmp_path, table(tmp_path / "source", 9, 1), strict="true")
    assert imported(tmp_path, table(tmp_path / "source", 10, 0), strict="true").items == 10


def test_a_given_text_cannot_become_a_formula_of_the_spreadsheet(tmp_path):
    ledger = Ledger(REASONS)
    for number, text in enumerate(("=HYPERLINK(1)", "@x", "+1", "plain")):
        ledger.note("no number", number, given=text)
    write_report(tmp_path / "report.csv", ledger.remarks)
    with io.StringIO((tmp_path / "report.csv").read_text("utf-8-sig")) as stream:
        assert [line["given"] for line in csv.DictReader(stream)] == ["'=HYPERLINK(1)", "'@x", "'+1", "plain"]


def test_every_reason_is_noted_somewhere_in_the_importer():
    """A reason that nothing gives would be a promise in the docs that nobody keeps."""
    sources = "".join(
        path.read_text() for path in Path(datasets.__path__[0]).glob("*table*.py") if path.name != "_table_reasons.py"
    )
    assert [reason for reason in REASONS if f'"{reason}"' not in sources] == []


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"shop\.csv has no row below the names of its columns; nothing can be imported"):
        imported(tmp_path, table(tmp_path / "source", 0, 0))


def test_a_sample_smaller_than_every_product_says_so(tmp_path):
    path = table(tmp_path / "source", 4, 0)
    rows = [line + (",product" if not n else ",p") for n, line in enumerate(path.read_text().splitlines())]
    path.write_text("\n".join(rows))
    with pytest.raises(BadInput, match=r"no item is left: 0 of 4 rows are rejected, 4 lie outside the sample"):
        imported(tmp_path, path, sample="2")


def test_an_import_that_holds_nothing_back_says_what_to_give(tmp_path):
    report = imported(tmp_path, table(tmp_path / "source", 3, 0), holdout="0.1")
    assert "nothing is held back for the test: give a larger share (-o holdout=…), or split by item" in report.notes
    assert not any("nothing is held back" in note for note in imported(tmp_path, tmp_path / "source/shop.csv").notes)
