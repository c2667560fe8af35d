"""The search page in a real browser, against a real server with a living catalogue."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.batching import BatchLimits
from services.page import _read
from tests.catalogue import tiny_dataset
from tests.factories import photo, tiny_bundle
from tests.living import Shop, listing, open_shop
from tests.services.conftest import Running, promote, running
from tests.services.test_catalogue import go_live
from tests.services.test_load import Held, one_photo, places, until
from tests.services.web import listening
from vitrine.client import SearchResult, VitrineClient
from vitrine.home import Home
from vitrine.images import MAX_BYTES
from vitrine.ports import Condition

SHOWN = 24


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


def priced_shop(root: Path, **bundle: Any) -> Shop:
    """Photos without a price, and four priced and branded listings that a client added."""
    tiny_dataset(root / "data" / "shop", products=True)
    tiny_bundle(root / "bundle", dim=8, seed=1, **bundle)
    shop = open_shop(root)
    items, photos = zip(
        *(
            listing(f"new/{n}", 9000 + n, title=f"listing {n}", price=5.0 * n, brand=["Arc", "Bow"][n % 2])
            for n in range(4)
        ),
        strict=True,
    )
    shop.catalogue.upsert(items, {name: data for one in photos for name, data in one.items()})
    go_live(shop)
    return shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return priced_shop(tmp_path_factory.mktemp("page"), texts=True, labels=["jug", "mug", "pan"])


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Running]:
    with running(shop.home) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[VitrineClient]:
    with VitrineClient(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def port(server: Running) -> Iterator[int]:
    with listening(server) as port:
        yield port


@contextmanager
def opened(browser: Any, port: int, *, expected: tuple[str, ...] = (), **options: Any) -> Iterator[Any]:
    """The page; at its end the console must hold no error but `expected` ones, and nobody else was asked."""
    context = browser.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    strangers: list[str] = []
    own = (f"http://127.0.0.1:{port}/", "data:", "blob:")
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: strangers.append(request.url) if not request.url.startswith(own) else None)
    page.goto(f"http://127.0.0.1:{port}/")
    try:
        yield page
        assert strangers == []
        assert [error for error in errors if not any(known in error for known in expected)] == []
    finally:
        context.close()


@pytest.fixture
def page(browser: Any, port: int) -> Iterator[Any]:
    with opened(browser, port) as page:
        settled(page, "document.getElementById('who').textContent.startsWith('Answered by')")
        page.wait_for_selector("#fields fieldset", state="attached")
        yield page


def settled(page: Any, true: str, arg: Any = None) -> None:
    """Wait until an expression of the page holds. Playwright's own waiting is an `eval`, which the page forbids."""
    until(lambda: bool(page.evaluate(true, arg)))


def said(page: Any, caption: str) -> list[str]:
    """The items shown once the page answers what `caption` says."""
    settled(
        page,
        "c => document.getElementById('labels').textContent === c && / ms by /.test(document.getElementById('status').textContent)",
        arg=caption,
    )
    return shown(page)


def shown(page: Any) -> list[str]:
    return [card.get_attribute("data-item") for card in page.locator("#hits button.card").all()]


def changed(page: Any, act: Callable[[], None]) -> list[str]:
    """The items after an action that asks the server again."""
    with page.expect_response(lambda answer: "/v1/search" in answer.url):
        act()
    settled(page, "!document.getElementById('hits').hasAttribute('aria-busy')")
    return shown(page)


def ids(found: SearchResult) -> list[str]:
    return [hit.item_id for hit in found.hits]


def choose(page: Any, data: bytes, name: str = "query.jpg") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/jpeg", "buffer": data})


def test_a_photo_finds_what_the_client_finds_with_pictures_and_a_guess(page: Any, client: VitrineClient) -> None:
    choose(page, photo(9001))
    found = said(page, "Your photo")
    page.wait_for_selector("#guess .guess")
    settled(page, "document.querySelector('#hits img').naturalWidth > 0")

    assert found == ids(client.search(photo(9001), k=SHOWN))
    best = client.classify([photo(9001)], top_k=1).items[0].labels[0]
    assert page.locator(".guess").first.inner_text() == f"{best[0]} {100 * best[1]:.0f} %"
    assert "listing 1" in page.locator(".card").first.inner_text()
    assert page.locator("#query").is_visible()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_can_be_dropped_and_pasted(page: Any, client: VitrineClient, way: str) -> None:
    page.evaluate(
        """([way, data]) => {
            const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0)), held = new DataTransfer();
            held.items.add(new File([bytes], "held.jpg", {type: "image/jpeg"}));
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(way === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: held})
                : new ClipboardEvent("paste", {...options, clipboardData: held}));
        }""",
        [way, base64.b64encode(photo(9002)).decode()],
    )

    assert said(page, "Your photo") == ids(client.search(photo(9002), k=SHOWN))


def test_words_find_what_the_client_finds_with_and_without_the_photo(page: Any, client: VitrineClient) -> None:
    page.fill("#text", "red mug")
    page.press("#text", "Enter")
    by_words = said(page, "“red mug”")
    choose(page, photo(9))
    said(page, "Your photo")
    page.fill("#text", "blue jug")
    page.click("#words button")
    by_both = said(page, "“blue jug” and the photo")

    assert by_words == ids(client.search(text="red mug", k=SHOWN))
    assert by_both == ids(client.search(photo(9), text="blue jug", k=SHOWN))


def test_an_item_finds_what_looks_like_it_and_back_leads_back(page: Any, client: VitrineClient) -> None:
    choose(page, photo(9001))
    before = said(page, "Your photo")
    page.click("[data-item='new/1']")
    like = said(page, "Similar to listing 1")
    page.go_back()

    assert like == ids(client.search(item_id="new/1", k=SHOWN))
    assert said(page, "Your photo") == before


def test_filters_hold_for_the_search_and_can_be_cleared(page: Any, client: VitrineClient) -> None:
    choose(page, photo(9001))
    said(page, "Your photo")
    branded = changed(page, lambda: page.check("[data-field=brand][data-value=Bow]"))
    dear = changed(page, lambda: page.locator("[data-field=price][data-end=low]").press_sequentially("99\n"))
    page.wait_for_selector("#unfilter")
    told = page.locator("#none").inner_text()
    cleared = changed(page, lambda: page.click("#unfilter"))

    assert branded == ids(client.search(photo(9001), k=SHOWN, where=(Condition("brand", ("Bow",)),)))
    assert (dear, "No item passes the filters." in told) == ([], True)
    assert cleared == ids(client.search(photo(9001), k=SHOWN))


def test_of_each_product_only_the_best_is_shown(page: Any, client: VitrineClient) -> None:
    choose(page, photo(9001))
    every = said(page, "Your photo")
    best = changed(page, lambda: page.check("#product"))

    everything = client.search(photo(9001), k=1000).hits
    firsts = {hit.payload.get("product_id", hit.item_id): hit.item_id for hit in reversed(everything)}
    assert best == [hit.item_id for hit in everything if hit.item_id in firsts.values()][:SHOWN]
    assert best != every


def test_the_page_works_by_keys_alone(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("red mug")
    page.keyboard.press("Enter")
    found = said(page, "“red mug”")
    page.locator("#hits button.card").first.focus()
    columns = page.evaluate(
        "(c => c.filter(o => o.offsetTop === c[0].offsetTop).length)([...document.querySelectorAll('.card')])"
    )
    walked = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp", "End", "Home"):
        page.keyboard.press(key)
        walked.append(found.index(page.evaluate("document.activeElement.dataset.item")))
    page.keyboard.press("Enter")
    settled(page, "document.getElementById('labels').textContent.startsWith('Similar to')")
    page.keyboard.press("Escape")

    assert walked == [1, 1 + columns, columns, 0, 0, len(found) - 1, 0]
    assert (shown(page), page.locator("#labels").inner_text(), page.input_value("#text")) == ([], "", "")


def test_what_is_found_is_told_to_screen_readers(page: Any) -> None:
    choose(page, photo(9001))
    found = said(page, "Your photo")

    assert page.get_by_role("status").inner_text().startswith(f"{len(found)} items in ")
    names = [button.get_attribute("aria-label") for button in page.locator("#hits button.card").all()]
    assert names[0] == "listing 1, similarity 1.00: find what looks like it"


def test_what_is_no_image_is_said(browser: Any, port: int) -> None:
    with opened(browser, port, expected=("400",)) as page:
        choose(page, b"no image at all")
        page.wait_for_selector("#error span")

        assert "cannot be read" in page.get_by_role("alert").inner_text()
        assert shown(page) == []


def test_a_photo_that_is_too_large_is_not_even_sent(page: Any) -> None:
    page.evaluate(
        """size => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(size)], "held.jpg", {type: "image/jpeg"}));
            document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: held}));
        }""",
        MAX_BYTES + 1_000_000,
    )

    assert page.get_by_role("alert").inner_text() == (
        "The photo has 21.0 MB, at most 20 MB are allowed. Choose a smaller one."
    )


def test_the_page_knows_the_limit_of_the_server() -> None:
    assert f"const MAX_BYTES = {MAX_BYTES};" in _read()[0]


def test_an_item_without_a_picture_has_a_placeholder(browser: Any, tmp_path: Path) -> None:
    shop = priced_shop(tmp_path)
    for image in (tmp_path / "data/shop/images").iterdir():
        image.unlink()
    with (
        running(shop.home) as server,
        listening(server) as port,
        opened(browser, port, expected=("404", "500")) as page,
    ):
        choose(page, photo(9001))
        said(page, "Your photo")
        last = page.locator("#hits .photo").last
        last.scroll_into_view_if_needed()
        settled(page, "!document.querySelector('#hits li:last-child img')")

        assert last.locator("svg").is_visible()


def test_a_full_server_is_said_and_asked_again_on_request(
    home: Home, promoted: Callable[..., int], browser: Any
) -> None:
    promoted(seed=1)
    with (
        running(home, BatchLimits(1, 1, 1)) as server,
        listening(server) as port,
        opened(browser, port, expected=("429",)) as page,
    ):
        held = Held(server)
        busy = server.do(_begin(server))
        until(lambda: places(server) == 1)
        choose(page, photo(1))
        page.wait_for_selector("#error button")
        told = page.get_by_role("alert").inner_text()
        held.release()
        server.do(_end(busy))
        page.click("#error button")

        assert "The server has too much to do just now. Try again in 1 s." in told
        assert said(page, "Your photo")[0] == "item-1"


async def _begin(server: Running) -> Any:
    return asyncio.get_running_loop().create_task(server.server.embedding.Embed(one_photo(5)))


async def _end(task: Any) -> None:
    await task


def test_a_server_that_is_not_ready_is_waited_for(home: Home, tmp_path: Path, browser: Any) -> None:
    with running(home) as server, listening(server) as port, opened(browser, port, expected=("503",)) as page:
        page.wait_for_selector("#error span")
        told = page.get_by_role("alert").inner_text()
        promote(home, tmp_path, seed=1)
        settled(page, "document.getElementById('who').textContent.startsWith('Answered by tiny-search@1')")
        settled(page, "!document.getElementById('error').textContent")

        assert told.startswith("The server is not ready: nothing is served yet")


def test_a_version_without_text_offers_no_words(home: Home, promoted: Callable[..., int], browser: Any) -> None:
    promoted(seed=1)
    with running(home) as server, listening(server) as port, opened(browser, port) as page:
        settled(page, "document.getElementById('who').textContent.startsWith('Answered by')")
        assert page.locator("#words").is_hidden()
        assert page.locator("#drop").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser: Any, port: int, width: int, scheme: str) -> None:
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(browser, port, **options) as page:
        page.wait_for_selector("#words")
        choose(page, photo(9001))
        said(page, "Your photo")

        assert page.evaluate("document.documentElement.scrollWidth") == width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 20)"
        assert dark == (scheme == "dark")
