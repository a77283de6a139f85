"""Finds the image files that annotations name, and gives them names in the folder that is written."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from blemish.data.listing import list_images
from blemish.errors import BlemishError


class ImageIndex:
    """The images in a folder and its sub-folders, by their names."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.images = list_images(folder).images
        if not self.images:
            raise BlemishError(f"{folder}: no images found. Give the folder of the images that were annotated.")
        self._named: dict[str, list[Path]] = defaultdict(list)
        for image in self.images:
            self._named[image.name].append(image)
            self._named[image.stem].append(image)

    def find(self, name: str) -> Path | None:
        """The image of this name: a path, whose end counts, a file's name or its stem; None unless there is one alone.

        Eight letters that Label Studio puts in front of uploaded files are left out where there is no such file.
        """
        wanted = PurePosixPath(name.replace("\\", "/"))
        found = self._named.get(wanted.name) or self._named.get(re.sub(r"^[0-9a-f]{8}-", "", wanted.name)) or []
        depth = {image: self._shared(image, wanted) for image in found}
        best = [image for image in found if depth[image] == max(depth.values())]
        return best[0] if len(best) == 1 else None

    def _shared(self, image: Path, wanted: PurePosixPath) -> int:
        """How many folders above the image and above the name are called the same, from the last one on."""
        count = 0
        pairs = zip(image.relative_to(self.folder).parent.parts[::-1], wanted.parent.parts[::-1], strict=False)
        for one, other in pairs:
            if one != other:
                break
            count += 1
        return count


class Names:
    """Names of files that differ in their stems, each made of an image's path."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, path: PurePosixPath) -> str:
        """A name for the image at a relative path: its folders and its own name, with a number where that is taken."""
        stem, number = "_".join((*path.parent.parts, path.stem)), 1
        chosen = stem
        while chosen.casefold() in self._taken:
            number += 1
            chosen = f"{stem}_{number}"
        self._taken.add(chosen.casefold())
        return f"{chosen}{path.suffix}"
