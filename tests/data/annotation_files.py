"""The same region as six programs for annotations write it."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
from trees import document

H, W = 20, 30
BOX = np.zeros((H, W), bool)
BOX[3:11, 5:25] = True
CORNERS = [5, 3, 25, 3, 25, 11, 5, 11]
"""The corners of the same box."""
WITH_HOLE = BOX.copy()
WITH_HOLE[6, 9] = False


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
