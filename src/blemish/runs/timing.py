"""The time that a detector takes for an image at one size of its input, measured on this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from math import prod
from statistics import median

from blemish.data.source import load
from blemish.detectors.base import Detector
from blemish.imaging.preprocess import Preprocess
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.progress import log_level
from blemish.runs.config import RunConfig
from blemish.types import Sample

PIXELS = 8 * 256 * 256
"""Pixels of the input to fit with: their cells fill the memory banks, whose length the time depends on."""
WARMED, TIMED = 2, 7
"""Images before the time is taken, and images of which the median is taken."""
QUICK = {"num_drawn": 2}
"""Options that shorten a training and do not change the time per image."""


def seconds_per_image(
    detector: Detector,
    preprocess: Preprocess,
    samples: Sequence[Sample],
    config: RunConfig,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The median time from an image's file to its map, one image after the other, by a detector fitted to a few."""
    few = samples[: max(2, -(-PIXELS // prod(preprocess.size)))]
    images = load(few, preprocess, memory_budget=config.memory_budget, workers=config.workers)
    training = replace(detector.settings, epochs=1, batch_size=config.batch_size, device=config.device)
    with log_level(logging.WARNING):  # the detector that is kept says the same of its choices
        detector.fit(images, seed=config.seed, training=replace(training, precision=config.precision))
    inspector, taken = Inspector(TorchBackend(detector), preprocess, batch_size=1, workers=1), []
    for sample in islice(cycle(few), WARMED + TIMED):
        started = clock()
        next(inspector.predict([sample]))
        taken.append(clock() - started)
    return median(taken[WARMED:])
