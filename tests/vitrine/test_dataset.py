"""The canonical form: digest, reading back, refusing what was changed."""

import io
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrine.dataset import IMAGES, content_digest, dataset_names, find_dataset, load_dataset, write_records
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import read_json, sha256_bytes, write_json
from vitrine.home import Home
from vitrine.items import EvalProtocol, Item, LabelInfo

PROTOCOLS = (EvalProtocol("default", ("test",), ("train",)), EvalProtocol("within", ("test",), ("test",)))


def photo(colour):
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(stream, "PNG")
    return stream.getvalue()


DATA = photo("red")
NAME = f"{sha256_bytes(DATA)}.png"
ITEMS = (
    Item("b", (NAME,), "mug", "test", ("home", "mug"), "p1", "A mug", {"size": "L"}, {"w": 2.0}, 9.5, "B", "S", "2024"),
    Item("a", (NAME,), "vase", "train"),
    Item("c", (NAME,), "mug", "val"),
)
LABELS = (LabelInfo("vase"), LabelInfo("mug", ("home", "mug"), "for tea", NAME))


def write(folder, items=ITEMS, labels=LABELS, name="shop"):
    (folder / IMAGES).mkdir(parents=True)
    (folder / IMAGES / NAME).write_bytes(DATA)
    write_records(
        folder,
        name=name,
        items=items,
        labels=labels,
        protocols=PROTOCOLS,
        licence="CC0-1.0",
        source={"format": "f", "path": "some/where", "options": {"seed": 1}},
        broken=[("x.jpg", "torn")],
    )
    return folder


def test_what_was_written_is_read_back_sorted_by_item_id(tmp_path):
    dataset = load_dataset(write(tmp_path / "shop"))
    assert dataset.items == tuple(sorted(ITEMS, key=lambda item: item.item_id))
    assert dataset.labels == tuple(sorted(LABELS, key=lambda info: info.label))
    assert dataset.protocols == PROTOCOLS
    assert (dataset.name, dataset.licence) == ("shop", "CC0-1.0")
    assert dataset.source == {"format": "f", "path": "some/where", "options": {"seed": 1}}
    assert dataset.broken == (("x.jpg", "torn"),)


def test_the_parquet_has_one_column_a_field_of_an_item(tmp_path):
    table = pq.read_table(write(tmp_path / "shop") / "items.parquet")
    assert table.column_names == list(Item.__dataclass_fields__)
    assert table.column("item_id").to_pylist() == ["a", "b", "c"]


def test_folder_name_and_source_do_not_change_the_digest(tmp_path):
    one = load_dataset(write(tmp_path / "one"))
    other = load_dataset(write(tmp_path / "deep" / "other", name="another-name"))
    assert one.digest == other.digest


def test_rewriting_the_parquet_file_with_other_settings_keeps_the_digest(tmp_path):
    folder = write(tmp_path / "shop")
    before = load_dataset(folder).digest
    pq.write_table(pq.read_table(folder / "items.parquet"), folder / "items.parquet", compression="none", version="1.0")
    assert load_dataset(folder).digest == before


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_items_and_labels_is_no_content(seed):
    rng = random.Random(seed)
    items, labels = list(ITEMS), list(LABELS)
    rng.shuffle(items)
    rng.shuffle(labels)
    assert content_digest(items, labels, PROTOCOLS, "x") == content_digest(ITEMS, LABELS, PROTOCOLS, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Another"},
        {"images": ("0" * 64 + ".png",)},
        {"split": "train"},
        {"price": 9.51},
        {"attributes": {"size": "M"}},
        {"numbers": {"w": 2.5}},
        {"product_id": None},
    ],
)
def test_every_field_is_part_of_the_digest(change):
    changed = (replace(ITEMS[0], **change), *ITEMS[1:])
    assert content_digest(changed, LABELS, PROTOCOLS, "x") != content_digest(ITEMS, LABELS, PROTOCOLS, "x")


def test_labels_protocols_and_licence_are_part_of_the_digest():
    base = content_digest(ITEMS, LABELS, PROTOCOLS, "x")
    assert content_digest(ITEMS, LABELS[:1], PROTOCOLS, "x") != base
    assert content_digest(ITEMS, LABELS, PROTOCOLS[::-1], "x") != base
    assert content_digest(ITEMS, LABELS, PROTOCOLS, "y") != base


def test_changed_tables_are_refused(tmp_path):
    folder = write(tmp_path / "shop")
    other = write(tmp_path / "other", items=ITEMS[:2])
    shutil.copy(other / "items.parquet", folder / "items.parquet")
    with pytest.raises(Tampered, match="changed after the import; import the dataset again"):
        load_dataset(folder)


def test_a_torn_or_missing_table_is_refused(tmp_path):
    folder = write(tmp_path / "shop")
    (folder / "items.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(Tampered, match="no readable parquet"):
        load_dataset(folder)
    (folder / "items.parquet").unlink()
    with pytest.raises(Tampered, match="is missing"):
        load_dataset(folder)


def test_another_schema_is_refused_with_both_numbers(tmp_path):
    folder = write(tmp_path / "shop")
    write_json(folder / "dataset.json", {**read_json(folder / "dataset.json", "dataset"), "schema": 99})
    with pytest.raises(BadInput, match=r"schema 99, this release reads 2"):
        load_dataset(folder)


def test_a_photo_is_read_by_name_and_compared_with_it(tmp_path):
    dataset = load_dataset(write(tmp_path / "shop"))
    assert dataset.photo(NAME) == DATA
    (dataset.folder / IMAGES / NAME).write_bytes(photo("blue"))
    with pytest.raises(Tampered, match="was changed after the import"):
        dataset.photo(NAME)


@pytest.mark.parametrize("name", ["../dataset.json", "x.png", "", "0" * 64 + ".png", "/etc/passwd"])
def test_a_photo_that_is_not_there_or_is_no_photo_name_is_not_found(tmp_path, name):
    dataset = load_dataset(write(tmp_path / "shop"))
    with pytest.raises(NotFound, match="has no photo"):
        dataset.photo(name)


def test_the_first_protocol_is_the_default_and_unknown_ones_list_the_known(tmp_path):
    dataset = load_dataset(write(tmp_path / "shop"))
    assert dataset.protocol().name == "default"
    assert dataset.protocol("within").gallery == ("test",)
    with pytest.raises(BadInput, match="no protocol 'x'; it has: default, within"):
        dataset.protocol("x")


def test_the_catalogue_leaves_pure_queries_out_and_keeps_val(tmp_path):
    dataset = load_dataset(write(tmp_path / "shop"))
    assert [item.item_id for item in dataset.catalogue_items()] == ["a", "c"]


def test_a_gallery_that_is_also_query_stays_in_the_catalogue(tmp_path):
    dataset = replace(load_dataset(write(tmp_path / "shop")), protocols=PROTOCOLS[::-1])
    assert len(dataset.catalogue_items()) == 3


def test_splits_are_selected_and_counted(tmp_path):
    dataset = load_dataset(write(tmp_path / "shop"))
    assert [item.item_id for item in dataset.split("train", "val")] == ["a", "c"]
    assert dataset.counts() == {"train": 1, "val": 1, "test": 1}


def test_an_unknown_dataset_lists_the_known_ones_and_the_import_command(tmp_path):
    home = Home(tmp_path, "", tmp_path / "data")
    with pytest.raises(NotFound, match=r"known: none; import it: vitrine data import FORMAT PATH --name shop"):
        find_dataset(home, "shop")
    write(tmp_path / "data" / "shop")
    (tmp_path / "data" / ".shop.1234").mkdir()
    assert dataset_names(home) == ["shop"]
    assert find_dataset(home, "shop").name == "shop"
    with pytest.raises(NotFound, match="known: shop"):
        find_dataset(home, "../data/shop")


def test_a_relative_folder_works(tmp_path, monkeypatch):
    write(tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    assert load_dataset(Path("shop")).photo(NAME) == DATA
