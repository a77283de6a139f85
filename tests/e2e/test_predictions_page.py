"""The page of predictions in a browser: what an inspector does with it, with numbers that the summary predicts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blemish.calibration.thresholds import changed, false_alarm_bound
from blemish.cli import main
from blemish.model.changes import write_model
from blemish.model.folder import read_model
from blemish.reporting.decisions import called_at
from blemish.reporting.render import report

LONG = "a_very_long_name_of_line_7_and_station_12_2026-11-28T12-04-55.123456_left_side"
DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def written(run_folder: Path, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """What `fit` and `predict --report` leave a user: good and bad parts, a long name, a broken file."""
    root = tmp_path_factory.mktemp("predictions")
    images = Path(shutil.copytree(run_folder / "data" / "part" / "test", root / "images"))
    (images / "bad" / "000.png").rename(images / "bad" / f"{LONG}.png")
    (images / "broken.png").write_bytes(b"no picture")
    predict(run_folder / "part", images, root / "out")
    return root / "out" / "report.html", report([root / "out"], root / "again.html")["parts"][0]


def predict(model: Path, images: Path, out: Path) -> None:
    with pytest.raises(SystemExit):
        main(["predict", str(model), str(images), "--out", str(out), "--report"])


@pytest.fixture
def page(open_page, written) -> Iterator[Any]:
    with open_page(written[0]) as opened:
        yield opened


def check_counts(page: Any, part: dict[str, Any], threshold: float) -> None:
    expected, good = called_at(part["images"], threshold), part["held_out"]
    assert {name: int(page.inner_text(f"#{name}")) for name in expected} == expected
    share = 100 * expected["defects"] / len(part["images"])
    assert page.inner_text("#defects-rate") == f"{share:.1f} %"
    assert page.inner_text("#good-above") == f"{sum(score > threshold for score in good)} of {len(good)}"
    bound = float(page.inner_text("#alarm-bound").removesuffix(" %")) / 100
    assert bound == pytest.approx(false_alarm_bound(threshold, good), abs=0.0006)
    page.wait_for_function(  # the gallery follows with the next frame
        "count => document.querySelectorAll('.card.is-wrong').length === count", arg=expected["defects"]
    )
    for name in ("defects", "good"):
        assert page.inner_text(f"[data-filter={name}] b") == str(expected[name])


def test_the_counts_follow_the_threshold(page: Any, written):
    part = written[1]
    check_counts(page, part, part["threshold"]["value"])
    scores = sorted(image["score"] for image in part["images"])
    for threshold in (scores[0] - 1, scores[2], (scores[4] + scores[5]) / 2, part["held_out"][20], scores[-1]):
        page.fill("#threshold", repr(threshold))
        check_counts(page, part, threshold)
    page.click("#reset")
    check_counts(page, part, part["threshold"]["value"])


def test_dragging_the_line_moves_the_threshold(page: Any, written):
    line, box = (page.locator(name).bounding_box() for name in ("#histogram .threshold", "#histogram"))
    middle = line["y"] + line["height"] / 2
    page.mouse.move(line["x"], middle)
    page.mouse.down()
    for x in (400, 250, 128):
        page.mouse.move(box["x"] + x, middle)
        check_counts(page, written[1], float(page.input_value("#threshold")))
    page.mouse.up()
    assert page.inner_text("#good") == "0"
    assert "Moved." in page.inner_text("#threshold-text")


def test_the_gallery_begins_with_the_highest_score_and_opens_large(page: Any, written):
    ordered = sorted(written[1]["images"], key=lambda image: -image["score"])
    labels = [card.get_attribute("aria-label") for card in page.locator(".card").all()]
    assert [label.split(", ")[-1] for label in labels] == [image["path"] for image in ordered]
    page.locator(".card").first.click()
    assert page.inner_text("#viewer-outcome") == "defect"
    page.wait_for_selector("#viewer-map:not([hidden])", state="attached")
    assert page.inner_text("#regions-of") == "of the whole map"
    region = ordered[0]["regions"][0]
    x, y, width, height = region["box"]
    cells = page.locator("#regions tr >> nth=0").locator("td").all_inner_texts()
    assert cells[:4] == ["1", f"{x}, {y}", f"{width} \N{MULTIPLICATION SIGN} {height}", str(region["area"])]
    assert page.locator(".contour-line").get_attribute("d")
    assert not page.is_visible("#show-truth")
    page.keyboard.press("g")  # which is for labelled images
    page.keyboard.press("m")
    assert not page.is_visible("#viewer-map")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#viewer-position") == "2 of 8"
    page.keyboard.press("Escape")
    page.click("[data-filter=good]")
    good = [image["path"] for image in ordered if image["score"] <= written[1]["threshold"]["value"]]
    assert page.locator(".card").count() == len(good)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280, 1600])
def test_nothing_lies_over_anything_else(open_page, check_cards, written, width, theme):
    with open_page(written[0], width, theme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        check_cards(page)
        assert "broken.png" in page.inner_text("#unreadable")


def test_the_counts_regard_a_minimum_area(open_page, model: Path, written, tmp_path: Path):
    write_model(replace(read_model(model), calibration=changed(read_model(model).calibration, min_area=30)))
    predict(model, written[0].parent.parent / "images", tmp_path / "out")
    part = report([tmp_path / "out"], tmp_path / "again.html")["parts"][0]
    assert {image["has_region"] for image in part["images"]} == {True, False}
    with open_page(tmp_path / "out" / "report.html") as page:
        for image in part["images"]:
            page.fill("#threshold", repr(image["score"]))
            check_counts(page, part, image["score"])


def test_without_a_calibration_nothing_is_decided_until_a_threshold_is_chosen(
    open_page, model: Path, written, tmp_path: Path
):
    write_model(replace(read_model(model), calibration=None))
    predict(model, written[0].parent.parent / "images", tmp_path / "out")
    part = report([tmp_path / "out"], tmp_path / "again.html")["parts"][0]
    with open_page(tmp_path / "out" / "report.html") as page:
        assert page.inner_text("#defects") == page.inner_text("#good") == DASH
        assert page.input_value("#threshold") == ""
        assert "not calibrated" in page.inner_text("#threshold-text")
        assert {*page.locator(".card .outcome").all_inner_texts()} == {"not decided"}
        page.locator(".card").first.click()
        assert page.inner_text("#viewer-threshold") == "none"
        page.keyboard.press("Escape")
        scores = sorted(image["score"] for image in part["images"])
        page.fill("#threshold", repr(scores[3]))
        assert page.inner_text("#defects") == str(called_at(part["images"], scores[3])["defects"]) == "4"
        assert page.inner_text("#good-above") == "none known"
        page.click("#reset")
        assert page.inner_text("#defects") == DASH


def test_thousands_of_images_are_laid_out_a_page_at_a_time(open_page, written, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(written[0].parent, out)
    rows = out / "predictions.jsonl"
    line = next(line for line in rows.read_text().splitlines() if "score" in line)
    rows.write_text("".join(line.replace(".png", f"-{number}.png") + "\n" for number in range(1000)))
    report([out], tmp_path / "report.html")
    with open_page(tmp_path / "report.html") as page:
        assert page.inner_text("h1") == "1000 images inspected"
        assert page.locator(".card").count() == 300
        assert page.inner_text("#more") == "Show 300 more of 700"
        for expected in (600, 900, 1000):
            page.click("#more")
            assert page.locator(".card").count() == expected
        assert not page.is_visible("#more")
