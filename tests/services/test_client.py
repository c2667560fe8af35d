"""The client: one core under two faces, retries within a budget, bulk streams that survive a break."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config import Settings
from tests.factories import photo
from tests.living import Shop, make_shop
from tests.services.conftest import ITEMS, MODEL, Running, running
from tests.services.scripted import Scripted, answer_to
from tests.services.test_catalogue import go_live
from tests.services.test_tls import Secured, certify, needs_openssl
from vitrine.client import AsyncVitrineClient, CatalogueItem, Listing, StreamChunk, Tls, VitrineClient
from vitrine.client.bulk import AHEAD, REQUEST_BYTES, REQUEST_ITEMS, Bulk, grouped
from vitrine.client.retries import Budget, Retries
from vitrine.errors import BadInput, Conflict, NotFound, Overloaded, Unavailable, VitrineError
from vitrine.ports import Condition

FACES = ["sync", "asyncio"]


def numbers(count: int) -> Iterator[Listing]:
    return (Listing(title=str(number)) for number in range(count))


def chunks_of(face: str, address: str, items: Any, **options: Any) -> list[StreamChunk]:
    """All chunks of a bulk embedding, by either client."""
    if face == "sync":
        with VitrineClient(address) as client:
            return list(client.embed_stream(items, **options))

    async def all_of_them() -> list[StreamChunk]:
        async with AsyncVitrineClient(address) as client:
            return [chunk async for chunk in client.embed_stream(items, **options)]

    return asyncio.run(all_of_them())


def called(face: str, address: str, name: str, *words: Any, **options: Any) -> Any:
    """One call, by either client."""
    settings = {key: options.pop(key) for key in ("timeout_s", "retries") if key in options}
    if face == "sync":
        with VitrineClient(address, **settings) as client:
            return getattr(client, name)(*words, **options)

    async def call() -> Any:
        async with AsyncVitrineClient(address, **settings) as client:
            return await getattr(client, name)(*words, **options)

    return asyncio.run(call())


# --- both faces ---


@pytest.mark.parametrize(
    ("name", "words", "options"),
    [
        ("embed", [[photo(1), photo(2)]], {"dtype": "float16"}),
        ("classify", [[photo(1)]], {"top_k": 2}),
        ("search", [photo(1)], {"k": 4, "where": (Condition("label", ("mug",)),)}),
        ("search", [], {"item_id": "item-2", "by_product": True}),
        ("info", [], {}),
    ],
)
def test_both_clients_give_the_same(server: Running, name: str, words: Any, options: Any) -> None:
    sync, awaited = (called(face, server.address, name, *words, **options) for face in FACES)

    assert str(sync) == str(awaited)
    assert sync.version.model == MODEL


@pytest.mark.parametrize("face", FACES)
def test_both_clients_raise_the_servers_own_error(server: Running, face: str) -> None:
    with pytest.raises(NotFound, match="holds no item item-99"):
        called(face, server.address, "search", item_id="item-99")


def test_info_names_engine_and_precision(client: VitrineClient) -> None:
    told = client.info()

    assert (told.items, told.engine, told.precision) == (ITEMS, "onnxruntime", "fp32")


def test_of_each_product_the_best_item_is_found(client: VitrineClient) -> None:
    found = client.search(photo(3), by_product=True)

    assert sorted(hit.payload["product_id"] for hit in found.hits) == ["p0", "p1", "p2"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = make_shop(tmp_path)
    go_live(shop)
    return shop


@pytest.mark.parametrize("face", FACES)
def test_an_item_is_added_found_and_taken_out(shop: Shop, face: str) -> None:
    item = CatalogueItem("new", (photo(9),), title="a mug", price=3.5, category=("home", "mug"), brand="Arc")
    with running(shop.home) as server:
        added = called(face, server.address, "upsert", [item])
        again = called(face, server.address, "upsert", [item])
        hit = called(face, server.address, "search", photo(9), k=1).hits[0]
        gone = called(face, server.address, "delete", ["new", "never"])

    assert (added.outcomes, added.catalogue, added.seq) == ((("new", "added"),), "shop", again.seq)
    assert again.outcomes == (("new", "unchanged"),)
    assert (hit.item_id, hit.payload["price"], hit.payload["category"]) == ("new", 3.5, ["home", "mug"])
    assert gone.outcomes == (("new", "deleted"), ("never", "absent"))


@needs_openssl
@pytest.mark.parametrize("face", FACES)
def test_a_client_with_a_certificate_is_let_in(server: Running, tmp_path: Path, face: str) -> None:
    ours, theirs = certify(tmp_path, "server"), certify(tmp_path, "client")
    settings = Settings(tls_cert=str(ours.chain), tls_key=str(ours.key), tls_client_ca=str(theirs.chain))
    tls = Tls(ca=ours.chain, cert=theirs.chain, key=theirs.key)

    async def info(address: str) -> Any:
        async with AsyncVitrineClient(address, tls=tls) as client:
            return await client.info()

    with Secured(server, settings) as address:
        if face == "sync":
            with VitrineClient(address, tls=tls) as client:
                told = client.info()
        else:
            told = asyncio.run(info(address))

    assert told.version.model == MODEL


@pytest.mark.parametrize(
    ("tls", "error", "said"),
    [
        (Tls(cert=Path("a.pem")), BadInput, "a client's certificate needs its key"),
        (Tls(ca=Path("nowhere.pem")), NotFound, r"nowhere\.pem cannot be read: No such file"),
    ],
)
def test_what_is_wrong_with_certificates_is_said(tls: Tls, error: type[VitrineError], said: str) -> None:
    with pytest.raises(error, match=said):
        VitrineClient("localhost:1", tls=tls)


def test_calls_are_spread_over_the_connections() -> None:
    scripted = Scripted()
    with scripted as address, VitrineClient(address, connections=3) as client:
        for _ in range(6):
            client.info()

    assert sorted(scripted.peers.count(peer) for peer in set(scripted.peers)) == [2, 2, 2]


def test_a_client_without_a_connection_is_refused() -> None:
    with pytest.raises(BadInput, match="0 connections were asked for; a client needs at least 1"):
        VitrineClient(connections=0)


# --- retries ---


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("refusal", [Unavailable("starting"), Overloaded("full", retry_after_s=0.01)])
def test_a_call_that_met_no_room_is_sent_again(face: str, refusal: VitrineError) -> None:
    scripted = Scripted([refusal, refusal])
    with scripted as address:
        assert called(face, address, "info").version.model == "scripted"
    assert scripted.calls == 3


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("refusal", [BadInput("no photo"), NotFound("no item"), Conflict("first"), VitrineError("bug")])
def test_a_call_that_is_wrong_is_not(face: str, refusal: VitrineError) -> None:
    scripted = Scripted([refusal])
    with scripted as address, pytest.raises(type(refusal), match=str(refusal)):
        called(face, address, "info")
    assert scripted.calls == 1


def test_after_the_last_attempt_the_servers_error_is_raised() -> None:
    scripted = Scripted([Unavailable(f"refused {number}") for number in range(9)])
    with scripted as address, pytest.raises(Unavailable, match="refused 2"):
        called("sync", address, "info", retries=2)
    assert scripted.calls == 3


def test_a_delay_beyond_the_deadline_is_not_waited_for() -> None:
    scripted = Scripted([Overloaded("full", retry_after_s=60)])
    with scripted as address, pytest.raises(Overloaded):
        called("sync", address, "info", timeout_s=5)
    assert scripted.calls == 1


def test_under_a_lasting_overload_retries_stay_a_share_of_the_calls() -> None:
    scripted, calls = Scripted([Overloaded("full", retry_after_s=0.001)] * 1000), 100
    with scripted as address, VitrineClient(address, retries=5) as client:
        for _ in range(calls):
            with pytest.raises(Overloaded):
                client.info()

    assert calls < scripted.calls <= calls + 10 + 0.2 * calls


class Failed(grpc.RpcError):
    """What a broken call raises."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[()]:
        return ()


@given(st.floats(0.001, 5), st.integers(0, 3))
def test_a_pause_is_never_shorter_than_the_server_wants(wanted_s: float, tried: int) -> None:
    code, told = grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded("full", retry_after_s=wanted_s)

    pause_s = Retries(9, Budget()).pause_s(code, told, tried, left_s=100)
    assert pause_s is not None
    assert wanted_s <= pause_s <= 1.5 * wanted_s


@given(st.lists(st.booleans(), max_size=200))
def test_the_budget_is_never_overdrawn(steps: list[bool]) -> None:
    budget = Budget(share=0.2, reserve=3)
    made = spent = 0
    for is_call in steps:
        if is_call:
            budget.earn()
            made += 1
        else:
            spent += budget.spend()

    assert spent <= 3 + 0.2 * made + 1e-9


# --- bulk ---


@pytest.mark.parametrize("face", FACES)
def test_a_stream_gives_what_single_calls_give_in_order(server: Running, client: VitrineClient, face: str) -> None:
    photos = [photo(number % 7) for number in range(3 * REQUEST_ITEMS + 5)]
    chunks = chunks_of(face, server.address, iter(photos))

    assert [chunk.start for chunk in chunks] == [0, 32, 64, 96]
    seven = client.embed(photos[:7]).vectors
    np.testing.assert_allclose(
        np.concatenate([chunk.vectors for chunk in chunks]), seven[np.arange(len(photos)) % 7], atol=1e-6
    )


@pytest.mark.parametrize("face", FACES)
def test_items_that_cannot_be_embedded_are_told_by_their_place(server: Running, face: str) -> None:
    photos = [photo(number) for number in range(REQUEST_ITEMS + 3)]
    photos[1] = photos[-1] = b"no photo"
    failed = {place: why for chunk in chunks_of(face, server.address, photos) for place, why in chunk.failed.items()}

    assert sorted(failed) == [1, len(photos) - 1]
    assert all(isinstance(why, BadInput) and "cannot be read" in str(why) for why in failed.values())


@pytest.mark.parametrize("face", FACES)
def test_a_stream_of_nothing_gives_nothing(server: Running, face: str) -> None:
    assert chunks_of(face, server.address, []) == []


@pytest.mark.parametrize("face", FACES)
def test_a_broken_stream_goes_on_where_it_broke(face: str) -> None:
    scripted = Scripted()
    scripted.breaks = [(1, Unavailable("restarting")), (0, Unavailable("restarting")), (2, Overloaded("many streams"))]
    with scripted as address:
        chunks = chunks_of(face, address, numbers(300))

    found = np.concatenate([chunk.vectors for chunk in chunks])[:, 0]
    assert found.tolist() == list(range(300))
    assert scripted.calls == 4


@pytest.mark.parametrize("face", FACES)
def test_when_another_version_goes_live_the_stream_stops_and_says_where(face: str) -> None:
    scripted = Scripted()
    scripted.breaks, scripted.then = [(2, Conflict("another is live"))], lambda: setattr(scripted, "version", 2)
    with (
        scripted as address,
        pytest.raises(Conflict, match=r"after 64 items were embedded by scripted@1\. Vectors of two"),
    ):
        chunks_of(face, address, numbers(300))


@pytest.mark.parametrize("face", FACES)
def test_or_goes_on_with_the_new_version_if_that_is_wanted(face: str) -> None:
    scripted = Scripted()
    scripted.breaks, scripted.then = [(2, Conflict("another is live"))], lambda: setattr(scripted, "version", 2)
    with scripted as address:
        chunks = chunks_of(face, address, numbers(300), on_switch="continue")

    assert np.concatenate([chunk.vectors for chunk in chunks])[:, 0].tolist() == list(range(300))
    assert [chunk.version.version for chunk in chunks] == [1, 1] + [2] * 8


def test_a_switch_before_the_first_answer_mixes_nothing() -> None:
    scripted = Scripted()
    scripted.breaks = [(0, Conflict("another is live"))]
    with scripted as address:
        assert len(chunks_of("sync", address, numbers(5))) == 1


def test_a_version_that_changed_during_a_break_is_noticed() -> None:
    scripted = Scripted()
    scripted.breaks, scripted.then = [(2, Unavailable("restarting"))], lambda: setattr(scripted, "version", 2)
    with scripted as address, pytest.raises(Conflict, match="after 64 items were embedded by scripted@1"):
        chunks_of("sync", address, numbers(300))


def test_items_are_taken_only_as_there_is_room() -> None:
    taken = 0

    def counted() -> Iterator[Listing]:
        nonlocal taken
        for one in numbers(10_000):
            taken += 1
            yield one

    with Scripted() as address, VitrineClient(address) as client:
        for chunk in client.embed_stream(counted()):
            assert taken <= chunk.start + (AHEAD + 1) * REQUEST_ITEMS + 1
            if chunk.start > 1000:
                break


def test_what_the_callers_generator_raises_comes_through() -> None:
    def broken() -> Iterator[Listing]:
        yield from numbers(40)
        raise RuntimeError("the disk is gone")

    with Scripted() as address, pytest.raises(RuntimeError, match="the disk is gone"):
        chunks_of("sync", address, broken())


@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["UNAVAILABLE", "DEADLINE_EXCEEDED"])), max_size=9),
)
def test_however_streams_break_each_item_is_answered_once_in_order(count: int, breaks: list[tuple[int, str]]) -> None:
    bulk = Bulk("float32", "", "continue", Retries(99, Budget(reserve=99)), "here", 60)
    groups, found, sent = grouped(numbers(count)), [], 0
    while True:
        server = bulk.unanswered()  # what the server has read of this stream
        answers, code = breaks.pop(0) if breaks else (10_000, "")
        while True:
            while bulk.room and (group := next(groups, None)) is not None:
                server.append(bulk.request(group))
                sent += len(group)
            assert len(server) <= AHEAD
            if not bulk.waiting or not answers:
                break
            chunk = bulk.answered(answer_to(server.pop(0)))
            assert chunk.start == len(found)
            found += chunk.vectors[:, 0].tolist()
            answers -= 1
        if not bulk.waiting:
            break
        if code == "DEADLINE_EXCEEDED" and bulk._broken:
            code = "UNAVAILABLE"  # a second stalled stream would rightly end it
        assert bulk.pause_s(Failed(grpc.StatusCode[code])) >= 0

    assert found == list(range(count))
    assert sent == count


def test_a_stream_that_breaks_while_it_is_written_to_is_opened_again() -> None:
    bulk = Bulk("float32", "", "stop", Retries(2, Budget()), "here:1", 60)

    assert bulk.pause_s(Failed(grpc.StatusCode.INTERNAL, "Internal error from Core")) > 0
    with pytest.raises(VitrineError, match="the server at here:1 answered INTERNAL: unexpected error"):
        bulk.pause_s(Failed(grpc.StatusCode.INTERNAL, "unexpected error; the server's log has the details"))


def test_two_stalled_streams_in_a_row_end_it() -> None:
    bulk = Bulk("float32", "", "stop", Retries(2, Budget()), "here:1", 60)

    assert bulk.pause_s(Failed(grpc.StatusCode.DEADLINE_EXCEEDED)) == 0
    with pytest.raises(Unavailable, match="the server at here:1 did not answer within 60 s"):
        bulk.pause_s(Failed(grpc.StatusCode.DEADLINE_EXCEEDED))


@given(st.lists(st.integers(0, REQUEST_BYTES * 2), max_size=100))
def test_requests_hold_a_bounded_number_of_items_and_bytes(sizes: list[int]) -> None:
    # Not real bytes: a hundred photos of several MB would not fit a test.
    items: Any = [Listing((Sized(size),)) for size in sizes]  # type: ignore[arg-type]
    groups = list(grouped(items))

    assert [one for group in groups for one in group] == items
    for group in groups:
        size = sum(len(one.images[0]) for one in group)  # type: ignore[union-attr]
        assert len(group) <= REQUEST_ITEMS
        assert size <= REQUEST_BYTES or len(group) == 1


class Sized:
    """Something of a length."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size
