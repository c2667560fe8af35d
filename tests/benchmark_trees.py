"""Small trees of the six public benchmarks' published layouts."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.io import savemat

PARTIAL = {"partial": "true"}


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((24, 24), Image.Resampling.NEAREST).save(path)


def matlab(path, rows, **more):
    """A struct array and cells of text, as MATLAB writes them."""
    struct = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for number, row in enumerate(rows):
        struct[0, number] = tuple(row.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": struct, **more})


CAR_NAMES = np.array([[f"Make Model {number}" for number in range(1, 196)] + ["Ram C/V Van 2012"]], dtype=object)


def cars196(root):
    rows = []
    for number, kind in enumerate([1, 1, 98, 98, 99, 99, 196, 196], 1):
        name = f"car_ims/{number:06d}.jpg"
        photo(root / name, number)
        rows.append({"relative_im_path": name, "bbox_x1": 5, "class": np.uint8(kind), "test": number % 2})
    matlab(root / "cars_annos.mat", rows, class_names=CAR_NAMES)
    return root, PARTIAL


def cars196_devkit(root):
    for folder, listing in (
        ("cars_train", "devkit/cars_train_annos.mat"),
        ("cars_test", "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for number, kind in enumerate([1, 98, 99, 196], 1):
            photo(root / folder / f"{number:05d}.jpg", number + 10 * len(folder))
            rows.append({"bbox_x1": 5, "class": np.uint8(kind), "fname": f"{number:05d}.jpg"})
        matlab(root / listing, rows)
    savemat(root / "devkit/cars_meta.mat", {"class_names": CAR_NAMES})
    return root, PARTIAL


def stanford_online_products(root):
    for start, name in ((1, "Ebay_train.txt"), (7, "Ebay_test.txt")):
        lines = ["image_id class_id super_class_id path"]
        for number in range(start, start + 6):
            path = f"{'chair' if number % 2 else 'coffee_maker'}_final/{1000 + number}_0.JPG"
            photo(root / path, number)
            lines.append(f"{number} {start + number % 2} {number % 2 + 1} {path}")
        (root / name).write_text("\n".join(lines) + "\n")
    return root, PARTIAL


def in_shop(root):
    lines = ["", "image_name                item_id     evaluation_status"]
    for number, (garment, status) in enumerate(
        [(1, "train"), (1, "train"), (2, "query"), (2, "gallery"), (2, "gallery"), (3, "query"), (3, "gallery")]
    ):
        path = f"img/WOMEN/Dresses/id_{garment:08d}/{number:02d}_1_front.jpg"
        photo(root / path, number)
        lines.append(f"{path}    id_{garment:08d} {status}")
    lines[0] = str(len(lines) - 2)
    (root / "Eval").mkdir()
    (root / "Eval/list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return root, {}


def products_10k(root):
    for split, name, header, tail in (
        ("train", "train.csv", "name,class,group", ",7"),
        ("test", "test_kaggletest.csv", "name,class,Usage", ",Public"),
    ):
        lines = [header]
        for number in range(6):
            photo(root / split / f"{number}.jpg", number + len(split) * 10)
            lines.append(f"{number}.jpg,{number % 2 + 40}{tail}")
        (root / name).write_text("\n".join(lines) + "\n")
    return root, {}


def rp2k(root):
    for number in range(12):
        photo(root / "all" / ("train", "test")[number % 2] / f"黄鹤楼{number // 2 % 2}" / f"{number}.jpg", number)
    return root, {}


def food2k(root):
    (root / "Food2k_label").mkdir(parents=True)
    for start, split in ((0, "train"), (10, "val"), (20, "test")):
        lines = []
        for number in range(start, start + 4):
            photo(root / "Food2k_complete" / str(number % 2) / f"{number}.jpg", number)
            lines.append(f"{number % 2}/{number}.jpg {number % 2}")
        (root / f"Food2k_label/{split}_finetune.txt").write_text("\n".join(lines) + "\n")
    (root / "Food2k_label/food2k_label2name_en.txt").write_text("0000--Fried rice\n0001--Pancake\n")
    return root, {}


TREES = {
    "cars196": cars196,
    "stanford-online-products": stanford_online_products,
    "in-shop": in_shop,
    "products-10k": products_10k,
    "rp2k": rp2k,
    "food2k": food2k,
}
