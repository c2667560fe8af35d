"""Splits of a table: nothing that is learned from shares a product or a photo with what is asked."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.datasets._table_splits import Cut, connected, divide, unanswerable
from vitrine.errors import BadInput
from vitrine.items import Item

PRODUCT = Cut("product", 0.25, 0.2, 0)


def item(number, label="mug", product=None, photos=None, seller=None, time=None, split="train", title=""):
    images = tuple(f"{photo}.jpg" for photo in (photos or [f"own-{number}"]))
    return Item(f"i{number:03}", images, label, split, product_id=product, seller=seller, time=time, title=title)


@st.composite
def catalogues(draw):
    count = draw(st.integers(4, 60))
    small = st.integers(0, max(2, count // 3))
    return [
        item(
            number,
            label=draw(st.sampled_from(["mug", "vase", "lamp"])),
            product=draw(st.one_of(st.none(), small.map(lambda n: f"p{n}"))),
            photos=draw(st.lists(small.map(lambda n: f"f{n}") | st.just(f"own-{number}"), min_size=1, max_size=2)),
            seller=draw(st.sampled_from([None, "a", "b", "c"])),
            time=draw(st.sampled_from([None, "2025-01-01", "2025-02-01", "2025-03-01"])),
        )
        for number in range(count)
    ]


def splits_by(items, keys):
    found = defaultdict(set)
    for one in items:
        for key in keys(one):
            found[key].add(one.split)
    return found.values()


def attempt(items, cut):
    """The split, or None where the catalogue cannot be split that way."""
    try:
        return divide(items, cut)
    except BadInput:
        return None


@settings(max_examples=150, deadline=None)
@given(
    catalogues(), st.sampled_from(["product", "seller", "time"]), st.integers(0, 5), st.sampled_from([0.1, 0.3, 0.6])
)
def test_no_product_and_no_photo_is_on_both_sides(items, by, seed, holdout):
    divided = attempt(items, Cut(by, holdout, 0.2, seed))
    if divided is None:
        return
    learned, held = {"train", "val"}, {"test", "gallery"}
    for sides in splits_by(divided.items, lambda one: [one.product_id] if one.product_id else []):
        assert not (sides & learned and sides & held)
    for sides in splits_by(divided.items, lambda one: one.images):
        assert len(sides) == 1  # one photo in two splits is what `data check` calls a leak


@settings(max_examples=80, deadline=None)
@given(catalogues(), st.integers(0, 5))
def test_by_item_a_photo_is_in_one_split_whatever_its_products(items, seed):
    for sides in splits_by(divide(items, Cut("item", 0.3, 0.2, seed)).items, lambda one: one.images):
        assert len(sides) == 1


@settings(max_examples=80, deadline=None)
@given(catalogues(), st.sampled_from(["product", "item", "seller", "time"]), st.randoms())
def test_the_order_of_the_rows_does_not_matter_and_no_item_is_lost(items, by, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    one, two = attempt(items, Cut(by, 0.3, 0.1, 0)), attempt(shuffled, Cut(by, 0.3, 0.1, 0))
    if one is None:
        assert two is None
        return
    assert {i.item_id: i.split for i in one.items} == {i.item_id: i.split for i in two.items}
    assert {i.item_id for i in one.items} == {i.item_id for i in items}


@settings(max_examples=80, deadline=None)
@given(catalogues())
def test_connected_items_are_those_that_a_chain_of_shared_photos_joins(items):
    groups = connected(items, lambda one: one.images)
    group_of = {one.item_id: place for place, group in enumerate(groups) for one in group}
    reach = {one.item_id: {one.item_id} for one in items}  # the slow twin: grow until nothing changes
    changed = True
    while changed:
        changed = False
        for one in items:
            for other in items:
                if set(one.images) & set(other.images) and reach[one.item_id] != reach[other.item_id]:
                    reach[one.item_id] = reach[other.item_id] = reach[one.item_id] | reach[other.item_id]
                    changed = True
    for one in items:
        assert {other for other, place in group_of.items() if place == group_of[one.item_id]} >= reach[one.item_id]
        assert len(groups[group_of[one.item_id]]) == len(reach[one.item_id])


def test_about_the_wanted_share_is_held_back_from_every_class():
    items = [item(n, label=("mug", "vase")[n % 2], product=f"p{n // 4}-{n % 2}") for n in range(400)]
    divided = divide(items, Cut("product", 0.2, 0.1, 0))
    for label in ("mug", "vase"):
        held = [one for one in divided.items if one.label == label and one.split in ("test", "gallery")]
        assert len(held) == 40
    assert sum(one.split == "val" for one in divided.items) == 32


def test_a_held_back_product_is_asked_for_once_and_found_by_its_other_photos():
    items = [item(n, product=f"p{n // 3}") for n in range(30)]
    divided = divide(items, PRODUCT)
    held = defaultdict(list)
    for one in divided.items:
        if one.split in ("test", "gallery"):
            held[one.product_id].append(one.split)
    assert held
    assert all(sorted(sides) == ["gallery", "gallery", "test"] for sides in held.values())
    assert [(p.name, p.relevance, p.ask_by) for p in divided.protocols] == [
        ("default", "label", "image"),
        ("product", "product_id", "image"),
    ]
    assert divided.protocols[0].gallery == ("train", "val", "gallery")
    assert unanswerable(divided) == {}


def test_copies_of_a_photo_in_one_product_stay_together():
    items = [item(n, product=f"p{n // 3}", photos=[f"p{n // 3}-{n % 3 // 2}"]) for n in range(30)]
    divided = divide(items, PRODUCT)
    assert {one.split for one in divided.items} >= {"test", "gallery"}
    assert all(len(sides) == 1 for sides in splits_by(divided.items, lambda one: one.images))


def test_sellers_are_held_back_as_wholes_and_a_product_of_both_sides_is_only_searched():
    items = [item(n, product=f"p{n}", seller="abcd"[n % 4]) for n in range(40)]
    items += [item(90, product="both", seller="a"), item(91, product="both", seller="b")]
    items += [item(92, product="both", seller="c"), item(93, product="both", seller="d")]
    divided = divide(items, Cut("seller", 0.25, 0, 0))
    held = {one.seller for one in divided.items if one.split == "test"}
    learned = {one.seller for one in divided.items if one.split == "train"}
    assert len(held) == 1
    assert not held & learned
    assert divided.straddling == ("i090", "i091", "i092", "i093")
    assert all(one.split == "gallery" for one in divided.items if one.product_id == "both")


def test_the_newest_items_are_the_test_and_one_moment_is_never_cut():
    items = [item(n, time=f"2025-01-{n // 10 + 1:02}") for n in range(100)]
    divided = divide(items, Cut("time", 0.25, 0, 0))
    assert {one.time for one in divided.items if one.split == "test"} == {f"2025-01-{day:02}" for day in (8, 9, 10)}


def test_items_without_a_time_are_learned_from_and_named():
    items = [item(n, time=f"2025-01-{n + 1:02}") for n in range(10)] + [item(50)]
    divided = divide(items, Cut("time", 0.2, 0, 0))
    assert divided.untimed == ("i050",)
    assert next(one for one in divided.items if one.item_id == "i050").split == "train"


def test_the_splits_of_a_column_stay_as_they_are():
    items = [item(n, split=("train", "test", "gallery")[n % 3], title="a mug") for n in range(9)]
    divided = divide(items, Cut("column", 0.2, 0.1, 0))
    assert divided.items == tuple(items)
    assert divided.protocols[0].gallery == ("train", "gallery")
    assert [protocol.name for protocol in divided.protocols] == ["default", "text"]
    assert divided.protocols[1].ask_by == "title"


def test_without_a_holdout_everything_asks_and_is_searched():
    divided = divide([item(n, product=f"p{n // 2}") for n in range(6)], Cut("product", 0, 0.1, 0))
    assert {one.split for one in divided.items} == {"test"}
    assert (divided.protocols[0].query, divided.protocols[0].gallery) == (("test",), ("test",))


def test_a_query_of_a_label_that_nothing_else_has_is_named():
    items = [item(0, split="test", label="rare"), item(1, split="train"), item(2, split="test")]
    assert unanswerable(divide(items, Cut("column", 0.2, 0.1, 0))) == {"i000": "rare"}


@pytest.mark.parametrize(
    ("by", "items", "message"),
    [
        ("seller", [item(n, seller="a") for n in range(4)], "split=seller needs two sellers at least, the table has 1"),
        ("time", [item(n, time="2025-01-01") for n in range(4)], "split=time needs items of different times"),
        ("time", [item(n) for n in range(4)], "split=time needs items of different times"),
    ],
)
def test_a_split_that_cannot_be_made_says_what_is_missing(by, items, message):
    with pytest.raises(BadInput, match=message):
        divide(items, Cut(by, 0.2, 0.1, 0))
