"""The commands that ask a server, over a real socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.config import Settings
from tests.factories import photo
from tests.services.conftest import Running
from tests.services.test_tls import Secured, certify, needs_openssl
from vitrine.cli import call
from vitrine.cli.call import app, parse_filter
from vitrine.client import Version
from vitrine.errors import BadInput, Conflict, NotFound
from vitrine.ports import Condition


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(photo(number))
    return [str(tmp_path / f"{number}.jpg") for number in range(3)]


def run(*words: str) -> str:
    answer = CliRunner().invoke(app, list(words))
    if answer.exception is not None:
        raise answer.exception
    return answer.stdout


def test_large_photos_travel_in_messages_that_fit(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(40)]
    for path in files:
        with path.open("wb") as stream:
            stream.truncate(19_000_000 if path.stem in {"0", "1", "2"} else 10)

    assert [len(chunk) for chunk in call._chunks(files)] == [2, 32, 6]


def test_answers_of_two_versions_are_not_mixed() -> None:
    one, two = (Version("shop", number, "d" * 64, ("image",), 8, 0) for number in (1, 2))

    assert call._one_version([one, one]) == one
    with pytest.raises(Conflict, match="went from shop@1 to shop@2 meanwhile"):
        call._one_version([one, two])


def test_classify_gives_labels_per_file(server: Running, photos: list[str]) -> None:
    told = json.loads(run("classify", *photos, "--server", server.address, "-k", "2", "--json"))

    assert [len(item["labels"]) for item in told["items"]] == [2, 2, 2]


def test_search_finds_the_photo_and_filters(server: Running, photos: list[str]) -> None:
    first = json.loads(run("search", photos[1], "--server", server.address, "--json"))
    cheap = json.loads(run("search", photos[1], "--server", server.address, "--filter", "price=..2", "--json"))

    assert first["hits"][0]["item_id"] == "item-1"
    assert {hit["item_id"] for hit in cheap["hits"]} == {"item-0", "item-1", "item-2"}
    assert "item-1" in run("search", photos[1], "--server", server.address)


def test_search_gives_the_best_item_of_each_product(server: Running, photos: list[str]) -> None:
    found = json.loads(run("search", photos[1], "--server", server.address, "--by-product", "--json"))

    assert sorted(hit["payload"]["product_id"] for hit in found["hits"]) == ["p0", "p1", "p2"]


@needs_openssl
def test_certificates_are_taken_from_the_environment(
    server: Running, photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = certify(tmp_path, "server"), certify(tmp_path, "client")
    settings = Settings(tls_cert=str(ours.chain), tls_key=str(ours.key), tls_client_ca=str(theirs.chain))
    for name, path in (("CA", ours.chain), ("CERT", theirs.chain), ("KEY", theirs.key)):
        monkeypatch.setenv(f"VITRINE_{name}", str(path))
    with Secured(server, settings) as address:
        assert "item-1" in run("search", photos[1], "--server", address)


def test_a_missing_photo_is_named(server: Running, photos: list[str]) -> None:
    with pytest.raises(NotFound, match=r"there is no photo at nowhere\.jpg"):
        run("classify", photos[0], "nowhere.jpg", "--server", server.address)


def test_search_needs_a_photo_or_an_id(photos: list[str]) -> None:
    with pytest.raises(BadInput, match="give a photo, --text TEXT or both, or else --item-id ID"):
        run("search", photos[0], "--item-id", "item-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label=mug", Condition("label", ("mug",))),
        ("label=mug,jug", Condition("label", ("mug", "jug"))),
        ("price=10..50", Condition("price", low=10.0, high=50.0)),
        ("price=..50", Condition("price", high=50.0)),
    ],
)
def test_filters_are_read(text: str, expected: Condition) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize("text", ["label", "=mug", "price=..", "price=a..b"])
def test_a_filter_that_is_none_is_explained(text: str) -> None:
    with pytest.raises(BadInput, match=r"--filter .*(field=value|price=10)"):
        parse_filter(text)
