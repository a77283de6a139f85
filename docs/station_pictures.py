"""Makes docs/images/station-decide.png and station-inspect.png: the station's demonstration, in Chromium.

    python docs/station_pictures.py [FOLDER]

A workspace that FOLDER (runs/station-pictures) holds is used again. Needs the `dev` extra and Debian's chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
PORT = 8799
WIDTH, HEIGHT = 1280, 800


def main(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "blemish", "serve", str(folder), "--demo", "--port", str(PORT)]
    station = subprocess.Popen(command, env=environment)
    base = f"http://127.0.0.1:{PORT}"
    try:
        while not answers(base):
            time.sleep(1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en")
            for name in ("decide", "inspect"):
                page.goto(f"{base}/products/1/{name}")
                page.wait_for_timeout(2000)
                if name == "inspect":
                    page.locator("#strip .wrong").nth(1).click()
                    page.evaluate("scrollTo(0, 0)")
                    page.wait_for_timeout(1500)
                page.screenshot(path=IMAGES / f"station-{name}.png")
            browser.close()
    finally:
        station.terminate()
        station.wait()


def answers(base: str) -> bool:
    try:
        urllib.request.urlopen(base + "/healthz", timeout=2)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/station-pictures"))
