"""The pixels that drawn regions mark: run lengths, polygons, boxes, ellipses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from annotation_files import BOX, CORNERS, WITH_HOLE, H, W
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.annotations.run_lengths import coco_counts, label_studio_marks, marks_of_counts
from blemish.data.annotations.shapes import Shape, box_points, ellipse_points, fill_polygon, marks_of_shapes


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
