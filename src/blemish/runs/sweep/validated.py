"""A configuration judged without test images: by defects that are drawn on held-out good images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish.data.category import only_good
from blemish.data.kept import KeptImages
from blemish.data.reading import FileReader
from blemish.detectors.parts.synthesis import Synthesis, typical_contrast
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.files import discard, make_folder, write_json
from blemish.imaging.foreground import find_foreground
from blemish.imaging.masks import PackedMarks
from blemish.imaging.pixels import to_batch
from blemish.runs.benchmark.cells import Cell
from blemish.runs.steps import CHECKPOINT, Calibrated, calibrate, fit, prepare
from blemish.types import Evaluation, MaskSource, Sample

DRAWS = 2
"""Images with drawn defects per held-out image."""
MOST = 40
"""Held-out images that are used at most."""


class Validated(Cell):
    """A cell whose metrics are those on drawn defects; no test image is read."""

    result: ClassVar[str] = "validation.json"

    def compute(self, workers: int = 0) -> Evaluation:
        """Fits to the good images, and evaluates on held-out ones with drawn defects."""
        planned = self.planned(only_good(self.data.category), workers)
        folder = self.path.parent
        make_folder(folder)
        calibrated = calibrate(fit(prepare(planned), folder / CHECKPOINT))
        found = evaluate_drawn(calibrated)
        write_json(self.path, {"metrics": found.metrics})
        discard(folder / CHECKPOINT)
        return found


def evaluate_drawn(calibrated: Calibrated) -> Evaluation:
    """The metrics of a detector on held-out good images, as they are and with drawn defects.

    The defects are the same for every configuration of a seed. Raises BlemishError where no image is held out.
    """
    prepared = calibrated.fitted.prepared
    held_out = prepared.category.of("val")[:MOST]
    if not held_out:
        raise BlemishError(f"{prepared.category.root}: no image is held out, so there is nothing to choose by.")
    seed, root = prepared.config.seed, prepared.category.root
    samples, masks = _drawn(held_out, seed, prepared.config.max_pixels)
    return evaluate(
        calibrated.inspector.predict(samples),
        samples,
        method=prepared.config.model,
        category=prepared.category.name,
        root=root,
        roi=prepared.source.preprocess.roi,
        kept=KeptImages(masks=masks),
    )


def _drawn(
    held_out: Sequence[Sample], seed: int, max_pixels: int
) -> tuple[list[Sample], dict[MaskSource, PackedMarks]]:
    """The held-out images, each followed by DRAWS images with drawn defects, and the masks of these."""
    reader = FileReader(max_pixels)
    images = [_as_rgb(reader.open(sample).pixels) for sample in held_out]
    grey = all(np.ptp(image, axis=2).max() == 0 for image in images)
    synthesis = Synthesis(images, find_foreground(images), typical_contrast(images), grey)
    samples: list[Sample] = []
    masks: dict[MaskSource, PackedMarks] = {}
    for row, (sample, image) in enumerate(zip(held_out, images, strict=True)):
        samples.append(Sample(sample.image, label=False, split="test"))
        for name, drawn, mask in _draws(sample, image, synthesis, seed, row):
            masks[name] = PackedMarks.pack(mask)
            content = np.round(drawn * 255).astype(np.uint8)
            samples.append(Sample(name, label=True, mask=name, defect="drawn", content=content))
    return samples, masks


def _draws(
    sample: Sample, image: NDArray[np.float32], synthesis: Synthesis, seed: int, row: int
) -> Iterator[tuple[Path, NDArray[np.float32], NDArray[np.bool_]]]:
    """(name, image, mask) of each draw in which anything is visible."""
    for draw in range(DRAWS):
        changed, mask = synthesis(image, seed + DRAWS * row + draw)
        if mask.any():
            yield sample.image.with_name(f"{sample.image.stem}.drawn{draw}.png"), changed, mask


def _as_rgb(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1]."""
    image = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(to_batch([image])[0].transpose(1, 2, 0))
