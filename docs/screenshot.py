"""Makes docs/images/report.png: the report on two methods and two categories of the built-in data, in Chromium.

    python docs/screenshot.py [FOLDER]

What a run left in FOLDER (runs/screenshot) is used again. Needs the `dev` extra and Debian's chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from blemish.cli import train
from blemish.data.synthetic import synthesize
from blemish.reporting.render import report
from blemish.runs.config import RunConfig

IMAGES = Path(__file__).parent / "images"
CATEGORIES = ("fabric", "gear", "screw")
MODELS = {"patchcore": {}, "ae": {"epochs": 15}}
WIDTH = 1280


def main(folder: Path) -> None:
    synthesize(folder / "data", categories=list(CATEGORIES))
    for model, options in MODELS.items():
        config = RunConfig.create(
            model=model, data_path=folder / "data", ckpt_path=folder / model, resume=True, **options
        )
        train(config)
    report([folder / model for model in MODELS], folder / "report.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 860}, color_scheme="light")
        page.goto((folder / "report.html").resolve().as_uri())
        page.select_option("#category", "fabric")
        shoot(page, "inspect", IMAGES / "report.png")
        page.locator(".card").first.click()
        page.wait_for_timeout(500)
        page.screenshot(path=IMAGES / "report-image.png")
        browser.close()


def shoot(page: Page, section: str, path: Path) -> None:
    """The window with a section at its top, once its pictures are there."""
    page.evaluate(f"document.getElementById('{section}').scrollIntoView({{behavior: 'instant'}})")
    page.wait_for_timeout(500)
    page.screenshot(path=path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/screenshot"))
