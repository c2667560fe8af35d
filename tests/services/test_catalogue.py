"""Upsert and Delete over a real socket: what is answered is what searches see."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.catalogue import CatalogueServicer
from services.keeper import Keeper
from services.snapshot import Following
from tests.factories import photo, tiny_bundle
from tests.living import MODEL, Shop, listing, make_shop
from tests.services.conftest import Running, running
from vitrine.catchup import catch_up
from vitrine.client import VitrineClient
from vitrine.collection import open_collection
from vitrine.compaction import compact
from vitrine.encoder import load_encoder
from vitrine.errors import Conflict, NotFound, Unavailable, Unsupported
from vitrine.events import Promoted
from vitrine.forgetting import eraser
from vitrine.registry import open_registry
from vitrine.v1 import catalogue_pb2, catalogue_pb2_grpc, common_pb2, embedding_pb2, embedding_pb2_grpc

Change = catalogue_pb2.Change


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    found = make_shop(tmp_path)
    go_live(found)
    return found


def go_live(shop: Shop) -> int:
    """Register the shop's version, embed the catalogue with it, switch to it."""
    registry = open_registry(shop.home)
    version = registry.register(MODEL, shop.bundle).version
    name = shop.collect(version).info.name
    registry.append(Promoted(model=MODEL, version=version, catalogue="shop", collection=name, **registry.stamp()))
    return version


@pytest.fixture
def server(shop: Shop) -> Iterator[Running]:
    with running(shop.home) as server:
        yield server


@pytest.fixture
def stub(server: Running) -> Iterator[catalogue_pb2_grpc.CatalogueStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield catalogue_pb2_grpc.CatalogueStub(channel)


@pytest.fixture
def client(server: Running) -> Iterator[VitrineClient]:
    with VitrineClient(server.address) as client:
        yield client


def message(item_id: str, *seeds: int, **fields: Any) -> catalogue_pb2.CatalogueItem:
    images = [common_pb2.Image(data=photo(seed)) for seed in seeds]
    inner = {key: fields.pop(key) for key in ("title", "attributes", "numbers") if key in fields}
    return catalogue_pb2.CatalogueItem(item=common_pb2.Item(id=item_id, images=images, **inner), **fields)


def upsert(stub: Any, *items: catalogue_pb2.CatalogueItem, **fields: Any) -> Any:
    return stub.Upsert(catalogue_pb2.UpsertRequest(items=items, **fields), timeout=20)


def delete(stub: Any, *item_ids: str) -> Any:
    return stub.Delete(catalogue_pb2.DeleteRequest(item_ids=item_ids), timeout=20)


def outcomes(answer: Any) -> list[tuple[str, int]]:
    return [(change.item_id, change.outcome) for change in answer.changes]


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, str]:
    """(code, message, field) of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    field = ""
    for detail in rpc_status.from_call(caught.value).details:
        told = error_details_pb2.BadRequest()
        if detail.Unpack(told):
            field = told.field_violations[0].field
    return caught.value.code(), caught.value.details(), field


def test_a_new_item_is_found_as_soon_as_the_answer_is_there(stub: Any, client: VitrineClient, shop: Shop) -> None:
    answer = upsert(stub, message("new", 900, price=4.5, category=["kitchen", "jugs"], product_id="p1"))

    assert outcomes(answer) == [("new", Change.ADDED)]
    assert (answer.catalogue, answer.collection) == ("shop", f"shop--{MODEL}--1")
    assert answer.catalogue_seq == shop.catalogue.seq
    assert (answer.version.model, answer.version.version) == (MODEL, 1)
    best = client.search(photo(900), k=1).hits[0]
    assert (best.item_id, best.score) == ("new", pytest.approx(1, abs=1e-5))
    assert best.payload["price"] == 4.5
    assert best.payload["category"] == ["kitchen", "jugs"]


def test_an_item_of_several_photos_is_embedded_as_the_catalogue_is(
    stub: Any, client: VitrineClient, shop: Shop
) -> None:
    upsert(stub, message("new", 900, 901, 900))
    item, photos = listing("twin", 900, 901)

    expected = shop.encoder.embed(list(photos.values())).vectors.mean(axis=0)
    hits = client.search(photo(900), k=50).hits
    score = next(hit.score for hit in hits if hit.item_id == "new")
    query = shop.encoder.embed([photo(900)]).vectors[0]
    assert score == pytest.approx(float(query @ expected / np.linalg.norm(expected)), abs=1e-5)
    assert shop.catalogue.find(["new"])["new"].images == item.images


def test_the_same_item_again_changes_nothing(stub: Any) -> None:
    first = upsert(stub, message("new", 900))
    again = upsert(stub, message("new", 900))

    assert outcomes(again) == [("new", Change.UNCHANGED)]
    assert again.catalogue_seq == first.catalogue_seq


def test_a_new_price_keeps_the_vector(stub: Any, client: VitrineClient, shop: Shop) -> None:
    upsert(stub, message("new", 900))
    before = shop.catalogue.deltas.at(f"shop--{MODEL}--1", ["new"])["new"].vector
    answer = upsert(stub, message("new", 900, price=9.0))

    assert outcomes(answer) == [("new", Change.PAYLOAD_CHANGED)]
    after = shop.catalogue.deltas.at(f"shop--{MODEL}--1", ["new"])["new"].vector
    assert before is not None
    assert np.array_equal(before, after)
    assert client.search(photo(900), k=1).hits[0].payload["price"] == 9.0


def test_another_photo_moves_the_item(stub: Any, client: VitrineClient) -> None:
    upsert(stub, message("new", 900))
    answer = upsert(stub, message("new", 950))

    assert outcomes(answer) == [("new", Change.CHANGED)]
    best = client.search(photo(950), k=1).hits[0]
    assert (best.item_id, best.score) == ("new", pytest.approx(1, abs=1e-5))


def test_an_item_of_the_dataset_keeps_its_class_when_a_client_sends_it(stub: Any, shop: Shop) -> None:
    item = shop.catalogue.snapshot()[1][0]
    upsert(stub, message(item.item_id, 900))

    assert shop.catalogue.find([item.item_id])[item.item_id].label == item.label


def test_a_deleted_item_is_found_no_more(stub: Any, client: VitrineClient) -> None:
    upsert(stub, message("new", 900))
    answer = delete(stub, "new", "never-there")

    assert outcomes(answer) == [("new", Change.DELETED), ("never-there", Change.ABSENT)]
    assert "new" not in {hit.item_id for hit in client.search(photo(900), k=100).hits}


def test_all_items_of_a_request_or_none(stub: Any, shop: Shop) -> None:
    before = shop.catalogue.snapshot()
    broken = message("bad")
    broken.item.images.add(data=photo(901)[:200])
    code, text, field = refused(lambda: upsert(stub, message("good", 900), broken))

    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "items[1].item.images[0].data")
    assert "cannot be read" in text
    assert shop.catalogue.snapshot() == before


BAD = [
    ([message("", 900)], "items[0].item.id", "is empty"),
    ([message("  ", 900)], "items[0].item.id", "is empty"),
    ([message("a" * 257, 900)], "items[0].item.id", "at most 256"),
    ([message("a\0b", 900)], "items[0].item.id", "NUL character"),
    ([message("new")], "items[0].item.images", "needs at least one"),
    ([message("new", *[900] * 33)], "items[0].item.images", "at most 32"),
    ([message("new", 900), message("new", 901)], "items[1].item.id", "comes twice"),
    ([message("new", 900, price=math.nan)], "items[0].price", "finite number"),
    ([message("new", 900, numbers={"weight": math.inf})], "items[0].item.numbers[weight]", "finite number"),
    ([message("new", 900, category=["kitchen", ""])], "items[0].category[1]", "is empty"),
    ([message("new", 900, time="yesterday")], "items[0].time", "ISO 8601"),
    ([message("new", 900, brand="b" * 5000)], "items[0].brand", "at most 4096"),
    ([message("new", 900, title="t\0")], "items[0].item.title", "NUL character"),
    ([], "items", "has no items"),
]


@pytest.mark.parametrize(("items", "field", "words"), BAD, ids=[f"{field}-{words}" for _, field, words in BAD])
def test_what_is_wrong_is_told_with_its_field(stub: Any, items: list[Any], field: str, words: str) -> None:
    code, text, found = refused(lambda: upsert(stub, *items))

    assert (code, found) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert words in text


def test_an_address_instead_of_a_photo_is_refused(stub: Any) -> None:
    item = message("new")
    item.item.images.add(url="http://example.com/a.jpg")

    code, text, field = refused(lambda: upsert(stub, item))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "items[0].item.images[0].url")
    assert "fetches no addresses" in text


@pytest.mark.parametrize(("ids", "field"), [([], "item_ids"), ([""], "item_ids[0]"), (["a", "a"], "item_ids[1]")])
def test_a_deletion_without_sense_is_refused(stub: Any, ids: list[str], field: str) -> None:
    code, _, found = refused(lambda: delete(stub, *ids))

    assert (code, found) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_another_catalogue_than_the_one_searched_is_not_found(stub: Any) -> None:
    code, text, _ = refused(lambda: upsert(stub, message("new", 900), catalogue="toys"))

    assert code == grpc.StatusCode.NOT_FOUND
    assert "searches the catalogue 'shop', not 'toys'" in text


def test_a_server_without_a_registry_says_so(server: Running) -> None:
    servicer = CatalogueServicer(server.live, None)
    with pytest.raises(Unsupported, match="VITRINE_HOME or VITRINE_REGISTRY_URL"):
        server.do(servicer.Delete(catalogue_pb2.DeleteRequest(item_ids=["a"])))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen in 20 s"
        time.sleep(0.02)


def test_what_somebody_else_changes_is_found_within_a_poll(client: VitrineClient, shop: Shop) -> None:
    shop.catalogue.upsert([listing("theirs", 900)[0]], listing("theirs", 900)[1])

    wait_until(lambda: client.search(photo(900), k=1).hits[0].item_id == "theirs")


def test_info_tells_how_far_the_server_follows(server: Running, stub: Any, shop: Shop) -> None:
    with grpc.insecure_channel(server.address) as channel:
        info = embedding_pb2_grpc.EmbeddingStub(channel).Info
        before = info(embedding_pb2.InfoRequest())
        assert (before.items, before.catalogue_seq) == (shop.catalogue.seq, shop.catalogue.seq)
        assert (before.engine, before.precision) == ("onnxruntime", "fp32")
        upsert(stub, message("new", 900))
        wait_until(lambda: info(embedding_pb2.InfoRequest()).catalogue_seq == before.catalogue_seq + 1)
        assert info(embedding_pb2.InfoRequest()).items == before.items + 1


def test_two_servers_show_the_same(shop: Shop, server: Running, stub: Any) -> None:
    with running(shop.home) as other, VitrineClient(other.address) as elsewhere:
        upsert(stub, message("new", 900))
        wait_until(lambda: elsewhere.search(photo(900), k=1).hits[0].item_id == "new")
        delete(stub, "new")
        wait_until(lambda: "new" not in {hit.item_id for hit in elsewhere.search(photo(900), k=100).hits})


def test_a_server_that_starts_later_knows_every_change(shop: Shop, server: Running, stub: Any) -> None:
    upsert(stub, message("new", 900))
    with running(shop.home) as later, VitrineClient(later.address) as elsewhere:
        assert elsewhere.search(photo(900), k=1).hits[0].item_id == "new"


def test_a_server_that_slept_through_a_clean_up_joins_the_newer_files(shop: Shop, server: Running) -> None:
    name, log = f"shop--{MODEL}--1", shop.catalogue.deltas
    server.do(server.follower.stop())  # it sleeps
    gone = shop.catalogue.snapshot()[1][0].item_id
    shop.catalogue.upsert([listing("theirs", 900)[0]], listing("theirs", 900)[1])
    shop.catalogue.delete([gone])
    collection = open_collection(shop.home.collections / name)
    catch_up(collection, shop.catalogue, shop.encoder)
    newer = compact(collection, log)
    shop.catalogue.upsert([listing("later", 950)[0]], listing("later", 950)[1])
    catch_up(newer, shop.catalogue, shop.encoder)
    assert log.prune(name, newer.info.seq) == 2

    snapshot = server.live.snapshot
    assert snapshot is not None
    assert snapshot.index is not None
    Keeper(shop.home, server.pools.model).refresh(snapshot)
    found = {hit.item_id for hit in snapshot.index.search(shop.encoder.embed([photo(900)]).vectors, 100)[0]}
    assert found == {item.item_id for item in shop.catalogue.snapshot()[1]}


def test_a_collection_that_follows_no_catalogue_is_searched_as_it_is(shop: Shop) -> None:
    with running(shop.home) as server:
        snapshot = server.live.snapshot
        assert snapshot is not None
        assert snapshot.following is not None
        strange = replace(snapshot.following.files, info=replace(snapshot.following.files.info, history="f" * 16))
        keeper = Keeper(shop.home, server.pools.model)
        keeper.refresh(replace(snapshot, following=Following(strange)))

        with pytest.raises(Conflict, match="vitrine promote"):
            keeper.catalogue(replace(snapshot, following=Following(strange)))
        assert snapshot.index is not None
        assert snapshot.index.count() == shop.catalogue.seq


def test_a_change_while_another_version_goes_live_is_in_both(
    shop: Shop, server: Running, stub: Any, tmp_path: Path
) -> None:
    client_sees = upsert(stub, message("before", 900))
    assert client_sees.version.version == 1
    other = tiny_bundle(tmp_path / "other", dim=8, seed=2)
    later = replace(shop, bundle=other, encoder=load_encoder(other, threads=1))
    go_live(later)
    sent, version = 0, 1
    while version == 1 or sent < 5:
        sent += 1
        version = upsert(stub, message(f"during-{sent}", 1000 + sent)).version.version
        assert sent < 2000

    for one, number in ((shop, 1), (later, 2)):
        collection = open_collection(shop.home.collections / f"shop--{MODEL}--{number}")
        catch_up(collection, shop.catalogue, one.encoder)
        assert one.problems(collection) == []


@pytest.mark.parametrize("item_id", ["new", "jug-train-0"])
def test_a_server_that_was_cut_off_answers_without_an_erased_item_when_it_is_back(
    shop: Shop, server: Running, stub: Any, item_id: str
) -> None:
    """Also one that came with an upsert, and after the mark of its deletion is gone."""
    upsert(stub, message("new", 900))
    look, refresh = server.follower._look, server.follower._refresh

    def cut_off(*_: Any) -> Any:
        raise Unavailable("the registry cannot be reached")

    server.follower._look, server.follower._refresh = cut_off, cut_off
    time.sleep(0.3)  # a look that had begun
    eraser(open_registry(shop.home), shop.home, item_id, "shop", grace_s=0).erase()
    assert knows(server, item_id)

    server.follower._look, server.follower._refresh = look, refresh
    deadline = time.monotonic() + 20
    while knows(server, item_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def knows(server: Running, item_id: str) -> bool:
    snapshot = server.live.snapshot
    assert snapshot is not None
    assert snapshot.index is not None
    try:
        snapshot.index.vectors([item_id])
    except NotFound:
        return False
    return True
