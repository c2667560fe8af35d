"""Search by product over a real socket: products are p0 (items 0, 1), p1 (2, 3), p2 (4, 5)."""

from __future__ import annotations

import grpc
import pytest

from tests.factories import photo
from tests.services.conftest import Running
from vitrine.v1 import common_pb2, search_pb2, search_pb2_grpc


def ask(server: Running, **fields: object) -> list[tuple[str, str]]:
    with grpc.insecure_channel(server.address) as channel:
        request = search_pb2.SearchRequest(**fields)
        answer = search_pb2_grpc.SearchStub(channel).Search(request, timeout=10)
    return [(hit.product_id, hit.item_id) for hit in answer.hits]


def item(number: int) -> common_pb2.Item:
    return common_pb2.Item(images=[common_pb2.Image(data=photo(number))])


def test_each_product_is_found_once_with_its_best_item(server: Running) -> None:
    everything = ask(server, item=item(3))
    best: dict[str, str] = {}
    for product, item_id in everything:
        best.setdefault(product, item_id)
    assert ask(server, item=item(3), by_product=True) == list(best.items())
    assert len(best) == 3


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_counts_products(server: Running, limit: int) -> None:
    found = ask(server, item=item(3), by_product=True, limit=limit)
    assert len({product for product, _ in found}) == len(found) == limit


def test_an_item_asked_for_by_id_finds_as_many_other_products(server: Running) -> None:
    found = ask(server, item_id="item-3", by_product=True, limit=2)
    assert len(found) == 2
    assert "item-3" not in {item_id for _, item_id in found}
