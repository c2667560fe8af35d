"""Rows out of CSV, JSONL and Parquet, damaged ones included."""

import gzip
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrine.datasets import _table_files
from vitrine.datasets._table_files import EMPTY, open_table
from vitrine.errors import BadInput


def opened(tmp_path, content, name="shop.csv", **options):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    table = open_table(tmp_path / name, **options)
    return table, list(table.lines)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(tmp_path, delimiter):
    rows = [("id", "title", "price"), ("1", "a", "2"), ("2", "b", "3")]
    table, lines = opened(tmp_path, "\n".join(delimiter.join(row) for row in rows))
    assert table.columns == ("id", "title", "price")
    assert [dict(line.cells) for line in lines] == [
        {"id": "1", "title": "a", "price": "2"},
        {"id": "2", "title": "b", "price": "3"},
    ]


def test_decimal_commas_do_not_mislead_about_the_delimiter(tmp_path):
    table, _ = opened(tmp_path, "id;price\n1;2,50\n2;3,50\n3;4,50\n")
    assert table.columns == ("id", "price")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_file_in_one_encoding_is_read_without_a_remark(tmp_path, encoding):
    table, lines = opened(tmp_path, "id,title\n1,Tässe €\n".encode(encoding))
    assert table.columns == ("id", "title")
    assert (lines[0].cells["title"], lines[0].trouble) == ("Tässe €", ())


def test_single_lines_in_another_encoding_are_read_and_remarked_on(tmp_path):
    content = "id,title\n1,Tässe\n".encode() + "2,Schüssel\n".encode("cp1252") + b"3,Vase\n"
    _, lines = opened(tmp_path, content)
    assert [line.cells["title"] for line in lines] == ["Tässe", "Schüssel", "Vase"]
    assert [line.trouble for line in lines] == [(), (("other encoding", "cp1252"),), ()]


def test_the_other_encoding_can_be_named(tmp_path):
    _, lines = opened(tmp_path, "id,title\n1,żółw\n".encode("cp1250"), encoding="cp1250")
    assert lines[0].cells["title"] == "żółw"


def test_an_unknown_encoding_is_refused(tmp_path):
    with pytest.raises(BadInput, match="option encoding='klingon' is no encoding"):
        opened(tmp_path, "id\n", encoding="klingon")


def test_rows_are_numbered_by_the_line_they_start_on(tmp_path):
    _, lines = opened(tmp_path, 'id,title\n1,"two\nlines"\n\n2,"a ""quote"""\n')
    assert [(line.number, line.cells["title"]) for line in lines if line.cells] == [
        (2, "two\nlines"),
        (5, 'a "quote"'),
    ]


def test_a_short_row_is_kept_and_a_long_one_is_not(tmp_path):
    _, lines = opened(tmp_path, "id,title,price\n1,a\n2,b,3,4\n3,c,5,,\n")
    assert [line.trouble for line in lines] == [
        (("short row", "2 instead of 3"),),
        (("long row", "4 instead of 3"),),
        (),
    ]
    assert [bool(line.cells) for line in lines] == [True, False, True]


def test_an_open_quote_costs_its_own_line_and_no_other(tmp_path):
    _, lines = opened(tmp_path, 'id,title,price\n1,a,1\n2,"open,2\n3,b,3\n4,c,4\n')
    assert [(line.number, line.cells.get("title")) for line in lines] == [(2, "a"), (3, None), (4, "b"), (5, "c")]
    assert lines[1].trouble == (("open quote", ""),)


def test_a_cell_beyond_what_csv_allows_is_one_rejected_row(tmp_path):
    _, lines = opened(tmp_path, f"id,title\n1,{'x' * 200_000}\n2,b\n")
    assert [line.number for line in lines] == [2, 3]
    assert lines[0].trouble[0][0] == "unreadable row"


def test_a_gzipped_table_is_unpacked_on_the_way(tmp_path):
    table, lines = opened(tmp_path, gzip.compress(b"id,title\n1,a\n"), "shop.csv.gz")
    assert (table.columns, len(lines)) == (("id", "title"), 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("shop.csv", "", "is empty; its first line must name the columns"),
        ("shop.csv", "id,id\n1,2\n", "has two columns called id"),
        ("shop.xlsx", "x", "its name must end in .csv, .jsonl, .ndjson, .parquet, .pq, .tsv, .txt"),
        ("shop.jsonl", "no json\n", "has no JSON object in its first 1000 lines"),
        ("shop.parquet", "no parquet", "is no readable Parquet file"),
    ],
)
def test_a_file_that_is_no_table_says_why(tmp_path, name, content, message):
    with pytest.raises(BadInput, match=message):
        opened(tmp_path, content, name)


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.csv is no file; give the table"):
        open_table(tmp_path / "nowhere.csv")


def test_json_lines_keep_numbers_lists_and_inner_objects(tmp_path):
    row = {"id": 7, "price": 1.5, "images": ["a", "b"], "brand": {"name": "X"}, "sale": True, "gone": None}
    table, lines = opened(tmp_path, json.dumps(row) + "\n\n{broken\n[1]\n", "shop.jsonl")
    assert table.columns == ("id", "price", "images", "brand.name", "sale", "gone")
    assert lines[0].cells == {
        "id": 7,
        "price": 1.5,
        "images": ("a", "b"),
        "brand.name": "X",
        "sale": "true",
        "gone": "",
    }
    assert [(line.number, line.trouble[0][0]) for line in lines[1:]] == [(3, "unreadable row"), (4, "unreadable row")]


def test_parquet_gives_the_same_cells_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(_table_files, "_BATCH", 2)
    rows = [{"id": n, "price": Decimal("1.50"), "images": ["a"], "brand": {"name": "X"}} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shop.parquet")
    table = open_table(tmp_path / "shop.parquet")
    lines = list(table.lines)
    assert table.columns == ("id", "price", "images", "brand.name")
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]
    assert lines[4].cells == {"id": 4, "price": 1.5, "images": ("a",), "brand.name": "X"}


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("id,title\n" + "".join(f"{n},t\n" for n in range(100_000)))
    lines = open_table(path).lines
    first = next(lines)
    path.write_text("")  # what was not read yet is gone, but for a buffer
    assert first.number == 2
    assert sum(1 for _ in lines) < 50_000


def test_an_open_quote_that_runs_into_the_next_rows_quote_does_not_swallow_that_row(tmp_path):
    _, lines = opened(tmp_path, 'id,title,price\n1,"open,2\n2,"b",3\n3,c,4\n')
    assert [(line.number, line.cells.get("title")) for line in lines] == [(2, None), (3, "b"), (4, "c")]
    assert lines[0].trouble == (("open quote", ""),)


def test_lines_without_a_filled_cell_are_told_as_empty(tmp_path):
    _, lines = opened(tmp_path, "id,title\n1,a\n,\n\n2,b\n ,\n")
    assert [line.trouble for line in lines] == [(), (EMPTY,), (EMPTY,), (), (EMPTY,)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_wide_letters_without_their_mark_are_refused(tmp_path, encoding):
    with pytest.raises(BadInput, match=r"holds more null bytes than text has: .*; export it as UTF-8"):
        opened(tmp_path, "id,title\n1,a\n".encode(encoding))


pieces = st.sampled_from(
    [b"a", b"\xfc", "ü".encode(), b";", b",", b'"', b'""', b"\n", b"\r\n", b"\r", b" ", b"\0", b"1,5"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, max_size=60), st.sampled_from(["shop.csv", "shop.jsonl"]))
def test_whatever_the_bytes_every_line_is_told_of_or_the_file_is_refused(tmp_path, drawn, name):
    content = (b"id,title\n" if name == "shop.csv" else b'{"id": 1}\n') + b"".join(drawn)
    try:
        _, lines = opened(tmp_path, content, name, delimiter="," if name == "shop.csv" else "")
    except BadInput:
        return
    known = {line.number for line in lines}
    assert all(line.cells or line.trouble for line in lines)
    assert len(known) == len(lines)
    if name == "shop.csv" and b'"' not in content and b"\r" not in content.replace(b"\r\n", b""):
        assert known == set(range(2, len(content.split(b"\n")) + 1 - content.endswith(b"\n")))
