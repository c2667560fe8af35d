from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.catalogue import tiny_dataset
from vitrine.dataset import Dataset
from vitrine.errors import NotFound
from vitrine.evaluation import Evaluation, write_evaluation
from vitrine.files import write_json
from vitrine.ranking import exact_metrics
from vitrine.report import build
from vitrine.report_data import baseline_of, difference, read_cells, read_costs
from vitrine.stats import bootstrap_mean

PRETRAINED, TOP = "pretrained--mini--shop", "top--mini--shop"


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
    table = pa.table(
        {
            "query_id": [item.item_id for item in queries],
            "unit": units,
            "unit_kind": ["label"] * len(units),
            "label": units,
            "hits": [[ids[row] for row in rows if row >= 0] for rows in result.top_rows],
            **result.metrics,
        }
    )
    return Evaluation(
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        protocol=chosen.name,
        via=via,  # type: ignore[arg-type]
        metrics={name: interval.value for name, interval in intervals.items()} | {"knn/accuracy": 0.75},
        queries=len(queries),
        gallery=len(gallery),
        per_query=table,
        details={"recall_against_exact@10": 0.987} if via == "qdrant" else {},
        intervals=intervals,
        unit="label",
        units=len(labels),
    )


def add_cell(root: Path, key: str, dataset: Dataset, noise: float, version: int) -> None:
    folder = root / "work/evaluations" / key
    write_evaluation(folder, "exact", evaluated(dataset, noise), "shop-search", version, "d" * 64)
    write_evaluation(folder, "exact--within", evaluated(dataset, noise, protocol="within"), "shop-search", version)
    write_evaluation(folder, "qdrant", evaluated(dataset, noise * 1.5, "qdrant"), "shop-search", version)
    record = {"model": "shop-search", "version": version, "digest": "d" * 64, "cell": key, "lineage": {}}
    write_json(root / "work/registered" / f"{key}.json", record)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    dataset = tiny_dataset(root / "data/shop", splits=(("train", 8), ("test", 6)))
    add_cell(root, PRETRAINED, dataset, 0.8, 1)
    add_cell(root, TOP, dataset, 0.15, 2)
    cost = {"stage": "tune", "cell": TOP, "seconds": 1800.0, "images_per_s": 12.5, "peak_mb": 900.0, "device": "cpu"}
    write_json(root / "work/costs" / f"tune--{TOP}.json", {**cost, "parameters_trained": 331264})
    (root / "params.yaml").write_text(
        f"cells: {{{PRETRAINED}: {{}}, {TOP}: {{}}}}\nprices: {{device_hour: 0.20, currency: USD}}\n"
    )
    return root


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return build(root, root / "report").read_text()


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
    assert all(address.startswith("data:image/jpeg;base64,") for address in elements.addresses)
    assert not re.search(r"url\(|@import|https?://|<script|<link", page)


def test_cells_are_ordered_best_first(root):
    assert [cell.key for cell in read_cells(root)] == [TOP, PRETRAINED]


def test_the_headline_names_the_best_version_with_its_interval(root, page):
    best = read_cells(root)[0]
    headline = page.partition("<h2>Leaderboard")[0]
    low, high = best.ends("mmp@5")
    assert "shop-search@2" in headline
    assert f"{best.primary:.3f}" in headline
    assert f"{low:.3f} to {high:.3f}" in headline


def test_the_difference_is_paired_with_the_untuned_cell_of_the_same_backbone(root):
    cells = read_cells(root)
    best, baseline = cells[0], baseline_of(cells[0], cells)
    assert baseline is not None
    assert baseline.key == PRETRAINED
    gap = difference(best, baseline)
    assert gap.value == pytest.approx(best.primary - baseline.primary)
    assert gap.low > 0
    assert baseline_of(baseline, cells) is None


def test_each_query_shows_five_hits_marked_by_sign_and_border(page):
    marks = re.findall(r'<figure class="(\w*)">.*?<b>(.*?)</b>', page, re.DOTALL)
    assert len(marks) == 6 * (1 + 5)
    assert set(marks) <= {("", "query"), ("right", "✓ right"), ("wrong", "✗ wrong")}
    assert ("right", "✓ right") in marks


def test_marks_agree_with_the_labels_of_the_hits(root, page):
    best = read_cells(root)[0]
    drawn = sorted(np.random.default_rng(0).permutation(best.per_query.num_rows)[:6])
    rows = [best.per_query.slice(int(row), 1).to_pylist()[0] for row in drawn]
    expected = [hit.partition("-")[0] == row["label"] for row in rows for hit in row["hits"][:5]]
    found = [mark == "right" for mark in re.findall(r'<figure class="(right|wrong)">', page)]
    assert found == expected


def test_the_loss_through_qdrant_and_other_protocols_are_shown(page):
    assert "0.987" in page
    assert "within" in page


def test_a_price_is_hours_times_the_hourly_price(root, page):
    assert read_costs(root)[0]["price"] == pytest.approx(0.10)
    assert "0.1000 USD" in page


def test_metrics_json_holds_every_value_by_dataset_and_cell(root, page):
    del page
    values = json.loads((root / "report/metrics.json").read_text())
    assert set(values) == {"shop"}
    assert set(values["shop"]) == {PRETRAINED, TOP}
    assert values["shop"][TOP]["mmp@5"] == read_cells(root)[0].primary


def test_the_tables_have_one_row_a_cell(root, page):
    del page
    for name, columns in (
        ("leaderboard.csv", {"map[/R]", "knn/accuracy", "mmp@5 low"}),
        ("plots/leaderboard.csv", {"mmp@5"}),
    ):
        with (root / "report" / name).open() as stream:
            rows = list(csv.DictReader(stream))
        assert [row["cell"] for row in rows] == [TOP, PRETRAINED]
        assert columns <= set(rows[0])


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
    dataset = tiny_dataset(tmp_path / "data/shop", labels=("<script>", "pan"))
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
