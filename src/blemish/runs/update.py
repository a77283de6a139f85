"""A fitted detector takes in further good images without starting over."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from blemish.data.category import Category, find_categories, good_alone, tell_left_out
from blemish.data.check import find_problems, read_mask_infos, refuse
from blemish.data.learned import learned_images
from blemish.data.source import load as load_images
from blemish.errors import BlemishError
from blemish.files import making_folder
from blemish.model.changes import changing, claimed, refuse_overwriting
from blemish.model.folder import ModelFolder
from blemish.model.locking import REFUSES
from blemish.model.tensors import Artifact, artifact_of, load, save
from blemish.progress import Phases, no_phases
from blemish.runs.recalibrate import digests, former_digests

logger = logging.getLogger("blemish")


def update(
    path: Path,
    images: Path,
    out: Path | None = None,
    phases: Phases = no_phases,
    *,
    is_forced: bool = False,
) -> ModelFolder:
    """The detector in the folder `path` with further good images learned, written to `out` or in its place.

    Images that it has learned from already, or that were held out to calibrate with, are left out. The calibration
    stays as it was, since the images that it came from are not at hand. Raises BlemishError where nothing is new, a
    file cannot be used, the method can't do it, another process changes the folder that is to be written to, or that
    one holds a model of its own (which `is_forced` replaces).
    """
    if out is None or out.resolve() == path.resolve():
        with changing(path, "fit --update", REFUSES) as model:
            return save(_updated(artifact_of(model), images, phases), path)
    with making_folder(out), claimed(out, "fit --update", REFUSES):
        refuse_overwriting(out, is_forced)
        return save(_updated(load(path), images, phases), out)


def _updated(artifact: Artifact, images: Path, phases: Phases) -> Artifact:
    categories = find_categories(images)
    if len(categories) != 1:
        raise BlemishError(f"{images}: holds several categories. Give the folder of one.")
    return updated(artifact, tell_left_out(good_alone(categories[0])), phases)


def updated(artifact: Artifact, category: Category, phases: Phases = no_phases) -> Artifact:
    """The artifact, its own detector having learned the good images of the category that it does not know yet.

    Raises BlemishError where there is none, or an image cannot be used; the detector is then as it was.
    """
    source = load_images(category.samples, artifact.preprocess, progress=phases("reading"))
    refuse(find_problems(category, source.files, read_mask_infos(category.samples)))
    learned, held_out = (set(artifact.provenance.get(name, ())) for name in ("learned_from", "held_out"))
    ways = zip(digests(source), former_digests(source), strict=True)
    known = {sample for sample, both in zip(source.samples, ways, strict=True) if {*both} & (learned | held_out)}
    new = source.where(lambda sample: sample not in known)
    if not len(new):
        raise BlemishError(f"{category.root}: no good image that the model does not know already. Give further ones.")
    artifact.detector.update(
        new, seed=artifact.provenance.get("config", {}).get("seed", 0), progress=phases("learning")
    )
    if artifact.calibration:
        logger.info(
            "the threshold stays as it was; 'blemish calibrate --images FOLDER' chooses one for what was learned now"
        )
    provenance = artifact.provenance | {
        "images": learned_images(new.files, artifact.provenance.get("images")),
        "learned_from": sorted({*learned, *digests(new)}),
        "updates": [*artifact.provenance.get("updates", []), {"num_images": len(new)}],
    }
    return replace(artifact, provenance=provenance)
