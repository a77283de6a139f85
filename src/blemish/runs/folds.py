"""Cross-validation: predictions of good images by detectors fitted to the others; and how images are recognised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.data.augment import augmented
from blemish.data.category import num_held_out, units_of
from blemish.data.source import ImageSource
from blemish.errors import BlemishError
from blemish.inference.inspector import Inspector
from blemish.model.folder import ModelFolder
from blemish.types import Prediction, Sample

if TYPE_CHECKING:
    from blemish.detectors.base import Detector

DIGEST_LENGTH = 16
"""Hexadecimal digits of a SHA-256 by which a model recognises the images that it was fitted to."""


def fold_predictions(model: ModelFolder, source: ImageSource, folds: int) -> Iterator[Prediction]:
    """A prediction for each different image, by a detector fitted to the other folds."""
    from blemish.inference.torch_backend import TorchBackend

    config = model.provenance.get("config", {})
    seed, fraction = int(config.get("seed", 0)), float(config.get("validation", 0.1))
    copies: dict[str, list[Sample]] = defaultdict(list)
    for sample, unit in zip(source.samples, units_of(digests(source), source.samples), strict=True):
        copies[unit].append(sample)
    groups, firsts = list(copies.values()), set(without_copies(source).samples)
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    for start in range(folds):
        fold = order[start::folds]
        others = [row for row in order if row not in fold]
        count = num_held_out(len(others), fraction)
        held_out, learned = (
            source.where({sample for row in rows for sample in groups[row]}.__contains__)
            for rows in (others[:count], others[count:])
        )
        left = source.where((firsts & {sample for row in fold for sample in groups[row]}).__contains__)
        learned, _ = augmented(learned, config.get("augment", "off"), seed)
        detector = closed_form_detector(model).fit(learned, validation=held_out if count else None, seed=seed)
        yield from Inspector(TorchBackend(detector), model.preprocess).predict(left)


def closed_form_detector(model: ModelFolder) -> Detector:
    """An unfitted detector like the model's; raises BlemishError where it would be trained by gradient."""
    from blemish.detectors import detector_class

    detector = detector_class(model.model).create(**model.options)
    if hasattr(detector, "losses"):  # it learns by gradient
        raise BlemishError(
            f"folds: {model.model} would be trained once per fold, which takes too long. Give --images FOLDER."
        )
    return detector


def digests(source: ImageSource) -> list[str]:
    """The first digits of the SHA-256 of each image's pixels, in the order of the files."""
    return [info.pixel_sha256[:DIGEST_LENGTH] for info in source.files]


def former_digests(source: ImageSource) -> list[str]:
    """The first digits of the SHA-256 of each file, by which models of earlier versions recognise images."""
    return [info.sha256[:DIGEST_LENGTH] for info in source.files]


def learned_among(known: Mapping[Path, tuple[str, str]], provenance: Mapping[str, Any]) -> list[Path]:
    """Those of the images, with their `content_digests`, that the model of this provenance was fitted to."""
    learned = set(provenance.get("learned_from", []))
    return [image for image, both in known.items() if {whole[:DIGEST_LENGTH] for whole in both} & learned]


def without_copies(source: ImageSource) -> ImageSource:
    """The source with the first of the copies of each image, since copies add no evidence."""
    firsts = set(dict(zip(reversed(digests(source)), reversed(source.samples), strict=True)).values())
    return source.where(firsts.__contains__)
