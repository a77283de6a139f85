"""The layout of MVTec AD: <category>/train/good, test/<type>, ground_truth/<type>/<stem>_mask.*"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blemish.imaging.read import is_image
from blemish.types import GOOD, Sample

MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Those of images, the ones that keep a mask as it is first."""


def read_mvtec(path: Path) -> dict[Path, list[Sample]]:
    """A category's folder -> samples, for `path` one or a folder of such folders; empty where it is neither."""
    folders = [path] if (path / "train").is_dir() else list_folders(path)
    return {folder: _read_category(folder) for folder in folders if (folder / "train").is_dir()}


def _read_category(folder: Path) -> list[Sample]:
    train = [Sample(image, False, None, GOOD, "train") for image in list_images(folder / "train" / GOOD)]
    test = []
    for defect in list_folders(folder / "test"):
        masks = {} if defect.name == GOOD else list_masks(folder / "ground_truth" / defect.name)
        test += [
            Sample(image, defect.name != GOOD, mask_of(image, masks), defect.name, "test")
            for image in list_images(defect)
        ]
    return train + test


def list_masks(folder: Path) -> dict[str, Path]:
    """Stem -> file in a folder of masks; of several with one stem, the first of MASK_EXTENSIONS."""
    files = [path for path in list_images(folder) if path.is_file()]
    files.sort(key=lambda path: MASK_EXTENSIONS.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in files}


def mask_of(image: Path, masks: Mapping[str, Path]) -> Path | None:
    """The mask of an image, of `list_masks`: `<stem>_mask.*`, or `<stem>.*` as some sets have it."""
    return masks.get(f"{image.stem}_mask") or masks.get(image.stem)


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, in the order of their names; none where there is no such folder."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def list_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, in the order of their names, hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
