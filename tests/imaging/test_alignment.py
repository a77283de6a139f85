"""Turned and shifted parts are found, brought home, and looked at where they lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import BlemishError
from blemish.imaging.alignment import SIDE, Alignment, Placement, choose_alignment, to_canvas
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi
from blemish.inference.inspector import Inspector
from blemish.model.changes import write_model
from blemish.model.folder import read_model
from blemish.types import Sample

GROUND = 90
PLACEMENTS = st.builds(Placement, st.floats(-180, 180), right=st.floats(-0.08, 0.08), down=st.floats(-0.08, 0.08))


def part(height: int = 120, width: int = 120) -> np.ndarray:
    """An L with a red end on a grey ground: no turn but a whole one leaves it as it is."""
    picture = np.full((height, width, 3), GROUND, np.uint8)
    across, down = width // 2, height // 2
    cv2.rectangle(picture, (across - 30, down - 5), (across + 25, down + 8), (200, 190, 180), -1)
    cv2.rectangle(picture, (across - 30, down - 25), (across - 18, down + 8), (220, 220, 40), -1)
    cv2.circle(picture, (across + 25, down), 9, (200, 30, 30), -1)
    return picture


def reference(*size: int) -> Alignment:
    _, png = cv2.imencode(".png", np.round(255 * to_canvas(part(*size))[..., ::-1]).astype(np.uint8))
    return Alignment(png.tobytes())


def moved(generator: np.random.Generator, picture: np.ndarray, degrees: float = 180, shift: float = 0.1) -> np.ndarray:
    right, down = generator.uniform(-shift, shift, 2)
    placed = Placement(generator.uniform(-degrees, degrees), right, down).warp_back(picture, GROUND)
    return np.clip(placed + generator.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def write(folder: Path, pictures: list[np.ndarray], split: str = "train") -> list[Sample]:
    folder.mkdir(parents=True, exist_ok=True)
    samples = [Sample(folder / f"{number:03}.png", False, split=split) for number in range(len(pictures))]
    for sample, picture in zip(samples, pictures, strict=True):
        assert cv2.imwrite(str(sample.image), picture[..., ::-1])
    return samples


def moved_points(placed: Placement, points: np.ndarray) -> np.ndarray:
    """(n, 2) x, y with y downwards: turned counter-clockwise and shifted, in the longer side."""
    sine, cosine = np.sin(np.radians(placed.degrees)), np.cos(np.radians(placed.degrees))
    return points @ np.array([[cosine, -sine], [sine, cosine]]) + [placed.right, placed.down]


def turn_between(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


@settings(deadline=None, max_examples=40)
@given(PLACEMENTS, st.sampled_from([(120, 120), (120, 200), (240, 160)]))
def test_a_part_is_found_however_it_lies(placed, size):
    found = reference(*size).placement(placed.warp_back(part(*size), GROUND))
    corners = np.array([[-30, -25], [-30, 8], [34, 0]]) / max(size)  # of the part, seen from the middle
    assert np.abs(moved_points(found, corners) - moved_points(placed, corners)).max() < 0.5 / SIDE


@settings(deadline=None, max_examples=40)
@given(
    PLACEMENTS,
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.sampled_from([(80, 80), (80, 81, 3), (64, 128), (1, 1, 3), (3, 200)]),
)
def test_what_is_laid_comes_home_in_its_own_type(placed, dtype, shape):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    picture = np.full(shape, 0.5 * top).astype(dtype)
    laid = placed.warp_back(picture, float(picture.flat[0]))
    assert (laid.shape, laid.dtype) == (picture.shape, picture.dtype)
    np.testing.assert_array_equal(placed.warp(laid), picture)  # a constant stays one, its edges too
    smooth = cv2.GaussianBlur(np.random.default_rng(0).random((80, 80)), (0, 0), 4)
    inner = slice(30, 50), slice(30, 50)
    np.testing.assert_allclose(placed.warp(placed.warp_back(smooth))[inner], smooth[inner], atol=0.01)


def test_corners_that_a_turn_leaves_out_are_mirrored_and_get_the_lowest_value_of_the_map():
    placed, straight = Placement(45, 0, 0), np.random.default_rng(0).uniform(1, 2, (60, 60)).astype(np.float32)
    found = Preprocess((60, 60)).assemble([straight], (60, 60), placed)
    np.testing.assert_array_equal(found[[0, 0, -1, -1], [0, -1, 0, -1]], straight.min())
    assert found.min() == straight.min()
    picture = np.zeros((60, 60), np.uint8)
    picture[10:-10, 10:-10] = 200
    corner = placed.warp(picture)[:5, :5]  # beyond the frame, whose edge is black
    assert corner.max() == 200


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_kind_of_picture_is_placed_as_its_eight_bit_twin(dtype):
    placed = Placement(40, 0.05, -0.02)
    laid = placed.warp_back(part(), GROUND)
    scale = 1 / 255 if dtype == np.float32 else np.iinfo(dtype).max / 255
    found, wanted = (reference().placement(one) for one in ((laid * scale).astype(dtype), laid))
    assert turn_between(found.degrees, wanted.degrees) < 0.1
    grey = reference().placement(laid.mean(axis=2).astype(np.uint8))
    assert turn_between(grey.degrees, placed.degrees) < 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (2, 300, 3), (64, 64), (5, 4, 3)])
def test_pictures_with_nothing_to_find_have_a_placement_all_the_same(shape):
    for picture in (np.zeros(shape, np.uint8), np.random.default_rng(0).integers(0, 256, shape, np.uint8)):
        found = reference().placement(picture)
        assert np.isfinite([found.degrees, found.right, found.down]).all()


def test_parts_that_lie_turned_and_shifted_are_registered(tmp_path: Path):
    generator = np.random.default_rng(0)
    samples = write(tmp_path / "a", [moved(generator, part()) for _ in range(20)])
    found, reason = choose_alignment(samples, write(tmp_path / "b", [moved(generator, part()) for _ in range(4)]))
    assert found is not None
    assert reason.startswith(
        "align: on, since registration multiplies the difference of 4 held-out good images from the mean by 0."
    )
    straight = [found.placement(image).warp(image) for image in (read_image(one.image) for one in samples)]
    spread = np.std(np.asarray(straight, np.float32), axis=0)[20:-20, 20:-20]
    before = np.std([read_image(one.image).astype(np.float32) for one in samples], axis=0)[20:-20, 20:-20]
    assert spread.mean() < 0.4 * before.mean()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda generator: moved(generator, part(), degrees=0, shift=0), "registration multiplies the difference"),
        (lambda generator: generator.integers(60, 120, (120, 120, 3)).astype(np.uint8), "no background"),
        (lambda generator: np.full((120, 120, 3), 90, np.uint8), "no background"),
    ],
    ids=["still", "texture", "constant"],
)
def test_what_lies_still_and_textures_are_taken_as_they_are(tmp_path: Path, make, why):
    generator = np.random.default_rng(0)
    samples = write(tmp_path, [make(generator) for _ in range(10)])
    found, reason = choose_alignment(samples[:8], samples[8:])
    assert found is None
    assert reason.startswith("align: off, since ")
    assert why in reason


def test_what_is_asked_for_is_done(tmp_path: Path):
    generator = np.random.default_rng(0)
    samples = write(tmp_path, [moved(generator, part()) for _ in range(6)])
    assert choose_alignment(samples[:5], samples[5:], "off") == (None, "align: off, as requested")
    asked, reason = choose_alignment(samples, [], "on")
    assert (asked is not None, reason) == (True, "align: on, as requested")
    assert choose_alignment(samples, [])[0] is None  # nothing to choose by


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path):
    generator = np.random.default_rng(0)
    samples = write(tmp_path, [moved(generator, part()) for _ in range(12)])
    samples[3].image.write_bytes(b"no image")
    samples[11].image.unlink()
    found, reason = choose_alignment(samples[:9], samples[9:])
    assert found is not None
    assert "2 held-out" in reason


def redness(images: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A backend whose map is how red a pixel is, and whose score is the mean of all."""
    maps = images[:, 0] - images[:, 1]
    return maps.mean(axis=(1, 2)), maps


@pytest.mark.parametrize("tiled", [False, True])
def test_maps_lie_over_the_file_as_it_is_and_the_score_is_of_the_registered_part(tmp_path: Path, tiled):
    preprocess = Preprocess((60, 60), tile=60 if tiled else None, overlap=10 if tiled else 0, alignment=reference())
    placed = Placement(130, 0.06, -0.05)
    laid = placed.warp_back(part(), GROUND)
    (sample,) = write(tmp_path, [laid])
    (found,) = Inspector(redness, preprocess).predict([sample])
    assert found.map.shape == (120, 120)
    image = read_image(sample.image)
    pieces = preprocess.pieces(image, preprocess.placement(image))
    assert found.score == max(float(redness(to_batch([piece]))[0][0]) for piece in pieces)
    red = laid[..., 0].astype(int) - laid[..., 1] > 100
    wanted = np.argwhere(red).mean(axis=0)
    assert np.abs(np.argwhere(found.map > 0.3).mean(axis=0) - wanted).max() < 2


def test_what_registration_fills_never_sets_the_score(tmp_path: Path):
    """Turned by 45 degrees, the corners of the registered image are mirrored: they show no part of the file."""
    placement, size = Placement(45, 0.0, 0.0), (64, 64)
    preprocess = Preprocess(size, alignment=reference())
    (inside,) = preprocess.inside(size, placement)
    assert inside is not None
    assert not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert inside[16:48, 16:48].all()
    whole = placement.coverage(size)
    assert whole[inside].min() > 0 == whole[~inside].max()
    assert next(iter(preprocess.inside(size, Placement(0, 0.0, 0.0)))).all()
    image = np.full((*size, 3), 60, np.uint8)

    def brightest(images: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        maps = images[:, 0].copy()
        maps[:, :3, :3] = 9  # a corner that is filled
        return np.where(True if inside is None else inside, maps, -np.inf).max(axis=(1, 2)), maps

    masks = np.stack(list(preprocess.inside(size, placement)))
    assert brightest(to_batch(preprocess.pieces(image, placement)), masks)[0][0] == pytest.approx(60 / 255)


@pytest.fixture(scope="module")
def turned_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category of turned parts, some of which have a white spot."""
    root, generator = tmp_path_factory.mktemp("turned") / "part", np.random.default_rng(1)
    good = [moved(generator, part()) for _ in range(36)]
    write(root / "train/good", good[:30])
    write(root / "test/good", good[30:])
    spotted = part()
    cv2.circle(spotted, (58, 60), 4, (250, 250, 250), -1)
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(mask, (58, 60), 4, 255, -1)
    for number in range(6):
        placed = Placement(generator.uniform(-180, 180), *generator.uniform(-0.1, 0.1, 2))
        for folder, picture in (
            ("test/spot", placed.warp_back(spotted, GROUND)),
            ("ground_truth/spot", placed.warp_back(mask)),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            name = f"{number:03}{'_mask' if 'truth' in folder else ''}.png"
            cv2.imwrite(str(root / folder / name), picture if picture.ndim == 2 else picture[..., ::-1])
    return root


def test_a_run_aligns_by_itself_and_its_model_brings_its_reference(turned_parts, tmp_path: Path):
    from blemish.runs.config import RunConfig
    from blemish.runs.run import run

    fields = {
        "model": "padim",
        "options": {"backbone": "gabor"},
        "size": 64,
        "data_path": turned_parts.parent,
        "figures": 1,
    }
    aligned, still = (
        run(RunConfig.create(**fields, align=align, ckpt_path=tmp_path / align)) for align in ("auto", "off")
    )
    assert aligned.metrics["pixel_auroc"] > 0.99
    assert aligned.metrics["image_auroc"] > still.metrics["image_auroc"] + 0.1
    model = read_model(tmp_path / "auto/part")
    assert model.provenance["choices"][0].startswith(
        "align: on, since registration multiplies the difference of 3 held-out good images"
    )
    assert model.preprocess.alignment.png == model.file("reference.png").read_bytes()
    assert "reference.png" not in read_model(tmp_path / "off/part").sha256
    predictions = {
        found.sample.image.name: found
        for found in Inspector.load(model.folder).predict(sorted((turned_parts / "test/spot").glob("*.png")))
    }
    recorded = {Path(one["path"]).name: one["score"] for one in aligned.images if "spot" in one["path"]}
    assert recorded == {name: pytest.approx(found.score, rel=1e-6) for name, found in predictions.items()}


def test_a_run_of_before_there_was_alignment_goes_on_as_one_without(turned_parts, tmp_path: Path):
    from blemish.runs.config import RunConfig
    from blemish.runs.run import run

    fields = {
        "model": "padim",
        "options": {"backbone": "gabor"},
        "size": 64,
        "data_path": turned_parts.parent,
        "ckpt_path": tmp_path,
        "figures": 0,
    }
    run(RunConfig.create(**fields, align="off"))
    document = tmp_path / "part/model.json"
    content = json.loads(document.read_text())
    assert content["provenance"]["config"].pop("align") == "off"
    document.write_text(json.dumps(content))
    before = document.stat().st_mtime_ns
    run(RunConfig.create(**fields, align="off", resume=True))
    assert document.stat().st_mtime_ns == before
    with pytest.raises(BlemishError, match="align = off, while this one has auto"):
        run(RunConfig.create(**fields, resume=True))


def test_another_reference_than_that_of_the_model_is_refused(model: Path):
    known = read_model(model)
    write_model(replace(known, preprocess=replace(known.preprocess, alignment=reference())))
    assert read_model(model).preprocess.alignment == reference()
    read_model(model).path("reference.png").write_bytes(b"other")
    with pytest.raises(BlemishError, match=r"reference-\w+\.png: not the file that model\.json was written for"):
        read_model(model)


def test_a_model_of_before_there_was_alignment_takes_pictures_as_they_lie(model: Path):
    document = json.loads((model / "model.json").read_text())
    assert document["preprocess"].pop("reference") is None
    document["format_version"] = 2
    (model / "model.json").write_text(json.dumps(document))
    assert read_model(model).preprocess.alignment is None


def test_a_damaged_reference_and_a_region_that_lies_still_are_refused(tmp_path: Path):
    from blemish.runs.config import RunConfig

    with pytest.raises(BlemishError, match="truncated, or not an image"):
        Alignment(b"no picture")
    with pytest.raises(BlemishError, match="roi: cannot be combined with align"):
        RunConfig.create(data_path="d", ckpt_path="c", align="on", roi="mask.png")


def test_with_a_region_of_interest_pictures_are_taken_as_they_lie(turned_parts, tmp_path: Path):
    from blemish.runs.config import RunConfig
    from blemish.runs.fit import fit

    cv2.imwrite(str(tmp_path / "mask.png"), np.full((120, 120), 255, np.uint8))
    config = RunConfig.create(
        model="padim",
        options={"backbone": "gabor"},
        size=64,
        data_path=turned_parts,
        ckpt_path=tmp_path / "m",
        roi=tmp_path / "mask.png",
    )
    model = fit(config)
    assert model.preprocess.alignment is None
    assert model.provenance["choices"][0] == "align: off, since the region of interest is fixed"
    assert isinstance(model.preprocess.roi, Roi)
