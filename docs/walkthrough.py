"""Makes the images of docs/from-images-to-a-decision.md (docs/images/walk-*) by the commands that the page shows.

    python docs/walkthrough.py [FOLDER]

The commands run in FOLDER (runs/walkthrough). Needs the `dev` extra and Debian's chromium.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from blemish.data import find_categories
from blemish.reporting import run_figures, sheet

IMAGES = Path(__file__).parent / "images"
COMMANDS = (
    "synth data --category gear",
    "fit data/gear/train/good --out model --force",
    "predict model data/gear/test --out OUT --overlays --report --fresh",
    "calibrate model",
)
SHOWN = {
    "found": "broken_tooth/000",
    "not flagged": "good/000",
    "missed": "scratch/000",
    "false alarm": "good/001",
}
"""What the decision was -> the image that shows it."""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        print(f"$ blemish {command}", flush=True)
        subprocess.run([sys.executable, "-m", "blemish", *command.split()], cwd=folder, check=True)
    (category,) = find_categories(folder / "data", ["gear"])
    run_figures.examples(category, folder / "data.png")
    write_jpeg(cv2.imread(str(folder / "data.png")), IMAGES / "walk-data.jpg")
    overlays(folder / "OUT", IMAGES / "walk-overlays.jpg")
    rows = [json.loads(line) for line in (folder / "OUT" / "predictions.jsonl").read_text().splitlines()]
    calibration = json.loads((folder / "model" / "model.json").read_text())["calibration"]
    scores(rows, calibration, IMAGES / "walk-scores.png")
    screenshot(folder / "OUT" / "report.html", IMAGES / "walk-page.png")


def overlays(out: Path, path: Path) -> None:
    """The overlays of SHOWN beside each other."""
    shown = [cv2.imread(str(out / "overlays" / f"{name}.jpg")) for name in SHOWN.values()]
    height = max(picture.shape[0] for picture in shown)
    padded = [
        cv2.copyMakeBorder(picture, 0, height - picture.shape[0], 6, 6, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for picture in shown
    ]
    write_jpeg(np.hstack(padded), path)


def write_jpeg(picture: NDArray[Any] | None, path: Path) -> None:
    """A small file, with sharp colours."""
    assert picture is not None
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])


@mpl.rc_context(run_figures.STYLE)
def scores(rows: list[dict[str, Any]], calibration: dict[str, Any], path: Path) -> None:
    """Every score, by type of defect, the held-out good images first, and the threshold."""
    by_type: dict[str, list[float]] = {"good, held out": calibration["good_scores"]}
    for row in rows:
        by_type.setdefault(f"test: {Path(row['path']).parent.name}", []).append(row["score"])
    names = ["good, held out", "test: good", *sorted(set(by_type) - {"good, held out", "test: good"})]
    figure = sheet.new_figure(6.6, 3.0)
    axis = figure.add_subplot()
    for line, name in enumerate(names):
        colour = run_figures.BARS[0] if "good" in name else run_figures.ACCENT
        axis.scatter(by_type[name], [line] * len(by_type[name]), s=22, alpha=0.7, color=colour, linewidths=0)
    axis.axvline(calibration["threshold"], color=run_figures.INK, linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlabel="score", title=f"above the threshold of {calibration['threshold']:.3f}: a defect")
    axis.spines["left"].set_visible(False)
    axis.tick_params(left=False)
    figure.savefig(path, format="png")


def screenshot(page_file: Path, path: Path) -> None:
    """The page of the predictions in a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 820}, color_scheme="light")
        page.goto(page_file.resolve().as_uri())
        page.wait_for_timeout(500)
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/walkthrough"))
