"""Checking: each kind of trouble is found, and sound data passes."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrine.checking import check_dataset
from vitrine.dataset import IMAGES, load_dataset
from vitrine.encoder import normalise
from vitrine.importing import import_dataset
from vitrine.thumbnails import NEAR, near_pairs, thumbnail


def scene(seed, side=64):
    """A smooth random picture; different seeds look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def source(tmp_path):
    root, seed = tmp_path / "source", 0
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for label in ("mug", "vase"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                seed += 1
                scene(seed).save(root / split / label / f"{number}.jpg")
    return root


def check(source, fmt="image-folder", **options):
    import_dataset(fmt, source, "shop", source.parent / "out", options)
    return check_dataset(load_dataset(source.parent / "out"))


def kinds(report):
    return {finding.kind: finding for finding in report.findings}


def test_sound_data_has_no_findings(source):
    report = check(source)
    assert report.ok
    assert report.findings == ()
    assert report.splits == {"train": 8, "val": 4, "test": 6}
    assert report.classes == {"mug": 9, "vase": 9}


def test_identical_photos_in_two_splits_are_a_leak_and_an_error(source):
    shutil.copy(source / "train/mug/0.jpg", source / "test/mug/again.jpg")
    report = check(source)
    leak = kinds(report)["leak"]
    assert not report.ok
    assert leak.level == "error"
    assert leak.examples == ("test/mug/again.jpg = train/mug/0.jpg",)
    assert "near-duplicates" not in kinds(report)


def test_a_copy_within_a_split_is_a_warning(source):
    shutil.copy(source / "test/mug/0.jpg", source / "test/mug/again.jpg")
    report = check(source)
    assert report.ok
    assert kinds(report)["repeats"].examples == ("test: 1",)


def test_a_smaller_recompressed_copy_across_splits_is_a_near_duplicate(source):
    scene(1).resize((40, 40)).save(source / "test/mug/again.jpg", quality=40)
    report = check(source)
    assert report.ok
    assert kinds(report)["near-duplicates"].examples == ("test/mug/again.jpg ~ train/mug/0.jpg",)


def test_a_changed_photo_is_an_error(source):
    import_dataset("image-folder", source, "shop", source.parent / "out", {})
    dataset = load_dataset(source.parent / "out")
    (dataset.folder / IMAGES / dataset.items[0].images[0]).write_bytes(b"other")
    (dataset.folder / IMAGES / dataset.items[1].images[0]).unlink()
    report = check_dataset(dataset)
    assert kinds(report)["tampered"].examples == dataset.items[0].images
    assert kinds(report)["missing"].examples == dataset.items[1].images
    assert [finding.level for finding in report.findings] == ["error", "error"]


def test_photos_left_out_at_import_are_still_told(source):
    (source / "train/mug/torn.jpg").write_text("no photo")
    finding = kinds(check(source))["left-out"]
    assert finding.level == "warning"
    assert "torn.jpg: the image" in finding.examples[0]


def test_a_class_without_photos_is_named(source):
    (source / "train/jug").mkdir()
    report = check(source)
    assert kinds(report)["empty-classes"].examples == ("jug",)
    assert report.classes["jug"] == 0


def test_queries_that_can_find_nothing_are_counted_per_class(source):
    (source / "test/jug").mkdir()
    scene(70).save(source / "test/jug/0.jpg")
    report = check(source)
    lost = [finding for finding in report.findings if finding.kind == "no-positive"]
    assert [finding.examples for finding in lost] == [("jug: 1",), ("jug: 1",)]
    assert "protocol default have no other item of their label" in lost[0].message
    assert kinds(report)["untrained-classes"].examples == ("jug",)


def test_a_protocol_without_queries_is_an_error(tmp_path):
    for number in range(2):
        (tmp_path / "source/mug").mkdir(parents=True, exist_ok=True)
        scene(number).save(tmp_path / f"source/mug/{number}.jpg")
    report = check(tmp_path / "source")
    assert kinds(report)["empty-protocol"].level == "error"
    assert "protocol default has no queries" in kinds(report)["empty-protocol"].message


def test_different_demo_products_are_no_near_duplicates(tmp_path):
    (tmp_path / "demo").mkdir()
    assert check(tmp_path / "demo", "demo", products=60, photos=3).findings == ()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 700), st.integers(1, 20))
@example(0, 1300, 7)
def test_near_pairs_agrees_with_two_plain_loops(seed, rows, columns):
    draw = np.random.default_rng(seed)
    left, right = normalise(draw.normal(size=(rows, 3))), normalise(draw.normal(size=(columns, 3)))
    slow = [(i, j) for i in range(rows) for j in range(columns) if float(left[i] @ right[j]) >= 0.9]
    close_call = np.abs(left @ right.T - 0.9).min() < 1e-6
    assert close_call or near_pairs(left, right, 0.9) == slow


def test_a_thumbnail_is_a_unit_vector_that_ignores_brightness_and_size():
    def encoded(image):
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()

    plain = thumbnail(encoded(scene(5)))
    assert np.linalg.norm(plain) == pytest.approx(1)
    darker = scene(5, side=200).point(lambda value: int(value * 0.8))
    assert plain @ thumbnail(encoded(darker)) > NEAR
    assert plain @ thumbnail(encoded(scene(6))) < 0.9


def test_blank_photos_are_never_near_duplicates(tmp_path):
    for split, colour in (("train", "red"), ("val", "green"), ("test", "blue")):
        folder = Path(tmp_path / "source" / split / "mug")
        folder.mkdir(parents=True)
        for side in (20, 30):
            Image.new("RGB", (side, side), colour).save(folder / f"{side}.png")
    assert "near-duplicates" not in kinds(check(tmp_path / "source"))


def shop_of(tmp_path, header, *rows, **options):
    """A table whose rows each have a photo of their own, imported and checked."""
    root = tmp_path / "table"
    root.mkdir()
    lines = [f"id,image,{header}"]
    for number, row in enumerate(rows):
        scene(100 + number).save(root / f"{number}.jpg")
        lines.append(f"i{number},{number}.jpg,{row}")
    (root / "shop.csv").write_text("\n".join(lines))
    import_dataset("table", root / "shop.csv", "shop", tmp_path / "out", {"split": "column", **options})
    return check_dataset(load_dataset(tmp_path / "out"))


def test_products_that_are_learned_and_asked_for_are_named(tmp_path):
    rows = ("mug,p1,train", "mug,p1,test", "mug,p2,train", "mug,p2,gallery", "mug,p3,gallery", "mug,p3,test")
    found = kinds(shop_of(tmp_path, "label,product,split", *rows))["shared-products"]
    assert (found.level, found.count, found.examples) == ("warning", 1, ("p1",))
    assert "results hold for products that were learned" in found.message


def test_queries_by_title_without_a_title_are_counted(tmp_path):
    rows = ("mug,red mug,train", "mug,blue mug,test", "mug,,test")
    report = shop_of(tmp_path, "label,title,split", *rows)
    found = kinds(report)["no-title"]
    assert (found.level, found.count, found.examples) == ("warning", 1, ("i2",))
    assert "queries of protocol text have no title and do not ask (1)" in found.message


def test_a_protocol_by_title_without_any_title_is_an_error(tmp_path):
    shop_of(tmp_path, "label,split", "mug,train", "mug,test")
    dataset = load_dataset(tmp_path / "out")
    text = replace(dataset.protocols[0], name="text", ask_by="title")
    report = check_dataset(replace(dataset, protocols=(*dataset.protocols, text)))
    assert kinds(report)["no-title"].level == "error"
    assert "asks by title, and no query has one" in kinds(report)["no-title"].message


def test_rejected_rows_of_a_table_stay_known(tmp_path):
    report = shop_of(tmp_path, "label,split", "mug,train", "mug,test", "mug,train", ",train")
    found = kinds(report)["rejected-rows"]
    assert (found.level, found.count, found.examples) == ("warning", 1, ("row 5: no label",))
    assert "import-report.csv" in found.message
