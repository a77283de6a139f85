"""The one inference path: images in, predictions at the files' own size out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

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

Array = NDArray[np.float32]


class Backend(Protocol):
    """What runs a detector."""

    def __call__(self, images: Array, inside: NDArray[np.bool_] | None = None, /) -> tuple[Array, Array]:
        """Raw scores (B,) and raw maps (B, h, w) of images (B, 3, H, W) in [0, 1].

        With `inside` (B, H, W) a score is of those pixels alone that are True; -inf where there is none.
        """


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

        Images of a source are not decoded again; it has to be loaded with the same preprocessing. The score of an image
        is the detector's own, of what lies within the region of interest where there is one; those of tiles become one
        as the detector declares. `with_images` keeps what was inspected with each prediction.
        """
        maps: list[Array] = []
        scores: list[float] = []
        told: set[str] = set()
        for frame, score, anomaly_map in self._run(self._frames(images, with_images)):
            if isinstance(frame, Unreadable):
                yield frame
                continue
            maps.append(anomaly_map)
            if score is not None:
                scores.append(float(score))
            if frame.is_last:
                self._tell_unlike(frame.sample, frame.file, told)
                yield self._whole(frame, scores, maps)
                maps, scores = [], []

    def decide(self, prediction: Prediction) -> Decision | None:
        """What the calibration makes of a prediction; None where there is no calibration."""
        return None if self.calibration is None else decide(prediction, self.calibration)

    def _tell_unlike(self, sample: Sample, file: FileInfo, told: set[str]) -> None:
        """Warns once of each way in which an image is unlike all that the detector learned from."""
        for what, words in differences(file, self.learned).items():
            if what not in told:
                told.add(what)
                logger.warning("%s: %s. Scores of such images mean little.", sample.image, words)

    def _whole(self, frame: Frame, scores: list[float], maps: list[Array]) -> Prediction | Unreadable:
        """The prediction of an image by its pieces, the last of which is the frame."""
        sample, file = frame.sample, frame.file
        if not scores:
            return Unreadable(sample, f"{sample.image}: shows nothing of the region of interest. Take another picture.")
        if not np.isfinite(scores).all() or not all(
            np.isfinite(piece).all() for piece in maps
        ):  # it would pass as good
            what = f"{sample.image}: its score is no finite number"
            return Unreadable(sample, f"{what}. Use another precision or backend, or train again.")
        whole = self.preprocess.assemble(maps, file.size, file.placement)
        return Prediction(sample, self.preprocess.combine_scores(scores), whole, file.sha256, file.shown)

    def _frames(self, images: ImageSource | Iterable[Sample | Path], with_images: bool) -> Iterable[Frame | Unreadable]:
        if isinstance(images, ImageSource):
            self._refuse_other(images.preprocess)
            return images
        samples = (image if isinstance(image, Sample) else Sample(image) for image in images)
        # The next batch is decoded while this one is computed and measured; a picture of many tiles is one by itself.
        ahead = 0 if self.preprocess.tile else self.batch_size
        return read_frames(samples, self.preprocess, self.workers, ahead, with_images)

    def _refuse_other(self, preprocess: Preprocess) -> None:
        """Raises BlemishError for a source whose images were brought to another size, tiled or aligned otherwise."""
        other = [
            field.name
            for field in fields(Preprocess)
            if field.compare and getattr(preprocess, field.name) != getattr(self.preprocess, field.name)
        ]
        if other:
            raise BlemishError(
                f"the images were loaded with another preprocessing than the detector's ({', '.join(other)} differ). "
                "Load them with the preprocess of its model, or give the files."
            )

    def _run(self, frames: Iterable[Frame | Unreadable]) -> Iterator[tuple[Frame | Unreadable, float | None, Array]]:
        """Each frame with its score and map, computed in batches; what is unreadable passes through.

        A tile outside of the region of interest has no score.
        """
        for batch in in_batches(self._counted(frames), self.batch_size):
            seen = [(frame.pixels, inside) for frame, inside in batch if isinstance(frame, Frame)]
            results = zip(*self._computed(seen), strict=True) if seen else iter(())
            for frame, inside in batch:
                score, anomaly_map = next(results) if isinstance(frame, Frame) else (0.0, _NO_MAP)
                if inside is not None and not inside.any():
                    score = None
                yield frame, score, anomaly_map

    def _counted(
        self, frames: Iterable[Frame | Unreadable]
    ) -> Iterator[tuple[Frame | Unreadable, NDArray[np.bool_] | None]]:
        """Each frame with what counts of it, (h, w); None where all of it does."""
        masks: Iterator[NDArray[np.bool_] | None] = iter(())
        is_first = True
        for frame in frames:
            if isinstance(frame, Unreadable):
                yield frame, None
                continue
            if is_first:
                masks = self.preprocess.inside(frame.file.size, frame.file.placement)
            yield frame, next(masks)
            is_first = frame.is_last

    def _computed(self, seen: list[tuple[Array, NDArray[np.bool_] | None]]) -> tuple[Array, Array]:
        images, masks = to_batch([pixels for pixels, _ in seen]), [inside for _, inside in seen if inside is not None]
        if all(inside.all() for inside in masks):
            return self.backend(images)
        return self.backend(images, np.stack(masks))


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
