from __future__ import annotations

from types import SimpleNamespace

from training.tuning._classifier import parts
from vitrine.items import Item


def item_of(item_id, label, product, photo):
    return Item(item_id, (photo,), label, "train", product_id=product)


def task(rows, val=()):
    """Training items of (label, product, photo), with validation items of the same kind."""
    made = {
        "train": [item_of(f"t{number:02d}", *row) for number, row in enumerate(rows)],
        "val": [item_of(f"v{number:02d}", *row) for number, row in enumerate(val)],
    }
    dataset = SimpleNamespace(split=lambda name: made[name])
    return SimpleNamespace(dataset=dataset, settings=SimpleNamespace(seed=0))


def test_given_validation_items_are_used_as_they_are():
    learn, choose = parts(task([("mug", "p1", "a")], [("mug", "p2", "b")]))
    assert [item.item_id for item in learn] == ["t00"]
    assert [item.item_id for item in choose] == ["v00"]


def test_no_product_is_learnt_from_and_asked_for():
    rows = [("mug", f"p{number // 3}", f"photo{number}") for number in range(60)]
    learn, choose = parts(task(rows))
    assert len({item.product_id for item in choose}) == 4
    assert not {item.product_id for item in learn} & {item.product_id for item in choose}


def test_items_that_share_a_photo_stay_together():
    rows = [("mug", None, f"photo{number // 2}") for number in range(40)]
    learn, choose = parts(task(rows))
    assert len(choose) == 8
    assert not {item.images for item in learn} & {item.images for item in choose}


def test_every_label_keeps_something_to_learn_from():
    rows = [(f"label{number % 10}", f"p{number}", f"photo{number}") for number in range(20)]
    learn, choose = parts(task(rows))
    assert len(choose) == 4
    assert {item.label for item in learn} == {f"label{number}" for number in range(10)}


def test_where_every_label_has_one_product_items_are_held_out_singly():
    rows = [(f"label{number // 3}", f"p{number // 3}", f"photo{number}") for number in range(15)]
    learn, choose = parts(task(rows))
    assert len(choose) == 3
    assert {item.label for item in choose} <= {item.label for item in learn}
