"""Versions of models as files: exports for other runtimes, downloads, and models that are brought in."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from sqlalchemy import select

from blemish.errors import BlemishError, one_line
from blemish.files import ZIP_ERRORS
from blemish.inference.inspector import Inspector
from blemish.model.folder import DOCUMENT, ModelFolder, read_model
from blemish.progress import Phases
from blemish.station.inspecting import backend_for
from blemish.station.tables import Check, Image, Job, Model, Product
from blemish.station.teaching import Taught, score
from blemish.station.workspace import Workspace

MOST_FILES = 50
LARGEST = 4 << 30
"""Files of a model, and their bytes, at the most."""
COMPARED_ON = 40
"""Good images that an export is compared with torch on, at most."""


def export_model(workspace: Workspace, job: Job, phases: Phases) -> None:
    """Exports a version to ONNX or OpenVINO, after comparing it with torch on the product's good images."""
    from blemish.runs.export import export

    with workspace.store.reading() as session:
        model = session.get_one(Model, job.settings["model"])
        chosen = select(Image).where(Image.product_id == job.product_id, Image.is_defect.is_(False))
        images = list(session.scalars(chosen.order_by(Image.id).limit(COMPARED_ON)))
    with tempfile.TemporaryDirectory(prefix=".export-", dir=workspace.root) as folder:
        for image in images:
            _link(workspace.blobs.path(image.sha256), Path(folder) / f"{image.sha256}.png")
        export(workspace.model_folder(model), job.settings["format"], data_path=Path(folder), phases=phases)


def adopt(workspace: Workspace, job: Job, phases: Phases) -> Taught:
    """A model that was brought in, in the folder that the job names, with the scores of the product's check set."""
    folder = workspace.new_model_folder(job.id)
    Path(workspace.root / job.settings["folder"]).rename(folder)
    about = read_model(folder)
    calibration = about.calibration
    if calibration is None:
        raise BlemishError("the model has no threshold. Run 'blemish calibrate' on it first.")
    inspector = Inspector.load(folder, backend_for(about.exports))
    checks = score(workspace, inspector, _check_images(workspace, job.product_id), calibration.pixel_threshold, phases)
    lineage = {
        "method": about.model,
        "settings": {"imported": job.settings.get("name", "")},
        "num_good": len(about.provenance.get("learned_from", ())),
        "num_held_out": calibration.num_images,
        "images": [],
        "choices": about.provenance.get("choices", []),
        "reviews": [],
    }
    return Taught(folder, calibration, checks, lineage)


def _check_images(workspace: Workspace, product_id: int) -> list[Image]:
    """The check set of the active model, or all images where there is none."""
    with workspace.store.reading() as session:
        product = session.get_one(Product, product_id)
        of_active = (
            select(Image).join(Check, Check.image_id == Image.id).where(Check.model_id == product.active_model_id)
        )
        every = select(Image).where(Image.product_id == product_id)
        return list(session.scalars(of_active.order_by(Check.id) if product.active_model_id else every))


def pack(folder: Path, file: IO[bytes]) -> None:
    """Writes the files that a model names into a zip archive."""
    model = read_model(folder)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(folder / DOCUMENT, DOCUMENT)
        for name in sorted(set(model.files.values())):
            archive.write(folder / name, name)


def unpack(file: IO[bytes], folder: Path) -> ModelFolder:
    """Unpacks a model into a new folder, and reads it with its hashes; raises BlemishError where it is none."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check(entries)
            folder.mkdir(parents=True)
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as written:
                    _copy(source, written, entry.file_size)
        model = read_model(folder)
        for name in model.files:
            model.file(name)
    except ZIP_ERRORS as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BlemishError(
            f"the file is no model ({one_line(error, 120)}). Give one that was downloaded here."
        ) from None
    except BlemishError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BlemishError(str(error).replace(str(folder), "the file")) from None
    return model


def _check(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    is_inside = all(_is_plain(name) for name in names)
    if not is_inside or DOCUMENT not in names or len(names) > MOST_FILES or len(set(names)) != len(names):
        raise BlemishError("the file is no model. Give one that was downloaded here.")
    if sum(entry.file_size for entry in entries) > LARGEST:
        raise BlemishError(f"the model is larger than {LARGEST >> 30} GB.")


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    safe = all(part not in ("..", ".") and part[0] not in "/." and ":" not in part for part in parts)
    return safe and 1 <= len(parts) <= 2 and "\\" not in name


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copies, but no more than the archive said."""
    left = size
    while part := source.read(min(1 << 20, left + 1)):
        left -= len(part)
        if left < 0:
            raise BlemishError("the file is no model: it holds more than it says.")
        target.write(part)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
