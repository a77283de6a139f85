"""A fitted detector in memory: it predicts, is calibrated, learns further images, and is saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from blemish.calibration.thresholds import Calibration, succeeding
from blemish.errors import BlemishError, number_of, shown
from blemish.files import making_folder
from blemish.inference.inspector import Backend, Inspector, backend_of
from blemish.library.images import AnyImage, AnyImages, to_category, to_sample, to_samples
from blemish.library.result import Result
from blemish.model.changes import changing, write_model
from blemish.model.folder import DOCUMENT, TENSORS, ModelFolder, find_model, reading
from blemish.runs.recalibrate import calibrate_on, unseen, with_chosen
from blemish.types import Prediction, Sample

if TYPE_CHECKING:
    from blemish.export.graphs import Precision
    from blemish.model.tensors import Artifact
    from blemish.runs.export import Export

NOWHERE = Path(os.devnull)
"""The folder of a model that was never saved."""


class Model:
    """A fitted detector; `blemish.fit` and `blemish.load` give one."""

    def __init__(self, about: ModelFolder, backend: Backend):
        self._about, self._backend = about, backend

    @property
    def method(self) -> str:
        """The name of the detector."""
        return self._about.model

    @property
    def category(self) -> str:
        """The name of what it was fitted to, by which its images are found in a data set of many."""
        return self._about.category

    @property
    def threshold(self) -> float | None:
        """An image that scores above it is a defect; None where there were no images to choose it by."""
        return self.calibration.threshold if self.calibration else None

    @property
    def calibration(self) -> Calibration | None:
        """How scores become decisions, and by which good images that was chosen."""
        return self._about.calibration

    @property
    def options(self) -> dict[str, Any]:
        """The detector's options, those among them that were chosen by `fit`."""
        return dict(self._about.options)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How the model came about: settings, seed, versions, hashes of the images; plain data."""
        return self._about.provenance

    def predict(self, image: AnyImage) -> Result:
        """What the model says of one image: a path, bytes, an array, or a PIL image.

        Raises BlemishError where it cannot be used.
        """
        (result,) = self._results([to_sample(image)], batch_size=1)
        return result

    def predict_many(self, images: AnyImages, batch_size: int = 8) -> Iterator[Result]:
        """What the model says of each image, in their order, as it is computed; images may be a folder.

        `batch_size` images are computed at once, which changes no score. Raises BlemishError at the first image that
        cannot be used.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise BlemishError(f"batch_size: {shown(batch_size)} was given; allowed are whole numbers from 1.")
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
        """Chooses the threshold anew, and gives the model itself.

        By the part of good images that may be called defects, by other good `images` than were learned from, or by
        both; or sets it. Raises BlemishError where there are too few images for the rate; all is then as it was.
        """
        chosen = {"false_alarm_rate": false_alarm_rate, "threshold": threshold}
        given = {name: _number(value, name) for name, value in chosen.items() if value is not None}
        if len(given) > 1:
            raise BlemishError("false_alarm_rate, threshold: one says what the other does. Leave one out.")
        if not given and images is None:
            raise BlemishError("calibrate: nothing was given. Give false_alarm_rate, images, or threshold.")
        found = self.calibration if images is None else self._by_images(images, given.get("false_alarm_rate"))
        if found is None and threshold is None:
            raise BlemishError("calibrate: no good images were held out. Give images, or a threshold.")
        calibration = succeeding(with_chosen(found, given, self.calibration, "calibrate"), self.calibration)
        self._about = replace(self._about, calibration=calibration)
        return self

    def update(self, more_good: AnyImages) -> Self:
        """Learns further good images without starting over, and gives the model itself; the threshold stays.

        Images that are known already are left out. Raises BlemishError where none is new, or the method cannot do it;
        the model is then as it was.
        """
        from blemish.runs.update import updated

        artifact = self._artifact("update")
        copied = replace(artifact, detector=deepcopy(artifact.detector))  # another thread may be predicting
        learned = Model.of(updated(copied, to_category(more_good, "more_good")), self._about.folder)
        self._about, self._backend = learned._about, learned._backend
        return self

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes the model to a folder, as a whole or not at all; `force` replaces another model that is there.

        Where the model came from that folder and only its calibration was changed, only that is written.
        """
        folder = Path(path)
        is_own = self._about.folder != NOWHERE and folder.resolve() == self._about.folder.resolve()
        if is_own and self._is_saved:
            self._save_calibration()
            return
        from blemish.model.tensors import save

        if (folder / DOCUMENT).exists() and not force and not is_own:
            raise BlemishError(f"{folder}: holds a model already. Give another path, or force=True to replace it.")
        artifact = self._artifact("save")
        with making_folder(folder):
            self._about = save(artifact, folder)

    def export(
        self, name: str = "onnx", *, precision: Precision = "float32", data_path: str | os.PathLike[str] | None = None
    ) -> Export:
        """Writes the saved model as "onnx" or "openvino" beside itself, for `load(path, backend=name)`.

        It is kept only where it gives the same scores on real images: those that were learned from, or those under
        `data_path`. Raises BlemishError where it does not, and where the model is not saved as it is now.
        """
        from blemish.runs.export import export

        if not self._is_saved:
            raise BlemishError("export: the model is not saved as it is now. Call model.save(path) first.")
        if precision not in ("float32", "half", "int8"):
            raise BlemishError(f"precision: {shown(precision)} was given; allowed are float32, half and int8.")
        return export(self._about.folder, name, precision, None if data_path is None else Path(data_path))

    def inspector(self, batch_size: int = 32) -> Inspector:
        """The inference path itself, which gives raw predictions."""
        about = self._about
        learned = about.provenance.get("images")
        return Inspector(self._backend, about.preprocess, about.calibration, batch_size=batch_size, learned=learned)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name}={value}" for name, value in self._facts().items())
        return f"Model({self.method!r}, {rows})"

    def _repr_html_(self) -> str:
        """What is known of the model, for a notebook."""
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
        """Whether what was learned lies in the folder; the calibration may have been changed since."""
        return TENSORS in self._about.sha256

    @classmethod
    def of(cls, artifact: Artifact, folder: Path = NOWHERE) -> Self:
        """The model of an artifact, which is not saved as it is; `folder` is where an earlier state of it is."""
        from blemish.inference.torch_backend import TorchBackend

        about = ModelFolder(
            folder,
            artifact.model,
            artifact.detector.options | artifact.detector.choices,
            artifact.preprocess,
            artifact.calibration,
            artifact.metrics,
            artifact.provenance,
            category=artifact.category,
        )
        return cls(about, TorchBackend(artifact.detector))

    def _artifact(self, doing: str) -> Artifact:
        from blemish.inference.torch_backend import TorchBackend
        from blemish.model.tensors import Artifact

        if not isinstance(self._backend, TorchBackend):
            raise BlemishError(f"{doing}: the model was loaded to predict alone. Load it with backend='torch'.")
        about = self._about
        learned = about.preprocess, about.provenance, about.calibration, about.metrics, about.category
        return Artifact(about.model, self._backend.detector, *learned)

    def _by_images(self, images: AnyImages, rate: float | None) -> Calibration | None:
        """The calibration by good images that were not learned from."""
        samples = unseen(list(to_samples(images, "images")), self._about)
        if not samples:
            raise BlemishError("images: there are none. Give a folder or a list of good images.")
        found, _ = calibrate_on(self.inspector().predict(samples), self._about.preprocess.roi, rate)
        before = self.calibration
        return replace(found, defect_scores=before.defect_scores) if found and before else found

    def _save_calibration(self) -> None:
        with changing(self._about.folder, "saving") as present:
            if present.sha256.get(TENSORS) != self._about.sha256[TENSORS]:
                raise BlemishError(f"{present.folder}: holds another model by now. Load it anew, or save elsewhere.")
            self._about = write_model(replace(present, calibration=self.calibration))


def load(path: str | os.PathLike[str], backend: str = "torch", *, device: str = "auto") -> Model:
    """The fitted detector in a folder; `backend` is what runs it: "torch", or "onnx" and "openvino" once exported.

    Raises BlemishError where there is none, it is damaged, or what runs it is not installed.
    """
    folder = find_model(Path(path))
    return reading(folder, lambda found: Model(found, backend_of(found, backend, device=device)))


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BlemishError(f"{name}: {shown(value)} was given; a number is needed.")
    return float(value)
