"""The six public benchmarks, each as a small tree of its published layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.benchmark_trees import (
    CAR_NAMES,
    PARTIAL,
    TREES,
    cars196,
    cars196_devkit,
    food2k,
    in_shop,
    matlab,
    photo,
    products_10k,
    rp2k,
    stanford_online_products,
)
from vitrine import plugins
from vitrine.dataset import load_dataset
from vitrine.datasets._benchmark import Benchmark, Photo, missing
from vitrine.errors import BadInput
from vitrine.importing import import_dataset
from vitrine.items import EvalProtocol

NEEDED = [
    (cars196, "cars_annos.mat"),
    (cars196, "car_ims"),
    (cars196_devkit, "devkit/cars_meta.mat"),
    (cars196_devkit, "devkit/cars_train_annos.mat"),
    (cars196_devkit, "cars_test_annos_withlabels.mat"),
    (cars196_devkit, "cars_train"),
    (cars196_devkit, "cars_test"),
    (stanford_online_products, "Ebay_train.txt"),
    (stanford_online_products, "Ebay_test.txt"),
    (in_shop, "Eval/list_eval_partition.txt"),
    (in_shop, "img"),
    (products_10k, "train.csv"),
    (products_10k, "test_kaggletest.csv"),
    (products_10k, "train"),
    (products_10k, "test"),
    (rp2k, "all/train"),
    (rp2k, "all/test"),
    (food2k, "Food2k_complete"),
    (food2k, "Food2k_label/train_finetune.txt"),
    (food2k, "Food2k_label/val_finetune.txt"),
    (food2k, "Food2k_label/test_finetune.txt"),
]


def format_of(tree):
    return next(fmt for fmt, function in TREES.items() if tree.__name__.startswith(function.__name__))


def imported(tree, tmp_path):
    path, options = tree(tmp_path / "source")
    report = import_dataset(format_of(tree), path, "sample", tmp_path / "out", options)
    return report, load_dataset(tmp_path / "out")


@pytest.mark.parametrize(("tree", "name"), NEEDED, ids=lambda value: getattr(value, "__name__", value))
def test_a_missing_file_is_named_with_the_whole_layout(tmp_path, tree, name):
    path, options = tree(tmp_path / "source")
    gone = path / name
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(BadInput, match="as published has") as caught:
        plugins.load("datasets", format_of(tree)).read(path, options)
    first, _, layout = str(caught.value).partition("\n")
    assert str(gone) in first
    assert layout in plugins.load("datasets", format_of(tree)).__doc__


@pytest.mark.parametrize("tree", [cars196, cars196_devkit])
def test_cars_are_split_by_class_whatever_the_lists_say(tmp_path, tree):
    _, dataset = imported(tree, tmp_path)
    assert {item.label for item in dataset.split("train")} == {"Make Model 1", "Make Model 98"}
    assert {item.label for item in dataset.split("test")} == {"Make Model 99", "Ram C-V Van 2012"}
    assert len(dataset.split("train")) == len(dataset.split("test")) == 4


@pytest.mark.parametrize("tree", [cars196, stanford_online_products])
def test_test_photos_of_zero_shot_benchmarks_search_among_themselves(tmp_path, tree):
    assert imported(tree, tmp_path)[1].protocols == (EvalProtocol("default", ("test",), ("test",), "label"),)


@pytest.mark.parametrize("tree", [products_10k, rp2k, food2k])
def test_closed_sets_look_for_test_photos_among_training_photos(tmp_path, tree):
    first, second = imported(tree, tmp_path)[1].protocols
    assert (first.query, first.gallery, second.query, second.gallery) == (("test",), ("train",), ("test",), ("test",))


def test_in_shop_queries_search_the_gallery_which_is_not_trained_on(tmp_path):
    _, dataset = imported(in_shop, tmp_path)
    assert dataset.protocols == (EvalProtocol("default", ("test",), ("gallery",), "label"),)
    assert dataset.counts() == {"train": 2, "test": 2, "gallery": 3}
    assert not {i.label for i in dataset.split("train")} & {i.label for i in dataset.split("test", "gallery")}


def test_in_shop_photos_may_lie_in_the_folder_that_the_archive_came_in(tmp_path):
    path, _ = in_shop(tmp_path / "source")
    (path / "Img").mkdir()
    (path / "img").rename(path / "Img/img")
    assert import_dataset("in-shop", path, "sample", tmp_path / "out", {}).items == 7


def test_stanford_online_products_keeps_product_and_kind(tmp_path):
    _, dataset = imported(stanford_online_products, tmp_path)
    item = next(item for item in dataset.items if item.item_id == "coffee_maker_final/1002_0.JPG")
    assert (item.split, item.label, item.product_id, item.category) == ("train", "1", "1", ("coffee_maker", "1"))


def test_products_10k_test_photos_take_their_group_from_the_training_list(tmp_path):
    _, dataset = imported(products_10k, tmp_path)
    assert {item.category for item in dataset.split("test")} == {("group 7", "40"), ("group 7", "41")}


def test_products_10k_without_test_classes_says_which_list_has_them(tmp_path):
    path, _ = products_10k(tmp_path / "source")
    (path / "test_kaggletest.csv").unlink()
    (path / "test.csv").write_text("name\n0.jpg\n")
    with pytest.raises(BadInput, match=r"test\.csv has no column class, only name; .* take test_kaggletest\.csv"):
        import_dataset("products-10k", path, "sample", tmp_path / "out", {})


def test_food2k_classes_are_described_by_their_names(tmp_path):
    _, dataset = imported(food2k, tmp_path)
    assert {(info.label, info.description) for info in dataset.labels} == {("0", "Fried rice"), ("1", "Pancake")}
    assert dataset.counts() == {"train": 4, "val": 4, "test": 4}


def test_food2k_goes_without_names_and_takes_lists_beside_the_photos(tmp_path):
    path, _ = food2k(tmp_path / "source")
    (path / "Food2k_label/food2k_label2name_en.txt").unlink()
    for listing in (path / "Food2k_label").iterdir():
        listing.rename(path / "Food2k_complete" / listing.name)
    report = import_dataset("food2k", path, "sample", tmp_path / "out", {})
    assert report.items == 12


@pytest.mark.parametrize(
    ("tree", "counts"),
    [
        (cars196, "train 4 of 8,054, test 4 of 8,131, classes 4 of 196"),
        (stanford_online_products, "train 6 of 59,551, test 6 of 60,502, classes 4 of 22,634"),
        (in_shop, "train 2 of 25,882, test 2 of 14,218, gallery 3 of 12,612, classes 3 of 7,982"),
        (products_10k, "train 6 of 141,931, test 6 of 55,376, classes 2 of 9,691"),
        (rp2k, "train 6 of 344,854, test 6 of 39,457, classes 2 of 2,388"),
        (food2k, "train 4 of 620,192, val 4 of 104,513, test 4 of 311,859, classes 2 of 2,000"),
    ],
)
def test_found_and_published_counts_are_said(tmp_path, tree, counts):
    (note,) = imported(tree, tmp_path)[0].notes
    assert counts in note
    assert note.endswith("numbers are not comparable with published ones")


@pytest.mark.parametrize("tree", [cars196, cars196_devkit, stanford_online_products])
@pytest.mark.parametrize("options", [{}, {"partial": "false"}])
def test_an_incomplete_copy_of_an_exact_benchmark_is_refused_unless_allowed(tmp_path, tree, options):
    path, _ = tree(tmp_path / "source")
    with pytest.raises(BadInput, match=r"of 8,054|of 59,551") as caught:
        import_dataset(format_of(tree), path, "sample", tmp_path / "out", options)
    assert "import what is there with -o partial=true" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_partial_is_true_or_false(tmp_path):
    path, _ = cars196(tmp_path / "source")
    with pytest.raises(BadInput, match="option partial='maybe' is neither true nor false"):
        import_dataset("cars196", path, "sample", tmp_path / "out", {"partial": "maybe"})


def test_listed_photos_that_are_missing_do_not_count_as_found(tmp_path):
    path, _ = stanford_online_products(tmp_path / "source")
    (path / "chair_final/1001_0.JPG").unlink()
    report = import_dataset("stanford-online-products", path, "sample", tmp_path / "out", PARTIAL)
    assert "train 5 of 59,551" in report.notes[0]
    assert "1 listed photos are missing, such as chair_final/1001_0.JPG" in report.notes[0]
    assert report.dropped == ("chair_final/1001_0.JPG",)


def test_a_folder_of_listed_photos_that_is_missing_is_counted_whole(tmp_path):
    photo(tmp_path / "a/1.jpg", 1)
    listed = [Photo(path, "x", "train", ("x",)) for path in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")]
    assert missing(tmp_path, listed) == ["a/2.jpg", "b/1.jpg", "b/2.jpg"]


@pytest.mark.parametrize(
    ("tree", "name", "line", "said"),
    [
        (stanford_online_products, "Ebay_test.txt", "1 2 3", "line 8 is malformed: '1 2 3'; it needs 4 columns"),
        (stanford_online_products, "Ebay_test.txt", "1 x 3 a_final/b.jpg", "line 8 is malformed"),
        (in_shop, "Eval/list_eval_partition.txt", "img/A/B/id_1/a.jpg id_1 probe", "line 10 is malformed"),
        (food2k, "Food2k_label/val_finetune.txt", "0/a.jpg zero", "line 5 is malformed"),
        (products_10k, "train.csv", "9.jpg,,7", "line 8 is malformed"),
        (food2k, "Food2k_label/val_finetune.txt", "../../secret.jpg 0", "leads out of the folder"),
        (food2k, "Food2k_label/val_finetune.txt", "/etc/secret.jpg 0", "leads out of the folder"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, tree, name, line, said):
    path, options = tree(tmp_path / "source")
    with (path / name).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(BadInput, match=re.escape(said)):
        import_dataset(format_of(tree), path, "sample", tmp_path / "out", options)


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (stanford_online_products, "Ebay_test.txt"),
        (products_10k, "train.csv"),
        (food2k, "Food2k_label/food2k_label2name_en.txt"),
    ],
)
def test_a_list_in_another_encoding_is_named(tmp_path, tree, name):
    path, options = tree(tmp_path / "source")
    (path / name).write_bytes("name,class\né.jpg,1\n".encode("cp1252"))
    with pytest.raises(BadInput, match=f"{re.escape(name)} is no UTF-8 text: .* save it as UTF-8"):
        import_dataset(format_of(tree), path, "sample", tmp_path / "out", options)


def test_a_file_that_is_no_matlab_file_is_said_to_be_none(tmp_path):
    path, options = cars196(tmp_path / "source")
    (path / "cars_annos.mat").write_bytes(b"<html>Not found</html>")
    with pytest.raises(BadInput, match=r"cars_annos\.mat is no MATLAB file that can be read"):
        import_dataset("cars196", path, "sample", tmp_path / "out", options)


def test_a_class_without_a_name_is_malformed(tmp_path):
    path, options = cars196(tmp_path / "source")
    matlab(path / "cars_annos.mat", [{"relative_im_path": "car_ims/1.jpg", "class": 3}], class_names=CAR_NAMES[:, :2])
    with pytest.raises(BadInput, match=r"line 1 is malformed: .* a number from 1 to 2"):
        import_dataset("cars196", path, "sample", tmp_path / "out", options)


@pytest.mark.parametrize("fmt", TREES)
def test_the_documented_counts_are_those_compared_with(fmt):
    page = (Path(__file__).parents[2] / "docs/benchmarks.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{fmt}` |"))
    module = plugins.load("datasets", fmt)
    (benchmark,) = (value for value in vars(module).values() if isinstance(value, Benchmark))
    documented = [int(cell.replace(",", "")) for cell in row.split("|") if re.fullmatch(r" [\d,]+ ", cell)]
    assert documented == list(benchmark.counts.values())
