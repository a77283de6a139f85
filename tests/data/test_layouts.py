"""Each public layout: recognised by itself, split, labelled and masked as its authors define it; wrong trees."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from trees import BOX, OTHER_BOX, SIDE, TREES, document, image, mask, table

from blemish.data import Category, find_categories, hold_out
from blemish.data.category import only_good
from blemish.data.check import find_problems, read_mask_infos
from blemish.data.layouts import LAYOUTS
from blemish.data.overview import overview
from blemish.data.source import load
from blemish.errors import BlemishError
from blemish.imaging.mask_sources import marks_of
from blemish.imaging.preprocess import Preprocess

COUNTS = {
    "visa": {"candle": (8, 0, 2, 2), "pcb1": (8, 0, 2, 2)},
    "btad": {"01": (8, 0, 2, 2), "02": (8, 0, 2, 2), "03": (8, 0, 2, 2)},
    "mpdd": {"bracket_black": (8, 0, 2, 2), "tubes": (8, 0, 2, 2)},
    "mvtec_loco": {"breakfast_box": (8, 3, 2, 4), "pushpins": (8, 3, 2, 4)},
    "mvtec_ad_2": {"can": (8, 3, 2, 2), "vial": (8, 3, 2, 2)},
    "real_iad": {"toy": (16, 0, 6, 2)},
    "kolektor_sdd": {"set": (17, 0, 7, 2)},
    "kolektor_sdd2": {"set": (7, 0, 2, 2)},
    "dagm": {"Class1": (7, 0, 2, 2), "Class10": (7, 0, 2, 2)},
    "severstal": {"set": (7, 0, 1, 2)},
    "magnetic_tile": {"set": (10, 0, 4, 5)},
    "autovi": {"engine_wiring": (8, 0, 2, 4)},
}
"""Layout -> category -> numbers of images to learn from, for validation, good and anomalous ones for testing."""


def counts(category: Category) -> tuple[int, int, int, int]:
    test = category.of("test")
    labels = [sample.label for sample in test]
    return len(category.of("train")), len(category.of("val")), labels.count(False), labels.count(True)


def of(root: Path, name: str, **options: str) -> Category:
    (category,) = (found for found in find_categories(root, **options) if found.name == name)
    return category


def defect_area(category: Category, number: int = 0) -> tuple[slice, ...] | np.ndarray:
    return marks_of([sample for sample in category.samples if sample.label][number].mask)


def box(size: tuple[int, int] = (SIDE, SIDE), *boxes: tuple) -> np.ndarray:
    marks = np.zeros(size, bool)
    for one in boxes or (BOX,):
        marks[one] = True
    return marks


@pytest.mark.parametrize("layout", TREES)
@pytest.mark.parametrize("given", ["by itself", "by name"])
def test_a_layout_is_recognised_and_split(layout, given, tmp_path: Path):
    root = TREES[layout](tmp_path / "set")
    found = find_categories(root, layout="auto" if given == "by itself" else layout)
    assert {category.layout for category in found} == {layout}
    assert {category.name: counts(category) for category in found} == COUNTS[layout]
    for category in found:
        assert all(sample.image.is_file() and sample.image.is_relative_to(category.root) for sample in category.samples)
        assert all(sample.mask for sample in category.samples if sample.label)
        assert not any(sample.label for sample in category.samples if sample.split != "test")
        assert [sample.defect == "good" for sample in category.samples] == [not s.label for s in category.samples]


@pytest.mark.parametrize("layout", TREES)
def test_a_sound_tree_has_no_problems_and_its_masks_mark_the_defects(layout, tmp_path: Path):
    for category in find_categories(TREES[layout](tmp_path / "set")):
        source = load(category.samples, Preprocess((32, 32)))
        problems = find_problems(category, source.files, read_mask_infos(category.samples))
        assert [problem for problem in problems if "left out" not in problem.message] == []
        for sample, info in zip(source.samples, source.files, strict=True):
            if sample.label:
                marks = marks_of(sample.mask)
                assert marks.shape == info.size
                assert 0 < marks.mean() < 0.5


@pytest.mark.parametrize("layout", [name for name, of in COUNTS.items() if len(of) > 1 or "real" in name])
def test_one_category_s_folder_holds_the_same_samples(layout, tmp_path: Path):
    first = find_categories(TREES[layout](tmp_path / "set"))[0]
    (alone,) = find_categories(first.root)
    assert alone == first


@pytest.mark.parametrize("layout", TREES)
def test_every_layout_says_what_it_expects_of_another_tree(layout, tmp_path: Path):
    root = tmp_path / "empty"
    (root / "sub").mkdir(parents=True)
    with pytest.raises(BlemishError) as error:
        find_categories(root, layout=layout)
    assert f"{root}: does not have the layout {layout}. {LAYOUTS[layout].expected}" in str(error.value)


def test_an_unknown_layout(tmp_path: Path):
    with pytest.raises(BlemishError, match=r"^layout 'mvtec2': there is none; there are auto, .*mvtec, folder\.$"):
        find_categories(tmp_path, layout="mvtec2")


MISSING = [
    ("visa", "split_csv/1cls.csv", "split_csv/1cls.csv: missing. VisA has"),
    ("visa", "pcb1", "set/pcb1: missing. VisA has"),
    ("btad", "BTech_Dataset_transformed/02/test/ok", "02/test/ok: missing. BTAD has"),
    ("btad", "BTech_Dataset_transformed/02/ground_truth", "02/ground_truth/ko: missing. BTAD has"),
    ("mvtec_loco", "pushpins/validation", "pushpins/validation/good: missing. MVTec LOCO AD has"),
    ("mvtec_loco", "pushpins/defects_config.json", "pushpins/defects_config.json: missing. MVTec LOCO"),
    ("mvtec_loco", "pushpins/test/logical_anomalies", "pushpins/test/logical_anomalies: missing. MVTec LOCO"),
    ("mvtec_ad_2", "can/validation", "can/validation/good: missing. MVTec AD 2 has"),
    ("mvtec_ad_2", "can/test_public/ground_truth", "can/test_public/ground_truth/bad: missing. MVTec AD 2 has"),
    ("real_iad", "realiad_jsons", "realiad_jsons: missing. Real-IAD has"),
    ("real_iad", "realiad_jsons/toy.json", "realiad_jsons/toy.json: missing. Real-IAD has"),
    ("kolektor_sdd", "kos03/Part1_label.bmp", "kos03/Part1_label.bmp: missing. KolektorSDD has"),
    ("kolektor_sdd2", "test/10003_GT.png", "test/10003_GT.png: missing. KolektorSDD2 has"),
    ("kolektor_sdd2", "test", "set/test: missing. KolektorSDD2 has"),
    ("dagm", "Class10/Train", "Class10/Train: missing. DAGM has"),
    ("severstal", "train_images/000000008.jpg", "train_images/000000008.jpg: missing. Severstal has"),
    ("magnetic_tile", "MT_Free", "MT_Free: missing. The magnetic tile set has"),
    ("magnetic_tile", "MT_Fray/Imgs/exp3_num_9000.png", "exp3_num_9000.png: missing. The magnetic tile set has"),
    ("autovi", "engine_wiring/train", "does not have the layout autovi. AutoVI has"),
]


@pytest.mark.parametrize(("layout", "gone", "message"), MISSING, ids=lambda value: str(value)[:40])
def test_what_is_missing_is_named_with_its_place(layout, gone, message, tmp_path: Path):
    place = TREES[layout](tmp_path / "set") / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(BlemishError) as error:
        find_categories(tmp_path / "set", layout=layout)
    assert message in str(error.value)


def test_visa_masks_are_class_ids_and_a_split_is_a_table(tmp_path: Path):
    root = TREES["visa"](tmp_path)
    candle = of(root, "candle")
    assert [sample.image.name for sample in candle.of("test") if not sample.label] == ["0008.JPG", "0009.JPG"]
    for number in range(2):  # the first one's value is 1, the second one's 2
        assert np.array_equal(defect_area(candle, number), box())
    few = of(root, "candle", layout="visa_fewshot")
    assert counts(few) == (1, 0, 9, 1)  # an anomalous image to learn from is left out
    assert [sample.image.name for sample in few.of("train")] == ["0000.JPG"]


def test_visa_s_table_is_read_strictly(tmp_path: Path):
    root = TREES["visa"](tmp_path)
    header = ["object", "split", "label", "image", "mask"]
    for row, message in [
        (["candle", "train", "odd", "candle/x.JPG", ""], "is labelled odd for train"),
        (["candle", "val", "normal", "candle/x.JPG", ""], "is labelled normal for val"),
        (["candle", "train", "normal", "../x.JPG", ""], r"'\.\./x\.JPG' is not a path within"),
        (["/etc", "train", "normal", "candle/x.JPG", ""], "'/etc' is not a path within"),
    ]:
        table(root / "split_csv/1cls.csv", header, row)
        with pytest.raises(BlemishError, match=message):
            find_categories(root)
    table(root / "split_csv/1cls.csv", header[:4], ["candle", "train", "normal", "candle/x.JPG"])
    with pytest.raises(BlemishError, match=r"has the columns object, split, label, image; object, .*mask are needed"):
        find_categories(root)


def test_a_folder_with_other_types_than_ko_is_no_btad(tmp_path: Path):
    root = TREES["btad"](tmp_path)
    image(root / "BTech_Dataset_transformed/02/test/dent/1.png", bad=True)
    assert [category.name for category in find_categories(root)] == ["01", "03"]
    own = root / "BTech_Dataset_transformed/02"
    assert find_categories(own)[0].layout == "mvtec"


def test_loco_masks_are_the_union_of_the_defects_and_validation_is_not_drawn(tmp_path: Path):
    pushpins = of(TREES["mvtec_loco"](tmp_path), "pushpins")
    structural = next(sample for sample in pushpins.samples if sample.defect == "structural_anomalies")
    assert np.array_equal(marks_of(structural.mask), box((SIDE, SIDE), BOX, OTHER_BOX))
    assert hold_out(pushpins, 0.5, seed=3) == pushpins
    assert {sample.image.parent.parent.name for sample in pushpins.of("val")} == {"validation"}
    assert [len(only_good(pushpins).of(split)) for split in ("train", "val", "test")] == [8, 3, 0]


def test_saturations_are_checked(tmp_path: Path):
    root = TREES["autovi"](tmp_path)
    config = root / "engine_wiring/defects_config.json"
    for content, message in [
        ({}, "must be a list of defects"),
        ([{"pixel_value": 1}], "is not a defect, which has pixel_value"),
        ([{"pixel_value": 1, "saturation_threshold": 0, "relative_saturation": True}], "saturation_threshold"),
        ([{"pixel_value": 1, "saturation_threshold": 2, "relative_saturation": 1}], "relative_saturation"),
    ]:
        document(config, content)
        with pytest.raises(BlemishError, match=message):
            find_categories(root)
    config.write_text("[")
    with pytest.raises(BlemishError, match="not JSON"):
        find_categories(root)


def test_ad2_keeps_private_images_out(tmp_path: Path):
    can = of(TREES["mvtec_ad_2"](tmp_path), "can")
    assert not any("test_private" in path.parts[len(can.root.parts)] for path in can.files)
    assert hold_out(can, 0.1, seed=0) == can


def test_real_iad_resolutions_and_protocols(tmp_path: Path):
    root = TREES["real_iad"](tmp_path)
    toy = of(root, "toy")
    assert toy.root == root / "realiad_1024/toy"  # the larger one
    assert of(root / "realiad_256", "toy").root == root / "realiad_256/toy"
    assert [sample.defect for sample in toy.of("test") if sample.label] == ["AK", "AK"]
    assert {sample.group for sample in toy.of("train")} == {f"OK/S{part:04}" for part in range(1, 9)}
    assert counts(of(root, "toy", layout="real_iad_sv")) == (8, 0, 2, 2)
    noisy = of(root, "toy", layout="real_iad_fuiad")
    assert counts(noisy) == (18, 0, 5, 1)
    assert [sample.label for sample in noisy.of("train")].count(None) == 1  # anomalous, but that is not told
    (root / "realiad_jsons_sv").rename(root / "realiad_jsons" / "realiad_jsons_sv")  # as the archive has it
    assert counts(of(root, "toy", layout="real_iad_sv")) == (8, 0, 2, 2)


def test_real_iad_views_of_a_part_stay_on_one_side(tmp_path: Path):
    toy = of(TREES["real_iad"](tmp_path), "toy")
    for seed in range(5):
        split = hold_out(toy, 0.3, seed)
        held, learned = ({sample.group for sample in split.of(name)} for name in ("val", "train"))
        assert len(held) == 2
        assert not held & learned


@pytest.mark.parametrize(
    "content", [[], {"train": []}, {"train": [], "test": [3]}, {"train": [{"anomaly_class": "OK"}], "test": []}]
)
def test_real_iad_documents_are_checked(content, tmp_path: Path):
    root = TREES["real_iad"](tmp_path)
    document(root / "realiad_jsons/toy.json", content)
    with pytest.raises(BlemishError, match=r"toy\.json: .*(must have the lists train and test|lacks anomaly_class)"):
        find_categories(root)


def test_kolektor_s_items_are_groups_and_folds_part_them(tmp_path: Path):
    root = TREES["kolektor_sdd"](tmp_path)
    seen = []
    for layout in ("kolektor_sdd", "kolektor_sdd_fold2", "kolektor_sdd_fold3"):
        (category,) = find_categories(root, layout=layout)
        items = {sample.image.parent.name for sample in category.of("test")}
        assert not items & {sample.image.parent.name for sample in category.of("train")}
        assert all(sample.group == sample.image.parent.name for sample in category.samples)
        seen += sorted(items)
    assert sorted(seen) == [f"kos{item:02}" for item in range(1, 10)]


def test_severstal_s_runs_go_down_the_columns(tmp_path: Path):
    (category,) = find_categories(TREES["severstal"](tmp_path))
    first, second = (sample for sample in category.samples if sample.label)
    assert (first.defect, second.defect) == ("class_3", "class_1+class_4")
    assert np.array_equal(marks_of(first.mask), box((256, 1600), (slice(0, 10), slice(0, 2))))
    assert np.array_equal(
        marks_of(second.mask), box((256, 1600), (slice(0, 10), slice(0, 2)), (slice(255, 256), slice(1599, 1600)))
    )


@pytest.mark.parametrize("runs", ["1", "0 5", "1 0", "409600 2", "a b", "1 -3", "1 99999999999999999999"])
def test_wrong_runs_are_problems_of_their_image(runs, tmp_path: Path):
    root = TREES["severstal"](tmp_path)
    table(root / "train.csv", ["ImageId", "ClassId", "EncodedPixels"], ["000000009.jpg", "1", runs])
    (problem,) = (one for one in overview(root).problems if one.severity == "error")
    assert problem.path == root / "train_images/000000009.jpg"
    assert f"the runs {runs!r} are not those of an image of 256x1600" in problem.message


def test_shots_of_a_tile_stay_on_one_side(tmp_path: Path):
    (category,) = find_categories(TREES["magnetic_tile"](tmp_path))
    tested = {sample.image.stem for sample in category.of("test") if not sample.label}
    # The first tile has a blowhole in another exposure; the fifth of the other six is drawn.
    assert tested == {"exp1_num_20", "exp2_num_40", "exp1_num_5020", "exp2_num_5040"}
    learned = {sample.image.stem: sample.group for sample in category.of("train")}
    assert learned["exp1_num_5070"] == learned["exp2_num_5090"] == "tile 5070"
    held = hold_out(category, 0.2, seed=1)
    assert not {sample.group for sample in held.of("val")} & {sample.group for sample in held.of("train")}


@pytest.mark.parametrize(
    ("names", "tiles"),
    [
        (["exp1_num_7", "exp1_num_8", "exp1_num_9"], ["tile 7"] * 3),  # whatever the exposure
        (["exp1_num_7", "exp2_num_27", "exp4_num_99"], ["tile 7"] * 3),
        (["exp1_num_7", "exp2_num_208"], ["tile 7", "tile 208"]),
        (["exp2_num_7", "exp1_num_27"], ["tile 7", "tile 27"]),
        (["exp1_num_7", "other", "exp2_num_9"], ["tile 7", "", "tile 7"]),
    ],
)
def test_which_shots_show_one_tile(names, tiles, tmp_path: Path):
    for name in names:
        image(tmp_path / f"MT_Free/Imgs/{name}.jpg")
        mask(tmp_path / f"MT_Free/Imgs/{name}.png", box=None)
    (category,) = find_categories(tmp_path)
    group_of = {sample.image.stem: sample.group for sample in category.samples}
    assert [group_of[name] for name in names] == tiles


def test_groups_by_a_pattern(tmp_path: Path):
    for part in "abcdefghijkl":
        for shot in range(3):
            image(tmp_path / f"good/{part}_{shot}.png")
    image(tmp_path / "dent/a_9.png", bad=True)
    (category,) = find_categories(tmp_path, group=r"(\w)_\d\.png")
    parts = {
        split: {sample.image.name[0] for sample in category.of(split) if not sample.label}
        for split in ("train", "test")
    }
    assert parts["test"] == {"a", "f", "k"}  # the part that has a dent, and every fifth of the others
    assert not parts["test"] & parts["train"]
    held = hold_out(category, 0.2, seed=0)
    sizes = [len(held.of(split)) for split in ("train", "val")]
    assert sizes == [21, 6]
    assert not {s.group for s in held.of("val")} & {s.group for s in held.of("train")}
    (whole,) = find_categories(tmp_path, group=r"\w_")
    assert whole.samples[0].group == "a_"


@pytest.mark.parametrize(("group", "message"), [("(", "not a regular expression"), ("zzz", "matches no path such as")])
def test_a_wrong_pattern(group, message, tmp_path: Path):
    image(tmp_path / "good/1.png")
    with pytest.raises(BlemishError, match=f"^group '.*{message}"):
        find_categories(tmp_path, group=group)


def test_copies_and_groups_are_held_out_together(tmp_path: Path):
    for name in ("a1", "a2", "b1", "b2", "c1", "d1"):
        image(tmp_path / f"{name}.png")
    (category,) = find_categories(tmp_path, group=r"(\w)\d")
    digests = {sample.image: sample.image.stem for sample in category.samples}
    digests[tmp_path / "b1.png"] = "a1"  # so a and b belong together
    for seed in range(6):
        held = {sample.image.stem for sample in hold_out(category, 0.4, seed, digests).of("val")}
        assert held in ({"a1", "a2", "b1", "b2"}, {"c1"}, {"d1"})


def test_validation_images_of_a_registered_layout_are_kept(tmp_path: Path):
    mask(tmp_path / "unused.png")
    categories = find_categories(TREES["mvtec_loco"](tmp_path / "set"))
    assert all(category.brings_validation for category in categories)
    assert not any(category.brings_validation for category in find_categories(TREES["mpdd"](tmp_path / "other")))
