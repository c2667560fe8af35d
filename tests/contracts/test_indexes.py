"""What every index promises. Runs over exact search, Qdrant's local mode, and a server where QDRANT_URL is set."""

import os
import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrine import plugins
from vitrine.collection import Collection, write_collection
from vitrine.encoder import normalise
from vitrine.errors import BadInput, Conflict, NotFound, Overloaded, Unavailable
from vitrine.ports import Condition

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

SERVER = os.environ.get("QDRANT_URL", "")
KINDS = {
    "exact": ("exact", {}),
    "qdrant-local": ("qdrant", {"location": ":memory:"}),
} | ({"qdrant-server": ("qdrant", {"url": SERVER, "optimizers": {"indexing_threshold": 1}})} if SERVER else {})
COUNT, DIM = 120, 12


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.skipif(not SERVER, reason="QDRANT_URL names no server: the contract ran over exact search and local mode")
def test_the_contract_also_runs_over_a_server():
    assert "qdrant-server" in KINDS


@pytest.fixture
def collection(tmp_path):
    return make(tmp_path / "c")


@pytest.fixture
def index(kind, collection):
    module, options = plugin(kind)
    module.build(collection, options)
    opened = module.open(collection, options)
    yield opened
    opened.close()
    module.drop(collection, options)


def plugin(kind):
    key, options = KINDS[kind]
    return plugins.load("indexes", key), options


def make(folder, *, name=None, digest="d1", version=7, seed=0, count=COUNT) -> Collection:
    draw = np.random.default_rng(seed)
    payloads = [
        {"label": ["jug", "mug", "pan"][row % 3], "category": ["kitchen", ["a", "b"][row % 2]]}
        | ({"price": float(row)} if row % 5 else {})
        for row in range(count)
    ]
    return write_collection(
        folder,
        name=name or f"shop--m{secrets.token_hex(4)}--{version}",
        catalogue="shop",
        catalogue_digest="c",
        model="m",
        version=version,
        digest=digest,
        vectors=normalise(draw.normal(size=(count, DIM))),
        item_ids=[f"i{row:04d}" for row in range(count)],
        payloads=payloads,
    )


def queries(count, seed=1):
    return normalise(np.random.default_rng(seed).normal(size=(count, DIM)))


def slow_twin(collection, query, k, allowed=lambda _: True):
    scored = [
        (-float(np.dot(vector.astype(np.float64), query)), row)
        for row, vector in enumerate(collection.vectors)
        if allowed(collection.payloads[row])
    ]
    return [collection.item_ids[row] for _, row in sorted(scored)[:k]]


def found(hits):
    return [hit.item_id for hit in hits]


def test_answers_equal_a_loop_over_all_rows(index, collection):
    asked = queries(9)
    for query, hits in zip(asked, index.search(asked, 10, exact=True), strict=True):
        assert found(hits) == slow_twin(collection, query, 10)


def test_scores_are_cosines_and_fall(index, collection):
    query = queries(1)
    hits = index.search(query, 20)[0]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(
            float(collection.vectors[collection.row_of[hit.item_id]] @ query[0]), abs=1e-5
        )


def test_hits_carry_the_payload_and_nothing_else(index, collection):
    hit = index.search(queries(1), 1)[0][0]
    assert dict(hit.payload) == collection.payloads[collection.row_of[hit.item_id]]


def test_more_hits_than_rows_gives_every_row(index):
    assert len(index.search(queries(1), COUNT + 50)[0]) == COUNT


def test_no_query_gives_no_answer(index):
    assert index.search(np.zeros((0, DIM), np.float32), 3) == []


def test_values_of_text_fields_filter(index, collection):
    query = queries(1)
    where = (Condition("label", any_of=("jug", "pan")),)
    expected = slow_twin(collection, query[0], 15, lambda payload: payload["label"] in ("jug", "pan"))
    assert found(index.search(query, 15, where, exact=True)[0]) == expected


def test_a_list_field_passes_if_it_holds_one_of_the_values(index, collection):
    query = queries(1)
    expected = slow_twin(collection, query[0], 15, lambda payload: "b" in payload["category"])
    assert found(index.search(query, 15, (Condition("category", any_of=("b",)),), exact=True)[0]) == expected


def test_ranges_hold_both_ends_and_items_without_the_number_never_pass(index):
    hits = index.search(queries(1), COUNT, (Condition("price", low=11.0, high=16.0),))[0]
    assert sorted(hit.payload["price"] for hit in hits) == [11.0, 12.0, 13.0, 14.0, 16.0]


def test_all_conditions_must_hold(index):
    where = (Condition("label", any_of=("mug",)), Condition("price", high=20.0))
    hits = index.search(queries(1), COUNT, where)[0]
    assert sorted(hit.payload["price"] for hit in hits) == [1.0, 4.0, 7.0, 13.0, 16.0, 19.0]


def test_a_filter_that_nothing_passes_gives_an_empty_list(index):
    assert index.search(queries(2), 3, (Condition("label", any_of=("none",)),)) == [[], []]


def test_an_unknown_filter_field_lists_the_known_ones(index):
    with pytest.raises(BadInput, match=r"no item has a field 'colour'; filter on one of: category, label, price"):
        index.search(queries(1), 3, (Condition("colour", any_of=("red",)),))


def test_a_range_on_text_is_refused(index):
    with pytest.raises(BadInput, match="'label' holds text"):
        index.search(queries(1), 3, (Condition("label", low=1.0),))


def test_values_on_numbers_are_refused(index):
    with pytest.raises(BadInput, match="'price' holds numbers"):
        index.search(queries(1), 3, (Condition("price", any_of=("7",)),))


def test_an_empty_condition_is_refused(index):
    with pytest.raises(BadInput, match="either values or a range"):
        index.search(queries(1), 3, (Condition("price"),))


def test_a_vector_of_another_length_is_refused(index):
    with pytest.raises(BadInput, match=rf"shape \(1, 5\), this collection takes \(Q, {DIM}\)"):
        index.search(np.ones((1, 5), np.float32), 3)


def test_less_than_one_hit_is_refused(index):
    with pytest.raises(BadInput, match="ask for 1 or more"):
        index.search(queries(1), 0)


def test_stored_vectors_come_in_the_order_asked_for(index, collection):
    picked = index.vectors(["i0007", "i0003", "i0007"])
    np.testing.assert_array_equal(picked, collection.vectors[[7, 3, 7]])


def test_unknown_items_are_named(index):
    with pytest.raises(NotFound, match="holds no item nobody"):
        index.vectors(["i0003", "nobody"])


def test_it_counts_its_rows(index):
    assert index.count() == COUNT


def test_threads_get_the_same_answers(index):
    asked = queries(16)
    alone = [found(hits) for hits in index.search(asked, 5, exact=True)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: found(index.search(asked[row : row + 1], 5, exact=True)[0]), range(16)))
    assert together == alone


def test_building_again_changes_nothing(kind, index, collection):
    module, options = plugin(kind)
    module.build(collection, options)
    assert index.count() == COUNT


def test_dropping_twice_is_fine(kind, collection):
    module, options = plugin(kind)
    module.build(collection, options)
    module.drop(collection, options)
    module.drop(collection, options)

    collection.verify()  # raises Tampered if dropping an index had touched the collection's own files
    module.build(collection, options)
    again = module.open(collection, options)
    assert again.count() == COUNT
    again.close()


def test_equal_vectors_come_in_row_order(kind, tmp_path):
    module, options = plugin(kind)
    vectors = np.repeat(queries(4, seed=5), 6, axis=0)
    collection = write_collection(
        tmp_path / "twins", name=f"twins{secrets.token_hex(4)}--m--1", catalogue="twins", catalogue_digest="c", model="m",
        version=1, digest="d", vectors=vectors, item_ids=[f"i{row:02d}" for row in range(24)],
        payloads=[{"label": "x"}] * 24,
    )  # fmt: skip
    module.build(collection, options)
    opened = module.open(collection, options)
    answers = opened.search(queries(4, seed=5), 6, exact=True)
    assert [found(hits) for hits in answers] == [[f"i{row:02d}" for row in range(6 * n, 6 * n + 6)] for n in range(4)]
    module.drop(collection, options)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), low=st.floats(0, 120), label=st.sampled_from(["jug", "mug"]))
def test_filtered_answers_equal_the_loop(index, collection, seed, k, low, label):
    query = queries(1, seed=seed)
    where = (Condition("price", low=low), Condition("label", any_of=(label,)))
    expected = slow_twin(
        collection, query[0], k, lambda payload: payload.get("price", -1) >= low and payload["label"] == label
    )
    assert found(index.search(query, k, where, exact=True)[0]) == expected


def test_qdrant_refuses_a_collection_of_other_content(tmp_path):
    module, options = plugin("qdrant-local")
    mine, theirs = make(tmp_path / "a", name="same--m--1"), make(tmp_path / "b", name="same--m--1", digest="d2")
    module.build(theirs, options)
    with pytest.raises(Conflict, match="was embedded by version content d2"):
        module.open(mine, options)
    with pytest.raises(Conflict, match="delete that collection"):
        module.build(mine, options)
    module.drop(mine, options)


def test_qdrant_replaces_the_vectors_of_a_catalogue_embedded_anew(tmp_path):
    module, options = plugin("qdrant-local")
    before, after = make(tmp_path / "a", name="anew--m--1"), make(tmp_path / "b", name="anew--m--1", seed=9, count=50)
    module.build(before, options)
    with pytest.raises(Conflict, match="another embedding"):
        module.open(after, options)
    module.build(after, options)
    assert module.open(after, options).count() == 50
    module.drop(after, options)


def test_qdrant_finishes_an_upload_that_was_cut_off(tmp_path):
    module, options = plugin("qdrant-local")
    collection = make(tmp_path / "a")
    module.build(collection, options)
    client = module.connect(options)
    client.delete(collection.info.name, [3, 4, 5])
    with pytest.raises(NotFound, match=f"has {COUNT - 3} of {COUNT} items"):
        module.open(collection, options)
    module.build(collection, options)
    assert module.open(collection, options).count() == COUNT
    module.drop(collection, options)


def test_qdrant_calls_the_vector_after_the_version(tmp_path):
    module, options = plugin("qdrant-local")
    collection = make(tmp_path / "a", version=12)
    module.build(collection, options)
    assert list(module.connect(options).get_collection(collection.info.name).config.params.vectors) == ["v12"]
    module.drop(collection, options)


def test_what_was_never_built_is_not_found(tmp_path):
    module, options = plugin("qdrant-local")
    with pytest.raises(NotFound, match=r"vitrine promote .* --index qdrant"):
        module.open(make(tmp_path / "a"), options)


@pytest.mark.parametrize("grpc", [True, False])
def test_a_server_that_is_not_there_is_unavailable(tmp_path, grpc):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"url": f"http://127.0.0.1:{port}", "grpc_port": port, "prefer_grpc": grpc, "timeout_s": 1}
    with pytest.raises(Unavailable, match="check that the server runs and QDRANT_URL"):
        plugin("qdrant-local")[0].build(make(tmp_path / "a"), options)


@pytest.mark.parametrize("grpc", [True, False])
def test_a_server_that_never_answers_is_unavailable_in_time(tmp_path, grpc):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        options = {"url": f"http://127.0.0.1:{port}", "grpc_port": port, "prefer_grpc": grpc, "timeout_s": 1}
        began = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer as it should"):
            plugin("qdrant-local")[0].open(make(tmp_path / "a"), options)
        assert time.monotonic() - began < 5


@contextmanager
def answering(status, headers=()):
    """A server on the loopback that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"status": {"error": "not for you"}}'
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(body))), ("Content-Type", "application/json")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"url": f"http://127.0.0.1:{server.server_port}", "prefer_grpc": False, "timeout_s": 2}
        server.shutdown()


@pytest.mark.parametrize("status", [401, 500, 503])
def test_an_error_of_the_server_is_unavailable_with_its_words(tmp_path, status):
    with answering(status) as options, pytest.raises(Unavailable, match=f"{status}.*not for you"):
        plugin("qdrant-local")[0].open(make(tmp_path / "a"), options)


def test_a_server_that_asks_for_patience_is_overloaded(tmp_path):
    with answering(429, [("Retry-After", "7")]) as options, pytest.raises(Overloaded) as caught:
        plugin("qdrant-local")[0].open(make(tmp_path / "a"), options)
    assert caught.value.retry_after_s == 7


def test_qdrant_without_an_address_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="set QDRANT_URL"):
        plugin("qdrant-local")[0].build(make(tmp_path / "a"), {})
