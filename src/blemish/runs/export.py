"""Exports a fitted detector to another runtime, after comparing it with torch on real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.data.category import Category
from blemish.data.source import ImageSource, load
from blemish.errors import BlemishError, extras
from blemish.evaluation.evaluate import evaluate
from blemish.export.graphs import Precision, size_of, to_half, to_int8, to_onnx, write_onnx, write_openvino
from blemish.features.devices import uses_bfloat16
from blemish.imaging.pixels import to_batch
from blemish.inference.backends import ONNX, OPENVINO, OnnxBackend, OpenVinoBackend
from blemish.inference.inspector import Backend, Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.model.artifact import load_detector
from blemish.model.changes import staging, updating_model, write_model
from blemish.model.folder import ModelFolder
from blemish.model.locking import SHORT_WAIT
from blemish.progress import Phases, Progress, no_progress, with_progress
from blemish.runs.recalibrate import data_of
from blemish.types import Prediction, Sample, Size

if TYPE_CHECKING:
    from onnx import ModelProto

RANGE_IMAGES = 100
"""Good training images that determine the ranges of int8, at most."""
TIE = 1e-5
"""Distance from the threshold, relative to it, within which rounding may change a decision."""
SMALL = 0.01
"""Fraction of the largest score: the error of a smaller score is relative to this fraction."""


@dataclass(frozen=True, slots=True)
class Format:
    """A runtime: its files, a function that writes a graph as these files, and the backend of the first file."""

    files: tuple[str, ...]
    write: Callable[[ModelProto, Path], None]
    backend: Callable[[Path], Backend]


FORMATS = {
    "onnx": Format((ONNX,), write_onnx, OnnxBackend),
    "openvino": Format(OPENVINO, write_openvino, OpenVinoBackend),
}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The differences from the detector in torch that an export may have."""

    error: float
    """Of scores and of anomaly maps, relative as in `Parity`."""
    changed: float
    """Fraction of the images whose decision may change."""


TOLERANCES: dict[Precision, Tolerance] = {
    "float32": Tolerance(1e-3, 0.0),
    "half": Tolerance(2e-2, 0.01),
    "int8": Tolerance(0.25, 0.05),
}


@dataclass(frozen=True, slots=True)
class Parity:
    """The differences between an export and the detector in torch."""

    num_images: int
    score_error: float
    """The largest difference of a score, relative to the score."""
    map_error: float
    """The largest difference at a pixel, relative to the largest value of its map."""
    num_changed: int | None
    """Images whose decision changes; None where the model is not calibrated."""


@dataclass(frozen=True, slots=True)
class Export:
    """The files of an export, and how they compare with torch."""

    files: tuple[Path, ...]
    precision: Precision
    size: Size | None
    """(height, width) of its input; None where it takes any size."""
    parity: Parity
    as_fitted: Parity | None
    """How it compares with the network in bfloat16, as torch computes it here; None where torch has float32 too."""
    auroc: dict[str, tuple[float, float]]
    """Metric -> (in torch, exported); empty for float32, and where no test images are labelled."""


def export(
    path: Path,
    name: str,
    precision: Precision = "float32",
    data_path: Path | None = None,
    phases: Phases = lambda _: no_progress,
) -> Export:
    """Exports the fitted detector in the folder `path` to the same folder; `name` is one of FORMATS.

    The export is compared with the detector in torch on the test images under `data_path`, or on the good training
    images where there are none. By default, `data_path` is the data set that the detector was fitted to. Where the two
    differ by more than TOLERANCES, BlemishError is raised and the folder stays unchanged.
    """
    if name not in FORMATS:
        raise BlemishError(f"format {name}: unknown. Choose from: {', '.join(FORMATS)}.")
    with updating_model(path, "export", SHORT_WAIT) as model, extras(), staging(path) as staged:
        chosen = FORMATS[name]
        category = data_of(model, data_path)
        detector = load_detector(model, in_float32=True)
        exporting = phases("exporting")
        graph = to_onnx(detector, model.preprocess.is_partial)
        if precision == "half":
            graph = to_half(graph)
        elif precision == "int8":
            graph = to_int8(graph, _range_images(category, model, phases))
        chosen.write(graph, staged)
        exporting(1, 1, unit="models")
        backends = TorchBackend(detector), chosen.backend(staged / chosen.files[0])
        reference, candidate = (Inspector(backend, model.preprocess, model.calibration) for backend in backends)
        source = _load(category.of("test") or category.of("train"), model, phases)
        parity = compare(reference, candidate, source, phases("comparing"))
        _refuse(parity, name, precision)
        as_fitted = _as_fitted(model, candidate, source, phases)
        auroc = {} if precision == "float32" else _auroc(reference, candidate, source, category)
        size = size_of(graph)
        record = {"precision": precision, "size": size, "parity": asdict(parity)}
        model = replace(model, exports=model.exports | {name: record})
        model = write_model(model, {file: staged / file for file in chosen.files})
    return Export(tuple(map(model.path, chosen.files)), precision, size, parity, as_fitted, auroc)


def _as_fitted(model: ModelFolder, candidate: Inspector, source: ImageSource, phases: Phases) -> Parity | None:
    """The differences from the detector as it was fitted, where its network computes in bfloat16."""
    if model.options.get("precision") != "bfloat16" or not uses_bfloat16("auto", torch.device("cpu")):
        return None
    fitted = Inspector(TorchBackend(load_detector(model)), model.preprocess, model.calibration)
    return compare(fitted, candidate, source, phases("comparing with bfloat16"))


def compare(
    reference: Inspector, candidate: Inspector, source: ImageSource, progress: Progress = no_progress
) -> Parity:
    """The differences between the two on these images; the reference's calibration makes the decisions."""
    scores, tops, score_gaps, map_gaps, num_changed = [], [], [], [], 0
    expected = with_progress(reference.predict(source), len(source.samples), progress)
    for first, second in zip(expected, candidate.predict(source), strict=True):
        scores.append(abs(first.score))
        tops.append(float(np.abs(first.map).max()))
        score_gaps.append(abs(first.score - second.score))
        map_gaps.append(float(np.abs(first.map - second.map).max()))
        num_changed += _is_changed(reference, first, second)
    return Parity(
        len(scores),
        _relative(score_gaps, scores),
        _relative(map_gaps, tops),
        num_changed if reference.calibration else None,
    )


def _is_changed(inspector: Inspector, first: Prediction, second: Prediction) -> bool:
    """Whether the decisions on the two predictions differ, apart from ties."""
    decisions = inspector.decide(first), inspector.decide(second)
    if inspector.calibration is None or decisions[0] is None or decisions[1] is None:
        return False
    threshold = inspector.calibration.threshold
    is_tie = abs(first.score - threshold) <= TIE * abs(threshold)
    return decisions[0].is_defect != decisions[1].is_defect and not is_tie


def _relative(gaps: Sequence[float], values: Sequence[float]) -> float:
    """The largest gap relative to its value, or to SMALL of the largest value; infinite where a gap is not a number."""
    scale = np.maximum(values, SMALL * max(values))
    relative = np.divide(gaps, scale, out=np.where(np.equal(gaps, 0), 0, np.inf), where=scale > 0)
    return float(np.nan_to_num(relative, nan=np.inf).max())


def _refuse(parity: Parity, name: str, precision: Precision) -> None:
    tolerance = TOLERANCES[precision]
    is_close = max(parity.score_error, parity.map_error) <= tolerance.error
    if is_close and (parity.num_changed or 0) <= tolerance.changed * parity.num_images:
        return
    allowed = f"differences of {tolerance.error:g} and changes of {tolerance.changed:.0%} of the decisions are allowed"
    advice = {"int8": "Use half.", "half": "Export without half."}.get(precision, "Report it, please.")
    raise BlemishError(f"{name} in {precision} is too far from torch: {describe(parity)}; {allowed}. {advice}")


def describe(parity: Parity) -> str:
    """The differences in words."""
    decisions = "no decisions, since the model is not calibrated"
    if parity.num_changed is not None:
        decisions = f"{parity.num_changed} of {parity.num_images} decisions changed"
    return f"scores differ by {parity.score_error:.1e} at most, anomaly maps by {parity.map_error:.1e}, {decisions}"


def _load(samples: Sequence[Sample], model: ModelFolder, phases: Phases) -> ImageSource:
    source = load(samples, model.preprocess, progress=phases("reading"))
    for info in source.files:
        if info.error:
            raise BlemishError(info.error)
    return source


def _range_images(category: Category, model: ModelFolder, phases: Phases) -> Iterator[NDArray[np.float32]]:
    """The detector's inputs, each (1, 3, h, w), for up to RANGE_IMAGES of the good training images, evenly chosen."""
    samples = category.of("train")
    if not samples:
        raise BlemishError(f"{category.root}: no good training images. int8 needs them to determine its ranges.")
    source = _load(samples[:: -(-len(samples) // RANGE_IMAGES)], model, phases)
    return (np.ascontiguousarray(to_batch([frame.pixels])) for frame in source)


def _auroc(
    reference: Inspector, candidate: Inspector, source: ImageSource, category: Category
) -> dict[str, tuple[float, float]]:
    """Metric -> (of the reference, of the candidate), for the applicable AUROC metrics."""
    before, after = (
        evaluate(
            inspector.predict(source),
            source.samples,
            method="",
            category=category.name,
            root=category.root,
            roi=inspector.preprocess.roi,
        ).metrics
        for inspector in (reference, candidate)
    )
    pairs = {name: (before[name], after[name]) for name in ("image_auroc", "pixel_auroc")}
    return {name: (old, new) for name, (old, new) in pairs.items() if old is not None and new is not None}
