"""`vitrine items`: the catalogue changed from the command line, through a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.factories import photo
from tests.living import Shop, make_shop
from tests.services.conftest import Running, running
from tests.services.test_catalogue import go_live
from vitrine.cli.items import app, read_items
from vitrine.client import VitrineClient
from vitrine.errors import BadInput, NotFound


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = make_shop(tmp_path)
    go_live(shop)
    return shop


@pytest.fixture
def server(shop: Shop) -> Iterator[Running]:
    with running(shop.home) as server:
        yield server


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """40 items of a photo each, in a file beside the photos."""
    (tmp_path / "photos").mkdir()
    records = []
    for number in range(40):
        (tmp_path / f"photos/{number}.jpg").write_bytes(photo(5000 + number))
        records.append(
            {"id": f"new-{number}", "images": [f"photos/{number}.jpg"], "price": number, "category": ["home"]}
        )
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    return tmp_path / "items.jsonl"


def run(*words: object) -> str:
    answer = CliRunner().invoke(app, [str(word) for word in words])
    if answer.exception is not None:
        raise answer.exception
    return answer.stdout


def test_items_are_added_in_batches_found_and_taken_out(server: Running, lines: Path) -> None:
    said = run("upsert", lines, "--server", server.address)
    again = json.loads(run("upsert", lines, "--server", server.address, "--json"))
    with VitrineClient(server.address) as client:
        hit = client.search(photo(5039), k=1).hits[0]
    gone = json.loads(run("delete", "new-39", "never", "--server", server.address, "--json"))

    assert said.startswith("shop: 40 added; change ")
    assert again["counts"] == {"unchanged": 40}
    assert (hit.item_id, hit.payload["price"], hit.payload["category"]) == ("new-39", 39, ["home"])
    assert gone["outcomes"] == [{"id": "new-39", "outcome": "deleted"}, {"id": "never", "outcome": "absent"}]


def test_what_the_server_refuses_is_said_of_the_item(server: Running, lines: Path) -> None:
    (lines.parent / "photos/35.jpg").write_bytes(b"no photo")
    with pytest.raises(BadInput, match=r"item 'new-35': items\[3\]\.item\.images\[0\].* cannot be read"):
        run("upsert", lines, "--server", server.address)


def test_another_catalogue_is_refused(server: Running, lines: Path) -> None:
    with pytest.raises(NotFound, match="this server searches the catalogue 'shop', not 'other'"):
        run("upsert", lines, "--server", server.address, "--catalogue", "other")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "items.jsonl line 2 is no JSON"),
        ("[1]", 'items.jsonl line 2 must be an object with an "id"'),
        ('{"id": 3}', 'items.jsonl line 2 must be an object with an "id"'),
        ('{"id": "a", "colour": "red"}', "items.jsonl line 2: 'colour' is no field; there are: attributes, brand"),
        ('{"id": "a", "price": "cheap"}', "items.jsonl line 2: price is 'cheap', it must be a number"),
        ('{"id": "a", "images": "a.jpg"}', "items.jsonl line 2: images is 'a.jpg', it must be a list of texts"),
        ('{"id": "a", "category": [1]}', "items.jsonl line 2: category must hold texts alone"),
        ('{"id": "first"}', "items.jsonl has the id 'first' twice"),
    ],
)
def test_a_line_that_is_no_item_is_named_before_anything_is_sent(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "items.jsonl").write_text(f'{{"id": "first"}}\n{line}\n')
    with pytest.raises(BadInput) as refused:
        read_items(tmp_path / "items.jsonl")

    assert said in str(refused.value)


def test_a_photo_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"id": "a", "images": ["gone.jpg"]}')
    with pytest.raises(NotFound, match=r"items\.jsonl line 1: there is no photo at .*gone\.jpg"):
        read_items(tmp_path / "items.jsonl")


def test_a_file_without_items_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("\n\n")
    with pytest.raises(BadInput, match="holds no item"):
        read_items(tmp_path / "items.jsonl")
