"""A run: fit on the good images of one category, predict its test images, evaluate, save."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blemish import figures
from blemish.artifact import DOCUMENT, Artifact, load, read_document, save
from blemish.config import RunConfig
from blemish.data.category import Category, find_categories, hold_out
from blemish.data.check import find_problems, read_mask_infos, refuse
from blemish.data.source import ImageSource, map_ahead
from blemish.data.source import load as load_images
from blemish.detectors import detector_class
from blemish.detectors.base import Detector, ReconstructingDetector
from blemish.errors import BlemishError
from blemish.evaluate import evaluate
from blemish.files import make_folder, write_json
from blemish.images import Preprocess, read_bytes
from blemish.inspector import Inspector, TorchBackend
from blemish.progress import Phases, Progress, no_progress
from blemish.results import read_evaluation
from blemish.training import Training, device_named, is_main_process, train
from blemish.types import Evaluation, Prediction, Sample

logger = logging.getLogger("blemish")

CHECKPOINT, EVALUATION = "checkpoint.safetensors", "evaluation.json"


def run(config: RunConfig, phases: Phases = lambda _: no_progress) -> Evaluation:
    """Does one run on one category and gives its figures; what it leaves is under `config.ckpt_path/<category>`.

    With `config.resume`, what an earlier run with the same settings and data has done is not done again. Raises
    BlemishError where the configuration or the data would make the result wrong.
    """
    category = hold_out(_only_category(config), config.validation, config.seed)
    folder = config.ckpt_path / category.name
    identity = {"config": config.identity, "data_sha256": data_hash(category)}
    if config.resume and (done := finished(folder, identity)):
        return done
    size = {} if config.size is None else {"size": config.size}
    detector = detector_class(config.model).create(**size, **config.options)
    make_folder(folder)
    source = _load(category, Preprocess(detector.input_size, config.aspect), config, phases)
    started = time.perf_counter()
    training = _fit(detector, source, config, folder / CHECKPOINT, phases)
    fit_seconds = time.perf_counter() - started
    if not is_main_process():
        return Evaluation(config.model, category.name, {})
    provenance = identity | {"training": training, "versions": versions()}
    artifact = Artifact(config.model, detector, source.preprocess, provenance)
    save(artifact, folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    evaluation = _evaluate(artifact, category, source, config, phases)
    evaluation = replace(evaluation, durations={"fit": fit_seconds} | evaluation.durations)
    write_json(folder / EVALUATION, asdict(evaluation))
    return evaluation


def evaluate_run(
    folder: Path,
    data_path: Path,
    names: Sequence[str] = (),
    num_resamples: int = 0,
    phases: Phases = lambda _: no_progress,
) -> list[Evaluation]:
    """Evaluates the detectors that a run left in `folder`, one per category, on the test images of `data_path`."""
    evaluations = []
    for category in find_categories(data_path, names):
        artifact = load(folder / category.name)
        config = artifact.provenance["config"]
        inspector = Inspector(TorchBackend(artifact.detector), artifact.preprocess, batch_size=config["batch_size"])
        samples = category.of("test")
        predictions = _told(inspector.predict(samples), len(samples), phases(category.name))
        evaluations.append(
            evaluate(
                predictions,
                samples,
                method=artifact.model,
                category=category.name,
                root=category.root,
                num_resamples=num_resamples,
            )
        )
    return evaluations


def finished(folder: Path, identity: dict[str, Any]) -> Evaluation | None:
    """The evaluation of an earlier run of the same settings and data, if it came to its end."""
    if not (folder / DOCUMENT).exists() or not (folder / EVALUATION).exists():
        return None
    provenance = read_document(folder)["provenance"]
    if {name: provenance.get(name) for name in identity} != identity:
        raise BlemishError(
            f"{folder}: holds a run with {_difference(provenance, identity)}. "
            "Use the same settings and data, another ckpt_path, or leave --resume out to start over."
        )
    return read_evaluation(json.loads((folder / EVALUATION).read_text()), folder / EVALUATION)


def data_hash(category: Category) -> str:
    """SHA-256 over the content of all images and masks of the category, in order of their paths."""
    paths = [path for sample in category.samples for path in (sample.image, sample.mask) if path]
    digest = hashlib.sha256()
    for content in map_ahead(lambda path: hashlib.sha256(read_bytes(path)).digest(), sorted(paths)):
        digest.update(content)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    packages = ("blemish", "torch", "numpy", "opencv-python-headless", "safetensors")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _only_category(config: RunConfig) -> Category:
    found = find_categories(config.data_path, config.category)
    if len(found) != 1:
        names = ", ".join(category.name for category in found)
        raise BlemishError(f"category: a run is of one category, {config.data_path} has {names}. Name one.")
    return found[0]


def _load(category: Category, preprocess: Preprocess, config: RunConfig, phases: Phases) -> ImageSource:
    """Every image of the category, decoded once; refused where a problem would make the result wrong."""
    source = load_images(
        category.samples,
        preprocess,
        memory_budget=config.memory_budget,
        workers=config.workers,
        progress=phases("reading"),
    )
    problems = find_problems(category, source.files, read_mask_infos(category.samples))
    refuse(problems)
    for problem in problems:
        logger.warning("%s", problem)
    return source


def _fit(
    detector: Detector, source: ImageSource, config: RunConfig, checkpoint: Path, phases: Phases
) -> dict[str, Any]:
    """Fits the detector and gives what is worth recording of it."""
    images = source.where(lambda sample: sample.split == "train")
    validation = source.where(lambda sample: sample.split == "val")
    if not isinstance(detector, ReconstructingDetector):
        detector.to(device_named(config.device)).fit(
            images, validation=validation, seed=config.seed, progress=phases("fitting")
        )
        return {}
    settings = Training(
        config.epochs,
        config.batch_size,
        config.learning_rate,
        config.patience,
        config.device,
        config.precision,
    )
    history = train(
        detector,
        images,
        validation,
        settings,
        seed=config.seed,
        checkpoint=checkpoint,
        resume=config.resume,
        progress=phases("training"),
    )
    return {"train": history.train, "validation": history.validation, "best_epoch": history.best_epoch}


def _evaluate(
    artifact: Artifact, category: Category, source: ImageSource, config: RunConfig, phases: Phases
) -> Evaluation:
    """Predicts the entire test set, evaluates it, and draws the category's figures."""
    test = source.where(lambda sample: sample.split == "test")
    chosen = choose(test.samples, config.figures)
    shown: list[Prediction] = []
    inspector = Inspector(TorchBackend(artifact.detector), artifact.preprocess, batch_size=config.batch_size)
    started = time.perf_counter()
    told = _told(inspector.predict(test), len(test), phases("testing"))
    predictions = _kept(told, set(chosen), shown)
    evaluation = evaluate(predictions, test.samples, method=config.model, category=category.name, root=category.root)
    seconds = time.perf_counter() - started
    out = config.ckpt_path / "figures"
    figures.examples(category, out / f"{category.name}_examples.png")
    if artifact.provenance["training"]:
        figures.losses(
            artifact.provenance["training"],
            f"{config.model} on {category.name}",
            out / f"{category.name}_losses.png",
        )
    if shown:
        figures.predictions(shown, _rebuilt(artifact.detector, test, chosen), out / f"{category.name}_predictions.png")
    return replace(evaluation, durations={"test": seconds})


def _told(predictions: Iterable[Prediction], total: int, progress: Progress) -> Iterator[Prediction]:
    """The predictions as they come, each counted."""
    for done, prediction in enumerate(predictions, start=1):
        progress(done, total)
        yield prediction


def _kept(predictions: Iterable[Prediction], chosen: set[Sample], shown: list[Prediction]) -> Iterator[Prediction]:
    """The predictions as they come, the chosen ones put aside."""
    for prediction in predictions:
        if prediction.sample in chosen:
            shown.append(prediction)
        yield prediction


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """Up to `count` samples, taken in turn from each defect type (and the good ones), in order of the list."""
    types = list(dict.fromkeys(sample.defect for sample in samples))
    of_type = {defect: [sample for sample in samples if sample.defect == defect] for defect in types}
    turns = (of_type[defect][turn] for turn in range(count) for defect in types if turn < len(of_type[defect]))
    taken = set(list(turns)[:count])
    return [sample for sample in samples if sample in taken]


def _rebuilt(detector: Detector, test: ImageSource, chosen: list[Sample]) -> list[Any] | None:
    """What the detector takes the good version of the chosen images to be: (h, w, 3) each; None where it has none."""
    if not isinstance(detector, ReconstructingDetector):
        return None
    import torch

    rows = [row for row, sample in enumerate(test.samples) if sample in set(chosen)]
    with torch.inference_mode():
        images = detector.reconstruct(test.batch(rows).to(detector.device))
    return list(images.permute(0, 2, 3, 1).float().cpu().numpy())


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first field that differs, in words."""
    before, now = found.get("config", {}), wanted["config"]
    for name in now:
        if before.get(name) != now[name]:
            return f"{name} = {before.get(name)}, while this one has {now[name]}"
    return "other data"
