from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from services.http import Api
from services.shadow import Shadowing
from tests.factories import photo
from tests.services.conftest import ITEMS, MODEL, Running
from vitrine.client import VitrineClient
from vitrine.images import MAX_BYTES
from vitrine.ports import Condition, Filter


class Bridge:
    """A servicer of the server's own event loop, called from the test client's."""

    def __init__(self, server: Running, servicer: object) -> None:
        self._server, self._servicer = server, servicer

    def __getattr__(self, name: str) -> object:
        async def call(request: object) -> object:
            return self._server.do(getattr(self._servicer, name)(request))

        return call


@pytest.fixture(scope="module")
def http(server: Running) -> TestClient:
    api = Api()
    api.embedding = Bridge(server, server.server.embedding)  # type: ignore[assignment]
    api.searching = Bridge(server, server.server.searching)  # type: ignore[assignment]
    return TestClient(api.app())


def test_the_page_is_there(http: TestClient) -> None:
    assert "Search by photo" in http.get("/").text


def test_info_names_the_version(http: TestClient) -> None:
    told = http.get("/v1/info").json()

    assert (told["version"]["model"], told["version"]["version"], told["items"]) == (MODEL, 1, ITEMS)


def test_http_and_grpc_give_the_same_vector(http: TestClient, client: VitrineClient) -> None:
    told = http.post("/v1/embed", content=photo(5)).json()

    np.testing.assert_allclose(told["embedding"], client.embed([photo(5)]).vectors[0], atol=1e-6)


def test_http_and_grpc_find_the_same_items(http: TestClient, client: VitrineClient) -> None:
    by_photo = http.post("/v1/search?k=3", content=photo(5)).json()
    by_id = http.post("/v1/search?k=3", json={"item_id": "item-5"}).json()

    assert [hit["item_id"] for hit in by_photo["hits"]] == [hit.item_id for hit in client.search(photo(5), k=3).hits]
    assert [hit["item_id"] for hit in by_id["hits"]] == [
        hit.item_id for hit in client.search(item_id="item-5", k=3).hits
    ]


def test_classify_gives_labels(http: TestClient) -> None:
    told = http.post("/v1/classify?top_k=2", content=photo(5)).json()

    assert [set(label) for label in told["labels"]] == [{"label", "probability"}] * 2


@pytest.mark.parametrize(
    ("path", "body", "code", "said"),
    [
        ("/v1/embed", b"", 400, "empty"),
        ("/v1/embed", b"no image", 400, "cannot be read"),
        ("/v1/embed", bytes(MAX_BYTES + 1), 400, "larger than"),
        ("/v1/search?k=many", b"", 400, "k is 'many'"),
        ("/v1/search?k=5000", photo(1), 400, "limit is 5000, at most 1000"),
    ],
)
def test_a_bad_request_is_explained(http: TestClient, path: str, body: bytes, code: int, said: str) -> None:
    answer = http.post(path, content=body)

    assert answer.status_code == code
    assert said in answer.json()["message"]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ([{"field": "label", "any_of": ["jug"]}], (Condition("label", ("jug",)),)),
        ([{"field": "price", "low": 2, "high": 4}], (Condition("price", low=2, high=4),)),
        ([{"field": "label", "any_of": ["mug"]}, {"field": "price", "low": 1}], (Condition("label", ("mug",)), Condition("price", low=1))),
    ],
)  # fmt: skip
def test_http_and_grpc_filter_alike(http: TestClient, client: VitrineClient, where: object, wanted: Filter) -> None:
    told = http.post("/v1/search", json={"item_id": "item-5", "filter": where}).json()

    expected = [hit.item_id for hit in client.search(item_id="item-5", where=wanted).hits]
    assert [hit["item_id"] for hit in told["hits"]] == expected
    assert expected


def test_over_http_too_only_the_best_of_each_product_is_wanted(http: TestClient) -> None:
    told = http.post("/v1/search?by_product=true", content=photo(5)).json()

    assert sorted(hit["product_id"] for hit in told["hits"]) == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    ("where", "field", "said"),
    [
        ("label=mug", "filter", 'filter must be a list such as [{"field": "label", "any_of": ["mug"]}]'),
        ([3], "filter[0]", "filter[0] must be"),
        ([{"field": "label", "any_of": "mug"}], "filter[0]", "filter[0] must be"),
        ([{"field": "label", "any_of": ["mug"]}, {"feild": "price"}], "filter[1]", 'no field named "feild"'),
        ([{"field": "price", "low": "cheap"}], "filter[0]", "filter[0] must be"),
        ([{"field": "label"}], "filter[0]", "needs a field and either any_of or low/high"),
        ([{"field": "colour", "any_of": ["red"]}], "colour", "no item has a field 'colour'"),
    ],
)
def test_a_filter_that_is_none_is_explained(http: TestClient, where: object, field: str, said: str) -> None:
    answer = http.post("/v1/search", json={"item_id": "item-1", "filter": where})

    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert said in answer.json()["message"]


def test_a_filter_alone_is_no_search(http: TestClient) -> None:
    answer = http.post("/v1/search", json={"filter": [{"field": "label", "any_of": ["mug"]}]})

    assert answer.status_code == 400
    assert "the search has no query" in answer.json()["message"]


def test_a_flag_is_true_or_false(http: TestClient) -> None:
    answer = http.post("/v1/search?exact=maybe", content=photo(1))

    assert (answer.status_code, answer.json()["message"]) == (400, "exact is 'maybe', it must be true or false")


def test_an_unknown_item_is_404(http: TestClient) -> None:
    assert http.post("/v1/search", json={"item_id": "item-99"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"id": 3}, "id", "id is no field here; the body holds title, images, or both"),
        ({}, "body", "the JSON body must be"),
        ([1], "body", "the JSON body must be"),
        ({"item_id": 3}, "item_id", "item_id is 3, it must be text"),
        ({"item_id": ""}, "item_id", "item_id names one item of the catalogue, and stands alone but for a filter"),
        ({"item_id": "item-1", "title": "mug"}, "item_id", "and stands alone"),
        ({"title": ["mug"]}, "title", "it must be text"),
        ({"title": "\ud800"}, "title", "it must be text"),
        ({"images": "abc"}, "images", "images must be a list of base64 texts"),
        ({"images": ["a?"]}, "images", "an image is no base64"),
        ({"images": [7]}, "images", "an image is no base64"),
        ({"title": "mug"}, "item.title", "tiny-search@1 cannot use title, it uses: image"),
    ],
)
def test_json_that_is_no_query_is_explained(http: TestClient, body: object, field: str, said: str) -> None:
    answer = http.post("/v1/search", content=json.dumps(body), headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert said in answer.json()["message"]


def test_json_that_is_none_is_explained(http: TestClient) -> None:
    answer = http.post("/v1/embed", content=b"{", headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["field"]) == (400, "body")


def test_images_in_json_are_the_photo_as_the_raw_body(http: TestClient) -> None:
    raw = http.post("/v1/embed", content=photo(5)).json()

    assert http.post("/v1/embed", json={"images": [base64.b64encode(photo(5)).decode()]}).json() == raw


def test_a_server_that_tries_no_candidate_says_how_to_begin(server: Running) -> None:
    async def make() -> Shadowing:
        return Shadowing(server.live, lambda wanted: pytest.fail(f"nothing is wanted, not {wanted}"))

    api = Api()
    api.shadow = server.do(make())
    told = TestClient(api.app()).get("/v1/shadow").json()

    assert told == {"running": False, "waiting_for": "no candidate is tried; begin: vitrine shadow start NAME@N"}


def test_a_server_without_a_registry_tries_no_candidate() -> None:
    answer = TestClient(Api().app()).get("/v1/shadow")

    assert answer.status_code == 409
    assert "this server follows no registry, so it tries no candidate" in answer.text
