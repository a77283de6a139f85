"""The report in a browser: what an inspection engineer does with it, with numbers that the summary predicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blemish.cli import main
from blemish.evaluation.report_data import read_report_data
from blemish.reporting.decisions import confusion_counts
from blemish.reporting.read_runs import read_runs
from blemish.reporting.render import report


@pytest.fixture(scope="module")
def folders(make_category, tmp_path_factory) -> list[Path]:
    """Two runs as a user makes them, one of a detector that rebuilds images."""
    root = tmp_path_factory.mktemp("page")
    for name in ("bolt", "nut"):
        make_category(root / "data", name, num_train=8, num_good=5, num_bad=5)
    common = ["--size", "32", "--data_path", str(root / "data"), "--ckpt_path"]
    for model, options in (
        ("patchcore", ["--num_patches", "60", "--backbone", "gabor"]),
        ("ae", ["--epochs", "1", "--width", "4"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["train", "--model", model, *options, *common, str(root / model)])
        assert not stopped.value.code
    return [root / "patchcore", root / "ae"]


@dataclass
class Opened:
    """A page and the summary that it was made from."""

    page: Any
    summary: dict[str, Any]

    def part(self) -> dict[str, Any]:
        """What the summary has of the part that is shown."""
        chosen = self.page.input_value("#method"), self.page.input_value("#category")
        return next(part for part in self.summary["parts"] if (part["method"], part["category"]) == chosen)

    def counts(self) -> dict[str, int]:
        """The confusion matrix as it stands on the page."""
        return {name: int(self.page.inner_text(f"#{name}")) for name in ("found", "missed", "false_alarms", "passed")}


@pytest.fixture(scope="module")
def written(folders) -> tuple[Path, dict[str, Any]]:
    path = folders[0].parent / "report.html"
    return path, report(folders, path)


@pytest.fixture
def opened(open_page, written) -> Iterator[Opened]:
    path, summary = written
    with open_page(path) as page:
        yield Opened(page, summary)


def predicted(part: dict[str, Any], threshold: float) -> dict[str, int]:
    counts = confusion_counts(part["images"], threshold)
    return {name: counts[name] for name in ("found", "missed", "false_alarms", "passed")}


def test_the_counts_follow_the_threshold(opened: Opened):
    page = opened.page
    for category in ("bolt", "nut"):
        page.select_option("#category", category)
        part = opened.part()
        assert opened.counts() == predicted(part, part["threshold"]["value"])
        scores = sorted(image["score"] for image in part["images"])
        for threshold in (scores[0] - 1, scores[2], (scores[4] + scores[5]) / 2, scores[-1]):
            page.fill("#threshold", repr(threshold))
            assert opened.counts() == predicted(part, threshold)
            counts = confusion_counts(part["images"], threshold)
            expected = "\N{EN DASH}" if counts["precision"] is None else f"{100 * counts['precision']:.1f} %"
            assert page.inner_text("#precision") == expected
            assert page.inner_text("#recall") == f"{100 * counts['recall']:.1f} %"
        page.click("#reset")
        assert opened.counts() == predicted(part, part["threshold"]["value"])


def test_the_words_beside_the_histogram_are_whole_and_its_marks_are_explained(opened: Opened):
    page = opened.page
    page.fill("#threshold", "0")
    words, room = page.evaluate(
        """() => [[...document.querySelectorAll("#histogram text")].map((text) => text.getBoundingClientRect().right),
          document.querySelector("#histogram svg").getBoundingClientRect().right]"""
    )
    assert "5 false alarms" in page.text_content("#histogram")
    assert max(words) <= room
    assert opened.part()["held_out"]
    assert page.is_visible("#held")


def test_dragging_the_line_moves_the_threshold(opened: Opened):
    page = opened.page
    before = opened.counts()
    page.locator("#histogram").scroll_into_view_if_needed()
    line = page.locator("#histogram .threshold").bounding_box()
    box = page.locator("#histogram").bounding_box()
    middle = line["y"] + line["height"] / 2
    page.mouse.move(line["x"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 128, middle, steps=4)
    page.mouse.up()
    # all the way to the left, below every score: everything is called a defect
    assert opened.counts() == {"found": 5, "missed": 0, "false_alarms": 5, "passed": 0}
    assert before["passed"] > 0
    page.locator("#threshold-slider").focus()
    page.keyboard.press("End")
    assert opened.counts() == {"found": 0, "missed": 5, "false_alarms": 0, "passed": 5}
    page.click("#reset")
    assert opened.counts() == before
    page.click("#logarithmic")  # another axis moves no threshold
    assert opened.counts() == before
    page.locator("#threshold-slider").focus()
    page.keyboard.press("Home")
    assert opened.counts()["found"] == 5


def test_missed_defects_are_found_in_the_gallery(opened: Opened):
    page, part = opened.page, opened.part()
    scores = sorted(image["score"] for image in part["images"] if image["label"])
    threshold = (scores[1] + scores[2]) / 2
    page.fill("#threshold", repr(threshold))
    page.click("[data-filter=missed]")
    page.wait_for_function("document.querySelectorAll('.card').length === 2")
    expected = sorted(
        (image for image in part["images"] if image["label"] and image["score"] <= threshold),
        key=lambda image: -image["score"],
    )
    shown = [card.get_attribute("aria-label").split(", ")[-1] for card in page.locator(".card").all()]
    assert shown == [image["path"] for image in expected]
    page.click("[data-filter=all]")
    page.select_option("#sort", "low")
    first = min(part["images"], key=lambda image: image["score"])
    assert page.locator(".card").first.get_attribute("aria-label").endswith(first["path"])
    page.select_option("#defect", "good")
    assert page.locator(".card").count() == 5


def test_an_image_opens_large_and_is_walked_through_by_keys(opened: Opened, folders):
    page = opened.page
    page.select_option("#method", "ae")
    part = opened.part()
    ordered = sorted(part["images"], key=lambda image: -image["score"])
    page.locator(".card").first.click()
    assert page.inner_text("#viewer-path") == ordered[0]["path"]
    assert page.is_visible("#viewer-rebuilt")
    page.wait_for_selector("#viewer-map:not([hidden])", state="attached")
    page.keyboard.press("m")
    assert not page.is_visible("#viewer-map")
    page.keyboard.press("m")
    defect = next(index for index, image in enumerate(ordered) if image["outline"])
    for _ in range(defect):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#viewer-path") == ordered[defect]["path"]
    assert page.locator(".truth-line").count() == 1
    page.keyboard.press("g")
    assert page.locator(".truth-line").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#viewer-position") == f"{defect + 1} of {len(ordered)}"
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer")
    page.select_option("#method", "patchcore")
    page.locator(".card").first.click()
    assert not page.is_visible("#rebuilt")


def test_regions_are_those_of_the_whole_map_until_the_level_moves(opened: Opened, folders):
    page, part = opened.page, opened.part()
    best = max(part["images"], key=lambda image: image["score"])
    page.locator(".card").first.click()
    page.wait_for_selector("#viewer-map:not([hidden])", state="attached")
    assert page.inner_text("#regions-of") == "from the full-size map"
    region = best["regions"][0]
    x, y, width, height = region["box"]
    cells = page.locator("#regions tr >> nth=0").locator("td").all_inner_texts()
    assert cells[:4] == ["1", f"{x}, {y}", f"{width} \N{MULTIPLICATION SIGN} {height}", str(region["area"])]
    assert float(cells[4]) == pytest.approx(region["peak"], rel=5e-3)
    assert page.locator(".contour-line").get_attribute("d")
    page.locator("#level").press("ArrowRight")
    assert page.inner_text("#regions-of") == "from the map at display size"
    record = read_report_data(folders[0] / "bolt")
    highest = next(shown.map.max() for shown in record.previews if shown.path == best["path"])
    low, high = part["map_range"]
    peak = float(page.locator("#regions td").nth(4).inner_text())
    assert peak == pytest.approx(highest, abs=(high - low) / 255 + 0.005 * high)  # a grey level of the page


def test_the_metric_and_the_files(opened: Opened, tmp_path: Path):
    page = opened.page
    page.select_option("#metric", "image_auroc")
    shown = page.locator("[data-metric=image_auroc] tr.average .value").all_inner_texts()
    runs = read_runs([Path(run["folder"]) for run in opened.summary["provenance"]])
    assert shown == [
        f"{sum(part.evaluation.metrics['image_auroc'] for part in run.parts) / len(run.parts):.3f}" for run in runs
    ]
    assert page.locator("[data-metric=pixel_auroc]").is_hidden()
    for button, name, start in (
        ("#latex", "image_auroc.tex", b"% image AUROC"),
        ("[data-file='results.csv']", "results.csv", b"metric,category,method"),
        ("#bars-figure .save button >> nth=0", "bars-bolt-patchcore.svg", b"<svg"),
        ("#bars-figure .save button >> nth=1", "bars-bolt-patchcore.png", b"\x89PNG"),
    ):
        with page.expect_download() as download:
            page.click(button)
        download.value.save_as(tmp_path / name)
        assert download.value.suggested_filename == name
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_one_way_only(opened: Opened, theme):
    page = opened.page
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 390, "height": 800})
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground


@pytest.mark.parametrize("width", [390, 768, 1280, 1600])
def test_the_words_of_a_thumbnail_stand_beside_each_other(opened: Opened, check_cards, width):
    opened.page.set_viewport_size({"width": width, "height": 900})
    check_cards(opened.page)
