"""The Inspector: images in, predictions with maps of the image's size out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.decisions import decide
from blemish.calibration.thresholds import Calibration
from blemish.data.learned import differences
from blemish.data.source import FileInfo, Frame, ImageSource, in_batches, read_frames
from blemish.errors import BlemishError, extras
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.model.folder import ModelFolder, read_consistently
from blemish.types import Decision, Prediction, Sample, Unreadable

logger = logging.getLogger("blemish")

Array = NDArray[np.float32]


class Backend(Protocol):
    """A callable that computes a detector on a batch of images."""

    def __call__(self, images: Array, inside: NDArray[np.bool_] | None = None, /) -> tuple[Array, Array]:
        """Raw scores (B,) and raw anomaly maps (B, h, w) of images (B, 3, H, W) with values in [0, 1].

        With `inside` (B, H, W) a score counts only the pixels that are True; it is -inf if none is.
        """


BACKENDS = {
    "torch": "blemish.inference.torch_backend:torch_backend",
    "onnx": "blemish.inference.backends:onnx_backend",
    "openvino": "blemish.inference.backends:openvino_backend",
}
"""Name -> "module:function" of the function that makes a `Backend` from a `ModelFolder`; imported when needed."""


class Inspector:
    """Predicts on images with a detector in any backend.

    `batch_size` images are computed at once, `workers` threads decode (0: one per core). `learned` describes the
    training images, from `learned_images`; the log warns of images that differ from them.
    """

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

        Args:
            folder: The folder of a fitted detector.
            backend: "torch", or "onnx" or "openvino" for an export that `blemish export` wrote; these two run on the
                processor and need no torch.
            batch_size: Images that are computed at once.
            workers: Threads that decode images; 0: one per core.
            threads: Threads that compute; 0: one per core.
            device: The device of torch, such as "cpu", "cuda:1" or "auto".
            max_pixels: Larger images are refused.

        Raises BlemishError if the folder holds no valid model, the backend or device does not exist, or the runtime is
        not installed.
        """

        def open_model(model: ModelFolder) -> tuple[Backend, ModelFolder]:
            return backend_of(model, backend, threads, device), model

        run, model = read_consistently(folder, open_model)
        preprocess = replace(model.preprocess, max_pixels=max_pixels)
        learned = model.provenance.get("images")
        return cls(run, preprocess, model.calibration, batch_size=batch_size, workers=workers, learned=learned)

    def predict(self, images: ImageSource | Iterable[Sample | Path]) -> Iterator[Prediction]:
        """A prediction for each image, in order, yielded as soon as it is computed.

        Raises BlemishError at the first file that cannot be used.
        """
        for found in self.inspect(images):
            if isinstance(found, Unreadable):
                raise BlemishError(found.error)
            yield found

    def inspect(
        self, images: ImageSource | Iterable[Sample | Path], *, with_images: bool = False
    ) -> Iterator[Prediction | Unreadable]:
        """As `predict`, but yields an `Unreadable` for each file that cannot be used.

        The decoded images of an `ImageSource` are reused; its preprocessing must be the detector's. With a region of
        interest a score counts only the pixels inside it. With tiles the image's score combines those of its tiles, by
        `Preprocess.combined`. `with_images` adds the image for display to each prediction.
        """
        maps: list[Array] = []
        scores: list[float] = []
        warned: set[str] = set()
        for frame, score, anomaly_map in self._run(self._frames(images, with_images)):
            if isinstance(frame, Unreadable):
                yield frame
                continue
            maps.append(anomaly_map)
            if score is not None:
                scores.append(float(score))
            if frame.is_last:
                self._warn_if_different(frame.sample, frame.file, warned)
                yield self._assembled(frame, scores, maps)
                maps, scores = [], []

    def decide(self, prediction: Prediction) -> Decision | None:
        """The decision on a prediction; None without a calibration."""
        return None if self.calibration is None else decide(prediction, self.calibration)

    def _warn_if_different(self, sample: Sample, file: FileInfo, warned: set[str]) -> None:
        """Warns of properties in which an image differs from all training images, of each property once."""
        for what, words in differences(file, self.learned).items():
            if what not in warned:
                warned.add(what)
                logger.warning("%s: %s. Scores of such images mean little.", sample.image, words)

    def _assembled(self, frame: Frame, scores: list[float], maps: list[Array]) -> Prediction | Unreadable:
        """The prediction of an image from the scores and maps of its tiles, of which `frame` is the last."""
        sample, file = frame.sample, frame.file
        if not scores:
            return Unreadable(sample, f"{sample.image}: lies outside the region of interest. Take another image.")
        if not all(np.isfinite(values).all() for values in (np.asarray(scores), *maps)):  # NaN would be decided as good
            problem = f"{sample.image}: its score is not a finite number"
            return Unreadable(sample, f"{problem}. Use another precision or backend, or train again.")
        whole = self.preprocess.assemble(maps, file.size, file.placement)
        return Prediction(sample, self.preprocess.combine_scores(scores), whole, file.sha256, file.shown)

    def _frames(self, images: ImageSource | Iterable[Sample | Path], with_images: bool) -> Iterable[Frame | Unreadable]:
        if isinstance(images, ImageSource):
            self._refuse_other(images.preprocess)
            return images
        samples = (image if isinstance(image, Sample) else Sample(image) for image in images)
        # The next batch is decoded while this one is computed; with tiles, one image can be a batch of its own.
        ahead = 0 if self.preprocess.tile else self.batch_size
        return read_frames(samples, self.preprocess, self.workers, ahead, with_images)

    def _refuse_other(self, preprocess: Preprocess) -> None:
        """Raises BlemishError if the preprocessing of a source is not the detector's."""
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
        """Each frame with its score and map, computed in batches; an `Unreadable` passes through.

        The score of a tile outside the region of interest is None.
        """
        for batch in in_batches(self._with_masks(frames), self.batch_size):
            seen = [(frame.pixels, inside) for frame, inside in batch if isinstance(frame, Frame)]
            results = zip(*self._computed(seen), strict=True) if seen else iter(())
            for frame, inside in batch:
                score, anomaly_map = next(results) if isinstance(frame, Frame) else (0.0, _NO_MAP)
                if inside is not None and not inside.any():
                    score = None
                yield frame, score, anomaly_map

    def _with_masks(
        self, frames: Iterable[Frame | Unreadable]
    ) -> Iterator[tuple[Frame | Unreadable, NDArray[np.bool_] | None]]:
        """Each frame with the mask (h, w) of its pixels that count; None if all count."""
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
    """The backend of this name for the detector of a model; `threads` and `device` are as in `Inspector.load`.

    Raises BlemishError if BACKENDS has no such name, the device does not exist, or the runtime is not installed.
    """
    if name not in BACKENDS:
        raise BlemishError(f"backend {name}: unknown. Choose from: {', '.join(BACKENDS)}.")
    module, function = BACKENDS[name].split(":")
    with extras():
        backend: Backend = getattr(import_module(module), function)(model, threads, device)
    return backend
