from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from services.status import HTTP_CODES, MESSAGE_BYTES, http_error, rpc_status
from vitrine import errors
from vitrine.client.leaves import told_leaf
from vitrine.errors import BadInput, Overloaded, VitrineError


def leaves() -> list[type[VitrineError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VitrineError)]
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", leaves())
def test_every_error_has_a_grpc_status_and_an_http_code(kind: type[VitrineError]) -> None:
    assert rpc_status(kind("why")).code == grpc.StatusCode[kind.grpc_status].value[0]
    assert 400 <= HTTP_CODES[kind.grpc_status] < 600


@pytest.mark.parametrize("kind", leaves())
def test_the_client_gets_back_the_leaf_that_the_server_raised(kind: type[VitrineError]) -> None:
    error = told_leaf(rpc_status(kind("why")))

    assert (type(error), str(error)) == (kind, "why")


def test_bad_input_names_the_field() -> None:
    told = rpc_status(BadInput("too long", field="items[2].title"))

    request = error_details_pb2.BadRequest()
    assert told.details[1].Unpack(request)
    assert request.field_violations[0].field == "items[2].title"
    assert http_error(BadInput("too long", field="k")).body == {
        "error": "BadInput",
        "message": "too long",
        "field": "k",
    }


def test_overload_says_when_to_try_again() -> None:
    back = told_leaf(rpc_status(Overloaded("full", retry_after_s=0.25)))

    assert isinstance(back, Overloaded)
    assert back.retry_after_s == 0.25
    assert http_error(Overloaded("full", retry_after_s=3.2)).headers == {"Retry-After": "3"}


def test_a_long_message_still_fits_into_the_trailers() -> None:
    told = rpc_status(BadInput("é" * 9000, field="items[0]." + "x" * 9000))

    assert told.message == "é" * (MESSAGE_BYTES // 2) + "…"
    assert len(told.SerializeToString()) < 3000
