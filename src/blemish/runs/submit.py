"""Writes the archive for the evaluation server of MVTec AD 2 from the detectors of a run."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from blemish.data.layouts.mvtec_ad_2 import PRIVATE, private_images
from blemish.errors import BlemishError
from blemish.evaluation.submission import COUNTS, check_archive, encode, files_of, image_names
from blemish.files import replacing
from blemish.inference.inspector import Inspector
from blemish.model.folder import DOCUMENT, ModelFolder, read_model
from blemish.progress import Phases, no_phases


def submit(
    run: Path,
    out: Path,
    data_path: Path | None = None,
    phases: Phases = no_phases,
    counts: Mapping[str, int] = COUNTS,
) -> int:
    """Predicts on all private images, writes the archive `out`, checks it, and returns the number of its files.

    `run` is the folder of a run with a detector for each object; the data are under `data_path`, or else where the run
    read them. Maps are thresholded at the detector's pixel threshold, which held-out good images gave. Raises
    BlemishError where a detector, a threshold or an image is missing; `out` is then not written.
    """
    models = {name: _model(run, name) for name in counts}
    images = {name: _images(model, data_path, counts[name]) for name, model in models.items()}
    progress, total = phases("predicting"), 4 * sum(counts.values())
    with replacing(out) as temporary:
        with gzip.GzipFile(temporary, "wb", 1, mtime=0) as packed, tarfile.open(mode="w|", fileobj=packed) as archive:
            for done, (name, content) in enumerate(_files(models, images), start=1):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, BytesIO(content))
                progress(done, total)
        return check_archive(temporary, counts)


def _files(
    models: Mapping[str, ModelFolder], images: Mapping[str, Mapping[str, list[Path]]]
) -> Iterator[tuple[str, bytes]]:
    """Path in the archive and content of each file, one image after the other."""
    for name, model in models.items():
        inspector = Inspector.load(model.folder, batch_size=8)
        level = inspector.calibration.pixel_threshold if inspector.calibration else 0.0
        for split, paths in images[name].items():
            for found in inspector.predict(paths):
                yield from zip(files_of(name, split, found.sample.image.stem), encode(found.map, level), strict=True)


def _model(run: Path, name: str) -> ModelFolder:
    """The object's detector; raises BlemishError where there is none, or it has no threshold."""
    folder = run / name
    if not (folder / DOCUMENT).exists():
        raise BlemishError(f"{folder}: no detector. Train one for each of {', '.join(COUNTS)}.")
    model = read_model(folder)
    if model.calibration is None:
        raise BlemishError(f"{folder}: has no pixel threshold. Train with the set's validation images.")
    return model


def _images(model: ModelFolder, data_path: Path | None, count: int) -> dict[str, list[Path]]:
    """Private test set -> its images; raises BlemishError where one is missing."""
    known = data_path or model.provenance.get("data_path")
    if known is None:
        raise BlemishError(f"{model.folder}: does not say where its data are. Give --data-path.")
    root = Path(known)
    folder = root / model.category if (root / model.category).is_dir() else root
    found = private_images(folder)
    for split in PRIVATE:
        missing = set(image_names(split, count)) - {path.stem for path in found[split]}
        if missing or len(found[split]) != count:
            raise BlemishError(
                f"{folder / split}: has {len(found[split])} images; {count} are needed, "
                f"{image_names(split, count)[0]}.png to {image_names(split, count)[-1]}.png."
            )
    return found
