"""Regions that people drew, in six formats: the pixels they mark, and what is said of what cannot be taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from annotation_files import (
    BOX,
    CORNERS,
    WITH_HOLE,
    WRITERS,
    H,
    W,
    coco,
)
from trees import document, image

from blemish.data import find_categories
from blemish.data.annotations.importing import FORMATS, Imported, import_annotations, type_name
from blemish.data.annotations.yolo import class_names
from blemish.errors import BlemishError
from blemish.imaging.mask_sources import marks_of


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images 1 to 6; 9 is annotated, but not there."""
    for number in range(1, 7):
        image(tmp_path / f"raw/{number}.png", size=(H, W))
    return tmp_path / "raw"


def imported(annotations: Path, images: Path, out: Path, **options) -> tuple[Imported, dict[str, np.ndarray]]:
    """What was done, and the masks of the anomalous images by their stems."""
    done = import_annotations(annotations, images, out, **options)
    (category,) = find_categories(out)
    return done, {sample.image.stem: marks_of(sample.mask) for sample in category.samples if sample.label}


def test_all_formats_are_tested():
    assert WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_and_its_regions_become_masks(name, tmp_path: Path, images: Path):
    done, masks = imported(WRITERS[name](tmp_path), images, tmp_path / "out")
    assert done.format == name
    assert done.counts == {"good": 1, "dent": 2}
    assert sorted(masks) == ["1", "2"]
    assert np.array_equal(masks["1"], BOX)
    assert np.array_equal(masks["2"], BOX if name == "yolo" else WITH_HOLE)
    assert (tmp_path / "out/good/4.png").read_bytes() == (images / "4.png").read_bytes()
    reasons = {Path(one).stem[-1]: reason for reason, names in done.not_taken.items() for one in names}
    assert set(reasons) == {"3", "5", "6", "9"}
    assert reasons["3"].startswith("a box, not a shape")
    assert reasons["5"].startswith(("a linestrip", "a polyline", "a line", "a region that", "a keypoint"))
    assert reasons["6"].startswith("no annotations")
    assert reasons["9"].startswith("no such image")


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_and_images_without_annotations_where_asked_for(name, tmp_path: Path, images: Path):
    done, masks = imported(WRITERS[name](tmp_path), images, tmp_path / "out", boxes=True, unannotated_good=True)
    assert done.counts == {"good": 2, "dent": 3}
    assert (masks["3"] ^ BOX).sum() == 0
    assert (tmp_path / "out/good/6.png").exists()


def test_several_labels_and_good_ones(tmp_path: Path, images: Path):
    pairs = np.reshape(CORNERS, (-1, 2)).tolist()
    for number, labels in ((1, ["scratch", "dent"]), (2, ["OK"]), (3, ["0"]), (4, ["../up"]), (5, ["mask"])):
        shapes = [{"label": label, "points": pairs, "shape_type": "polygon"} for label in labels]
        document(tmp_path / f"all/{number}.json", {"imagePath": f"{number}.png", "shapes": shapes})
    done, masks = imported(tmp_path / "all", images, tmp_path / "out")
    assert done.counts == {"dent+scratch": 1, "good": 1, "type_0": 1, "up": 1, "type_mask": 1}
    assert sorted(masks) == ["1", "3", "4", "5"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a b"], "a_b"),
        (["good_light"], "type_good_light"),
        (["..", "x"], "defect+x"),
        (["裂纹"], "裂纹"),
        (["NG"], "NG"),
    ],
)
def test_names_of_types(labels, expected):
    assert type_name(labels) == expected


def test_images_of_equal_names_in_several_folders(tmp_path: Path):
    for day in ("mo", "tu"):
        for number in (1, 2):
            image(tmp_path / f"raw/{day}/{number}.png", size=(H, W))
            image(tmp_path / f"raw/{day}/{number}.jpg", size=(H, W))
    names = ["mo/1.png", "data/tu/1.png", "2.png", "mo/1.jpg"]
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"image_id": number, "category_id": 0, "segmentation": [CORNERS]} for number in (0, 2, 3)],
        "categories": [{"id": 0, "name": "dent"}],
    }
    document(tmp_path / "coco.json", content)
    done, masks = imported(tmp_path / "coco.json", tmp_path / "raw", tmp_path / "out")
    assert done.not_taken["no such image, or several of this name"] == ["2.png"]
    assert sorted(masks) == ["mo_1", "mo_1_2"]  # of the PNG and of the JPEG
    assert (tmp_path / "out/good/tu_1.png").exists()


def test_annotations_for_another_size_are_refused(tmp_path: Path, images: Path):
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    content["images"][0]["height"] = 2 * H
    document(path, content)
    done, _ = imported(path, images, tmp_path / "out")
    assert done.not_taken["annotations for another size than the image's"] == ["1.png"]
    (images / "2.png").write_bytes(b"damaged")
    done, _ = imported(path, images, tmp_path / "other")
    assert "2.png" in str(done.not_taken)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "[1]", "annotations of no known format"),
        ("x.json", "{", "not JSON"),
        ("x.xml", "<a", "not XML"),
        ("x.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "has a document type"),
        ("x.xml", "<annotations><track/></annotations>", "annotations of a video"),
        ("x.xml", "<annotations/>", "nothing could be taken"),
        ("x.json", '{"images": 3, "annotations": 4}', "nothing could be taken"),
        ("x.json", '{"images": [3, {"file_name": 4}], "annotations": [5, {}]}', "nothing could be taken"),
        ("x.txt", "0 1", "annotations of no known format"),
    ],
)
def test_what_is_no_annotation_gets_one_line_and_leaves_nothing(name, content, message, tmp_path: Path, images: Path):
    (tmp_path / name).write_text(content)
    with pytest.raises(BlemishError, match=message):
        import_annotations(tmp_path / name, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_wrong_paths_and_names(tmp_path: Path, images: Path):
    with pytest.raises(BlemishError, match="no such file or folder"):
        import_annotations(tmp_path / "none", images, tmp_path / "out")
    with pytest.raises(BlemishError, match="format 'voc': there is none; there are coco"):
        import_annotations(coco(tmp_path), images, tmp_path / "out", format_name="voc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlemishError, match="empty: no images found"):
        import_annotations(coco(tmp_path), tmp_path / "empty", tmp_path / "out")
    with pytest.raises(BlemishError, match="raw: there is something already"):
        import_annotations(coco(tmp_path), images, images)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [dent, 'cut']\n", {0: "dent", 1: "cut"}),
        ("names:\n- dent\n- cut\nnc: 2\n", {0: "dent", 1: "cut"}),
        ("path: x\nnames:\n  3: dent\n  5: 'cut'\n", {3: "dent", 5: "cut"}),
        ("names: {0: dent, 1: cut}\n", {0: "dent", 1: "cut"}),
        ("nc: 2\n", {}),
    ],
)
def test_names_of_yolo_s_classes(text, expected, tmp_path: Path):
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text(text)
    assert class_names(tmp_path / "labels/train") == expected
    (tmp_path / "labels/classes.txt").write_text("a\nb\n")
    assert class_names(tmp_path / "labels") == {0: "a", 1: "b"}
