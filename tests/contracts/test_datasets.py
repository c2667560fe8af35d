"""Every dataset format: a new module in vitrine/datasets/ is covered without an edit here, but for `SAMPLES`."""

import io
import os
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from tests import benchmark_trees
from vitrine import plugins
from vitrine.checking import check_dataset
from vitrine.dataset import load_dataset
from vitrine.errors import BadInput
from vitrine.importing import import_dataset
from vitrine.items import EvalProtocol
from vitrine.names import check_name

REAL = Path(os.environ.get("VITRINE_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.effect_noise((24, 24), 60 + seed).convert("RGB")
    Image.blend(image, Image.new("RGB", image.size, (seed * 37 % 256, seed * 91 % 256, 90)), 0.5).save(path)


def image_folder(root):
    for number in range(18):
        save(root / ("mug", "vase")[number % 2] / f"{number}.jpg", number)
    return root, {"holdout": 0.4, "val": 0.2}


def grocery_store(root):
    rows = ["Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic,Description"]
    for number, (top, coarse, fine) in enumerate([("Fruit", "Apple", "Pink-Lady"), ("Packages", "Milk", "Arla")]):
        folder = f"iconic-images-and-descriptions/{top}/{coarse}/{fine}"
        save(root / folder / f"{fine}_Iconic.jpg", 90 + number)
        (root / folder / f"{fine}_Description.txt").write_text(f"About {fine}.\n")
        rows.append(f"{fine},{number},{coarse},0,/{folder}/{fine}_Iconic.jpg,/{folder}/{fine}_Description.txt")
        for split, count in (("train", 3), ("val", 1), ("test", 2)):
            for photo in range(count):
                name = f"{split}/{top}/{coarse}/{fine}/{fine}_{photo}.jpg"
                save(root / name, number * 20 + photo + len(split) * 3)
                with (root / f"{split}.txt").open("a") as stream:
                    stream.write(f"{name}, {number}, 0\n")
    (root / "classes.csv").write_text("\n".join(rows) + "\n")
    return root, {}


def table(root):
    rows = [("sku", "image", "category", "product_id", "title")]
    for number in range(20):
        save(root / f"{number}.jpg", number)
        path = "Home > Mug" if number % 4 < 2 else "Home > Vase"
        rows.append((str(number), f"{number}.jpg", path, f"p{number // 2}", f"No. {number}"))
    (root / "shop.csv").write_text("".join(";".join(row) + "\n" for row in rows))
    return root / "shop.csv", {}


SAMPLES = {
    "image-folder": image_folder,
    "grocery-store": grocery_store,
    "table": table,
    "demo": lambda root: (root, {"products": 20, "photos": 2}),
    **benchmark_trees.TREES,
}


@pytest.fixture(scope="module", params=plugins.names("datasets"))
def sample(request, tmp_path_factory):
    fmt = request.param
    assert fmt in SAMPLES, f"add a sample of the format {fmt} to SAMPLES"
    root = tmp_path_factory.mktemp(fmt)
    path, options = SAMPLES[fmt](root / "source")
    report = import_dataset(fmt, path, "sample", root / "out", options)
    return fmt, path, options, report, load_dataset(root / "out")


def test_the_count_is_the_number_of_items_and_ids_are_unique(sample):
    fmt, path, options, _, _ = sample
    source = plugins.load("datasets", fmt).read(path, options)
    ids = [item.item_id for item in source.items]
    assert len(ids) == len(set(ids)) == source.count


def test_every_item_has_a_readable_photo_a_label_and_a_known_split(sample):
    dataset = sample[-1]
    for item in dataset.items:
        assert item.label
        assert item.split in ("train", "val", "test", "gallery")
        for image in item.images:
            Image.open(io.BytesIO(dataset.photo(image))).load()


def test_the_category_ends_in_the_label_or_its_last_part(sample):
    for item in sample[-1].items:
        assert item.category[-1] == item.label.rpartition("/")[2]


def test_every_label_of_an_item_is_described(sample):
    dataset = sample[-1]
    assert {item.label for item in dataset.items} <= {info.label for info in dataset.labels}


def test_protocols_are_valid_and_the_first_is_called_default(sample):
    protocols = sample[-1].protocols
    assert protocols[0].name == "default"
    for protocol in protocols:
        assert isinstance(protocol, EvalProtocol)
        assert check_name(protocol.name)


def test_every_query_has_something_else_to_find(sample):
    dataset = sample[-1]
    for protocol in dataset.protocols:
        gallery = defaultdict(set)
        for item in dataset.split(*protocol.gallery):
            gallery[getattr(item, protocol.relevance)].add(item.item_id)
        queries = dataset.split(*protocol.query)
        assert queries
        for item in queries:
            assert gallery[getattr(item, protocol.relevance)] - {item.item_id}


def test_importing_again_gives_the_same_digest(sample, tmp_path):
    fmt, path, options, report, _ = sample
    assert import_dataset(fmt, path, "other", tmp_path / "again", options).digest == report.digest


def test_a_fresh_import_has_no_errors(sample):
    report = check_dataset(sample[-1])
    assert report.ok, report.errors


def test_an_unknown_option_is_refused(sample, tmp_path):
    fmt, path, *_ = sample
    with pytest.raises(BadInput, match=f"format {fmt} has no option 'nonsense'"):
        import_dataset(fmt, path, "sample", tmp_path / "out", {"nonsense": 1})


def test_every_option_has_a_help_text(sample):
    assert all(len(text) > 10 for text in plugins.load("datasets", sample[0]).OPTIONS.values())


def test_grocery_labels_carry_their_picture_and_description(tmp_path):
    path, _ = grocery_store(tmp_path / "source")
    import_dataset("grocery-store", path, "g", tmp_path / "out", {})
    dataset = load_dataset(tmp_path / "out")
    info = next(info for info in dataset.labels if info.label == "Pink-Lady")
    assert (info.category, info.description) == (("Fruit", "Apple", "Pink-Lady"), "About Pink-Lady.")
    assert dataset.photo(info.image)


def test_grocery_classes_in_words_stand_for_titles(tmp_path):
    path, _ = grocery_store(tmp_path / "source")
    (path / "classes.csv").write_text((path / "classes.csv").read_text().replace("Arla,", "Arla-Sour-Milk,"))
    import_dataset("grocery-store", path, "g", tmp_path / "out", {})
    dataset = load_dataset(tmp_path / "out")
    assert {item.label: item.title for item in dataset.items} == {
        "Pink-Lady": "Pink Lady, Apple",
        "Arla-Sour-Milk": "Arla Sour Milk",
    }
    assert dataset.protocol("text").ask_by == "title"


@pytest.mark.parametrize("name", ["classes.csv", "train.txt", "val.txt", "test.txt"])
def test_grocery_names_the_file_that_is_missing(tmp_path, name):
    path, _ = grocery_store(tmp_path / "source")
    (path / name).unlink()
    with pytest.raises(BadInput, match=f"{name} is missing"):
        import_dataset("grocery-store", path, "g", tmp_path / "out", {})


@pytest.mark.parametrize(
    "line", ["train/a.jpg", "../../etc/x/y.jpg, 0, 0", "train/F/a.jpg, 99, 0", "train/F/a.jpg, x, 0"]
)
def test_grocery_names_the_line_that_is_malformed(tmp_path, line):
    path, _ = grocery_store(tmp_path / "source")
    with (path / "train.txt").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(BadInput, match=r"train.txt line 7 is malformed"):
        import_dataset("grocery-store", path, "g", tmp_path / "out", {})


def test_grocery_reports_a_listed_photo_that_is_missing(tmp_path):
    path, _ = grocery_store(tmp_path / "source")
    (path / "train/Fruit/Apple/Pink-Lady/Pink-Lady_0.jpg").unlink()
    report = import_dataset("grocery-store", path, "g", tmp_path / "out", {})
    assert [reason for _, reason in report.broken] == ["the file is missing"]
    assert report.dropped == ("train/Fruit/Apple/Pink-Lady/Pink-Lady_0.jpg",)


@pytest.mark.skipif(not (REAL / "grocery-store").is_dir(), reason=f"no grocery-store below VITRINE_DATA ({REAL})")
def test_the_real_grocery_store_has_its_published_sizes(tmp_path):
    report = import_dataset("grocery-store", REAL / "grocery-store", "grocery", tmp_path / "out", {})
    assert report.splits == {"train": 2640, "val": 296, "test": 1243}
    assert (report.labels, report.broken, report.duplicates_in_split) == (81, (), {})


@pytest.mark.skipif(not (REAL / "clothing-small").is_dir(), reason=f"no clothing-small below VITRINE_DATA ({REAL})")
def test_the_real_clothing_photos_keep_their_validation_set_as_test(tmp_path):
    report = import_dataset("image-folder", REAL / "clothing-small", "clothing", tmp_path / "out", {})
    assert report.splits == {"train": 2761, "val": 307, "test": 341}
    assert (report.labels, report.broken) == (10, ())
