"""What `/metrics` says after real calls."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from services import metrics
from tests.factories import photo
from tests.services.conftest import Running
from tests.services.test_load import until
from vitrine.client import VitrineClient
from vitrine.errors import NotFound

VERSION = "tiny-search@1"
SEARCH = "/vitrine.v1.Search/Search"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("stage", ["decode", "wait", "engine", "index", "encode"])
def test_each_stage_of_a_search_is_counted_once(client: VitrineClient, stage: str) -> None:
    before = value("vitrine_stage_seconds_count", version=VERSION, stage=stage)

    client.search(photo(1))

    assert value("vitrine_stage_seconds_count", version=VERSION, stage=stage) == before + 1


def test_the_sizes_of_batches_add_up_to_the_photos(client: VitrineClient) -> None:
    before = value("vitrine_batch_size_sum", version=VERSION, lane="images")

    client.embed([photo(n) for n in range(11)])

    assert value("vitrine_batch_size_sum", version=VERSION, lane="images") == before + 11


def test_calls_are_counted_by_what_they_were_told(client: VitrineClient) -> None:
    before = value("vitrine_grpc_requests_total", method=SEARCH, code="NOT_FOUND")

    with pytest.raises(NotFound):
        client.search(item_id="nothing")

    until(lambda: value("vitrine_grpc_requests_total", method=SEARCH, code="NOT_FOUND") == before + 1)


def test_nothing_is_in_flight_afterwards(client: VitrineClient) -> None:
    client.search(photo(1))

    until(lambda: value("vitrine_grpc_in_flight") == 0)


def test_the_version_that_answers_is_told(server: Running, client: VitrineClient) -> None:
    client.info()

    until(lambda: value("vitrine_serving", version=VERSION) == 1)


def test_a_sample_sets_every_gauge_and_forgets_the_version_before() -> None:
    told = iter([("shop@1", {"images": (3, 2)}), ("shop@2", {"images": (0, 0)})])
    sampler = metrics.Sampler(lambda: next(told))

    sampler.sample()
    first = (value("vitrine_places_taken", lane="images"), value("vitrine_queue_depth", lane="images"))
    sampler.sample()

    assert first == (3, 2)
    assert (value("vitrine_serving", version="shop@1"), value("vitrine_serving", version="shop@2")) == (0, 1)


def test_no_label_has_values_that_grow_with_requests(client: VitrineClient) -> None:
    def children() -> int:
        ours = [family for family in REGISTRY.collect() if family.name.startswith("vitrine_")]
        return sum(len(family.samples) for family in ours)

    client.search(photo(1))
    before = children()
    for number in range(20):
        client.search(photo(number), k=number + 1)
        client.embed([photo(number)])

    assert children() - before <= 40  # Embed's own series, once
