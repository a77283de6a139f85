"""The one inference path: images in, predictions at the files' own size out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import Calibration, decide
from blemish.data.learned import differences
from blemish.data.source import FileInfo, Frame, ImageSource, in_batches, read_frames
from blemish.errors import BlemishError, extras
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.model.folder import ModelFolder, reading
from blemish.types import Decision, Prediction, Sample, Unreadable

logger = logging.getLogger("blemish")

Backend = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From images (B, 3, H, W) in [0, 1] to raw scores (B,) and raw maps (B, h, w)."""

BACKENDS = {
    "torch": "blemish.inference.torch_backend:torch_backend",
    "onnx": "blemish.inference.backends:onnx_backend",
    "openvino": "blemish.inference.backends:openvino_backend",
}
"""Name -> where the function is that makes a `Backend` of a `ModelFolder`, so that each imports its own runtime."""


class Inspector:
    """Predicts, with whatever runs the detector: torch, another runtime, a fake in a test."""

    def __init__(
        self,
        backend: Backend,
        preprocess: Preprocess,
        calibration: Calibration | None = None,
        *,
        batch_size: int = 32,
        workers: int = 0,
        learned: Mapping[str, Any] | None = None,
    ):
        self.backend, self.preprocess, self.calibration = backend, preprocess, calibration
        self.batch_size, self.workers = batch_size, workers
        self.learned = learned or {}
        """What kind of images the detector learned from, by `learned_images`; the log tells where others are given."""

    @classmethod
    def load(
        cls,
        folder: Path,
        backend: str = "torch",
        *,
        batch_size: int = 32,
        workers: int = 0,
        threads: int = 0,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """The inspector of the fitted detector in `folder`.

        `workers` threads decode and `threads` compute (0: one per core), or the `device`. "onnx" and "openvino" run
        what `blemish export` wrote, on the processor and without torch. Images of more than `max_pixels` are refused.
        Raises BlemishError where the folder cannot be used, there is no such backend or device, or its runtime is not
        installed.
        """
        run, model = reading(folder, lambda model: (backend_of(model, backend, threads, device), model))
        preprocess = replace(model.preprocess, max_pixels=max_pixels)
        learned = model.provenance.get("images")
        return cls(run, preprocess, model.calibration, batch_size=batch_size, workers=workers, learned=learned)

    def predict(self, images: ImageSource | Iterable[Sample | Path]) -> Iterator[Prediction]:
        """A prediction for each image, in their order, as they are computed.

        Raises BlemishError at the first file that cannot be used.
        """
        for found in self.inspect(images):
            if isinstance(found, Unreadable):
                raise BlemishError(found.error)
            yield found

    def inspect(
        self, images: ImageSource | Iterable[Sample | Path], *, with_images: bool = False
    ) -> Iterator[Prediction | Unreadable]:
        """As `predict`, with an `Unreadable` in the place of each file that cannot be used.

        Images of a source that was loaded with the same preprocessing are not decoded again. The score of an image is
        the detector's own; where it is seen in tiles, straightened or within a region of interest, the maximum of
        what counts of its map. `with_images` keeps what was inspected with each prediction.
        """
        maps: list[NDArray[np.float32]] = []
        told: set[str] = set()
        for frame, score, anomaly_map in self._run(self._frames(images, with_images)):
            if isinstance(frame, Unreadable):
                yield frame
                continue
            maps.append(anomaly_map)
            if frame.is_last:
                file, pieces, maps = frame.file, maps, []
                self._tell_unlike(frame.sample, file, told)
                # What is no number would pass as good.
                if not np.isfinite(score) or not all(np.isfinite(piece).all() for piece in pieces):
                    what = f"{frame.sample.image}: its score is no finite number"
                    yield Unreadable(frame.sample, f"{what}. Use another precision or backend, or train again.")
                    continue
                whole = self.preprocess.assemble(pieces, file.size, file.placement)
                score = float(whole.max() if self._is_partial else score)
                yield Prediction(frame.sample, score, whole, file.sha256, file.shown)

    def decide(self, prediction: Prediction) -> Decision | None:
        """What the calibration makes of a prediction; None where there is no calibration."""
        return None if self.calibration is None else decide(prediction, self.calibration)

    def _tell_unlike(self, sample: Sample, file: FileInfo, told: set[str]) -> None:
        """Warns once of each way in which an image is unlike all that the detector learned from."""
        for what, words in differences(file, self.learned).items():
            if what not in told:
                told.add(what)
                logger.warning("%s: %s. Scores of such images mean little.", sample.image, words)

    @property
    def _is_partial(self) -> bool:
        seen = self.preprocess
        return seen.tile is not None or seen.roi is not None or seen.alignment is not None

    def _frames(self, images: ImageSource | Iterable[Sample | Path], with_images: bool) -> Iterable[Frame | Unreadable]:
        if isinstance(images, ImageSource):
            return images
        samples = (image if isinstance(image, Sample) else Sample(image) for image in images)
        # The next batch is decoded while this one is computed and measured; a picture of many tiles is one by itself.
        ahead = 0 if self.preprocess.tile else self.batch_size
        return read_frames(samples, self.preprocess, self.workers, ahead, with_images)

    def _run(
        self, frames: Iterable[Frame | Unreadable]
    ) -> Iterator[tuple[Frame | Unreadable, float, NDArray[np.float32]]]:
        """Each frame with its score and map, computed in batches; what is unreadable passes through."""
        for batch in in_batches(frames, self.batch_size):
            pixels = [frame.pixels for frame in batch if isinstance(frame, Frame)]
            results = zip(*self.backend(to_batch(pixels)), strict=True) if pixels else iter(())
            for frame in batch:
                score, anomaly_map = next(results) if isinstance(frame, Frame) else (0.0, _NO_MAP)
                yield frame, score, anomaly_map


_NO_MAP = np.zeros((0, 0), np.float32)


def backend_of(model: ModelFolder, name: str = "torch", threads: int = 0, device: str = "auto") -> Backend:
    """What runs the detector of a model folder, on so many threads (0: one per core) or on a device.

    Raises BlemishError for a name that is not in BACKENDS, where there is no such device for it, and where its runtime
    is not installed.
    """
    if name not in BACKENDS:
        raise BlemishError(f"backend {name}: there is none of this name. Choose from: {', '.join(BACKENDS)}.")
    module, function = BACKENDS[name].split(":")
    with extras():
        backend: Backend = getattr(import_module(module), function)(model, threads, device)
    return backend
