"""Fits a detector to further good images, without starting over."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from blemish.data.category import Category, find_categories, log_left_out, only_good
from blemish.data.check import find_problems, read_mask_infos, refuse
from blemish.data.learned import learned_images
from blemish.data.source import load as load_images
from blemish.errors import BlemishError
from blemish.evaluation.report_data import discard_evaluation
from blemish.files import making_folder
from blemish.model.artifact import Artifact, artifact_of, load, save
from blemish.model.changes import locked_folder, refuse_overwriting, updating_model
from blemish.model.folder import ModelFolder
from blemish.model.locking import SHORT_WAIT
from blemish.progress import Phases, no_phases
from blemish.runs.aside import log_set_aside
from blemish.runs.folds import digests, former_digests
from blemish.runs.recalibrate import file_of

logger = logging.getLogger("blemish")


def update(
    path: Path,
    images: Path,
    out: Path | None = None,
    phases: Phases = no_phases,
    *,
    is_forced: bool = False,
) -> ModelFolder:
    """Fits the detector in the folder `path` to further good images, and writes it to `out` or back to `path`.

    Images that it was fitted to already, that were held out, or that its threshold was chosen by, are left out. The
    calibration stays unchanged, since the images that determined it are not available. Raises BlemishError where no
    image is new, a file cannot be used, the method does not support updates, another process changes the folder to
    write to, or `out` holds a model already, which `is_forced` replaces.
    """
    if out is None or out.resolve() == path.resolve():
        with updating_model(path, "fit --update", SHORT_WAIT) as model:
            return save(_updated(artifact_of(model), images, phases), path)
    with making_folder(out), locked_folder(out, "fit --update", SHORT_WAIT):
        refuse_overwriting(out, is_forced)
        updated_model = _updated(load(path), images, phases)
        discard_evaluation(out)
        return save(updated_model, out)


def _updated(artifact: Artifact, images: Path, phases: Phases) -> Artifact:
    categories = find_categories(images)
    if len(categories) != 1:
        raise BlemishError(f"{images}: holds several categories. Give the folder of one.")
    log_set_aside(categories[0])
    return updated(artifact, log_left_out(only_good(categories[0])), phases)


def updated(artifact: Artifact, category: Category, phases: Phases = no_phases) -> Artifact:
    """The artifact after its detector, changed in place, was fitted to the category's images that are new to it.

    It has no metrics, which were those of the detector before. Raises BlemishError where no image is new or one cannot
    be used; the detector then stays unchanged.
    """
    source = load_images(category.samples, artifact.preprocess, progress=phases("reading"))
    refuse(find_problems(category, source.files, read_mask_infos(category.samples)))
    learned, held_out = (set(artifact.provenance.get(name, ())) for name in ("learned_from", "held_out"))
    ways = zip(digests(source), former_digests(source), strict=True)
    known = {sample for sample, both in zip(source.samples, ways, strict=True) if {*both} & (learned | held_out)}
    if artifact.calibration:  # learned, they would no longer say what good images score
        files = [sample for sample in source.samples if sample.content is None]
        known |= {sample for sample in files if file_of(sample) in artifact.calibration.images}
    new = source.where(lambda sample: sample not in known)
    if not len(new):
        raise BlemishError(f"{category.root}: no good image is new to the model. Give other good images.")
    artifact.detector.update(
        new, seed=artifact.provenance.get("config", {}).get("seed", 0), progress=phases("learning")
    )
    if artifact.calibration:
        logger.info("the threshold is unchanged; 'blemish calibrate --images FOLDER' chooses one for the updated model")
    provenance = artifact.provenance | {
        "images": learned_images(new.files, artifact.provenance.get("images")),
        "learned_from": sorted({*learned, *digests(new)}),
        "updates": [*artifact.provenance.get("updates", []), {"num_images": len(new)}],
    }
    return replace(artifact, provenance=provenance, metrics={})
