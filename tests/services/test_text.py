"""Titles through the whole serving path, over a real socket."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.testclient import TestClient
from typer.testing import CliRunner

from services.batching import BatchLimits
from services.codec import MAX_TITLE_BYTES
from services.http import Api
from tests.factories import photo
from tests.services.conftest import ITEMS, Running, promote, running
from tests.services.test_http import Bridge
from vitrine.cli import app
from vitrine.client import Listing, VitrineClient
from vitrine.encoder import Encoder, fuse, load_encoder, pool_images
from vitrine.errors import BadInput, Overloaded
from vitrine.home import Home, find_home
from vitrine.ports import Vectors
from vitrine.registry import open_registry
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc

LABELS = ["jug", "mug", "cup"]


@pytest.fixture(scope="module")
def pair_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("texts")
    home = find_home({"VITRINE_HOME": str(folder / "home")})
    promote(home, folder, seed=1, labels=LABELS, texts=True)
    return home


@pytest.fixture(scope="module")
def pair(pair_home: Home) -> Iterator[Running]:
    with running(pair_home) as server:
        yield server


@pytest.fixture(scope="module")
def reader(pair: Running) -> Iterator[VitrineClient]:
    with VitrineClient(pair.address) as client:
        yield client


@pytest.fixture(scope="module")
def encoder(pair_home: Home) -> Encoder:
    return load_encoder(open_registry(pair_home).open("tiny-search"), threads=1)


def close(one: Vectors, other: Vectors) -> None:
    np.testing.assert_allclose(one, other, atol=1e-6)


# --- over gRPC ------------------------------------------------------------------------------


def test_titles_embed_as_the_encoder_reads_them(reader: VitrineClient, encoder: Encoder) -> None:
    titles = [f"mug number {n}" for n in range(20)]

    close(reader.embed([Listing(title=title) for title in titles]).vectors, encoder.embed_texts(titles))


def test_titles_of_a_version_without_a_fixed_length_are_served_as_the_whole_context_reads_them(
    home: Home, promoted: Callable[..., int]
) -> None:
    promoted(seed=1, texts=True, any_length=True)
    titles = ["jug", "a long blue mug", "cup"] * 5
    encoder = load_encoder(open_registry(home).open("tiny-search"), threads=1)
    with running(home) as server, VitrineClient(server.address) as client, ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda title: client.embed([Listing(title=title)]).vectors[0], titles))
        together = client.embed([Listing(title=title) for title in titles]).vectors

    whole = encoder.engine.run("text", {"tokens": encoder.tokenize(titles)})["embedding_out"]
    close(np.stack(alone), whole)
    close(together, whole)
    close(encoder.embed_texts(titles), whole)


def test_a_photo_with_a_title_is_the_mean_of_both(reader: VitrineClient, encoder: Encoder) -> None:
    vectors = reader.embed([Listing((photo(1), photo(2)), "red mug")]).vectors

    of_photos = pool_images(encoder.embed([photo(1), photo(2)]).vectors, [2])
    of_title = encoder.embed_texts(["red mug"])
    mean = of_photos + of_title
    close(vectors, mean / np.linalg.norm(mean))


def test_items_of_every_kind_in_one_request_keep_their_order(reader: VitrineClient, encoder: Encoder) -> None:
    items = [
        Listing(title="jug"),
        photo(3),
        Listing((photo(4), photo(5)), "blue cup"),
        Listing((photo(6), photo(7))),
        Listing(title="cup"),
    ]

    vectors = reader.embed(items).vectors

    pooled = pool_images(encoder.embed([photo(n) for n in range(3, 8)]).vectors, [1, 2, 2])
    jug, blue, cup = encoder.embed_texts(["jug", "blue cup", "cup"])
    close(vectors, np.stack([jug, pooled[0], fuse(pooled[1], blue), pooled[2], cup]))


kinds = st.tuples(st.lists(st.integers(0, 9), max_size=2), st.sampled_from(["", "jug", "red mug"])).filter(any)


@settings(max_examples=25, deadline=None)
@given(st.lists(kinds, min_size=1, max_size=8))
def test_an_item_s_vector_does_not_depend_on_its_company(
    reader: VitrineClient, items: list[tuple[list[int], str]]
) -> None:
    listings = [Listing(tuple(photo(n) for n in numbers), title) for numbers, title in items]

    together = reader.embed(listings).vectors

    close(together, np.concatenate([reader.embed([listing]).vectors for listing in listings]))


def test_many_callers_of_both_kinds_get_their_own_answers(reader: VitrineClient, encoder: Encoder) -> None:
    def ask(n: int) -> Vectors:
        return reader.embed([Listing(title=f"mug {n}") if n % 2 else photo(n)]).vectors[0]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(24)))

    close(np.stack(found[1::2]), encoder.embed_texts([f"mug {n}" for n in range(1, 24, 2)]))
    close(np.stack(found[::2]), encoder.embed([photo(n) for n in range(0, 24, 2)]).vectors)


def catalogue(encoder: Encoder) -> Vectors:
    return encoder.embed([photo(n) for n in range(ITEMS)]).vectors


@pytest.mark.parametrize("photographed", [False, True])
def test_search_by_words_ranks_by_the_query_s_vector(
    reader: VitrineClient, encoder: Encoder, photographed: bool
) -> None:
    found = reader.search(photo(9) if photographed else None, text="red mug", k=ITEMS)

    query = encoder.embed_texts(["red mug"])[0]
    if photographed:
        query = fuse(encoder.embed([photo(9)]).vectors[0], query)
    scores = catalogue(encoder) @ query
    assert [hit.item_id for hit in found.hits] == [f"item-{n}" for n in np.argsort(-scores)]
    assert [hit.score for hit in found.hits] == pytest.approx(np.sort(scores)[::-1], abs=1e-5)


def test_info_says_that_titles_are_read(reader: VitrineClient) -> None:
    assert reader.info().version.modalities == ("image", "title")


@pytest.mark.parametrize(
    ("listing", "field", "said"),
    [
        (Listing(), "items[1].images", r"items\[1\] has no images and no title, and tiny-search@1 needs at least one"),
        (Listing(title="  \n"), "items[1].title", r"items\[1\]\.title is blank; write some words"),
        (Listing(title="é" * 2049), "items[1].title", r"has 4098 bytes, at most 4096 are allowed; shorten it"),
    ],
)
def test_a_title_that_cannot_be_used_is_named(reader: VitrineClient, listing: Listing, field: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        reader.embed([photo(1), listing])

    assert refused.value.field == field


def test_the_longest_title_is_read(reader: VitrineClient, encoder: Encoder) -> None:
    title = "m" * MAX_TITLE_BYTES

    close(reader.embed([Listing(title=title)]).vectors, encoder.embed_texts([title]))


def test_labels_are_for_photos(reader: VitrineClient) -> None:
    with pytest.raises(BadInput, match=r"items\[0\]\.title: the classifier of tiny-search@1 looks at photos alone"):
        reader.classify([Listing((photo(1),), "mug")])

    assert reader.classify([photo(1)]).items[0].labels


def test_a_version_without_text_refuses_a_search_by_words(client: VitrineClient) -> None:
    with pytest.raises(BadInput, match=r"item\.title: tiny-search@1 cannot use title, it uses: image; leave the field"):
        client.search(text="red mug")


@pytest.mark.parametrize(
    "wanted", [{}, {"text": "mug", "item_id": "item-1"}, {"photo": photo(1), "item_id": "item-1"}], ids=str
)
def test_a_search_takes_a_query_or_an_id(reader: VitrineClient, wanted: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="a search takes a photo, a text, or both, or else an item_id"):
        reader.search(**wanted)  # type: ignore[arg-type]


def test_a_text_beside_a_listing_with_a_title_is_refused(reader: VitrineClient) -> None:
    with pytest.raises(BadInput, match="the text is given twice"):
        reader.search(Listing((photo(1),), "mug"), text="cup")


# --- under pressure -------------------------------------------------------------------------


class Held:
    """The text graph, stopped until `release`; counts the titles of each run."""

    def __init__(self, server: Running) -> None:
        assert server.live.snapshot is not None
        encoder = server.live.snapshot.encoder
        self._run, self._gate, self.runs = encoder.run_tokens, threading.Event(), list[int]()
        encoder.run_tokens = self._held  # type: ignore[method-assign]

    def _held(self, tokens: NDArray[np.int64]) -> Vectors:
        self.runs.append(len(tokens))
        self._gate.wait(10)
        return self._run(tokens)

    def release(self) -> None:
        self._gate.set()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def inside(server: Running) -> tuple[int, int]:
    """Photos and titles in the server."""
    assert server.live._current is not None
    lanes = server.live._current.lanes
    return lanes.photos.places_taken, lanes.titles.places_taken


def test_photos_and_titles_share_the_places(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1, texts=True)
    with running(home, BatchLimits(2, 1, 4)) as server, VitrineClient(server.address) as client:
        held = Held(server)
        with ThreadPoolExecutor(4) as pool:
            begun = [pool.submit(client.embed, [Listing(title=f"mug {n}")]) for n in range(2)]
            begun += [pool.submit(client.embed, [photo(n)]) for n in range(2)]
            until(lambda: inside(server) == (2, 2))
            for one_more in (photo(9), Listing(title="one more"), Listing((photo(9),), "both")):
                with pytest.raises(Overloaded, match="the server holds 4 of 4 images and titles; try again") as refused:
                    client.embed([one_more])
                assert refused.value.retry_after_s > 0
            assert inside(server) == (2, 2)  # nothing of a refused item stays
            held.release()
            assert all(future.result().vectors.shape == (1, 8) for future in begun)


def test_a_caller_that_gives_up_leaves_both_queues(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1, texts=True)
    item = common_pb2.Item(images=[common_pb2.Image(data=photo(2))], title="jug")
    with running(home, BatchLimits(1, 1, 8)) as server, grpc.insecure_channel(server.address) as channel:
        held, stub = Held(server), embedding_pb2_grpc.EmbeddingStub(channel)
        first = stub.Embed.future(embedding_pb2.EmbedRequest(items=[common_pb2.Item(title="mug")]))
        until(lambda: held.runs == [1])  # the model is busy with it
        gone = stub.Embed.future(embedding_pb2.EmbedRequest(items=[item]))
        until(lambda: inside(server) == (1, 2))
        gone.cancel()
        until(lambda: inside(server) == (0, 1))
        held.release()
        assert list(first.result().embeddings.shape) == [1, 8]
    assert held.runs == [1]


def test_titles_of_several_callers_share_a_run(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1, texts=True)
    with running(home, BatchLimits(8, 200, 32)) as server, VitrineClient(server.address) as client:
        held = Held(server)
        held.release()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: client.embed([Listing(title=f"mug {n}")]), range(8)))

    assert sum(held.runs) == 8
    assert len(held.runs) < 8


def test_more_titles_than_ever_fit_are_refused_by_name(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1, texts=True)
    with (
        running(home, BatchLimits(2, 1, 4)) as server,
        VitrineClient(server.address) as client,
        pytest.raises(BadInput, match="the request has 5 titles, this server takes 4 at a time; split it"),
    ):
        client.embed([Listing(title="mug")] * 5)


# --- over HTTP and on the command line --------------------------------------------------------


@pytest.fixture(scope="module")
def http(pair: Running) -> TestClient:
    api = Api()
    api.embedding = Bridge(pair, pair.server.embedding)  # type: ignore[assignment]
    api.searching = Bridge(pair, pair.server.searching)  # type: ignore[assignment]
    return TestClient(api.app())


def test_http_reads_the_same_titles(http: TestClient, encoder: Encoder) -> None:
    told = http.post("/v1/embed", json={"title": "red mug"}).json()

    close(np.array(told["embedding"]), encoder.embed_texts(["red mug"])[0])


def test_http_searches_by_words_and_photo_as_grpc_does(http: TestClient, reader: VitrineClient) -> None:
    body = {"title": "red mug", "images": [base64.b64encode(photo(9)).decode()]}

    told = http.post("/v1/search?k=4", json=body).json()

    expected = reader.search(photo(9), text="red mug", k=4).hits
    assert [hit["item_id"] for hit in told["hits"]] == [hit.item_id for hit in expected]


def test_the_page_asks_by_words_only_where_titles_are_read(http: TestClient) -> None:
    assert '$("words").hidden = !version.modalities.includes("title")' in http.get("/").text
    assert http.get("/v1/info").json()["version"]["modalities"] == ["image", "title"]


def run(*words: str) -> str:
    answer = CliRunner().invoke(app, list(words))
    if answer.exception is not None:
        raise answer.exception
    return answer.stdout


def test_the_command_embeds_texts(pair: Running, encoder: Encoder, tmp_path: Path) -> None:
    given = ["embed", "--text", "red mug", "--text", "jug", "--server", pair.address]

    told = json.loads(run(*given, "--json"))
    said = run(*given, "--npy", str(tmp_path / "out.npy"))

    assert told["texts"] == ["red mug", "jug"]
    close(np.array(told["embeddings"]), encoder.embed_texts(["red mug", "jug"]))
    close(np.load(tmp_path / "out.npy"), encoder.embed_texts(["red mug", "jug"]))
    assert "2 texts embedded by tiny-search@1, 8 numbers each" in said


def test_the_command_shows_each_text_with_the_beginning_of_its_vector(pair: Running) -> None:
    assert "red mug" in run("embed", "--text", "red mug", "--server", pair.address)


@pytest.mark.parametrize("photographed", [False, True])
def test_the_command_searches_by_words(
    pair: Running, reader: VitrineClient, tmp_path: Path, photographed: bool
) -> None:
    (tmp_path / "9.jpg").write_bytes(photo(9))
    file = [str(tmp_path / "9.jpg")] if photographed else []

    told = json.loads(run("search", *file, "--text", "red mug", "--server", pair.address, "-k", "3", "--json"))

    expected = reader.search(photo(9) if photographed else None, text="red mug", k=3).hits
    assert [hit["item_id"] for hit in told["hits"]] == [hit.item_id for hit in expected]


@pytest.mark.parametrize("words", [["embed"], ["embed", "mug.jpg", "--text", "mug"]], ids=["nothing", "both"])
def test_the_command_embeds_photos_or_texts(words: list[str]) -> None:
    with pytest.raises(BadInput, match="give either photos or --text; a search takes both"):
        run(*words)
