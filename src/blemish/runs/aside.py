"""What `fit` sets aside of a category: the images for testing, and good images that are copies of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from blemish.data.category import Category
from blemish.data.reading import FileReader, file_digests
from blemish.errors import BlemishError, number_of
from blemish.types import Sample

logger = logging.getLogger("blemish")


def log_set_aside(category: Category) -> None:
    """Logs in a line how many images are set aside for testing, and in another which good ones are copies of them."""
    test = category.of("test")
    if not test:
        return
    good = [sample for sample in category.samples if sample.split != "test"]
    num_bad = sum(bool(sample.label) for sample in test)
    aside = f"{number_of(len(test) - num_bad, 'good image')} and {number_of(num_bad, 'defective one')}"
    logger.info("%s: %s to learn from; set aside for testing: %s", category.root, number_of(len(good), "image"), aside)
    if pairs := copies(good, test):
        first, other = pairs[0]
        more = f" ({len(pairs) - 1} more: blemish data check)" if len(pairs) > 1 else ""
        logger.warning("%s: identical to %s, set aside for testing. Remove one of them.%s", first, other, more)


def copies(good: Iterable[Sample], test: Iterable[Sample]) -> list[tuple[Path, Path]]:
    """The good images whose files have the content of a test image, with that image; copies of defects first."""
    reader = FileReader()
    of_test = {_digest(sample, reader): sample for sample in sorted(test, key=lambda sample: bool(sample.label))}
    found = [(sample, of_test[digest]) for sample in good if (digest := _digest(sample, reader)) in of_test if digest]
    return [(one.image, other.image) for one, other in sorted(found, key=lambda pair: not pair[1].label)]


def _digest(sample: Sample, reader: FileReader) -> str:
    """SHA-256 of the image's content; empty where it cannot be read."""
    try:
        return file_digests([replace(sample, mask=None)], reader=reader)[sample.image]
    except BlemishError:
        return ""
