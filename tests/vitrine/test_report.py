from __future__ import annotations

import csv
import dataclasses
import html
import itertools
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.catalogue import DEFAULT, WITHIN, tiny_dataset
from vitrine.dataset import Dataset
from vitrine.errors import BadInput, NotFound
from vitrine.evaluation import Evaluation, write_evaluation
from vitrine.files import write_json
from vitrine.items import EvalProtocol
from vitrine.ranking import exact_metrics
from vitrine.report import build
from vitrine.report_costs import scatters
from vitrine.report_data import baseline_of, difference, read_cells, read_costs
from vitrine.report_leaderboard import health
from vitrine.report_tables import Table
from vitrine.stats import bootstrap_mean

PRETRAINED, TOP, CROSS = "pretrained--mini--shop", "top--mini--shop", "top--mini--market--on--shop"
WORDS = EvalProtocol("text", ("test",), ("train",), ask_by="title")


def evaluated(dataset: Dataset, noise: float, via: str = "exact", protocol: str | None = None) -> Evaluation:
    """Rank made-up vectors of the dataset's items: one direction a label, blurred by `noise`."""
    chosen = dataset.protocol(protocol)
    queries, gallery = dataset.split(*chosen.query), dataset.split(*chosen.gallery)
    rng = np.random.default_rng(7)
    labels = sorted({item.label for item in dataset.items})

    def vectors(items):
        centres = np.eye(8)[[labels.index(item.label) for item in items]]
        return (centres + noise * rng.normal(size=centres.shape)).astype("f4")

    ids = [item.item_id for item in gallery]
    result = exact_metrics(
        vectors(queries),
        vectors(gallery),
        [item.item_id for item in queries],
        ids,
        [item.label for item in queries],
        [item.label for item in gallery],
    )
    units = [item.label for item in queries]
    intervals = {name: bootstrap_mean(values, units, resamples=200) for name, values in result.metrics.items()}
    hits = [[ids[row] for row in rows if row >= 0] for rows in result.top_rows]
    return Evaluation(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        protocol=chosen.name,
        via=via,  # type: ignore[arg-type]
        metrics={name: interval.value for name, interval in intervals.items()} | {"knn/accuracy": 0.75},
        queries=len(queries),
        gallery=len(gallery),
        per_query=per_query([item.item_id for item in queries], units, hits, result.metrics),
        details={"recall_against_exact@10": 0.987} if via == "qdrant" else {},
        intervals=intervals,
        unit="label",
        units=len(labels),
    )


def per_query(ids: list[str], labels: list[str], hits: list[list[str]], metrics: Mapping[str, Any]) -> pa.Table:
    """Each query's own row, as an evaluation keeps it."""
    return pa.table(
        {
            "query_id": ids,
            "unit": labels,
            "unit_kind": ["label"] * len(labels),
            "label": labels,
            "title": [f"a {label}" for label in labels],
            "hits": hits,
            **metrics,
        }
    )


def add_cell(root: Path, key: str, dataset: Dataset, noise: float, version: int) -> None:
    folder = root / "work/evaluations" / key
    write_evaluation(folder, "exact", evaluated(dataset, noise), "shop-search", version, "d" * 64)
    write_evaluation(folder, "exact--within", evaluated(dataset, noise, protocol="within"), "shop-search", version)
    write_evaluation(folder, "qdrant", evaluated(dataset, noise * 1.5, "qdrant"), "shop-search", version)
    write_evaluation(folder, "exact--text", evaluated(dataset, noise, protocol="text"), "shop-search", version)
    record = {"model": "shop-search", "version": version, "digest": "d" * 64, "cell": key, "lineage": {}}
    write_json(root / "work/registered" / f"{key}.json", record)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    dataset = tiny_dataset(
        root / "data/shop", splits=(("train", 8), ("test", 6)), protocols=(DEFAULT, WITHIN, WORDS), images=1
    )
    add_cell(root, PRETRAINED, dataset, 0.8, 1)
    add_cell(root, TOP, dataset, 0.15, 2)
    add_cell(root, CROSS, dataset, 1.4, 3)
    cost = {"stage": "tune", "cell": TOP, "seconds": 1800.0, "images_per_s": 12.5, "peak_mb": 900.0, "device": "cpu"}
    write_json(root / "work/costs" / f"tune--{TOP}.json", {**cost, "parameters_trained": 331264})
    (root / "params.yaml").write_text(
        f"cells: {{{PRETRAINED}: {{}}, {TOP}: {{}}}}\ncrosses: {{{CROSS}: {{}}}}\nprices: {{device_hour: 0.20, currency: USD}}\n"
    )
    return root


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return build(root, root / "report").read_text()


def read_table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "report/tables" / name).open() as stream:
        return list(csv.DictReader(stream))


def words_of(page: str) -> str:
    """The text a reader sees, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", page)).split())


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_asks_nobody_for_anything(page):
    elements = Elements(page)
    assert elements.open == []
    assert elements.addresses
    assert all(address.startswith(("data:image/jpeg;base64,", "data:,", "#")) for address in elements.addresses)
    assert not re.search(r"url\(|@import|https?://|<script", page)


def test_cells_are_ordered_best_first(root):
    assert [cell.key for cell in read_cells(root)] == [TOP, PRETRAINED, CROSS]


def test_the_headline_names_the_best_version_with_its_interval(root, page):
    best = read_cells(root)[0]
    headline = words_of(page.partition("<h2>Leaderboard")[0])
    low, high = best.ends("mmp@5")
    assert f"{best.primary:.3f}" in headline
    assert f"{low:.3f} to {high:.3f}" in headline
    assert "vitrine promote shop-search@2" in headline


def test_the_headline_says_whether_the_best_version_really_beats_the_next(root, page):
    best, second = read_cells(root)[:2]
    gap = difference(best, second)
    headline = words_of(page.partition("<h2>Leaderboard")[0])
    assert gap.low > 0
    assert "ahead of the next one, shop-search@1" in headline
    assert f"{gap.low:+.3f} to {gap.high:+.3f}" in headline


def test_the_difference_is_paired_with_the_untuned_cell_of_the_same_backbone(root):
    cells = read_cells(root)
    best, baseline = cells[0], baseline_of(cells[0], cells)
    assert baseline is not None
    assert baseline.key == PRETRAINED
    gap = difference(best, baseline)
    assert gap.value == pytest.approx(best.primary - baseline.primary)
    assert gap.low > 0
    assert baseline_of(baseline, cells) is None


def test_each_photo_found_is_marked_by_sign_and_border(page):
    marks = re.findall(r'<figure class="(\w*)">.*?<b>(.*?)</b>', page, re.DOTALL)
    assert set(marks) == {("", "query"), ("right", "✓ right"), ("wrong", "✗ wrong")}


def test_marks_of_wins_and_losses_agree_with_the_labels_of_both_versions_hits(root, page):
    best, baseline = read_cells(root)[0], read_cells(root)[1]
    expected = []
    for line in read_table(root, "wins_and_losses.csv"):
        for cell in (best, baseline):
            row = next(row for row in cell.per_query.to_pylist() if row["query_id"] == line["query"])
            expected += [hit.partition("-")[0] == row["label"] for hit in row["hits"][:5]]
    part = page.partition("Wins and losses")[2].partition("Search by words")[0]
    assert [mark == "right" for mark in re.findall(r'<figure class="(right|wrong)">', part)] == expected
    assert expected


def test_a_win_is_a_query_that_the_best_version_answers_better(root, page):
    del page
    lines = read_table(root, "wins_and_losses.csv")
    assert lines
    for line in lines:
        assert (float(line["difference"]) > 0) == (line["kind"] == "win")
        assert float(line["difference"]) == pytest.approx(float(line["mmp@5"]) - float(line["rival value"]), abs=2e-6)


def test_searches_by_words_show_the_words(root, page):
    lines = read_table(root, "word_searches.csv")
    assert len(lines) == 6
    assert all(f"<q>{line['words']}</q>" in page for line in lines)


def test_every_number_of_the_page_stands_in_a_table(root, page):
    shown = re.findall(
        r'<data value="[^"]*" data-csv="([^"]+)" data-row="(\d+)" data-col="([^"]+)">([^<]+)</data>', page
    )
    assert len(shown) > 100
    tables = {name: read_table(root, name) for name in {name for name, *_ in shown}}
    for name, line, column, text in shown:
        plain = text.replace(",", "")
        digits = len(plain.partition(".")[2])
        assert f"{float(tables[name][int(line) - 1][column]):{'+' if plain[0] in '+-' else ''}.{digits}f}" == plain


def test_no_number_of_the_page_stands_outside_the_tables(page):
    scaffolding = r'<style>.*?</style>|<data .*?</data>|<svg.*?</svg>|<code>.*?</code>|<dl>.*?</dl>|style="[^"]*"'
    left = words_of(re.sub(scaffolding, "", page, flags=re.DOTALL))
    names = r"95 %|top 10|\S+@\S+|meta|\S*--\S*"
    assert re.findall(r"\d+", re.sub(names, "", left)) == []


def test_a_cross_stands_in_the_heat_map_with_its_difference_to_the_untuned_backbone(root, page):
    cells = read_cells(root)
    cross = next(cell for cell in cells if cell.key == CROSS)
    gap = difference(cross, baseline_of(cross, cells))
    assert (cross.strategy, cross.tuned_strategy, cross.tuned_on) == ("cross", "top", "market")
    heat = words_of(page.partition('class="heat"')[2].partition("</table>")[0])
    assert f"{gap.value:+.3f}" in heat
    assert f"{gap.low:+.3f} to {gap.high:+.3f}" in heat


def test_a_difference_that_is_not_shown_has_no_colour(root, page):
    lines = read_table(root, "cross.csv")
    tones = {"better": "up", "worse": "down", "no difference shown": "even"}
    assert {tones[line["verdict"]] for line in lines} == set(re.findall(r'<td class="(up|down|even)"', page))


def test_categories_are_compared_by_their_own_queries(root, page):
    del page
    best, baseline = read_cells(root)[0], read_cells(root)[1]
    theirs = dict(zip(*(baseline.per_query.column(name).to_pylist() for name in ("query_id", "mmp@5")), strict=True))
    lines = read_table(root, "slices.csv")
    assert [line["category"] for line in sorted(lines, key=lambda line: line["category"])] == ["jug", "mug", "pan"]
    for line in lines:
        rows = [row for row in best.per_query.to_pylist() if row["label"] == line["category"]]
        slow = sum(row["mmp@5"] - theirs[row["query_id"]] for row in rows) / len(rows)
        assert int(line["queries"]) == len(rows)
        assert float(line["difference"]) == pytest.approx(slow, abs=1e-6)
        assert line["verdict"] == "few queries"


def test_the_loss_through_qdrant_and_other_protocols_are_shown(page):
    assert "0.987" in page
    assert "within" in page


def test_what_an_evaluation_warns_of_stands_beside_the_health_of_its_vectors(root):
    cell = read_cells(root)[0]
    told = {
        "health": {"finite": True},
        "warnings": ["leakage: 1 of 9 queries", "a sample"],
        "leakage": "not applicable",
    }
    row = health([dataclasses.replace(cell, exact={**cell.exact, "details": told})]).rows[0]
    assert (row["finite"], row["remarks"]) == ("yes", "leakage: 1 of 9 queries; a sample")


def test_a_price_is_hours_times_the_hourly_price(root, page):
    assert read_costs(root)[0]["price"] == pytest.approx(0.10)
    assert "0.1000 USD" in words_of(page)


def test_metrics_json_holds_every_value_by_dataset_and_cell(root, page):
    del page
    values = json.loads((root / "report/metrics.json").read_text())
    assert set(values) == {"shop"}
    assert set(values["shop"]) == {PRETRAINED, TOP, CROSS}
    assert values["shop"][TOP]["mmp@5"] == read_cells(root)[0].primary


def test_the_tables_have_one_row_a_cell(root, page):
    del page
    for name, columns in (
        ("tables/leaderboard.csv", {"map[/R]", "knn/accuracy", "mmp@5 low"}),
        ("plots/leaderboard.csv", {"mmp@5"}),
    ):
        with (root / "report" / name).open() as stream:
            rows = list(csv.DictReader(stream))
        assert [row["cell"] for row in rows] == [TOP, PRETRAINED, CROSS]
        assert columns <= set(rows[0])


def test_what_the_report_took_the_last_time_is_not_in_it(root, page):
    own = root / "work/costs/report--all.json"
    own.write_text(json.dumps({"stage": "report", "cell": "all", "seconds": 98765.0, "device": "cpu"}))
    try:
        assert "report" in {cost["stage"] for cost in read_costs(root)}
        assert build(root, root / "report").read_text() == page
    finally:
        own.unlink()


def test_equal_inputs_give_the_same_page(root, page):
    assert build(root, root / "again").read_text() == page


def test_a_cell_that_left_the_parameters_leaves_the_report(root, tmp_path):
    for part in ("work", "data"):
        (tmp_path / part).symlink_to(root / part)
    (tmp_path / "params.yaml").write_text(f"cells: {{{PRETRAINED}: {{}}}}\n")
    assert [cell.key for cell in read_cells(tmp_path)] == [PRETRAINED]


def test_without_the_photos_the_figures_are_still_there(root, tmp_path):
    (tmp_path / "work").symlink_to(root / "work")
    page = build(tmp_path, tmp_path / "report").read_text()
    assert "<img" not in page
    assert "shop-search@2" in page


def test_a_title_cannot_smuggle_markup_in(tmp_path):
    dataset = tiny_dataset(tmp_path / "data/shop", labels=("<script>", "pan"), protocols=(DEFAULT, WITHIN, WORDS))
    add_cell(tmp_path, TOP, dataset, 0.3, 1)
    page = build(tmp_path, tmp_path / "report").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_nothing_evaluated_says_what_to_run(tmp_path):
    with pytest.raises(NotFound, match="run: dvc repro"):
        build(tmp_path, tmp_path / "report")


def test_the_command_prints_the_page(root, monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from vitrine.cli.report import app

    monkeypatch.chdir(root)
    answer = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output) == {"page": str(tmp_path / "out/index.html")}
    assert (tmp_path / "out/index.html").is_file()


def test_every_file_of_the_report_repeats_to_the_byte(root, page):
    del page
    build(root, root / "again")
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (root / "report", root / "again")
    )
    assert first == second
    assert len(first) > 10


def test_beyond_the_budget_photos_become_captions(root, tmp_path, monkeypatch):
    monkeypatch.setattr("vitrine.report_pictures.BUDGET", 3000)
    page = build(root, tmp_path).read_text()
    assert 0 < page.count("<img") < 5
    assert page.count('<div class="none">') > 20


def test_a_table_of_an_earlier_report_does_not_stay(root, tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/gone.csv").write_text("old\n")
    build(root, tmp_path)
    assert not (tmp_path / "tables/gone.csv").exists()


def test_a_folder_that_is_no_cell_says_what_its_name_must_be(tmp_path):
    write_json(tmp_path / "work/evaluations/mine/exact.json", {})
    with pytest.raises(
        BadInput, match="work/evaluations/mine is no cell; its name must be STRATEGY--BACKBONE--DATASET"
    ):
        read_cells(tmp_path)


def test_letters_of_close_marks_do_not_cover_each_other():
    names = ("letter", "strategy", "cell", "mmp@5", "low", "high", "tuning seconds", "images_per_s")
    rows = [dict(zip(names, (letter, "top", letter, 0.5, 0.4, 0.6, 10.0, None), strict=True)) for letter in "ABC"]
    chart = scatters(Table("close", names, rows).rows)[0]
    heights = [mark.label_y for mark in chart.marks]
    assert len(chart.marks) == 3
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 11
