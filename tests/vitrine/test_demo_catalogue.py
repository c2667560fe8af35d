"""The generated catalogue: same seed same bytes, whichever part of it is asked for."""

import io
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrine.datasets import _catalogue, _homeware, _looks, _shapes, demo
from vitrine.errors import BadInput
from vitrine.importing import import_dataset


def catalogue(**options):
    return list(demo.read(Path("-"), options).items)


def split_of_products(items):
    splits = defaultdict(set)
    for item in items:
        splits[item.product_id].add(item.split)
    return splits


@pytest.fixture(scope="module")
def homeware():
    return catalogue(domain="homeware", products=48, photos=3)


@pytest.mark.parametrize("domain", ["homeware", "fashion"])
def test_a_product_is_the_same_in_its_domain_and_in_the_whole_catalogue(domain):
    alone = {item.item_id: item for item in catalogue(domain=domain, products=8, photos=2)}
    both = {item.item_id: item for item in catalogue(products=12, photos=2)}
    shared = alone.keys() & both.keys()
    assert len(shared) >= 8
    assert all(alone[name] == both[name] for name in shared)


def test_more_products_and_photos_leave_the_first_ones_as_they_were():
    small = {item.item_id: item for item in catalogue(products=4, photos=2)}
    large = {item.item_id: item for item in catalogue(products=8, photos=4)}
    assert all(large[name] == item for name, item in small.items())


def test_drawing_in_several_processes_gives_the_same_items_in_the_same_order(monkeypatch):
    monkeypatch.setattr(demo.os, "cpu_count", lambda: 2)
    several = catalogue(products=44, photos=2)
    monkeypatch.setattr(demo.os, "cpu_count", lambda: 1)
    assert catalogue(products=44, photos=2) == several


def test_another_seed_is_another_catalogue(tmp_path):
    digests = {
        import_dataset(
            "demo", Path("-"), "demo", tmp_path / str(seed), {"products": 4, "photos": 2, "seed": seed}
        ).digest
        for seed in (0, 1)
    }
    assert len(digests) == 2


def test_of_a_held_back_product_the_first_photo_asks_and_the_others_are_searched(homeware):
    for item in homeware:
        if item.split in ("test", "gallery"):
            assert (item.split == "test") == item.item_id.endswith("-0")


def test_the_photos_of_a_product_are_never_both_trained_on_and_held_back(homeware):
    for splits in split_of_products(homeware).values():
        assert splits in ({"train"}, {"val"}, {"test", "gallery"})


def test_of_twenty_products_of_a_leaf_twelve_are_train_three_val_and_five_test():
    products = [demo._Product(0, "fashion", number, 2) for number in range(20 * 12)]
    counts = Counter((product.leaf.name, product.split) for product in products)
    for leaf in _catalogue.DOMAINS["fashion"]:
        assert [counts[leaf.name, split] for split in ("train", "val", "test")] == [12, 3, 5]


def test_even_the_smallest_catalogue_has_a_test_product_for_each_trained_leaf():
    items = catalogue(products=4, photos=2)
    labels = {split: {item.label for item in items if item.split == split} for split in ("train", "test")}
    assert labels["train"] == labels["test"] == {"mug", "t-shirt"}


@pytest.mark.parametrize("domain", ["homeware", "fashion"])
def test_a_domain_is_a_tree_of_three_levels_with_a_dozen_leaves_that_can_be_drawn(domain):
    leaves = _catalogue.DOMAINS[domain]
    assert len({leaf.name for leaf in leaves}) == len(leaves) == 12
    for leaf in leaves:
        assert leaf.category[0] == domain
        assert leaf.name in _homeware.HOMEWARE or leaf.name in _shapes.SHAPES
        assert set(leaf.materials) <= set(_looks.MATERIALS)


def test_a_title_says_what_it_is_and_is_not_repeated_for_the_same_product(homeware):
    words = {leaf.name: leaf.words for leaf in _catalogue.DOMAINS["homeware"]}
    titles = defaultdict(set)
    for item in homeware:
        assert any(word in item.title.lower() for word in words[item.label])
        titles[item.product_id].add(item.title)
    assert all(len(found) == 3 for found in titles.values())


def test_a_listing_has_a_price_near_its_products_a_brand_a_seller_and_a_day(homeware):
    prices = defaultdict(list)
    for item in homeware:
        prices[item.product_id].append(item.price)
        assert item.brand in _catalogue.BRANDS["homeware"]
        assert item.seller in _catalogue.SELLERS
        assert "2024-01-01" <= item.time <= "2025-12-30"
    assert all(max(found) <= 1.3 * min(found) for found in prices.values())


def test_photos_are_jpegs_of_the_stated_size_in_several_shapes(homeware):
    sizes = set()
    for item in homeware:
        with Image.open(io.BytesIO(item.images[0])) as photo:
            assert photo.format == "JPEG"
            sizes.add(photo.size)
    assert {max(size) for size in sizes} == {192}
    assert len(sizes) >= 3


@pytest.mark.parametrize("kind", [*_homeware.HOMEWARE, *_shapes.SHAPES])
def test_every_kind_fills_a_good_part_of_its_canvas_whatever_its_form(kind):
    import random

    from vitrine.datasets._light import Light
    from vitrine.datasets._soft import soft

    draw = _homeware.homeware if kind in _homeware.HOMEWARE else soft
    for number in range(6):
        rng = random.Random(number)
        look = _looks.design(kind, ("cotton",), _looks.PATTERNS, rng)
        picture = draw(look, Light.drawn(rng), rng)
        drawn = np.asarray(picture.getchannel("A")) > 128
        assert 0.03 < drawn.mean() < 0.8
        left, top, right, bottom = picture.getbbox()
        assert max(right - left, bottom - top) > 0.4 * picture.width


def test_a_material_that_has_its_own_colour_is_named_by_it():
    import random

    for number in range(20):
        look = _looks.design("candlestick", ("brass",), ("plain",), random.Random(number))
        assert (look.colour, look.accent != "golden") == ("golden", True)


def test_an_unknown_domain_is_refused_with_those_that_exist():
    with pytest.raises(BadInput, match="option domain='toys' is none of homeware, fashion, both"):
        demo.read(Path("-"), {"domain": "toys"})
