"""The layout of MVTec AD: <category>/train/good, test/<type>, ground_truth/<type>/<stem>_mask.*"""

from __future__ import annotations

from pathlib import Path

from blemish.images import is_image
from blemish.types import GOOD, Sample


def read_mvtec(path: Path) -> dict[str, list[Sample]]:
    """Category -> samples, for `path` a category's folder or a folder of such folders; empty where it is neither."""
    if (path / "train").is_dir():
        folders = [path.resolve()]
    else:
        folders = sorted(folder for folder in path.iterdir() if (folder / "train").is_dir())
    return {folder.name: _read_category(folder) for folder in folders}


def _read_category(folder: Path) -> list[Sample]:
    train = [Sample(image, False, None, GOOD, "train") for image in list_images(folder / "train" / GOOD)]
    test = [
        Sample(image, defect.name != GOOD, _mask_of(image, folder, defect.name), defect.name, "test")
        for defect in list_folders(folder / "test")
        for image in list_images(defect)
    ]
    return train + test


def _mask_of(image: Path, folder: Path, defect: str) -> Path | None:
    return None if defect == GOOD else find_mask(folder / "ground_truth" / defect, image.stem)


def find_mask(folder: Path, stem: str) -> Path | None:
    """The mask of the image `stem` in a folder of masks: `<stem>_mask.*`, or `<stem>.*` as some sets have it."""
    for name in (f"{stem}_mask", stem):
        for extension in (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg"):
            for candidate in (folder / f"{name}{extension}", folder / f"{name}{extension.upper()}"):
                if candidate.is_file():
                    return candidate
    return None


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, in the order of their names; none where there is no such folder."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def list_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, in the order of their names, hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
