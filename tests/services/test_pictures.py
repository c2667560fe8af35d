"""Pictures of items and facets of a collection, over HTTP at a real server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from services.facets import MOST_VALUES, fields
from services.http import Api
from services.pictures import Pictures
from tests.factories import photo
from tests.living import Shop, listing, make_shop
from tests.services.conftest import ITEMS, Running, running
from tests.services.test_catalogue import go_live
from tests.services.test_load import until
from tests.services.web import listening
from vitrine.errors import NotFound
from vitrine.home import Home


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = make_shop(tmp_path)
    item, photos = listing("new/1", 7)
    shop.catalogue.upsert([item], photos)
    go_live(shop)
    return shop


@pytest.fixture
def server(shop: Shop) -> Iterator[Running]:
    with running(shop.home) as server:
        yield server


@pytest.fixture
def web(server: Running) -> Iterator[httpx.Client]:
    with listening(server) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as web:
        yield web


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB").resize((32, 32)), np.float32)


@pytest.mark.parametrize(("item_id", "seed"), [("mug-train-0", 1500), ("new/1", 7), ("new%2F1", 7)])
def test_an_items_picture_is_its_photo_made_small(web: httpx.Client, item_id: str, seed: int) -> None:
    answer = web.get(f"/v1/items/{item_id}/photo")

    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (320, 320)
    assert np.abs(pixels(answer.content) - pixels(photo(seed))).mean() < 6


def test_a_picture_that_the_browser_has_is_not_sent_again(web: httpx.Client) -> None:
    first = web.get("/v1/items/new/1/photo")
    again = web.get("/v1/items/new/1/photo", headers={"if-none-match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")


def test_an_item_that_changed_has_its_new_picture(shop: Shop, web: httpx.Client) -> None:
    before = web.get("/v1/items/new/1/photo").headers["etag"]
    item, photos = listing("new/1", 8)
    shop.catalogue.upsert([item], photos)
    after = web.get("/v1/items/new/1/photo", headers={"if-none-match": before})

    assert after.status_code == 200
    assert np.abs(pixels(after.content) - pixels(photo(8))).mean() < 6


def test_an_item_that_is_not_there_has_no_picture(shop: Shop, web: httpx.Client) -> None:
    shop.catalogue.delete(["new/1"])
    answer = web.get("/v1/items/new/1/photo")

    assert (answer.status_code, answer.json()["message"]) == (404, "the catalogue shop has no photo of an item 'new/1'")


def test_pictures_are_kept_up_to_a_bound_the_last_used_ones(server: Running, shop: Shop) -> None:
    read: list[str] = []
    catalogue = server.keeper.catalogue(server.live.snapshot)  # type: ignore[arg-type]
    kept, catalogue.photo = catalogue.photo, lambda name: read.append(name) or kept(name)  # type: ignore[func-returns-value,method-assign]
    pictures = Pictures(server.live, server.keeper)
    names = ["jug-train-0", "jug-train-1", "jug-train-2"]
    sizes = [len(server.do(pictures.of(name)).jpeg) for name in names]
    pictures.close()
    read.clear()

    pictures = Pictures(server.live, server.keeper, kept_bytes=sum(sizes) - 1)  # one too few for all three
    found = [server.do(pictures.of(name)).name for name in (*names[:2], names[0], names[2], names[0], names[1])]
    pictures.close()

    assert read == [found[0], found[1], found[3], found[5]]


def test_a_server_without_a_registry_has_no_photos() -> None:
    answer = TestClient(Api().app()).get("/v1/items/mug/photo")

    assert answer.status_code == 409
    assert "this server follows no registry, so it has no photos" in answer.text


def test_a_collection_without_a_catalogue_has_no_photos(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server:
        pictures = Pictures(server.live, server.keeper)
        with pytest.raises(NotFound, match="there is no catalogue 'shop'"):
            server.do(pictures.of("item-1"))
        pictures.close()


def test_facets_are_those_of_the_live_collection(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, listening(server) as port:
        told = httpx.get(f"http://127.0.0.1:{port}/v1/facets").json()

    assert told == {
        "collection": "shop--tiny-search--1",
        "products": ITEMS // 2,
        "fields": [
            {
                "field": "label",
                "kind": "text",
                "values": [{"value": "jug", "count": 3}, {"value": "mug", "count": 3}],
                "distinct": 2,
            },
            {"field": "price", "kind": "number", "low": 0.0, "high": ITEMS - 1.0},
        ],
    }


def test_facets_follow_a_switch_to_another_collection(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    with running(home) as server, listening(server) as port:
        first = httpx.get(f"http://127.0.0.1:{port}/v1/facets").json()
        promoted(seed=2)
        until(lambda: server.live.snapshot.version == 2)  # type: ignore[union-attr]
        second = httpx.get(f"http://127.0.0.1:{port}/v1/facets").json()

    assert [told["collection"] for told in (first, second)] == ["shop--tiny-search--1", "shop--tiny-search--2"]


def test_a_list_field_counts_each_of_its_values() -> None:
    payloads = [{"category": ["home", "mug"]}, {"category": ["home"]}, {}]

    assert fields(payloads)[0]["values"] == [{"value": "home", "count": 2}, {"value": "mug", "count": 1}]


def test_of_very_many_values_the_most_frequent_are_told() -> None:
    payloads = [{"brand": f"brand-{n:04d}"} for n in range(1000)] + [{"brand": "brand-0999"}]
    told = fields(payloads)[0]

    assert (len(told["values"]), told["distinct"], told["values"][0]) == (
        MOST_VALUES,
        1000,
        {"value": "brand-0999", "count": 2},
    )
