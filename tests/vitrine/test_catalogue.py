from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue import tiny_dataset
from tests.factories import photo
from tests.living import Shop, listing, make_shop
from vitrine.catalogue import open_catalogue
from vitrine.catalogue_changes import Outcome
from vitrine.dataset import Dataset, find_dataset
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.home import find_home
from vitrine.items import Item
from vitrine.registry import open_registry
from vitrine.registry_gc import carry_out_gc, plan_gc
from vitrine.storing import photo_name


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path)


def dataset_of(shop: Shop, items: list[Item]) -> Dataset:
    """The shop's dataset as another import would leave it."""
    found = find_dataset(shop.home, "shop")
    return replace(found, items=tuple(items), digest=f"{len(items)}-{hash(tuple(item.title for item in items))}")


def test_it_begins_with_what_a_shop_would_index_of_the_dataset(shop: Shop) -> None:
    seq, items = shop.catalogue.snapshot()

    assert items == sorted(find_dataset(shop.home, "shop").catalogue_items(), key=lambda item: item.item_id)
    assert seq == len(items)


def test_opening_it_again_changes_nothing(shop: Shop) -> None:
    again = open_catalogue(shop.home, "shop")

    assert (again.snapshot(), again.history) == (shop.catalogue.snapshot(), shop.catalogue.history)


def test_a_catalogue_without_a_dataset_says_how_one_is_imported(shop: Shop) -> None:
    with pytest.raises(NotFound, match=r"no catalogue 'toys'.*vitrine data import"):
        open_catalogue(shop.home, "toys")


def test_a_new_item_is_added_with_its_photo(shop: Shop) -> None:
    item, photos = listing("new", 900, price=3.5)
    before = shop.catalogue.seq
    done = shop.catalogue.upsert([item], photos)

    assert done.outcomes == (("new", Outcome.ADDED),)
    assert done.seq == shop.catalogue.seq == before + 1
    assert shop.catalogue.find(["new"]) == {"new": item}
    assert shop.catalogue.photo(item.images[0]) == photo(900)


def test_equal_content_again_changes_nothing(shop: Shop) -> None:
    item, photos = listing("new", 900)
    shop.catalogue.upsert([item], photos)
    seq = shop.catalogue.seq
    done = shop.catalogue.upsert([item], photos)

    assert (done.outcomes, done.changes, shop.catalogue.seq) == ((("new", Outcome.UNCHANGED),), (), seq)


def test_a_change_of_payload_alone_does_not_ask_for_a_new_vector(shop: Shop) -> None:
    item, photos = listing("new", 900)
    added = shop.catalogue.upsert([item], photos).changes[0]
    changed = shop.catalogue.upsert([replace(item, price=2.0)]).changes[0]

    assert changed.seq > added.seq
    assert changed.content_seq == added.content_seq


@pytest.mark.parametrize("field", [{"title": "a jug"}, {"attributes": {"colour": "red"}}, {"numbers": {"weight": 2.0}}])
def test_a_change_of_what_a_version_may_look_at_asks_for_a_new_vector(shop: Shop, field: dict[str, object]) -> None:
    item, photos = listing("new", 900)
    shop.catalogue.upsert([item], photos)
    done = shop.catalogue.upsert([replace(item, **field)])  # type: ignore[arg-type]

    assert done.outcomes == (("new", Outcome.CHANGED),)
    assert done.changes[0].content_seq == done.changes[0].seq


def test_a_deleted_item_is_a_change_without_content(shop: Shop) -> None:
    before, gone = shop.catalogue.seq, shop.catalogue.snapshot()[1][0].item_id
    done = shop.catalogue.delete([gone, "never-there"])

    assert done.outcomes == ((gone, Outcome.DELETED), ("never-there", Outcome.ABSENT))
    assert [(change.item_id, change.item) for change in shop.catalogue.changes(before)] == [(gone, None)]
    assert gone not in {item.item_id for item in shop.catalogue.snapshot()[1]}


def test_an_item_that_comes_back_is_added_and_embedded_anew(shop: Shop) -> None:
    item, photos = listing("new", 900)
    shop.catalogue.upsert([item], photos)
    shop.catalogue.delete(["new"])
    done = shop.catalogue.upsert([item])

    assert done.outcomes == (("new", Outcome.ADDED),)
    assert done.changes[0].content_seq == done.seq


def test_all_items_of_a_request_or_none(shop: Shop) -> None:
    good, photos = listing("good", 900)
    before = shop.catalogue.snapshot()
    with pytest.raises(NotFound, match="has no photo"):
        shop.catalogue.upsert([good, Item("bad", ("0" * 64 + ".jpg",), "", "gallery")], photos)

    assert shop.catalogue.snapshot() == before


def test_an_id_that_comes_twice_is_named(shop: Shop) -> None:
    item, photos = listing("new", 900)
    with pytest.raises(BadInput, match=r"item 'new' comes 2 times in one request; send each item once"):
        shop.catalogue.upsert([item, item], photos)


def test_a_photo_under_another_name_than_its_content_is_refused(shop: Shop) -> None:
    item, _ = listing("new", 900)
    with pytest.raises(BadInput, match="call it by its content"):
        shop.catalogue.upsert([item], {item.images[0]: photo(901)})


def test_a_photo_that_changed_on_disk_is_never_handed_out(shop: Shop) -> None:
    item, photos = listing("new", 900)
    shop.catalogue.upsert([item], photos)
    sha = item.images[0].partition(".")[0]
    file = shop.home.artifacts / sha[:2] / sha
    file.chmod(0o644)
    file.write_bytes(b"something else")

    with pytest.raises(Tampered):
        shop.catalogue.photo(item.images[0])


def test_numbers_are_given_out_without_gaps_and_each_once(shop: Shop) -> None:
    _, items = shop.catalogue.snapshot()
    shop.catalogue.upsert([replace(item, price=1.0) for item in items[:3]])
    shop.catalogue.delete([items[5].item_id])

    assert [change.seq for change in shop.catalogue.changes(len(items))] == [len(items) + n for n in range(1, 5)]


def test_a_sync_takes_over_what_changed_in_the_dataset(shop: Shop) -> None:
    _, items = shop.catalogue.snapshot()
    extra = replace(items[0], item_id="extra")
    done = shop.catalogue.sync(dataset_of(shop, [replace(items[0], title="new words"), *items[2:], extra]))

    assert done.counts() == {"added": 1, "changed": 1, "deleted": 1}
    assert [item.item_id for item in shop.catalogue.snapshot()[1]] == sorted(
        {item.item_id for item in items} - {items[1].item_id} | {"extra"}
    )


def test_a_preview_of_a_sync_says_what_it_will_leave_and_changes_nothing(shop: Shop) -> None:
    items = shop.catalogue.snapshot()[1]
    shop.catalogue.upsert([replace(items[1], title="a client's words"), listing("own", 7)[0]], listing("own", 7)[1])
    shop.catalogue.delete([items[2].item_id])
    before, changed = shop.catalogue.snapshot(), dataset_of(shop, [*items[1:], replace(items[0], item_id="new")])

    coming = shop.catalogue.preview_sync(changed)

    assert shop.catalogue.snapshot() == before
    assert {items[0].item_id, items[2].item_id} & {item.item_id for item in coming} == set()
    shop.catalogue.sync(changed)
    assert coming == shop.catalogue.snapshot()[1]


def test_a_sync_leaves_what_clients_did_to_items_that_the_dataset_did_not_touch(shop: Shop) -> None:
    _, items = shop.catalogue.snapshot()
    own, photos = listing("own", 900)
    shop.catalogue.upsert([own, replace(items[0], price=9.0)], photos)
    shop.catalogue.delete([items[1].item_id])
    done = shop.catalogue.sync(dataset_of(shop, [*items[:2], replace(items[2], title="new words"), *items[3:]]))

    assert done.counts() == {"changed": 1}
    now = {item.item_id: item for item in shop.catalogue.snapshot()[1]}
    assert now["own"] == own
    assert now[items[0].item_id].price == 9.0
    assert items[1].item_id not in now


def test_a_sync_overrides_a_client_where_the_dataset_changed_the_item_too(shop: Shop) -> None:
    _, items = shop.catalogue.snapshot()
    shop.catalogue.upsert([replace(items[0], price=9.0)])
    shop.catalogue.delete([items[1].item_id])
    mine = [replace(items[0], price=5.0), replace(items[1], price=6.0)]
    shop.catalogue.sync(dataset_of(shop, [*mine, *items[2:]]))

    found = shop.catalogue.find([item.item_id for item in mine])
    assert [found[item.item_id].price for item in mine] == [5.0, 6.0]


def test_an_item_that_left_the_dataset_comes_back_with_it(shop: Shop) -> None:
    _, items = shop.catalogue.snapshot()
    shop.catalogue.sync(dataset_of(shop, items[1:]))
    done = shop.catalogue.sync(dataset_of(shop, items))

    assert done.counts() == {"added": 1}
    assert shop.catalogue.snapshot()[1] == items


def test_the_same_dataset_again_is_no_work(shop: Shop) -> None:
    before = shop.catalogue.seq
    shop.catalogue.delete([shop.catalogue.snapshot()[1][0].item_id])
    assert shop.catalogue.sync(find_dataset(shop.home, "shop")).outcomes == ()
    assert shop.catalogue.seq == before + 1


def test_two_catalogues_of_one_database_do_not_touch_each_other(shop: Shop, tmp_path: Path) -> None:
    tiny_dataset(tmp_path / "data" / "toys", name="toys", labels=("ball",))
    toys, before = open_catalogue(shop.home, "toys"), shop.catalogue.snapshot()
    toys.delete([item.item_id for item in toys.snapshot()[1]])

    assert toys.snapshot()[1] == []
    assert shop.catalogue.snapshot() == before


def test_a_database_that_is_made_anew_counts_under_another_name(shop: Shop, tmp_path: Path) -> None:
    other = find_home({"VITRINE_HOME": str(tmp_path / "other"), "VITRINE_DATASETS": str(tmp_path / "data")})

    assert open_catalogue(other, "shop").history != shop.catalogue.history


def test_every_photo_that_is_shown_is_named_for_the_clean_up(shop: Shop) -> None:
    item, photos = listing("new", 900, 901)
    shop.catalogue.upsert([item], photos)

    assert {photo_name(photo(seed)).partition(".")[0] for seed in (900, 901)} <= shop.catalogue.photo_digests()


def test_a_stored_photo_that_an_upsert_names_is_kept_by_a_clean_up_that_was_planned_before(shop: Shop) -> None:
    item, photos = listing("new", 900)
    registry = open_registry(shop.home)
    sha = registry.artifacts.put_bytes(next(iter(photos.values())))
    os.utime(registry.artifacts.path(sha), (1, 1))
    plan = plan_gc(registry, shop.home)
    assert [removal.file.name for removal in plan] == [sha]

    shop.catalogue.upsert([item])
    carry_out_gc(registry, plan)

    assert shop.catalogue.photo(item.images[0]) == photos[item.images[0]]


def test_the_first_use_of_a_large_dataset_tells_how_far_it_is(tmp_path: Path) -> None:
    tiny_dataset(tmp_path / "data" / "shop")
    home = find_home({"VITRINE_HOME": str(tmp_path / ".vitrine"), "VITRINE_DATASETS": str(tmp_path / "data")})
    told: list[tuple[str, int | None, int]] = []

    def track(things: Iterable[Any], what: object, total: int | None = None) -> Iterable[Any]:
        passed = list(things)
        told.append((str(what), total, len(passed)))
        return passed

    count = len(open_catalogue(home, "shop", track).snapshot()[1])

    assert told == [("comparing items of shop", count, count), ("writing changes of shop", 1, 1)]
