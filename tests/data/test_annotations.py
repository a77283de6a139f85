"""Regions that people drew, in six formats: the pixels they mark, and what is said of what cannot be taken."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import document, image

from blemish.data import find_categories
from blemish.data.annotations.importing import FORMATS, Imported, import_annotations, type_name
from blemish.data.annotations.run_lengths import coco_counts, label_studio_marks, marks_of_counts
from blemish.data.annotations.shapes import Shape, box_points, ellipse_points, fill_polygon, marks_of_shapes
from blemish.data.annotations.yolo import class_names
from blemish.errors import BlemishError
from blemish.imaging.mask_sources import marks_of

H, W = 20, 30
BOX = np.zeros((H, W), bool)
BOX[3:11, 5:25] = True
CORNERS = [5, 3, 25, 3, 25, 11, 5, 11]
"""The corners of the same box."""
WITH_HOLE = BOX.copy()
WITH_HOLE[6, 9] = False


class TestPixels:
    def test_coco_s_run_lengths_are_those_of_pycocotools(self):
        # pycocotools 2.0.11, encode: the box with a hole, and noise.
        text = "W38<000000KE1;40000000000000000000000000000Q3"
        assert np.array_equal(marks_of_counts(coco_counts(text), (H, W), by_columns=True), WITH_HOLE)
        noise = np.unpackbits(np.frombuffer(bytes.fromhex("70153c41995a97beacb148888ca940"), np.uint8), count=117)
        text = "111031O2NN00200120MNO22NO1OO0020N21NO01043KN1OO30M80H13"
        assert np.array_equal(marks_of_counts(coco_counts(text), (9, 13), by_columns=True), noise.reshape(9, 13))

    def test_a_polygon_is_that_of_pycocotools_but_for_its_outline(self):
        # pycocotools 2.0.11, frPyObjects, which marks all pixels that the outline touches, and some beyond.
        corners = np.array([10.2, 5.1, 50.7, 8.3, 44.0, 30.9, 25.5, 38.2, 12.0, 28.4]).reshape(-1, 2)
        text = "U?4\\1=C7I010O1O1O001O1O001O1O1O001O01N10000O100O10000O10000O2O0O10000O1N2M3M3L4M3M3L\\c0"
        golden = marks_of_counts(coco_counts(text), (48, 64), by_columns=True)
        found = fill_polygon(corners, (48, 64))
        canvas = cv2.polylines(np.zeros((48, 64), np.uint8), [np.int32(corners)], True, 1, thickness=2)
        assert not (found ^ golden)[canvas == 0].any()
        assert (found & golden).sum() / (found | golden).sum() > 0.97

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.floats(-5, 35), st.floats(-5, 25)), min_size=3, max_size=8))
    def test_a_polygon_marks_the_pixels_whose_centre_is_inside(self, corners):
        points = np.array(corners)
        found = fill_polygon(points, (H, W))
        for y in range(0, H, 3):
            for x in range(0, W, 3):
                inside = False
                for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
                    if (ay <= y + 0.5) != (by <= y + 0.5):
                        cross = ax + (y + 0.5 - ay) / (by - ay) * (bx - ax)
                        inside ^= bool(cross > x + 0.5)
                        if abs(cross - x - 0.5) < 1e-9:  # on the outline
                            inside = bool(found[y, x])
                            break
                assert found[y, x] == inside

    def test_whole_pixels_holes_and_what_is_finer_than_pixels(self):
        box = np.array(CORNERS, float).reshape(-1, 2)
        assert np.array_equal(fill_polygon(box, (H, W)), BOX)
        hole = box_points(9, 6, 1, 1)
        assert np.array_equal(marks_of_shapes([Shape("x", (box,), (hole,))], (H, W)), WITH_HOLE)
        fine = np.array([[2.0, 4.1], [9.0, 4.2], [9.0, 4.3]])
        assert fill_polygon(fine, (H, W)).sum() == 0
        assert np.argwhere(marks_of_shapes([Shape("x", (fine,))], (H, W))).tolist() == [[4, x] for x in range(2, 10)]

    def test_ellipses_and_turned_boxes(self):
        circle = fill_polygon(ellipse_points(50, 50, 30, 30), (100, 100))
        y, x = np.mgrid[:100, :100] + 0.5
        assert (circle ^ (np.hypot(x - 50, y - 50) < 30)).sum() < 20
        assert np.allclose(box_points(0, 0, 4, 2, 90), [[3, -1], [3, 3], [1, 3], [1, -1]])
        assert np.allclose(box_points(0, 0, 4, 2, 90, about="corner"), [[0, 0], [0, 4], [-2, 4], [-2, 0]])

    def test_the_brush_of_label_studio(self):
        # label-studio-converter 0.0.59, mask2rle.
        packed = [0, 0, 1, 24, 57, 27, 254, 91, 0, 194, 127, 248, 76, 3, 9, 255, 225, 48, 12, 39, 255, 148, 192, 35]
        marks = np.zeros((7, 10), bool)
        marks[2:5, 3:8] = marks[6, 9] = True
        assert np.array_equal(label_studio_marks([*packed, 255, 0], (7, 10)), marks)
        for wrong in (packed[:9], [], [*packed, 255, 0][::-1]):
            with pytest.raises(ValueError, match="a brush that is"):
                label_studio_marks(wrong, (7, 10))
        with pytest.raises(ValueError, match="not of an image of 10x10"):
            label_studio_marks(packed, (10, 10))

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 255), st.integers(1, 16)), min_size=1, max_size=12))
    def test_brushes_of_any_blocks(self, blocks):
        bits, values = "", []
        for is_repeated, value, length in blocks:
            block = [value] * length if is_repeated else [(value * (1 + place)) % 256 for place in range(length)]
            bits += f"{is_repeated:b}01{length - 1:04b}" + "".join(
                f"{v:08b}" for v in block[: 1 if is_repeated else None]
            )
            values += block
        rest = -len(values) % 4 + 4
        bits += f"101{rest - 1:04b}" + f"{0:08b}"
        values += [0] * rest
        size = (1, len(values) // 4)
        head = f"{len(values):032b}{7:05b}" + "".join(f"{one - 1:04b}" for one in (3, 4, 8, 16))
        text = head + bits
        packed = [int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8)]
        assert np.array_equal(label_studio_marks(packed, size)[0], np.array(values[3::4]) > 127)

    @pytest.mark.parametrize("text", ["0", "W38<0", "é", " ", "PPPPPPPPPPPP"])
    def test_damaged_run_lengths_are_errors(self, text):
        with pytest.raises(ValueError, match=r"."):
            marks_of_counts(coco_counts(text), (H, W), by_columns=True)


def png(marks: np.ndarray) -> bytes:
    return imagecodecs.png_encode(marks.astype(np.uint8) * 255)


def coco(folder: Path) -> Path:
    regions = [
        (1, {"segmentation": [CORNERS]}),
        (2, {"segmentation": {"size": [H, W], "counts": "W38<000000KE1;40000000000000000000000000000Q3"}}),
        (3, {"segmentation": [], "bbox": [5, 3, 20, 8]}),
        (5, {"segmentation": {"size": [H, W], "counts": [1, 2]}}),
    ]
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": H, "width": W} for number in (1, 2, 3, 4, 5, 9)
        ],
        "annotations": [{"image_id": number, "category_id": 7, **region} for number, region in regions],
        "categories": [{"id": 7, "name": "dent"}],
    }
    document(folder / "coco.json", content)
    return folder / "coco.json"


def labelme(folder: Path) -> Path:
    def one(kind: str, points: list, **more: str) -> dict:
        return {"label": "dent", "shape_type": kind, "points": points, **more}

    pairs = np.reshape(CORNERS, (-1, 2)).tolist()
    mask = base64.b64encode(png(WITH_HOLE[3:11, 5:25])).decode()
    shapes = {
        1: [one("polygon", pairs)],
        2: [one("mask", [[5, 3], [24, 10]], mask=mask)],
        3: [one("rectangle", [[25, 11], [5, 3]])],
        4: [],
        5: [one("linestrip", pairs)],
        9: [],
    }
    for number, drawn in shapes.items():
        content = {"imagePath": f"..\\raw\\{number}.png", "imageHeight": H, "imageWidth": W, "shapes": drawn}
        document(folder / "labelme" / f"{number}.json", content)
    return folder / "labelme"


def cvat(folder: Path) -> Path:
    points = ";".join(f"{x},{y}" for x, y in np.reshape(CORNERS, (-1, 2)))
    part = WITH_HOLE[3:11, 5:25].ravel()
    edges = np.flatnonzero(np.diff(part.astype(int), prepend=0))
    rle = ", ".join(map(str, np.diff([0, *edges, part.size])))
    drawn = {
        1: f'<polygon label="dent" points="{points}"/>',
        2: f'<mask label="dent" left="5" top="3" width="20" height="8" rle="{rle}"/>',
        3: '<box label="dent" xtl="5" ytl="3" xbr="25" ybr="11"/>',
        4: '<tag label="fine"/>',
        5: f'<polyline label="dent" points="{points}"/>',
        9: "",
    }
    images = "".join(
        f'<image id="{n}" name="{n}.png" width="{W}" height="{H}">{one}</image>' for n, one in drawn.items()
    )
    (folder / "cvat.xml").write_text(f"<annotations><version>1.1</version><meta/>{images}</annotations>")
    return folder / "cvat.xml"


def yolo(folder: Path) -> Path:
    corners = " ".join(f"{value / (W, H)[at % 2]:.9f}" for at, value in enumerate(CORNERS))
    lines = {1: f"0 {corners}\n", 2: f"0 {corners}", 3: "0 0.5 0.35 0.666667 0.4", 4: "", 5: "0 0.5 0.5 0.1", 9: ""}
    for number, text in lines.items():
        (folder / "yolo/labels").mkdir(parents=True, exist_ok=True)
        (folder / f"yolo/labels/{number}.txt").write_text(text)
    (folder / "yolo/data.yaml").write_text("nc: 1\nnames:\n  0: dent\n")
    return folder / "yolo/labels"


def supervisely(folder: Path) -> Path:
    pairs = np.reshape(CORNERS, (-1, 2)).tolist()
    bitmap = base64.b64encode(zlib.compress(png(WITH_HOLE[3:11, 5:25]))).decode()
    objects = {
        1: [{"geometryType": "polygon", "points": {"exterior": pairs, "interior": []}}],
        2: [{"geometryType": "bitmap", "bitmap": {"origin": [5, 3], "data": bitmap}}],
        3: [{"geometryType": "rectangle", "points": {"exterior": [pairs[0], pairs[2]], "interior": []}}],
        4: [],
        5: [{"geometryType": "line", "points": {"exterior": pairs, "interior": []}}],
        9: [],
    }
    for number, drawn in objects.items():
        content = {"size": {"height": H, "width": W}, "objects": [{"classTitle": "dent", **one} for one in drawn]}
        document(folder / "sly/ds0/ann" / f"{number}.png.json", content)
    document(folder / "sly/meta.json", {"classes": []})
    return folder / "sly"


def label_studio(folder: Path) -> Path:
    def brush(marks: np.ndarray) -> list[int]:
        pixels = np.repeat(marks.ravel(), 4).astype(np.uint8) * 255
        bits = f"{pixels.size:032b}{7:05b}" + "".join(f"{one - 1:04b}" for one in (3, 4, 8, 16))
        for part in np.split(pixels, np.flatnonzero(np.diff(pixels.astype(int))) + 1):
            bits += f"111{part.size - 1:016b}{part[0]:08b}"
        return [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]

    percent = [[100 * x / W, 100 * y / H] for x, y in np.reshape(CORNERS, (-1, 2))]
    drawn = {
        1: [("polygonlabels", {"points": percent, "polygonlabels": ["dent"]})],
        2: [("brushlabels", {"format": "rle", "rle": brush(WITH_HOLE), "brushlabels": ["dent"]})],
        3: [
            (
                "rectanglelabels",
                {"x": 16.6666667, "y": 15, "width": 66.6666667, "height": 40, "rectanglelabels": ["dent"]},
            )
        ],
        4: [("choices", {"choices": ["fine"]})],
        5: [("keypointlabels", {"x": 1, "y": 2, "keypointlabels": ["dent"]})],
        9: [],
    }
    tasks = [
        {
            "data": {"image": f"/data/upload/1/0a1b2c3d-{number}.png"},
            "annotations": [
                {"was_cancelled": True, "result": [{"type": "brushlabels"}]},
                {
                    "result": [
                        {"type": kind, "original_width": W, "original_height": H, "value": value}
                        for kind, value in results
                    ]
                },
            ],
        }
        for number, results in drawn.items()
    ]
    document(folder / "tasks.json", [*tasks, {"data": {"image": "6.png"}, "annotations": []}])
    return folder / "tasks.json"


WRITERS = {
    "coco": coco,
    "labelme": labelme,
    "cvat": cvat,
    "yolo": yolo,
    "supervisely": supervisely,
    "label_studio": label_studio,
}


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
