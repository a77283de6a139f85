"""The built-in synthetic data set: rendered images of parts, in the layout of MVTec AD, reproducible from a seed.

Six textures and six objects, each with four to six defect types and exact masks, for first runs, tests and
demonstrations.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2

from blemish.data.synthetic.catalog import CATEGORIES, Recipe
from blemish.data.synthetic.render import Image, render_image
from blemish.errors import BlemishError
from blemish.files import make_folder, write_json, writing

__all__ = ["CATEGORIES", "Recipe", "synthesize"]

# Increases whenever the same arguments give other images than before.
_VERSION = 1
_RECORD = "synthetic.json"
_LARGEST_COUNT = 10_000


@dataclass(frozen=True)
class _Shot:
    """One image to render: its split, defect type and number, and the paths of image and mask in the category."""

    split: str
    defect: str
    index: int

    @property
    def image(self) -> str:
        return f"{self.split}/{self.defect}/{self.index:03d}.png"

    @property
    def mask(self) -> str | None:
        return None if self.defect == "good" else f"ground_truth/{self.defect}/{self.index:03d}_mask.png"


def synthesize(
    out: Path,
    *,
    categories: Sequence[str] | None = None,
    num_train: int = 110,
    num_test_good: int = 10,
    num_per_defect: int = 5,
    size: int = 256,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes synthetic categories under `out` in the layout of MVTec AD, and returns their folders.

    A category consists of `<category>/train/good/000.png`, `<category>/test/<good or defect>/000.png` and
    `<category>/ground_truth/<defect>/000_mask.png`: images of `size` x `size` pixels with 8 bits, in colour or (some
    categories) grey, and masks of 0 and 255. Those of a line camera (`rail`) are half as high and four times as wide.
    `categories` chooses from `CATEGORIES`, by default all; `num_per_defect` is the number of images of a defect type.

    An image depends only on `seed`, `size`, its category, split, defect type and number, to the byte. `workers` is the
    number of threads, by default that of the cores. `progress` is called with the number of images done and of all
    images. `synthetic.json` in `out` records the arguments. A category that is already complete with the same arguments
    is kept; a new one is written completely or not at all.

    Raises BlemishError for an argument out of range, and for a category's folder with other contents.
    """
    names = _checked_names(categories)
    counts = {"num_train": num_train, "num_test_good": num_test_good, "num_per_defect": num_per_defect}
    for name, count in counts.items():
        _check_range(name, count, 1, _LARGEST_COUNT)
    _check_range("size", size, 64, 1024)
    _check_range("seed", seed, 0, 2**63 - 1)
    if workers is not None:
        _check_range("workers", workers, 1, 256)
    recorded = {"version": _VERSION, **counts, "size": size, "seed": seed}
    missing = {name: _shots(name, **counts) for name in names if not _stands(Path(out), name, recorded, counts)}
    if missing:
        _write(Path(out), missing, recorded, workers or _processors(), progress)
    return [Path(out) / name for name in names]


def _checked_names(categories: Sequence[str] | None) -> list[str]:
    if categories is None:
        return sorted(CATEGORIES)
    names = [categories] if isinstance(categories, str) else list(dict.fromkeys(categories))
    unknown = [name for name in names if name not in CATEGORIES]
    if unknown or not names:
        what = f"unknown category {unknown[0]!r}" if unknown else "no category"
        raise BlemishError(f"synthesize: categories: {what}; choose from {', '.join(sorted(CATEGORIES))}")
    return names


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BlemishError(f"synthesize: {name} is {value!r}; it must be a whole number from {low} to {high}")


def _processors() -> int:
    return min(os.cpu_count() or 1, 16)


def _shots(category: str, num_train: int, num_test_good: int, num_per_defect: int) -> list[_Shot]:
    rows = [("train", "good", num_train), ("test", "good", num_test_good)]
    rows += [("test", defect, num_per_defect) for defect in CATEGORIES[category].defects]
    return [_Shot(split, defect, index) for split, defect, count in rows for index in range(count)]


def _stands(out: Path, category: str, wanted: Mapping[str, int], counts: Mapping[str, int]) -> bool:
    """Whether the category is complete with these arguments; raises BlemishError for a folder with other contents."""
    folder = out / category
    if not folder.exists():
        return False
    expected = {path for shot in _shots(category, **counts) for path in (shot.image, shot.mask) if path}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if _read_record(out).get(category) == wanted and found == expected:
        return True
    raise BlemishError(
        f"synthesize: {folder} exists and holds something other than this data set with these arguments; "
        "choose another folder, or delete that one"
    )


def _read_record(out: Path) -> dict[str, object]:
    """Category -> the arguments it was made with; empty where there is no readable record."""
    try:
        record = json.loads((out / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(
    out: Path,
    missing: Mapping[str, list[_Shot]],
    arguments: Mapping[str, int],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Renders the images in threads (OpenCV and numpy release the GIL) and moves each finished category to `out`."""
    make_folder(out)
    total, done = sum(map(len, missing.values())), 0
    with (
        writing(out),
        tempfile.TemporaryDirectory(dir=out, prefix=".synthetic-") as scratch,
        ThreadPoolExecutor(workers) as pool,
    ):
        for category, shots in missing.items():
            folder = Path(scratch) / category
            for parent in {(folder / path).parent for shot in shots for path in (shot.image, shot.mask) if path}:
                parent.mkdir(parents=True)
            for _ in _all_done(
                [pool.submit(_save, folder, category, shot, arguments["size"], arguments["seed"]) for shot in shots]
            ):
                done += 1
                if progress is not None:
                    progress(done, total)
            # The record comes first: a folder without one could have been made by something else.
            write_json(out / _RECORD, {**_read_record(out), category: dict(arguments)})
            folder.rename(out / category)


def _all_done(futures: list[Future[None]]) -> Iterator[None]:
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _save(folder: Path, category: str, shot: _Shot, size: int, seed: int) -> None:
    image, mask = render_image(category, shot.split, shot.defect, shot.index, size, seed)
    _write_png(folder / shot.image, image[..., ::-1])
    if shot.mask is not None and mask is not None:
        _write_png(folder / shot.mask, mask)


def _write_png(path: Path, image: Image) -> None:
    # Written through Python: cv2.imwrite fails silently and cannot take every file name.
    _, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    path.write_bytes(data.tobytes())
