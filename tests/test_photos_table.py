"""The benchmark table of real photos, on made-up results."""

import runpy
from pathlib import Path

import pyarrow as pa
import pytest

from vitrine.files import write_json
from vitrine.report_data import Cell

PAGE = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks/photos.py"))


def cell(key, value, **correct):
    count = 8
    columns = {
        "query_id": [f"q{n}" for n in range(count)],
        "unit": [f"class {n // 2}" for n in range(count)],
        "unit_kind": ["label"] * count,
        "label": [f"class {n // 2}" for n in range(count)],
        "mmp@5": [value] * count,
        **{f"{name}_correct": rights for name, rights in correct.items()},
    }
    exact = {
        "dataset": key.rpartition("--")[2],
        "dataset_digest": "d",
        "protocol": "default",
        "unit": "label",
        "metrics": {
            "mmp@5": value,
            **{f"{name}/accuracy": sum(rights) / count for name, rights in correct.items()},
        },
        "intervals": {"mmp@5": [value, value]},
    }
    return Cell(key, {"model": "m", "version": 1, "digest": "ab" * 32}, exact, pa.table(columns), None)


HALF, MOST, ALL = [True, False] * 4, [True, True, True, False] * 2, [True] * 8
UNTUNED = cell("pretrained--mini--shoes", 0.25, knn=HALF, probe=HALF)
FULL = cell("full--mini--shoes", 0.75, own=ALL, knn=MOST, probe=MOST)
CROSS = cell("full--mini--hats--on--shoes", 0.5, probe=MOST)


def test_a_tuned_versions_own_classifier_is_paired_with_the_untuned_ones_probe():
    assert PAGE["accuracy_gain"](FULL, UNTUNED).value == pytest.approx(0.5)


def test_a_cross_is_compared_probe_with_probe():
    assert PAGE["accuracy_gain"](CROSS, UNTUNED).value == pytest.approx(0.25)


def test_a_line_has_quality_differences_time_and_price():
    line = PAGE["row"](FULL, [UNTUNED, FULL], {"seconds": 90.0, "cpu_seconds": 80.0, "price": 0.005, "currency": "USD"})
    assert "| shoes | full--mini | 0.7500 |" in line
    assert "| +0.5000 |" in line
    assert "| 90 (80) | 0.0050 USD |" in line


def test_a_cross_says_where_it_was_tuned_and_has_no_tuning_time():
    line = PAGE["row"](CROSS, [UNTUNED, CROSS], {})
    assert "| full--mini, tuned on hats |" in line
    assert "| - | - | - | `abababababab` |" in line


def test_an_untuned_version_is_the_yardstick_and_has_no_difference():
    other = cell("pretrained--mini--shoes", 0.25, probe=HALF)
    assert "| 0.2500 to 0.2500 |  |  |" in PAGE["row"](other, [UNTUNED, other], {})


def test_backbones_say_what_they_were_trained_on(tmp_path):
    write_json(tmp_path / "work/backbones/mini/backbone.json", {"origin": {"photos": 2640, "trained_on": "shoes"}})
    write_json(tmp_path / "work/backbones/clip/backbone.json", {"origin": {"fetched": "hub"}})
    assert PAGE["backbones"](tmp_path) == "`mini` on 2,640 photos of shoes"
