"""A fitted detector in memory, which predicts and can be calibrated, updated, saved and exported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from blemish.calibration.thresholds import Calibration, with_history
from blemish.errors import BlemishError, number_of, short_repr
from blemish.files import making_folder
from blemish.inference.inspector import Backend, Inspector, backend_of
from blemish.library.images import AnyImage, AnyImages, to_category, to_sample, to_samples
from blemish.library.result import Result
from blemish.model.changes import updating_model, write_model
from blemish.model.folder import DOCUMENT, TENSORS, ModelFolder, find_model, read_consistently
from blemish.runs.recalibrate import calibrate_on, unseen, with_chosen
from blemish.types import Prediction, Sample

if TYPE_CHECKING:
    from blemish.export.graphs import Precision
    from blemish.model.artifact import Artifact
    from blemish.runs.export import Export

NOWHERE = Path(os.devnull)
"""The folder of a model that was never saved."""


class Model:
    """A fitted detector; `blemish.fit` and `blemish.load` return one."""

    def __init__(self, about: ModelFolder, backend: Backend):
        self._about, self._backend = about, backend

    @property
    def method(self) -> str:
        """The name of the detector."""
        return self._about.model

    @property
    def category(self) -> str:
        """The name of the category that it was fitted to."""
        return self._about.category

    @property
    def threshold(self) -> float | None:
        """The score above which an image is a defect; None where no images were held out to choose it."""
        return self.calibration.threshold if self.calibration else None

    @property
    def calibration(self) -> Calibration | None:
        """The thresholds, and the scores of the good images that determine them; None where there is no threshold."""
        return self._about.calibration

    @property
    def options(self) -> dict[str, Any]:
        """The detector's options, including those that `fit` chose."""
        return dict(self._about.options)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How the model came about: settings, seed, versions, hashes of the images; plain data."""
        return self._about.provenance

    def predict(self, image: AnyImage) -> Result:
        """The result for one image: a path, bytes, an array, or a PIL image.

        Raises BlemishError where it cannot be used.
        """
        (result,) = self._results([to_sample(image)], batch_size=1)
        return result

    def predict_many(self, images: AnyImages, batch_size: int = 8) -> Iterator[Result]:
        """Yields the result for each image, in order; `images` may be a folder.

        The detector computes `batch_size` images at once, which does not change the scores. Raises
        BlemishError at the first image that cannot be used.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise BlemishError(f"batch_size: {short_repr(batch_size)} was given; allowed are whole numbers from 1.")
        return self._results(to_samples(images, "images"), batch_size)

    def _results(self, samples: Iterable[Sample], batch_size: int) -> Iterator[Result]:
        inspector = self.inspector(batch_size)
        for prediction in inspector.inspect(samples, with_images=True):
            if not isinstance(prediction, Prediction):
                raise BlemishError(prediction.error)
            yield Result(prediction, inspector.decide(prediction), inspector.calibration)

    def calibrate(
        self,
        *,
        false_alarm_rate: float | None = None,
        images: AnyImages | None = None,
        threshold: float | None = None,
    ) -> Self:
        """Changes the threshold, and returns the model itself.

        The threshold is chosen for a `false_alarm_rate` (the fraction of good images above it), by good `images` that
        the model was not fitted to, or both; or it is set to `threshold`. Raises BlemishError where there are too few
        images for the rate; the model then stays unchanged.
        """
        chosen = {"false_alarm_rate": false_alarm_rate, "threshold": threshold}
        given = {name: _number(value, name) for name, value in chosen.items() if value is not None}
        if len(given) > 1:
            raise BlemishError("false_alarm_rate, threshold: both set the same thing. Leave one out.")
        if not given and images is None:
            raise BlemishError("calibrate: nothing was given. Give false_alarm_rate, images, or threshold.")
        found = self.calibration if images is None else self._by_images(images, given.get("false_alarm_rate"))
        if found is None and threshold is None:
            raise BlemishError("calibrate: no good images were held out. Give images, or a threshold.")
        calibration = with_history(with_chosen(found, given, self.calibration, "calibrate"), self.calibration)
        self._about = replace(self._about, calibration=calibration)
        return self

    def update(self, more_good: AnyImages) -> Self:
        """Fits the model to further good images without starting over, and returns it; the threshold stays unchanged.

        Images that it was fitted to, or that were held out, are left out. Raises BlemishError where no image is new,
        or the method does not support updates; the model then stays unchanged.
        """
        from blemish.runs.update import updated

        artifact = self._artifact("update")
        copied = replace(artifact, detector=deepcopy(artifact.detector))  # another thread may be predicting
        learned = Model.of(updated(copied, to_category(more_good, "more_good")), self._about.folder)
        self._about, self._backend = learned._about, learned._backend
        return self

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes the model to a folder, completely or not at all; `force` replaces another model in it.

        Where the model was loaded from that folder and only its calibration has changed, only that is written.
        """
        folder = Path(path)
        is_own = self._about.folder != NOWHERE and folder.resolve() == self._about.folder.resolve()
        if is_own and self._is_saved:
            self._save_calibration()
            return
        from blemish.model.artifact import save

        if (folder / DOCUMENT).exists() and not force and not is_own:
            raise BlemishError(f"{folder}: holds a model already. Give another path, or force=True to replace it.")
        artifact = self._artifact("save")
        with making_folder(folder):
            self._about = save(artifact, folder)

    def export(
        self, name: str = "onnx", *, precision: Precision = "float32", data_path: str | os.PathLike[str] | None = None
    ) -> Export:
        """Exports the saved model as "onnx" or "openvino" to its own folder, for `load(path, backend=name)`.

        The export is kept only if its scores on real images agree with the model's: those of the data set that it was
        fitted to, or those under `data_path`. Raises BlemishError where they do not, and for unsaved changes.
        """
        from blemish.runs.export import export

        if not self._is_saved:
            raise BlemishError("export: the model has unsaved changes. Call model.save(path) first.")
        if precision not in ("float32", "half", "int8"):
            raise BlemishError(f"precision: {short_repr(precision)} was given; allowed are float32, half and int8.")
        return export(self._about.folder, name, precision, None if data_path is None else Path(data_path))

    def inspector(self, batch_size: int = 32) -> Inspector:
        """The inspector that computes raw predictions."""
        about = self._about
        learned = about.provenance.get("images")
        return Inspector(self._backend, about.preprocess, about.calibration, batch_size=batch_size, learned=learned)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name}={value}" for name, value in self._facts().items())
        return f"Model({self.method!r}, {rows})"

    def _repr_html_(self) -> str:
        """A table of the model's properties, for a notebook."""
        rows = {"method": self.method} | self._facts()
        cells = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table>{''.join(cells)}</table>"

    def _facts(self) -> dict[str, object]:
        size, learned = self._about.preprocess.size, self.provenance.get("learned_from", ())
        held_out = number_of(self.calibration.num_images, "good image") if self.calibration else "none"
        return {
            "size": f"{size[0]}x{size[1]}",
            "learned_from": number_of(len(learned), "image"),
            "threshold": "none" if self.threshold is None else f"{self.threshold:.4g}",
            "calibrated_by": held_out,
        }

    @property
    def _is_saved(self) -> bool:
        """Whether the fitted detector is saved in the folder; the calibration may have changed since."""
        return TENSORS in self._about.sha256

    @classmethod
    def of(cls, artifact: Artifact, folder: Path = NOWHERE) -> Self:
        """The unsaved model of an artifact; `folder` holds an earlier state of it, if any."""
        from blemish.inference.torch_backend import TorchBackend

        return cls(artifact.in_folder(folder), TorchBackend(artifact.detector))

    def _artifact(self, doing: str) -> Artifact:
        from blemish.inference.torch_backend import TorchBackend
        from blemish.model.artifact import Artifact

        if not isinstance(self._backend, TorchBackend):
            raise BlemishError(f"{doing}: the model was loaded for prediction only. Load it with backend='torch'.")
        about = self._about
        learned = about.preprocess, about.provenance, about.calibration, about.metrics, about.category
        return Artifact(about.model, self._backend.detector, *learned)

    def _by_images(self, images: AnyImages, rate: float | None) -> Calibration | None:
        """The calibration by good images that the model was not fitted to."""
        samples = unseen(list(to_samples(images, "images")), self._about)
        if not samples:
            raise BlemishError("images: empty. Give a folder or a list of good images.")
        found, _ = calibrate_on(self.inspector().predict(samples), self._about.preprocess.roi, rate)
        before = self.calibration
        return replace(found, defect_scores=before.defect_scores) if found and before else found

    def _save_calibration(self) -> None:
        with updating_model(self._about.folder, "saving") as present:
            if present.sha256.get(TENSORS) != self._about.sha256[TENSORS]:
                raise BlemishError(
                    f"{present.folder}: holds another model now. Load it again, or save to another folder."
                )
            self._about = write_model(replace(present, calibration=self.calibration))


def load(path: str | os.PathLike[str], backend: str = "torch", *, device: str = "auto") -> Model:
    """The fitted detector in a folder; `backend` runs it: "torch", or "onnx" and "openvino" once exported.

    Raises BlemishError where the folder holds no model, it is damaged, or the backend is not installed.
    """
    folder = find_model(Path(path))
    return read_consistently(folder, lambda found: Model(found, backend_of(found, backend, device=device)))


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BlemishError(f"{name}: {short_repr(value)} was given; a number is needed.")
    return float(value)
