"""10,000 rows in which everything goes wrong somewhere, through the real command: each row is accounted for."""

from __future__ import annotations

import csv
import http.server
import json
import threading
import time
from collections import Counter

import pytest

from tests.nasty_table import CATEGORIES, ROWS, tiny_photo, write_nasty_table
from tests.runner import run_vitrine
from vitrine.dataset import load_dataset
from vitrine.datasets._table_reasons import REASONS

# Kind of trouble that the table was given -> reason that the report must name for it.
REASON_OF = {
    "letters of another encoding": "other encoding",
    "letters that are none": "unreadable letters",
    "cut off": "short row",
    "shifted": "long row",
    "open quote": "open quote",
    "no id": "no item id",
    "no class": "no label",
    "no photo": "no photo named",
    "no file": "missing photo",
    "torn file": "broken photo",
    "repeated": "repeated row",
    "joined": "photos joined",
    "clashing": "duplicate id",
    "below zero": "negative price",
    "no date": "no time",
    "doubtful date": "doubtful date",
}


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.asked[self.path] += 1
        kind, _, name = self.path.strip("/").rpartition("/")
        if kind == "silent":
            time.sleep(2)
        body = b"<html>not here" if kind == "page" else tiny_photo(int(name.partition(".")[0]))
        self.send_response(404 if kind == "gone" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.asked, server.lock = Counter(), threading.Lock()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def case(tmp_path_factory, server):
    root = tmp_path_factory.mktemp("nasty")
    nasty = write_nasty_table(root, server.url)
    options = ("-o", "timeout=1", "-o", "tries=1")
    ran = run_vitrine(root, "data", "import", "table", "export.csv", "--name", "shop", *options, "--json")
    assert ran.code == 0, ran.err
    with (root / "data/shop/import-report.csv").open(encoding="utf-8-sig", newline="") as stream:
        report = list(csv.DictReader(stream))
    return root, nasty, json.loads(ran.out), report


def test_the_report_names_every_spoiled_row_and_no_other(case):
    _, nasty, _, report = case
    found = {(int(r["row"]), r["item_id"], r["reason"], r["column"], r["given"].removeprefix("'")) for r in report}
    assert found == nasty.expected
    assert len(report) == len(found)


def test_the_rows_add_up_to_those_that_were_read(case):
    _, nasty, printed, _ = case
    rows = printed["rows"]
    kinds = nasty.spoiled
    rejected = ("shifted", "open quote", "no id", "no class", "no photo", "dead link", "web page", "silent", "no file")
    assert rows["read"] == ROWS
    assert rows["rejected"] == sum(kinds[kind] for kind in (*rejected, "torn file", "clashing"))
    assert rows["merged"] == kinds["repeated"] + kinds["joined"]
    assert rows["not_sampled"] == 0
    assert rows["imported"] + rows["remarked"] == printed["items"] == ROWS - rows["rejected"] - rows["merged"]
    assert rows["remarked"] == sum(kinds.values()) - rows["rejected"] - rows["merged"]


def test_the_printed_reasons_are_the_ones_that_went_in(case):
    _, nasty, printed, _ = case
    kinds = nasty.spoiled
    expected = Counter({reason: kinds[kind] for kind, reason in REASON_OF.items()})
    expected["other encoding"] += kinds["letters that are none"]
    expected["no number"] = kinds["no number"] + kinds["two numbers"]
    expected["dead link"] = sum(kinds[kind] for kind in ("dead link", "web page", "silent", "second photo dead"))
    expected["no photo left"] = sum(kinds[kind] for kind in ("dead link", "web page", "silent", "no file", "torn file"))
    assert printed["rows"]["reasons"] == dict(expected)


def test_each_line_of_the_report_says_what_happened_and_what_to_do(case):
    _, _, _, report = case
    for line in report:
        assert line["severity"] == REASONS[line["reason"]].severity
        assert line["happened"]
        assert line["todo"]
        assert "{detail}" not in line["happened"] + line["todo"]


def test_dead_links_are_told_apart(case):
    _, nasty, _, report = case
    why = Counter(line["happened"] for line in report if line["reason"] == "dead link")
    kinds = nasty.spoiled
    assert why == {
        "the photo cannot be fetched: 404, there is nothing at this address": kinds["dead link"]
        + kinds["second photo dead"],
        "the photo cannot be fetched: the answer is no photo but a web page": kinds["web page"],
        "the photo cannot be fetched: no answer within 1 s": kinds["silent"],
    }


def test_what_was_imported_is_what_the_shop_meant(case):
    root, nasty, _, _ = case
    items = {item.item_id: item for item in load_dataset(root / "data/shop").items}
    assert {key: item.price for key, item in items.items()} == pytest.approx(nasty.prices)
    assert {key: item.title for key, item in items.items()} == nasty.titles
    assert {key: len(item.images) for key, item in items.items()} == nasty.photos
    assert {item.brand for item in items.values()} == {"Müller", "M\ufffdller"}
    assert all(item.category[0] == "Haus" and len(item.category) == 3 for item in items.values())


def test_missing_columns_and_empty_lines_are_told(case):
    _, nasty, printed, _ = case
    assert "no column for: label, seller; name one with -o FIELD=COLUMN" in printed["notes"]
    assert f"{nasty.empty_lines} empty lines passed over" in printed["notes"]
    assert any(note.startswith("columns guessed: images = Bild, item_id = Artikelnummer") for note in printed["notes"])


def test_no_product_lies_on_both_sides(case):
    root, _, printed, _ = case
    assert set(printed["protocols"]) == {"default", "product", "text"}
    sides: dict[str, set[bool]] = {}
    for item in load_dataset(root / "data/shop").items:
        sides.setdefault(item.product_id or "", set()).add(item.split in ("test", "gallery"))
    assert all(len(side) == 1 for side in sides.values())


def test_without_the_photo_column_it_says_which_option_to_give(case, tmp_path):
    _, nasty, _, _ = case
    (tmp_path / "export.csv").write_bytes(nasty.path.read_bytes().replace(b";Bild;", b";Bildadr.;", 1))
    ran = run_vitrine(tmp_path, "data", "import", "table", "export.csv", "--name", "shop")
    assert ran.code == 2
    assert ran.err.endswith("Hersteller, Bildadr., Datum; say which one it is: -o 'images=Bildadr.'\n")
    assert not (tmp_path / "data").exists()


def test_a_sample_is_taken_before_anything_is_fetched(case, server, tmp_path):
    root, nasty, _, _ = case
    (tmp_path / "fotos").symlink_to(root / "fotos")
    (tmp_path / "export.csv").write_bytes(nasty.path.read_bytes())
    before = server.asked.total()
    arguments = ("data", "import", "table", "export.csv", "--name", "part", "--sample", "400", "--json")
    ran = run_vitrine(tmp_path, *arguments, "-o", "timeout=1", "-o", "tries=1")
    assert ran.code == 0, ran.err
    printed = json.loads(ran.out)
    rows = printed["rows"]
    assert 300 < printed["items"] == rows["imported"] + rows["remarked"] <= 400
    assert rows["imported"] + rows["remarked"] + rows["merged"] + rows["rejected"] + rows["not_sampled"] == ROWS
    assert rows["not_sampled"] > 9000
    assert printed["labels"] == len(CATEGORIES)
    assert 0 < server.asked.total() - before <= 60  # of some 530 that the whole table names


def test_strict_refuses_the_table_leaves_the_report_and_fetches_nothing_twice(case, server):
    root, nasty, printed, _ = case
    before = Counter(server.asked)
    arguments = ("data", "import", "table", "export.csv", "--name", "other", "--strict", "-o", "timeout=1")
    ran = run_vitrine(root, *arguments, "-o", "tries=1")
    assert ran.code == 2
    assert f"{printed['rows']['rejected']} of {ROWS} rows are rejected (no photo left 171, " in ran.err
    assert not (root / "data/other").exists()
    with (root / "data/other-import-report.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(nasty.expected)
    again = {path.split("/")[1] for path, times in (server.asked - before).items() if times}
    assert again == {"gone", "page", "silent"}
