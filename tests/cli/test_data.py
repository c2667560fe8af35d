"""`vitrine data`: import, ls, check as a user runs them."""

import json
import shutil

import pytest
from PIL import Image

from tests.runner import run_vitrine
from vitrine import plugins

DEMO = ("data", "import", "demo", "-", "--name", "demo", "-o", "products=20", "-o", "photos=2")


@pytest.fixture
def shop(tmp_path):
    for split in ("train", "test"):
        for number in range(3):
            folder = tmp_path / "photos" / split / "mug"
            folder.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((24, 24), 80).convert("RGB").save(folder / f"{number}.png")
    return tmp_path


def test_an_import_prints_what_was_kept_and_the_next_commands(tmp_path):
    ran = run_vitrine(tmp_path, *DEMO)
    assert ran.code == 0, ran.err
    assert "demo: 40 items (train 20, test 10, gallery 10), 40 photos, 10 classes in data/demo" in ran.out
    assert "Next: vitrine data check demo" in ran.out
    assert (
        "Then: vitrine pipeline add demo --format demo --path vitrine/datasets/demo.py -o products=20 -o photos=2"
        in ran.out
    )


def test_json_is_one_object_and_nothing_else(tmp_path):
    ran = run_vitrine(tmp_path, *DEMO, "--json")
    report = json.loads(ran.out)
    assert (report["items"], report["splits"], report["folder"]) == (
        40,
        {"train": 20, "test": 10, "gallery": 10},
        "data/demo",
    )
    assert report["broken"] == []


def test_the_same_import_twice_is_fine_and_another_is_a_conflict_unless_forced(tmp_path):
    first = json.loads(run_vitrine(tmp_path, *DEMO, "--json").out)
    assert run_vitrine(tmp_path, *DEMO).code == 0
    refused = run_vitrine(tmp_path, *DEMO, "-o", "seed=1")
    assert refused.code == 5
    assert "dataset demo exists with other content" in refused.err
    assert "--force" in refused.err
    forced = json.loads(run_vitrine(tmp_path, *DEMO, "-o", "seed=1", "--force", "--json").out)
    assert forced["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("import", "csv", "x", "--name", "a"), 2, "'csv' is none of the datasets: cars196, demo, "),
        (("import", "demo", "-", "--name", "A B"), 2, "is no dataset name"),
        (("import", "demo", "-", "--name", "a", "-o", "seed"), 2, "option 'seed' is not KEY=VALUE"),
        (("import", "demo", "-", "--name", "a", "-o", "sed=1"), 2, "no option 'sed'; its options: domain"),
        (("import", "image-folder", "nowhere", "--name", "a"), 2, "nowhere is no folder"),
        (("check", "a"), 4, "there is no dataset 'a' in data; known: none; import it: vitrine data import"),
    ],
)
def test_a_user_error_is_one_sentence_and_its_exit_code(tmp_path, arguments, code, message):
    ran = run_vitrine(tmp_path, "data", *arguments)
    assert ran.code == code
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "data" / "a").exists()


def test_broken_photos_are_listed_at_import(shop):
    (shop / "photos/train/mug/torn.jpg").write_text("no photo")
    ran = run_vitrine(shop, "data", "import", "image-folder", "photos", "--name", "shop")
    assert ran.code == 0
    assert "broken and left out: 1 photos, 1 whole items" in ran.out
    assert "photos/train/mug/torn.jpg: the image" in ran.out


def test_formats_lists_every_format_with_its_options(tmp_path):
    assert "  -o holdout=…  " in run_vitrine(tmp_path, "data", "formats").out
    known = json.loads(run_vitrine(tmp_path, "data", "formats", "--json").out)["formats"]
    assert list(known) == plugins.names("datasets")
    assert set(known["demo"]) == {"domain", "seed", "products", "photos"}


def test_ls_shows_each_dataset_and_how_to_make_the_first(tmp_path):
    assert "vitrine data import demo - --name demo" in run_vitrine(tmp_path, "data", "ls").out
    run_vitrine(tmp_path, *DEMO)
    assert "train 20, test 10, gallery 10" in run_vitrine(tmp_path, "data", "ls").out
    (row,) = json.loads(run_vitrine(tmp_path, "data", "ls", "--json").out)["datasets"]
    assert (row["name"], row["items"], row["labels"], row["protocols"]) == (
        "demo",
        40,
        10,
        ["default", "product", "text"],
    )


def test_check_of_sound_data_exits_with_0(tmp_path):
    run_vitrine(tmp_path, *DEMO)
    ran = run_vitrine(tmp_path, "data", "check", "demo")
    assert ran.code == 0
    assert "No trouble found." in ran.out


def test_check_exits_with_0_on_warnings_and_2_on_errors(shop):
    shutil.copy(shop / "photos/test/mug/0.png", shop / "photos/test/mug/copy.png")
    run_vitrine(shop, "data", "import", "image-folder", "photos", "--name", "shop")
    warned = run_vitrine(shop, "data", "check", "shop")
    assert warned.code == 0
    assert "warning: photos repeat another item's photo" in warned.out
    shutil.copy(shop / "photos/train/mug/0.png", shop / "photos/test/mug/leak.png")
    run_vitrine(shop, "data", "import", "image-folder", "photos", "--name", "shop", "--force")
    failed = run_vitrine(shop, "data", "check", "shop", "--json")
    assert failed.code == 2
    report = json.loads(failed.out)
    assert report["ok"] is False
    assert {finding["kind"] for finding in report["findings"]} == {"leak", "repeats"}


def test_a_table_prints_what_became_of_its_rows(shop):
    rows = [
        "id,image,label",
        "1,photos/train/mug/0.png,mug",
        "2,photos/train/mug/1.png,mug",
        "3,gone.png,mug",
        ",a.png,",
    ]
    (shop / "shop.csv").write_text("\n".join([*rows, rows[1], "4,photos/test/mug/0.png|gone.png,mug"]))
    ran = run_vitrine(shop, "data", "import", "table", "shop.csv", "--name", "shop", "-o", "title=", "-o", "holdout=0")
    assert ran.code == 0, ran.err
    assert (
        "6 rows: 2 imported, 1 imported with a remark, 1 merged into another row, 2 rejected; "
        "each remark is in data/shop/import-report.csv"
    ) in ran.out
    assert "columns guessed: images = image, item_id = id, label = label; another one with -o FIELD=COLUMN" in ran.out
    table = [line.split() for line in ran.out.splitlines()]
    assert ["missing", "photo", "2"] in table
    assert ["no", "item", "id", "1"] in table
    assert "Then: vitrine pipeline add shop --format table --path shop.csv -o title= -o holdout=0" in ran.out


def test_sample_and_strict_are_short_for_options_of_the_format(shop):
    rows = ["id,image,label", *(f"{n},photos/train/mug/{n}.png,mug" for n in range(3)), "4,gone.png,mug"]
    (shop / "shop.csv").write_text("\n".join(rows))
    arguments = ("data", "import", "table", "shop.csv", "--name", "shop", "-o", "holdout=0")
    strict = run_vitrine(shop, *arguments, "--strict")
    assert strict.code == 2
    assert "1 of 4 rows are rejected (no photo left 1), and strict allows none" in strict.err
    part = run_vitrine(shop, *arguments, "--sample", "2", "--json")
    assert json.loads(part.out)["rows"]["not_sampled"] == 2
    assert run_vitrine(shop, "data", "import", "demo", "-", "--name", "d", "--sample", "2").code == 2
