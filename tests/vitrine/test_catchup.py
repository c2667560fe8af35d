"""A collection follows its catalogue, whoever does it, however often, killed wherever."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.catalogue import tiny_dataset
from tests.factories import photo, tiny_bundle
from tests.living import Shop, listing, make_shop, open_shop
from vitrine.catalogue_tables import items, open_tables
from vitrine.catchup import applied_seq, catch_up, refresh, when_needed
from vitrine.collection import open_collection, write_collection
from vitrine.collection_content import content, merge
from vitrine.compaction import compact, is_due
from vitrine.embedding import embed_items
from vitrine.errors import Conflict, NotFound, Unavailable
from vitrine.items import Item
from vitrine.ports import Delta, Vectors
from vitrine.storing import photo_name


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path)


def never(items: Sequence[Item]) -> Vectors:
    raise AssertionError(f"{len(items)} items were embedded")


class Kept:
    """An index that keeps what it is told, by the rule of `ports.Index.apply`."""

    def __init__(self) -> None:
        self.held: dict[str, Delta] = {}

    def apply(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            if delta.item_id not in self.held or self.held[delta.item_id].seq < delta.seq:
                self.held[delta.item_id] = delta


def test_a_collection_is_up_to_date_though_the_last_change_was_erased_for_good(shop: Shop) -> None:
    collection, gone = shop.collect(), shop.catalogue.snapshot()[1][0].item_id
    shop.catalogue.delete([gone])
    with open_tables(shop.home.registry_url).writing() as connection:  # as `vitrine data forget` does in the end
        connection.execute(items.delete().where(items.c.item_id == gone))

    done = catch_up(collection, shop.catalogue, never)

    assert done.seq == applied_seq(collection, shop.catalogue.deltas) == shop.catalogue.seq


def test_a_collection_of_this_very_moment_needs_nothing(shop: Shop) -> None:
    done = catch_up(shop.collect(), shop.catalogue, never)

    assert (done.seq, done.embedded, done.payload_only, done.deleted) == (shop.catalogue.seq, 0, 0, 0)


def test_each_kind_of_change_is_taken_over(shop: Shop) -> None:
    collection, (_, items) = shop.collect(), shop.catalogue.snapshot()
    added, photos = listing("new", 900, 901)
    shop.catalogue.upsert([added, replace(items[0], price=3.0), replace(items[1], title="words")], photos)
    shop.catalogue.delete([items[2].item_id])
    done = catch_up(collection, shop.catalogue, shop.encoder)

    assert (done.embedded, done.payload_only, done.deleted) == (2, 1, 1)
    assert shop.problems(collection) == []


def test_a_change_of_payload_alone_embeds_nothing(shop: Shop) -> None:
    collection, (_, items) = shop.collect(), shop.catalogue.snapshot()
    shop.catalogue.upsert([replace(item, price=7.0) for item in items])
    catch_up(collection, shop.catalogue, never)
    shop.catalogue.upsert([replace(items[0], price=8.0)])  # over a delta this time
    done = catch_up(collection, shop.catalogue, never)

    assert done.payload_only == 1
    assert shop.problems(collection) == []


def test_a_photo_that_changed_before_the_last_price_is_still_embedded(shop: Shop) -> None:
    collection, (_, items) = shop.collect(), shop.catalogue.snapshot()
    changed, photos = listing(items[0].item_id, 905)
    shop.catalogue.upsert([changed], photos)
    shop.catalogue.upsert([replace(changed, price=1.0)])
    done = catch_up(collection, shop.catalogue, shop.encoder)

    assert done.embedded == 1
    assert shop.problems(collection) == []


def test_a_second_call_finds_nothing_to_do(shop: Shop) -> None:
    collection = shop.collect()
    shop.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    first = catch_up(collection, shop.catalogue, shop.encoder)
    again = catch_up(collection, shop.catalogue, never)

    assert (again.seq, again.embedded) == (first.seq, 0)


def test_an_encoder_is_loaded_only_if_something_must_be_embedded(shop: Shop) -> None:
    collection = shop.collect()
    loads = []

    def load() -> Any:
        loads.append(1)
        return shop.encoder

    catch_up(collection, shop.catalogue, when_needed(load, shop.catalogue))
    assert loads == []
    for seed in (900, 901):
        shop.catalogue.upsert(*[[listing(f"new-{seed}", seed)[0]], listing(f"new-{seed}", seed)[1]])
        catch_up(collection, shop.catalogue, when_needed(load, shop.catalogue))
    assert loads == [1, 1]


def test_a_collection_of_another_history_is_refused_with_the_way_out(shop: Shop) -> None:
    good = shop.collect().info
    strange = write_collection(
        shop.home.collections / "strange",
        name="strange", catalogue="shop", catalogue_digest="", model=good.model, version=1, digest=good.digest,
        vectors=np.zeros((0, 8), np.float32), item_ids=[], payloads=[], seq=10, history="f" * 16,
    )  # fmt: skip
    with pytest.raises(Conflict, match=r"does not follow .* catalogue shop .*vitrine promote shop-search@1"):
        catch_up(strange, shop.catalogue, shop.encoder)


def test_a_collection_that_is_ahead_of_a_restored_database_is_refused_with_the_way_out(shop: Shop) -> None:
    backup = shop.home.root.parent / "backup.db"
    with closing(sqlite3.connect(shop.home.root / "registry.db")) as old, closing(sqlite3.connect(backup)) as copy:
        old.backup(copy)
    before = shop.catalogue.seq
    shop.catalogue.upsert(*[[listing("new", 900)[0]], listing("new", 900)[1]])
    collection = shop.collect()
    with closing(sqlite3.connect(backup)) as copy, closing(sqlite3.connect(shop.home.root / "registry.db")) as new:
        copy.backup(new)

    with pytest.raises(
        Conflict, match=rf"up to {before + 1}, the catalogue itself only {before}: .* restored .* remove"
    ):
        catch_up(collection, shop.catalogue, never)


def test_an_item_that_cannot_be_embedded_is_told_and_holds_up_no_other(shop: Shop) -> None:
    collection, (_, items) = shop.collect(), shop.catalogue.snapshot()
    shop.catalogue.upsert([replace(item, title="words") for item in items[:3]])
    photo_file = shop.home.datasets / "shop" / "images" / items[1].images[0]
    kept = photo_file.read_bytes()
    photo_file.unlink()
    with pytest.raises(NotFound, match="has no photo"):
        catch_up(collection, shop.catalogue, shop.encoder)

    log = shop.catalogue.deltas
    assert {delta.item_id for delta in log.read(collection.info.name, 0)} == {items[0].item_id, items[2].item_id}
    assert applied_seq(collection, log) == collection.info.seq  # so that it is tried again
    photo_file.write_bytes(kept)
    assert catch_up(collection, shop.catalogue, shop.encoder).embedded == 1
    assert shop.problems(collection) == []


def test_an_engine_that_is_away_for_a_moment_is_not_asked_item_by_item(shop: Shop) -> None:
    collection, (_, items), asked = shop.collect(), shop.catalogue.snapshot(), []

    def away(items: Sequence[Item]) -> Vectors:
        asked.append(len(items))
        raise Unavailable("the engine restarts; try again")

    shop.catalogue.upsert([replace(item, title="words") for item in items[:3]])
    with pytest.raises(Unavailable):
        catch_up(collection, shop.catalogue, away)

    assert asked == [3]


def test_an_open_index_is_told_of_every_change_once_it_is_asked(shop: Shop) -> None:
    collection, index = shop.collect(), Kept()
    shop.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    catch_up(collection, shop.catalogue, shop.encoder)  # by somebody without this index
    catch_up(collection, shop.catalogue, never, index)  # type: ignore[arg-type]

    assert set(index.held) == {"new"}


def test_a_slower_writer_of_a_lower_number_is_not_missed(shop: Shop) -> None:
    collection, index, log = shop.collect(), Kept(), shop.catalogue.deltas
    name, start = collection.info.name, collection.info.seq
    late, early = (Delta(start + n, f"item-{n}", np.ones(8, np.float32), {}) for n in (2, 1))
    log.write(name, [late])
    seen = refresh(index, collection, log)  # type: ignore[arg-type]
    log.write(name, [early], applied=start + 2)
    refresh(index, collection, log, seen)  # type: ignore[arg-type]

    assert set(index.held) == {"item-1", "item-2"}


def test_a_delta_never_takes_the_place_of_a_later_one(shop: Shop) -> None:
    log = shop.catalogue.deltas
    log.write("c", [Delta(7, "a", None, None)], applied=7)
    log.write("c", [Delta(5, "a", np.ones(2, np.float32), {"price": 1.0})], applied=5)

    assert log.read("c", 0) == [Delta(7, "a", None, None)]
    assert log.applied("c") == 7


def test_vectors_come_back_bit_for_bit(shop: Shop) -> None:
    vector = np.random.default_rng(0).normal(size=8).astype(np.float32)
    shop.catalogue.deltas.write("c", [Delta(1, "a", vector, {"title": "größe"})])

    found = shop.catalogue.deltas.read("c", 0)[0]
    assert found.vector is not None
    assert found.vector.tobytes() == vector.tobytes()
    assert found.payload == {"title": "größe"}


def test_compacting_changes_the_files_and_nothing_that_is_read(shop: Shop) -> None:
    collection, (_, items) = shop.collect(), shop.catalogue.snapshot()
    shop.catalogue.upsert([listing("new", 900)[0], replace(items[0], price=2.0)], listing("new", 900)[1])
    shop.catalogue.delete([items[1].item_id])
    catch_up(collection, shop.catalogue, shop.encoder)
    before = merge(collection, shop.catalogue.deltas.read(collection.info.name, collection.info.seq))
    folded = compact(collection, shop.catalogue.deltas)

    assert folded.info.seq == shop.catalogue.seq
    assert folded.item_ids == before.item_ids
    assert np.array_equal(folded.vectors, before.vectors)
    assert folded.payloads == before.payloads
    assert shop.problems(folded) == shop.problems(collection) == []  # who has the old files open reads on


def test_deltas_that_were_folded_and_removed_are_not_missed_silently(shop: Shop) -> None:
    collection = shop.collect()
    shop.catalogue.upsert([listing("new", 900)[0]], listing("new", 900)[1])
    catch_up(collection, shop.catalogue, shop.encoder)
    folded = compact(collection, shop.catalogue.deltas)
    assert shop.catalogue.deltas.prune(collection.info.name, folded.info.seq) == 1

    assert shop.problems(folded) == []
    with pytest.raises(Conflict, match="open the collection again"):
        refresh(Kept(), collection, shop.catalogue.deltas)  # type: ignore[arg-type]


def test_few_deltas_are_not_worth_new_files(shop: Shop) -> None:
    collection, log = shop.collect(), shop.catalogue.deltas
    start, unit = collection.info.seq, np.ones(8, np.float32)
    log.write(collection.info.name, [Delta(start + n, f"n{n}", unit, {}) for n in range(1, 256)])
    assert not is_due(collection, log)
    log.write(collection.info.name, [Delta(start + 256, "n256", unit, {})])
    assert is_due(collection, log)


_CHANGING = """
import sys
from pathlib import Path
from tests.living import open_shop
from vitrine.catchup import catch_up
from vitrine.collection import open_collection
root, url = Path(sys.argv[1]), sys.argv[2]
shop = open_shop(root, url)
for _ in range(int(sys.argv[3])):
    catch_up(open_collection(shop.home.collections / "shop--shop-search--1"), shop.catalogue, shop.encoder)
"""


def run(root: Path, url: str = "", times: int = 1, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _CHANGING, str(root), url, str(times)],
        env={**os.environ, **environ, "PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("place", ["catchup.embedded", "catchup.written", "catchup.written:2"])
def test_killed_anywhere_the_next_run_finishes(tmp_path: Path, place: str) -> None:
    shop = make_shop(tmp_path)
    collection = shop.collect()
    sent = [listing(f"new-{n:03d}", 2000 + n) for n in range(200)]  # more than are taken over at a time
    shop.catalogue.upsert(
        [item for item, _ in sent], {name: data for _, photos in sent for name, data in photos.items()}
    )
    killed = run(tmp_path, VITRINE_CRASH_AT=place)
    assert killed.wait(60) == -signal.SIGKILL, killed.stderr and killed.stderr.read()
    catch_up(collection, shop.catalogue, shop.encoder)

    assert shop.problems(collection) == []


_SENDING = """
import sys
from pathlib import Path
from tests.living import listing, open_shop
shop, (item, photos) = open_shop(Path(sys.argv[1])), listing("new", 2000)
shop.catalogue.upsert([item], photos)
shop.catalogue.delete(["new"])
"""


@pytest.mark.parametrize(
    ("place", "changes", "there"),
    [("catalogue.photos", 0, False), ("catalogue.changed", 1, True), ("catalogue.changed:2", 2, False)],
)
def test_a_change_that_was_killed_is_whole_or_not_there_and_may_be_sent_again(
    tmp_path: Path, place: str, changes: int, there: bool
) -> None:
    shop = make_shop(tmp_path)
    collection, before = shop.collect(), shop.catalogue.seq
    killed = subprocess.run(
        [sys.executable, "-c", _SENDING, str(tmp_path)],
        env={**os.environ, "VITRINE_CRASH_AT": place, "PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert shop.catalogue.seq - before == changes
    assert bool(shop.catalogue.find(["new"])) == there
    catch_up(collection, shop.catalogue, shop.encoder)
    assert shop.problems(collection) == []

    item, photos = listing("new", 2000)
    shop.catalogue.upsert([item], photos)
    catch_up(collection, shop.catalogue, shop.encoder)
    assert "new" in content(collection, shop.catalogue.deltas).item_ids
    assert shop.problems(collection) == []


def test_two_processes_may_catch_up_at_once_while_a_third_changes_things(tmp_path: Path, database_url: str) -> None:
    shop = make_shop(tmp_path, database_url)
    collection, (_, items) = shop.collect(), shop.catalogue.snapshot()
    others = [run(tmp_path, database_url, times=25) for _ in range(2)]
    for n in itertools.takewhile(lambda _: any(other.poll() is None for other in others), itertools.count()):
        item, photos = listing(f"new-{n % 13}", 3000 + n % 50, price=float(n))
        shop.catalogue.upsert([item, replace(items[n % 5], price=float(n))], photos)
        if n % 4 == 3:
            shop.catalogue.delete([f"new-{(n - 2) % 13}"])
    for other in others:
        _, err = other.communicate(timeout=120)
        assert other.returncode == 0, err.decode()

    catch_up(collection, shop.catalogue, shop.encoder)
    assert shop.problems(collection) == []


def test_threads_that_write_at_once_lose_no_change(tmp_path: Path, database_url: str) -> None:
    shop, name = make_shop(tmp_path, database_url), photo_name(photo(900))
    before = shop.catalogue.seq

    def write(thread: int) -> None:
        for n in range(10):
            shop.catalogue.upsert([Item(f"t{thread}-{n}", (name,), "", "gallery")], {name: photo(900)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    changes = shop.catalogue.changes(before)
    assert [change.seq for change in changes] == list(range(before + 1, before + 41))
    assert {change.item_id for change in changes} == {f"t{thread}-{n}" for thread in range(4) for n in range(10)}


def test_everybody_may_be_the_first_to_open_a_catalogue(tmp_path: Path, database_url: str) -> None:
    tiny_dataset(tmp_path / "data" / "shop")
    tiny_bundle(tmp_path / "bundle")
    with ThreadPoolExecutor(6) as pool:
        shops = list(pool.map(lambda _: open_shop(tmp_path, database_url), range(6)))

    assert len({shop.catalogue.history for shop in shops}) == 1
    assert {shop.catalogue.seq for shop in shops} == {len(shops[0].catalogue.snapshot()[1])}


IDS = st.sampled_from([f"item-{n}" for n in range(6)])


class Life(RuleBasedStateMachine):
    """Any order of changes, catching up, compacting and pruning leaves the collection equal to the twin, a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.shop = make_shop(Path(self.root.name), labels=("jug",))
        self.collection = self.shop.collect()
        self.twin = {item.item_id: item for item in self.shop.catalogue.snapshot()[1]}

    @rule(item_id=IDS, seed=st.integers(900, 903), price=st.sampled_from([None, 1.0, 2.0]))
    def upsert(self, item_id: str, seed: int, price: float | None) -> None:
        item, photos = listing(item_id, seed, price=price)
        self.shop.catalogue.upsert([item], photos)
        self.twin[item_id] = item

    @rule(item_ids=st.sets(IDS, min_size=1))
    def delete(self, item_ids: set[str]) -> None:
        self.shop.catalogue.delete(sorted(item_ids))
        for item_id in item_ids:
            self.twin.pop(item_id, None)

    @rule(price=st.sampled_from([5.0, 6.0]))
    def price_everything(self, price: float) -> None:
        self.twin = {item_id: replace(item, price=price) for item_id, item in self.twin.items()}
        self.shop.catalogue.upsert(list(self.twin.values()))

    @rule()
    def catch_up(self) -> None:
        catch_up(self.collection, self.shop.catalogue, self.shop.encoder)
        assert self.shop.problems(self.collection) == []

    @rule()
    def write_a_delta_before_its_turn(self) -> None:
        changes = self.shop.catalogue.changes(applied_seq(self.collection, self.shop.catalogue.deltas))
        if changes and changes[-1].item is None:
            last = changes[-1]
            self.shop.catalogue.deltas.write(self.collection.info.name, [Delta(last.seq, last.item_id, None, None)])

    @rule()
    def compact(self) -> None:
        self.collection = compact(self.collection, self.shop.catalogue.deltas)

    @rule()
    def compact_and_prune(self) -> None:
        self.collection = compact(self.collection, self.shop.catalogue.deltas)
        self.shop.catalogue.deltas.prune(self.collection.info.name, self.collection.info.seq)

    @rule()
    def embed_everything_anew(self) -> None:
        self.collection = self.shop.collect()

    @rule()
    def open_again(self) -> None:
        self.collection = open_collection(self.collection.root)

    @invariant()
    def the_catalogue_is_the_twin(self) -> None:
        assert {item.item_id: item for item in self.shop.catalogue.snapshot()[1]} == self.twin

    def teardown(self) -> None:
        catch_up(self.collection, self.shop.catalogue, self.shop.encoder)
        assert self.shop.problems(self.collection) == []
        self.root.cleanup()


Life.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestLife = Life.TestCase


def test_several_processes_share_the_work_instead_of_each_doing_all_of_it(tmp_path: Path) -> None:
    """All begin at once; each embeds where nobody else has been, so together they embed each item about once."""
    shop, workers = make_shop(tmp_path), 3
    collection, count = shop.collect(), 640
    sent = [listing(f"new-{n:03d}", 2000 + n % 40) for n in range(count)]
    shop.catalogue.upsert(
        [item for item, _ in sent], {name: data for _, photos in sent for name, data in photos.items()}
    )
    ready, embedded = threading.Barrier(workers), list[int]()

    def work(_: int) -> None:
        mine = open_shop(tmp_path)
        ready.wait()

        def embed(items: Sequence[Item]) -> Vectors:
            time.sleep(0.002 * len(items))  # a model of some size: the writes are small beside it
            return embed_items(mine.encoder, mine.catalogue, items)

        embedded.append(catch_up(collection, mine.catalogue, embed).embedded)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))

    assert count <= sum(embedded) < 2 * count  # three times as much if each did all
    assert shop.problems(collection) == []
