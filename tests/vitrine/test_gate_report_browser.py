"""The page of a planned promotion in a real browser: it fits a phone and a desk, asks nobody, and shows its photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gate_shop import build_shop
from vitrine.gate_report import write_report

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"needs a browser at {CHROMIUM}")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("gate-shop")
    shop = build_shop(root)
    return write_report(shop.plan(2), root / "promotion.html", shop.registry, shop.home).as_uri()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_asks_nobody_and_reports_no_error(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_load_state("load")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_every_photo_can_be_shown(browser, address):
    page = browser.new_page()
    page.goto(address)
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 3 * 2 * 11  # three categories, two queries each, five hits of both versions
    assert min(widths) > 0
    page.close()


def test_an_interval_is_drawn_inside_its_picture(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(address)
    inside = page.evaluate(
        """[...document.querySelectorAll('svg.interval')].map(svg => { const box = svg.getBoundingClientRect();
        return [...svg.children].every(part => { const own = part.getBoundingClientRect();
          return own.left >= box.left - 1 && own.right <= box.right + 1; }); })"""
    )
    assert inside
    assert all(inside)
    page.close()
