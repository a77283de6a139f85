"""The one inference path: frames in, predictions at the files' own size out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.data.source import Frame, ImageSource, in_batches, read_frames, to_batch
from blemish.images import Preprocess
from blemish.types import Prediction, Sample

if TYPE_CHECKING:
    from blemish.detectors.base import Detector

Backend = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From images (B, 3, H, W) in [0, 1] to raw scores (B,) and raw maps (B, h, w)."""


class Inspector:
    """Predicts, with whatever runs the detector: torch, another runtime, a fake in a test."""

    def __init__(self, backend: Backend, preprocess: Preprocess, *, batch_size: int = 32, workers: int = 0):
        self.backend, self.preprocess = backend, preprocess
        self.batch_size, self.workers = batch_size, workers

    def predict(self, images: ImageSource | Iterable[Sample | Path]) -> Iterator[Prediction]:
        """A prediction for each image, in their order, as they are computed.

        Images of a source that was loaded with the same preprocessing are not decoded again. Raises BlemishError at
        the first file that cannot be used.
        """
        frames: Iterable[Frame]
        if isinstance(images, ImageSource):
            frames = images
        else:
            samples = (image if isinstance(image, Sample) else Sample(image) for image in images)
            frames = read_frames(samples, self.preprocess, self.workers)
        for batch in in_batches(frames, self.batch_size):
            yield from self._predict_batch(batch)

    def _predict_batch(self, frames: list[Frame]) -> Iterator[Prediction]:
        scores, maps = self.backend(to_batch([frame.pixels for frame in frames]))
        for frame, score, anomaly_map in zip(frames, scores, maps, strict=True):
            yield Prediction(frame.sample, float(score), self.preprocess.restore(anomaly_map, frame.size))


class TorchBackend:
    """Runs a fitted detector with torch, on the device that it is on."""

    def __init__(self, detector: Detector):
        self.detector = detector.eval()

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and maps of the batch."""
        import torch

        with torch.inference_mode():
            scores, maps = self.detector(torch.from_numpy(images).to(self.detector.device))
        return scores.float().cpu().numpy(), maps.float().cpu().numpy()
