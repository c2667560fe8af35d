"""Importing: what is kept, what is left out, and that nothing half-done stays behind."""

import shutil

import pytest
from PIL import Image

from vitrine.dataset import IMAGES, load_dataset
from vitrine.errors import BadInput, Conflict
from vitrine.files import sha256_bytes
from vitrine.importing import import_dataset


def save(path, colour=(200, 30, 40), kind="JPEG", size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.effect_noise(size, 90).convert("RGB")  # noise: no two photos have the same bytes
    Image.blend(image, Image.new("RGB", size, colour), 0.5).save(path, kind)
    return path


@pytest.fixture
def shop(tmp_path):
    root = tmp_path / "shop"
    for split, count in (("train", 10), ("val", 3), ("test", 4)):
        for label in ("mug", "vase"):
            for number in range(count):
                save(root / split / label / f"{number}.jpg")
    return root


def run(path, target, fmt="image-folder", name="shop", **options):
    return import_dataset(fmt, path, name, target, options)


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def test_photos_keep_their_bytes_under_the_name_of_their_hash(shop, tmp_path):
    run(shop, tmp_path / "out")
    dataset = load_dataset(tmp_path / "out")
    original = (shop / "test/mug/0.jpg").read_bytes()
    item = next(item for item in dataset.items if item.item_id == "test/mug/0.jpg")
    assert item.images == (f"{sha256_bytes(original)}.jpg",)
    assert dataset.photo(item.images[0]) == original


def test_the_report_counts_what_was_kept(shop, tmp_path):
    report = run(shop, tmp_path / "out")
    assert (report.items, report.images, report.labels) == (34, 34, 2)
    assert report.splits == {"train": 20, "val": 6, "test": 8}
    assert report.protocols == ("default", "within")
    assert report.broken == ()
    assert report.dropped == ()
    assert report.duplicates_in_split == {}


def test_importing_again_gives_the_same_digest_from_another_folder(shop, tmp_path):
    first = run(shop, tmp_path / "one")
    shutil.copytree(shop, tmp_path / "elsewhere" / "moved")
    second = run(tmp_path / "elsewhere" / "moved", tmp_path / "two")
    assert first.digest == second.digest
    assert (tmp_path / "one/items.parquet").read_bytes() == (tmp_path / "two/items.parquet").read_bytes()


def test_the_extension_is_that_of_the_real_format(shop, tmp_path):
    save(shop / "test/mug/lies.jpg", kind="PNG")
    save(shop / "test/mug/UPPER.WEBP", kind="WEBP")
    run(shop, tmp_path / "out")
    kinds = {item.item_id: item.images[0].rpartition(".")[2] for item in load_dataset(tmp_path / "out").items}
    assert kinds["test/mug/lies.jpg"] == "png"
    assert kinds["test/mug/UPPER.WEBP"] == "webp"


def test_a_torn_photo_is_left_out_and_reported_with_its_reason(shop, tmp_path):
    torn = save(shop / "train/mug/torn.jpg", size=(200, 160))
    torn.write_bytes(torn.read_bytes()[:2000])
    (shop / "train/mug/text.png").write_text("no photo")
    (shop / "train/mug/empty.gif").write_bytes(b"")
    report = run(shop, tmp_path / "out")
    reasons = {photo.rpartition("/")[2]: reason for photo, reason in report.broken}
    assert set(reasons) == {"torn.jpg", "text.png", "empty.gif"}
    assert "truncated" in reasons["torn.jpg"]
    assert "0 bytes" in reasons["empty.gif"]
    assert report.dropped == ("train/mug/empty.gif", "train/mug/text.png", "train/mug/torn.jpg")
    assert report.items == 34
    assert load_dataset(tmp_path / "out").broken == report.broken


def test_copies_within_a_split_are_counted_and_stored_once(shop, tmp_path):
    shutil.copy(shop / "train/mug/0.jpg", shop / "train/mug/copy.jpg")
    report = run(shop, tmp_path / "out")
    assert report.duplicates_in_split == {"train": 1}
    assert (report.items, report.images) == (35, 34)
    assert len(list((tmp_path / "out" / IMAGES).iterdir())) == 34


def test_nothing_is_written_when_no_photo_can_be_read(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "bad" / split / "mug").mkdir(parents=True)
        (tmp_path / "bad" / split / "mug" / "a.jpg").write_text("no photo")
    with pytest.raises(BadInput, match=r"has no readable photo \(2 broken, the first: .*a.jpg"):
        run(tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_a_failed_import_leaves_the_old_dataset_as_it_was(shop, tmp_path):
    before = run(shop, tmp_path / "out").digest
    shutil.rmtree(shop)
    for split in ("train", "test"):
        (shop / split / "mug").mkdir(parents=True)
        (shop / split / "mug" / "a.jpg").write_text("no photo")
    with pytest.raises(BadInput):
        run(shop, tmp_path / "out")
    assert load_dataset(tmp_path / "out").digest == before
    assert leftovers(tmp_path) == []


def test_an_unknown_option_lists_those_of_the_format(shop, tmp_path):
    with pytest.raises(BadInput, match=r"image-folder has no option 'hold'; its options: holdout: .*seed: "):
        run(shop, tmp_path / "out", hold=1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seed": "x"}, "option seed='x' is no whole number"),
        ({"holdout": "1.5"}, "option holdout='1.5' is no share"),
        ({"val": "nan"}, "option val='nan' is no share"),
    ],
)
def test_an_option_out_of_range_says_what_is_allowed(tmp_path, option, message):
    for number in range(4):
        save(tmp_path / "flat" / "mug" / f"{number}.jpg")
    with pytest.raises(BadInput, match=message):
        run(tmp_path / "flat", tmp_path / "out", **option)


def test_an_unknown_format_lists_the_known_ones(shop, tmp_path):
    with pytest.raises(BadInput, match=r"demo, food2k, grocery-store, image-folder, .*, table"):
        run(shop, tmp_path / "out", fmt="csv")


def test_a_bad_name_is_refused_before_anything_is_read(shop, tmp_path):
    with pytest.raises(BadInput, match="is no dataset name"):
        run(shop, tmp_path / "out", name="../evil")


def test_a_folder_that_is_no_dataset_is_never_replaced(shop, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="exists and is no dataset"):
        run(shop, tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").exists()


def test_other_content_is_a_conflict_unless_replacing_and_the_same_content_is_fine(shop, tmp_path):
    first = run(shop, tmp_path / "out")
    again = import_dataset("image-folder", shop, "shop", tmp_path / "out", {}, replace=False)
    assert again.digest == first.digest
    (shop / "test/mug/0.jpg").unlink()
    with pytest.raises(Conflict, match="exists with other content"):
        import_dataset("image-folder", shop, "shop", tmp_path / "out", {}, replace=False)
    assert load_dataset(tmp_path / "out").digest == first.digest
    assert run(shop, tmp_path / "out").digest != first.digest


def test_importing_the_same_content_again_repairs_a_damaged_dataset(shop, tmp_path):
    first = run(shop, tmp_path / "out")
    (tmp_path / "out" / "items.parquet").write_bytes(b"damaged")
    again = import_dataset("image-folder", shop, "shop", tmp_path / "out", {}, replace=False)
    assert load_dataset(tmp_path / "out").digest == again.digest == first.digest


def test_unusual_photos_are_kept_as_they_are(shop, tmp_path):
    Image.new("CMYK", (30, 20), (10, 90, 30, 5)).save(shop / "train/mug/cmyk.jpg")
    Image.new("I;16", (30, 20), 40_000).save(shop / "train/mug/deep.png")
    Image.new("RGBA", (30, 20), (9, 90, 30, 5)).save(shop / "train/mug/clear.webp")
    Image.new("1", (1, 1)).save(shop / "train/mug/dot.bmp")
    frames = [Image.new("P", (30, 20), number) for number in (1, 2)]
    frames[0].save(shop / "train/mug/moving.gif", save_all=True, append_images=frames[1:])
    report = run(shop, tmp_path / "out")
    assert report.broken == ()
    assert report.items == 39


def test_the_source_is_recorded_as_given(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    run(Path("shop"), tmp_path / "out", licence="CC-BY-4.0")
    dataset = load_dataset(tmp_path / "out")
    assert dataset.source == {"format": "image-folder", "path": "shop", "options": {"licence": "CC-BY-4.0"}}
    assert dataset.licence == "CC-BY-4.0"


def test_progress_is_told_how_many_items_come(shop, tmp_path):
    told = []

    def track(things, what, total=None):
        told.append((what, total))
        return things

    import_dataset("image-folder", shop, "shop", tmp_path / "out", {}, track=track)
    assert told == [("reading photos", 34)]
