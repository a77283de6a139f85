"""The image files that the arguments of a command stand for: files, folders, patterns, standard input."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from glob import has_magic
from pathlib import Path

from blemish.data.listing import MASK, LeftOut, Listing, describe, list_images, why_not_walked
from blemish.data.names import masks_among
from blemish.errors import BlemishError
from blemish.files import absolute
from blemish.imaging.masks import understand_mask
from blemish.imaging.read import is_image, page_paths


def find_images(
    arguments: Sequence[str], listed: Iterable[str] = (), own: Collection[Path] = (), *, pages: bool = False
) -> Listing:
    """The image files for the arguments, without duplicates, and what was left out.

    An argument is a file, which is listed even where it does not exist; a folder, whose images are listed by
    `list_images`, without masks; a pattern such as parts/**/*.png, which matches no files in hidden folders and folders
    of tools unless it names the folder; or "-" for the paths in `listed`, one per line.
    Folders in `own` (absolute paths) are left out. With `pages`, a file of several images is listed once per page.

    Raises BlemishError where a folder or a pattern contains no image, or nothing is given.
    """
    found: list[Path] = []
    left_out: list[LeftOut] = []
    for argument in arguments:
        if argument == "-":
            found += [Path(line.rstrip("\r\n")) for line in listed if line.strip()]
            continue
        listing = _named(argument, own)
        if not listing.images:
            why = f" ({describe(listing.left_out)})" if listing.left_out else ""
            raise BlemishError(f"{argument}: no images found{why}. Give files, folders, patterns, or - for a list.")
        found += listing.images
        left_out += listing.left_out
    if not found:
        raise BlemishError("no images were named. Give files, folders, patterns, or - for a list on standard input.")
    unique = dict.fromkeys(found)
    images = (page for path in unique for page in page_paths(path)) if pages else unique
    return Listing(tuple(images), tuple(left_out))


def _named(argument: str, own: Collection[Path]) -> Listing:
    path = Path(argument)
    if os.path.isdir(path):  # noqa: PTH112
        return _without_masks(list_images(path, own), path)
    if has_magic(argument) and not os.path.lexists(path):
        return Listing(tuple(sorted(_matching(path, own))))
    return Listing((path,))


def _without_masks(listing: Listing, folder: Path) -> Listing:
    """The listing without files that are masks by their names and by their contents."""
    masks = {path for path in masks_among(listing.images, folder) if _is_mask(path)}
    left_out = (*listing.left_out, *(LeftOut(path, MASK) for path in sorted(masks)))
    return Listing(tuple(path for path in listing.images if path not in masks), left_out)


def _is_mask(path: Path) -> bool:
    try:
        understand_mask(path)
    except BlemishError:
        return False
    return True


def _matching(pattern: Path, own: Collection[Path]) -> Iterable[Path]:
    """The image files that match the pattern, without those in hidden folders that it does not name, and in `own`."""
    anchor = Path(pattern.anchor)  # empty where the pattern is relative
    try:
        matching = list(anchor.glob(str(pattern.relative_to(anchor))))
    except (ValueError, OSError) as error:
        raise BlemishError(f"{pattern}: not a pattern ({error}). Write one such as 'parts/**/*.png'.") from None
    for path in matching:
        implied = [name for name in path.parent.parts if why_not_walked(name) and name not in pattern.parts]
        is_own = any(absolute(path).is_relative_to(folder) for folder in own)
        if is_image(path) and os.path.isfile(path) and not implied and not is_own:  # noqa: PTH113
            yield path
