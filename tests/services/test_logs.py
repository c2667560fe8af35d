"""What a log line may hold."""

from __future__ import annotations

import base64
import json
import logging

import numpy as np
import pytest

from services.logs import LONGEST, JsonLines, masked
from tests.factories import photo
from tests.services.test_load import until
from vitrine.client import VitrineClient
from vitrine.errors import BadInput, VitrineError


def line(message: str, **fields: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "vitrine.serving", "levelname": "INFO", "msg": message, **fields})
    told: dict[str, object] = json.loads(JsonLines().format(record))
    return told


def test_a_line_is_an_object_with_the_fields_given() -> None:
    told = line("serving", version="shop@2", items=3)

    assert (told["level"], told["message"], told["version"], told["items"]) == ("info", "serving", "shop@2", 3)


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://shop:hunter2@db:5432/vitrine",
        "cannot connect to postgresql://shop:hun@ter2@db/vitrine".replace("hun@ter2", "hunter2@x"),
        "GET http://qdrant:6333/?api_key=hunter2&limit=3",
        "api-key: hunter2",
        "{'qdrant_api_key': 'hunter2'}",
        "Authorization: Bearer hunter2hunter2",
        "AWS_SECRET_ACCESS_TOKEN=hunter2",
        "password = hunter2",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert "hunter2" not in masked(text)
    assert "***" in masked(text)


@pytest.mark.parametrize("text", ["embedded 12 tokens: done", "http://127.0.0.1:50051/v1", "a title: red mug @ home"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_a_field_that_is_called_a_secret_is_one() -> None:
    assert line("settings", settings={"api_key": "hunter2", "queue": 3})["settings"] == {"api_key": "***", "queue": 3}


def test_images_and_vectors_are_told_by_their_size() -> None:
    told = line("photo", data=b"\xff\xd8jpeg", vector=np.ones((2, 8), np.float32))

    assert (told["data"], told["vector"]) == ("<6 bytes>", "<ndarray (2, 8)>")


def test_a_long_text_is_cut() -> None:
    told = line("x" * (LONGEST + 5))

    assert told["message"] == "x" * LONGEST + f"… ({LONGEST + 5} characters)"


def test_a_failure_is_told_with_its_secrets_masked() -> None:
    try:
        raise RuntimeError("no answer from redis://u:hunter2@cache")  # noqa: TRY301
    except RuntimeError as error:
        told = line("failed", exc_info=(type(error), error, error.__traceback__))

    assert "RuntimeError: no answer from redis://u:***@cache" in str(told["error"])


def test_no_photo_and_no_title_is_in_the_log_of_a_request(
    client: VitrineClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("vitrine.serving")
    monkeypatch.setattr(logger.parent, "propagate", True)  # logs.configure, where it ran, keeps lines to itself
    data = photo(7)
    with caplog.at_level(logging.DEBUG, "vitrine.serving"):
        client.embed([data])
        with pytest.raises(BadInput):
            client.embed([data[:300]])
        with pytest.raises(VitrineError):
            client.search(text="a very private wish")
        until(lambda: sum(record.message == "call" for record in caplog.records) >= 3)

    lines = "\n".join(JsonLines().format(record) for record in caplog.records)
    piece = data[200:216]
    assert "private" not in lines
    assert not [form for form in (repr(piece)[2:-1], piece.hex(), base64.b64encode(piece).decode()) if form in lines]
