"""The image-folder format: which layout is which, and the seeded splits."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from vitrine.datasets import image_folder
from vitrine.errors import BadInput


def tree(root, counts):
    """Make files of different bytes: {"train/mug": 3} -> train/mug/0.jpg ... (their content is not read here)."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.jpg").write_bytes(f"{folder} {number}".encode())
    return root


def splits(root, **options):
    return {item.item_id: item.split for item in image_folder.read(root, options).items}


def per_class(found, split):
    return Counter(key.rpartition("/")[0] for key, value in found.items() if value == split)


def test_given_splits_are_kept_as_they_are(tmp_path):
    root = tree(tmp_path, {"train/mug": 5, "val/mug": 2, "test/mug": 3})
    source = image_folder.read(root, {})
    assert Counter(item.split for item in source.items) == {"train": 5, "val": 2, "test": 3}
    default, within = source.protocols
    assert (default.query, default.gallery) == (("test",), ("train",))
    assert (within.query, within.gallery) == (("test",), ("test",))


@pytest.mark.parametrize("name", ["training", "Train"])
def test_split_folders_have_several_spellings(tmp_path, name):
    found = splits(tree(tmp_path, {f"{name}/mug": 5, "valid/mug": 2, "TEST/mug": 3}))
    assert Counter(found.values()) == {"train": 5, "val": 2, "test": 3}


def test_validation_becomes_the_test_set_and_val_is_cut_from_train(tmp_path):
    root = tree(tmp_path, {"train/mug": 20, "train/vase": 10, "validation/mug": 4, "validation/vase": 3})
    found = splits(root)
    assert per_class(found, "val") == {"train/mug": 2, "train/vase": 1}
    assert per_class(found, "test") == {"validation/mug": 4, "validation/vase": 3}
    default = image_folder.read(root, {}).protocols[0]
    assert default.gallery == ("train", "val"), "the gallery is the whole original train"


def test_train_and_test_without_val_are_cut_the_same_way(tmp_path):
    root = tree(tmp_path, {"train/mug": 20, "test/mug": 4})
    assert Counter(splits(root, val=0.2).values()) == {"train": 16, "val": 4, "test": 4}
    assert image_folder.read(root, {}).protocols[0].gallery == ("train", "val")


def test_a_flat_folder_is_cut_by_class_and_queries_itself(tmp_path):
    root = tree(tmp_path, {"mug": 20, "vase": 10})
    found = splits(root)
    assert per_class(found, "test") == {"mug": 6, "vase": 3}
    assert per_class(found, "val") == {"mug": 1, "vase": 1}
    (default,) = image_folder.read(root, {}).protocols
    assert default.query == default.gallery == ("test",)


def test_small_classes_of_a_flat_folder_keep_a_training_photo_and_never_test_alone(tmp_path):
    found = splits(tree(tmp_path, {"one": 1, "two": 2, "three": 3}))
    assert per_class(found, "train") == {"one": 1, "two": 2, "three": 1}
    assert per_class(found, "test") == {"three": 2}


def test_holdout_zero_keeps_everything_for_evaluation(tmp_path):
    assert set(splits(tree(tmp_path, {"mug": 5, "vase": 1}), holdout="0").values()) == {"test"}


def test_the_choice_depends_on_the_seed_only(tmp_path):
    first = splits(tree(tmp_path / "a", {"mug": 30, "vase": 30}))
    shutil.copytree(tmp_path / "a", tmp_path / "far" / "away")
    assert splits(tmp_path / "far" / "away") == first
    assert splits(tmp_path / "a", seed=1) != first


def test_another_class_does_not_move_the_photos_of_the_first(tmp_path):
    before = splits(tree(tmp_path, {"mug": 30}))
    after = splits(tree(tmp_path, {"vase": 12}))
    assert {key: split for key, split in after.items() if key in before} == before


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_photo_never_lie_on_both_sides(tmp_path, seed):
    root = tree(tmp_path, {"mug": 12, "vase": 12})
    for number in range(6):
        shutil.copy(root / "mug" / f"{number}.jpg", root / "mug" / f"copy-{number}.jpg")
        shutil.copy(root / "mug" / f"{number}.jpg", root / "vase" / f"stray-{number}.jpg")
    found = splits(root, seed=seed, holdout=0.4, val=0.3)
    for number in range(6):
        assert (
            len({found[f"mug/{number}.jpg"], found[f"mug/copy-{number}.jpg"], found[f"vase/stray-{number}.jpg"]}) == 1
        )
    assert set(found.values()) == {"train", "val", "test"}


def test_nested_classes_give_labels_joined_by_slashes_and_a_category_path(tmp_path):
    root = tree(tmp_path, {"train/home/mug": 2, "train/home/vase": 2, "test/home/mug": 2})
    items = {item.item_id: item for item in image_folder.read(root, {}).items}
    item = items["train/home/vase/0.jpg"]
    assert (item.label, item.category) == ("home/vase", ("home", "vase"))


def test_empty_classes_are_known_and_parents_are_no_classes(tmp_path):
    root = tree(tmp_path, {"train/home/mug": 2, "train/home/jug": 0, "test/home/mug": 2})
    assert [info.label for info in image_folder.read(root, {}).labels] == ["home/jug", "home/mug"]


def test_hidden_files_and_other_files_are_ignored_and_extensions_have_any_case(tmp_path):
    root = tree(tmp_path, {"mug": 2, ".cache/x": 3, "mug/.thumbs": 2})
    for name in (".hidden.jpg", "notes.txt", "a.JPG", "b.Jpeg", "c.webp", "d.bmp", "e.gif", "f.png"):
        (root / "mug" / name).write_bytes(name.encode())
    (root / "README.md").write_text("hello")
    assert {key.rpartition("/")[2] for key in splits(root)} == {
        "0.jpg", "1.jpg", "a.JPG", "b.Jpeg", "c.webp", "d.bmp", "e.gif", "f.png",
    }  # fmt: skip


def test_two_photos_that_differ_in_extension_only_are_two_items(tmp_path):
    root = tree(tmp_path, {"mug": 1})
    (root / "mug" / "0.png").write_bytes(b"other")
    assert set(splits(root)) == {"mug/0.jpg", "mug/0.png"}


def test_a_class_that_is_called_train_is_a_class(tmp_path):
    labels = [info.label for info in image_folder.read(tree(tmp_path, {"train": 3, "plane": 3}), {}).labels]
    assert labels == ["plane", "train"]


def test_linked_class_folders_are_followed_and_circles_end(tmp_path):
    tree(tmp_path / "store", {"mug": 3})
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mug").symlink_to(tmp_path / "store" / "mug")
    (tmp_path / "store" / "mug" / "back").symlink_to(tmp_path / "root")
    assert [key for key in splits(tmp_path / "root") if key.count("/") == 1] == ["mug/0.jpg", "mug/1.jpg", "mug/2.jpg"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "has no photo"),
        ({"train/mug": 2}, "has only train; add train and test folders, or import one of its folders by itself"),
        ({"train/mug": 2, "val/mug": 1, "validation/mug": 1}, "two folders for one split"),
        ({"train/mug": 2, "test/mug": 1, "extra/mug": 1}, "split folders and also extra"),
        ({".": 1, "mug": 2}, "lies outside a class folder"),
        ({"train": 1, "test/mug": 2}, "lies outside a class folder"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused_with_the_reason(tmp_path, counts, message):
    with pytest.raises(BadInput, match=message):
        image_folder.read(tree(tmp_path, counts), {})


def test_a_path_that_is_no_folder_is_refused():
    with pytest.raises(BadInput, match="nowhere is no folder"):
        image_folder.read(Path("nowhere"), {})
