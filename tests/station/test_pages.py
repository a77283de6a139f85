"""The pages in Chromium: from an empty workspace to inspections, reviews and learning, as a person would."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from station_help import picture, wait_for

from blemish.station.accounts import create_user
from blemish.station.app import create_app
from blemish.station.station import Settings
from blemish.station.workspace import Workspace, open_workspace

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = ("teach", "decide", "inspect", "review", "models", "line")


class Served:
    """A station served on a port of its own."""

    def __init__(self, workspace: Workspace):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        app = create_app(workspace, Settings(keep_free=0))
        config = uvicorn.Config(app, port=self.port, log_level="error", timeout_graceful_shutdown=1, ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started)
        self.url = f"http://127.0.0.1:{self.port}"

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no browser")
    if BROWSER is None:
        pytest.skip("no browser")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


def watched(browser: Any, url: str, complaints: list[str], **options: Any) -> Any:
    """A page that notes what goes wrong in it, and requests to other hosts."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en", **options).new_page()
    page.set_default_timeout(60_000)

    def asked(request: Any) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            complaints.append(f"request: {request.url}")

    page.on("request", asked)
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    return page


@pytest.fixture
def served(workspace: Workspace) -> Iterator[Served]:
    found = Served(workspace)
    yield found
    found.end()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 768, 1600])
def test_no_page_is_wider_than_the_window_nor_complains(browser, served, width):
    complaints: list[str] = []
    page = watched(browser, served.url, complaints)
    page.set_viewport_size({"width": width, "height": 900})
    for language in ("en", "de"):
        for name in ["/", "/admin", *(f"/products/1/{tab}" for tab in PAGES)]:
            page.goto(f"{served.url}{name}?language={language}")
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
            assert page.evaluate("document.documentElement.lang") == language
    page.context.close()
    assert complaints == []


def labels(page: Any) -> list[str]:
    """The inputs and buttons that a screen reader could not name, and images without a text."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=hidden]), select, img, a")]
          .filter((one) => one.offsetParent && !one.getAttribute("aria-label") && !one.textContent.trim())
          .filter((one) => !one.labels?.length && !one.hasAttribute("alt"))
          .map((one) => one.outerHTML)"""
    )
    return found


@pytest.mark.slow
def test_every_control_has_a_name(browser, served):
    complaints: list[str] = []
    page = watched(browser, served.url, complaints)
    for name in ["/", "/admin", *(f"/products/1/{tab}" for tab in PAGES)]:
        page.goto(f"{served.url}{name}")
        page.wait_for_timeout(400)
        assert labels(page) == [], name
        assert page.locator("h1").count() == 1
    page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, served, theme):
    package = pytest.importorskip("axe_playwright_python")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text()
    page = watched(browser, served.url, [], color_scheme=theme)
    faults = []
    for name in ["/", "/admin", *(f"/products/1/{tab}" for tab in PAGES)]:
        page.goto(f"{served.url}{name}")
        page.wait_for_timeout(600)
        page.evaluate(axe)
        found = page.evaluate("axe.run()")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        faults += [f"{name} {one['id']}: {node['html'][:150]}" for one in serious for node in one["nodes"][:3]]
    page.context.close()
    assert faults == []


@pytest.mark.slow
def test_from_an_empty_workspace_through_the_screens(browser, tmp_path):
    """Files are chosen, thresholds dragged, reviews given by key, learning accepted, and the version put back."""
    folder = tmp_path / "images"
    folder.mkdir()
    good = [_written(folder / f"good-{seed:02}.png", picture(seed)) for seed in range(20)]
    bad = [_written(folder / f"bad-{seed}.png", picture(seed, is_defect=True)) for seed in range(100, 104)]
    station, complaints = Served(open_workspace(tmp_path / "workspace")), []
    page = watched(browser, station.url, complaints)
    try:
        page.goto(station.url)
        page.fill("#new-name", "gear")
        page.set_input_files("#new-drop-files", good)
        page.click("#new button.main")
        page.wait_for_url("**/products/1/teach")
        page.wait_for_selector("#good li:nth-child(20)")
        page.set_input_files("#defect-drop-files", bad)
        page.wait_for_selector("#defect li:nth-child(4)")
        page.click("#start summary")
        page.select_option("#method", "padim")
        page.fill("#size", "128")
        page.click("#start-button")
        page.wait_for_selector("#job-next:not([hidden])", timeout=100_000)
        page.click("#job-next a")
        _decide(page)
        new = [_written(folder / f"new-{seed}.png", picture(seed)) for seed in range(300, 303)]
        _inspect(page, new, bad[:2])
        _review(page)
        _go_back(page)
        for tab in ("line", "models"):
            page.goto(f"{station.url}/products/1/{tab}")
            page.wait_for_timeout(500)
        page.goto(f"{station.url}/admin")
        page.wait_for_selector("#audit tbody tr")
        assert "whole" in page.inner_text("#audit-check")
    finally:
        page.context.close()
        station.end()
    assert complaints == []


PROBLEMS = {
    "en": ("multiples of 16", "with its unit", "leave one"),
    "de": ("Vielfache", "mit Einheit", "eines von beiden"),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", PROBLEMS)
def test_size_and_time_are_asked_for_and_checked(browser, served, language):
    page = watched(browser, served.url, [])
    page.goto(f"{served.url}/products/1/teach?language={language}")
    page.click("#start summary")
    page.route("**/v1/products/1/teach", lambda route: route.abort())

    def start(size: str, time: str) -> None:
        page.fill("#size", size)
        page.fill("#time", time)
        page.click("#start-button")

    for given, problem in zip([("96x721", ""), ("", "50"), ("96x720", "50ms")], PROBLEMS[language], strict=True):
        start(*given)
        page.locator(".toast.problem", has_text=problem).wait_for()
    for given, expected in [(("96x720", ""), {"size": "96x720"}), (("", "0,2s"), {"time_per_image": "0.2s"})]:
        with page.expect_request("**/v1/products/1/teach") as asked:
            start(*given)
        assert asked.value.post_data_json == expected
    page.context.close()


@pytest.mark.slow
def test_the_login_and_numbers_speak_the_language(browser, served, workspace):
    page = watched(browser, served.url, [])
    page.goto(f"{served.url}/products/1/decide?language=de")
    page.wait_for_selector("#cards li")
    assert "Gutteil" in page.inner_text("#cards")
    assert re.search(r"\d,\d", page.inner_text("#cards")), "scores have the language's decimal point"
    assert "." in page.input_value("#review-threshold"), "browsers take numbers with a point"
    create_user(workspace.store, "anna", "correct horse battery", "admin", "test")
    page.goto(f"{served.url}/login?language=de")
    page.fill("#name", "anna")
    page.fill("#password", "wrong")
    page.click("button.main")
    page.locator("#problem", has_text="Name oder Passwort ist falsch.").wait_for()
    page.context.close()


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _decide(page: Any) -> None:
    """Drags the review threshold far to the left, so that all is to be reviewed, and applies it."""
    page.wait_for_selector(".of-review")
    before = page.input_value("#review-threshold")
    grip = page.locator(".of-review .grip").bounding_box()
    chart = page.locator("#histogram").bounding_box()
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + 30)
    page.mouse.down()
    page.mouse.move(chart["x"] + 60, grip["y"] + 30, steps=5)
    page.mouse.up()
    assert float(page.input_value("#review-threshold")) < float(before)
    page.click("#confusion tr:first-child td:nth-child(3) button")
    assert "review" in page.inner_text("#images-count")
    page.locator("#cards .card").first.click()
    page.wait_for_selector("#viewer[open]")
    page.click("#viewer-close")
    page.fill("#note", "as dragged")
    page.click("#apply-button")
    page.wait_for_selector("#decisions li:nth-child(2)")


def _inspect(page: Any, good: list[Path], bad: list[Path]) -> None:
    page.click("nav >> text=Inspect")
    page.set_input_files("#drop-files", [*good, *bad])
    page.wait_for_selector("#strip li:nth-child(5)", timeout=120_000)
    wait_for(lambda: page.inner_text("#counters dd >> nth=0") == "5")
    page.keyboard.press("m")
    assert page.locator("#show-map").is_checked() is False


def _review(page: Any) -> None:
    """Calls the new good parts good and the others defects, takes one back, and lets the model learn."""
    page.click("nav >> text=Review")
    for waiting in (5, 4, 3, 2, 1):
        wait_for(lambda waiting=waiting: page.inner_text("#waiting") == str(waiting))
        page.keyboard.press("g" if " new-" in page.inner_text("#verdict-facts") else "d")
    page.wait_for_selector("#nothing:not([hidden])")
    page.keyboard.press("z")
    wait_for(lambda: page.inner_text("#waiting") == "1")
    page.keyboard.press("d")
    page.wait_for_selector("#nothing:not([hidden])")
    page.click("#learn")
    page.wait_for_selector("#candidate:not([hidden])", timeout=100_000)
    page.click("#accept")
    page.wait_for_selector("#candidate", state="hidden")


def _go_back(page: Any) -> None:
    page.click("nav >> text=Models")
    page.wait_for_selector("#models tbody tr:nth-child(2)")
    assert "active" in page.inner_text("#models tbody tr:nth-child(1)")
    page.click("#models tbody tr:nth-child(2) >> text=Activate")
    wait_for(lambda: page.inner_text("#models tbody tr:nth-child(2) .chip") == "active")


@pytest.mark.slow
def test_a_closed_station_leads_to_the_login(browser, tmp_path):
    from blemish.station.accounts import create_user

    workspace = open_workspace(tmp_path / "workspace")
    create_user(workspace.store, "ann", "correct horse", "operator", "test")
    station, complaints = Served(workspace), []
    page = watched(browser, station.url, complaints)
    page.goto(station.url)
    page.wait_for_url("**/login")
    page.fill("#name", "ann")
    page.fill("#password", "correct horse")
    page.click("#login button")
    page.wait_for_selector("#logout")
    assert page.locator("nav a").count() == 1
    page.click("#logout")
    page.wait_for_url("**/login")
    page.context.close()
    station.end()
    assert complaints == []


def test_the_page_is_served_without_a_browser(client):
    for path in ("/", "/admin", *(f"/products/1/{tab}" for tab in PAGES)):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "<script>" not in answer.text
        assert "style=" not in answer.text
    assert client.get("/static/shared.js").text.count("export {") == 1
    tag = client.get("/static/station.js").headers["etag"]
    assert client.get("/static/station.js", headers={"if-none-match": tag}).status_code == 304
    assert client.get("/static/..%2fapp.py").status_code == 404
