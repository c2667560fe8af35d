"""The search page in a real browser."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from services.http import Api
from tests.factories import photo
from tests.services.conftest import ITEMS, Running, running
from tests.services.test_http import Bridge
from vitrine.client import VitrineClient
from vitrine.home import Home


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.is_file() else shutil.which("chromium") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("no Chromium here; install one: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def page_of(server: Running, browser: Any) -> Iterator[Any]:
    """The page, loaded from an HTTP server of its own."""
    api = Api()
    api.embedding = Bridge(server, server.server.embedding)  # type: ignore[assignment]
    api.searching = Bridge(server, server.server.searching)  # type: ignore[assignment]
    web = uvicorn.Server(uvicorn.Config(api.app(), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    try:
        while not web.started:
            time.sleep(0.01)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}/")
        page.wait_for_function("document.getElementById('who').textContent.startsWith('Answered by')")
        yield page
        page.close()
    finally:
        web.should_exit = True
        thread.join(10)


def hits(page: Any, caption: str) -> list[str]:
    """The items shown once the page says `caption`."""
    page.wait_for_function(
        "c => document.getElementById('labels').textContent === c && document.querySelectorAll('tbody tr').length",
        arg=caption,
    )
    return [str(cell) for cell in page.locator("tbody tr td:first-child").all_inner_texts()]


def test_words_find_what_the_client_finds_with_and_without_the_photo(
    home: Home, promoted: Callable[..., int], browser: Any, tmp_path: Path
) -> None:
    promoted(seed=1, texts=True)
    (tmp_path / "query.jpg").write_bytes(photo(9))
    with running(home) as server, VitrineClient(server.address) as client, page_of(server, browser) as page:
        page.fill("#text", "red mug")
        page.press("#text", "Enter")
        by_words = hits(page, "“red mug”")
        page.set_input_files("#file", str(tmp_path / "query.jpg"))
        page.fill("#text", "blue jug")
        page.click("#words button")
        by_both = hits(page, "“blue jug” and the photo")
        expected = [client.search(text="red mug", k=ITEMS), client.search(photo(9), text="blue jug", k=ITEMS)]

    assert [by_words, by_both] == [[hit.item_id for hit in found.hits] for found in expected]


def test_a_version_without_text_offers_no_words(home: Home, promoted: Callable[..., int], browser: Any) -> None:
    promoted(seed=1)
    with running(home) as server, page_of(server, browser) as page:
        assert page.locator("#words").is_hidden()
        assert page.locator("#drop").is_visible()
