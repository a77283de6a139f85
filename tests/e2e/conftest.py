"""Images to inspect, a browser, and pages in it that are watched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

NO_BROWSER = "no browser"
"""Why a test is skipped; the summary of the whole run looks for it, and says how to get one."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason=NO_BROWSER)
    if BROWSER is None:
        pytest.skip(NO_BROWSER)
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def open_page(browser: Any) -> Callable[..., Any]:
    """Opens a file in a page of its own; when that closes, nothing has gone wrong in it, and nothing left the file."""

    @contextmanager
    def opened(path: Path, width: int = 1280, theme: str = "light") -> Iterator[Any]:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        page, complaints, address = context.new_page(), [], path.as_uri()

        def asked(request: Any) -> None:
            if request.url != address and not request.url.startswith(("data:", "blob:")):
                complaints.append(f"request: {request.url}")

        page.on("request", asked)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.goto(address)
        yield page
        context.close()
        assert complaints == []

    return opened


@pytest.fixture
def check_cards() -> Callable[[Any], None]:
    """Checks that the words under each thumbnail stand within its card, and none over another."""

    def check(page: Any) -> None:
        boxes = page.evaluate(
            """() => [...document.querySelectorAll(".card")].map((card) => {
              const box = ({ left, right, top, bottom }) => [left, right, top, bottom];
              return [card, ...card.querySelector(".words").children].map((item) => box(item.getBoundingClientRect()));
            })"""
        )
        assert boxes
        for outer, *words in boxes:
            for at, (left, right, top, bottom) in enumerate(words):
                assert outer[0] <= left < right <= outer[1] + 0.5
                assert outer[2] <= top < bottom <= outer[3] + 0.5
                for other in words[at + 1 :]:
                    assert right <= other[0] + 0.5 or bottom <= other[2] + 0.5

    return check


@pytest.fixture
def images(run_folder: Path, tmp_path: Path) -> Path:
    """Good and bad pictures with the same names in two folders."""
    return Path(shutil.copytree(run_folder / "data" / "part" / "test", tmp_path / "images"))
