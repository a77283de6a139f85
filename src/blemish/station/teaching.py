"""Teaches a product: fits a detector to its good images, and scores the check set. Runs in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.calibration.decisions import find_regions
from blemish.calibration.thresholds import Calibration
from blemish.data.category import Category
from blemish.errors import BlemishError
from blemish.files import write_json
from blemish.inference.inspector import Inspector
from blemish.inference.previews import MOST_REGIONS, encode_preview
from blemish.progress import Phases, with_progress
from blemish.station import audit
from blemish.station.checks import FEWEST
from blemish.station.tables import Check, Decision, Image, Inspection, Job, Model, Product
from blemish.station.verdicts import first_decision, plain
from blemish.station.workspace import Workspace
from blemish.types import Prediction, Sample

HELD_OUT = 0.2
"""The part of the good images that is held out to choose thresholds by, unless another is given."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A model in its folder, its calibration and the scores of its check set."""

    folder: Path
    calibration: Calibration
    checks: list[Check]
    lineage: dict[str, Any]


def teach(workspace: Workspace, job: Job, phases: Phases) -> Taught:
    """Fits a detector to the product's good images; raises BlemishError where there are too few, or one is unfit."""
    from blemish.runs.config import RunConfig
    from blemish.runs.run import learn
    from blemish.runs.steps import plan

    product, images = _product(workspace, job.product_id)
    good = [image for image in images if not image.is_defect]
    if len(good) < FEWEST:
        raise BlemishError(f"{len(good)} good images; teaching needs at least {FEWEST}. Add more.")
    folder = workspace.new_model_folder(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model": "ensemble", "validation": HELD_OUT} | job.settings
    if product.roi:
        write_json(folder / "roi.json", product.roi)
        settings["roi"] = folder / "roi.json"
    config = RunConfig.create(**settings, data_path=workspace.blobs.folder, ckpt_path=folder)
    learned = learn(plan(config, _category(workspace, product, good), phases), folder, phases)
    assert learned is not None
    calibrated, saved = learned
    (folder / "roi.json").unlink(missing_ok=True)
    if saved.calibration is None:
        raise BlemishError("no image was held out, so no threshold can be chosen. Add good images.")
    held_out = {Path(name).name for name in saved.calibration.images}
    chosen = [image for image in images if image.is_defect or image.sha256 in held_out]
    checks = score(workspace, calibrated.inspector, chosen, saved.calibration.pixel_threshold, phases)
    lineage = {
        "method": saved.model,
        "settings": {name: value for name, value in job.settings.items() if value is not None},
        "num_good": len(good),
        "num_held_out": len(saved.calibration.images),
        "images": sorted(image.sha256 for image in good),
        "choices": saved.provenance.get("choices", []),
        "reviews": [],
    }
    return Taught(folder, saved.calibration, checks, lineage)


def learn_reviews(workspace: Workspace, job: Job, phases: Phases) -> Taught:
    """A copy of the active model that has learned images which reviewers called good.

    The check set is that of the model before, and so are the held-out images: both can be compared.
    """
    from blemish.inference.torch_backend import TorchBackend
    from blemish.model.artifact import load, save
    from blemish.runs.recalibrate import calibrate_on
    from blemish.runs.update import updated

    product, parent, frozen, inspections = _to_learn(workspace, job)
    samples = [
        Sample(workspace.blobs.path(name), False, split="train")
        for name in dict.fromkeys(one.image for one in inspections)
        if name is not None
    ]
    category = Category(product.name, workspace.blobs.folder, "", tuple(samples))
    artifact = updated(load(workspace.model_folder(parent)), category, phases)
    inspector = Inspector(TorchBackend(artifact.detector), artifact.preprocess)
    held_out = [Sample(workspace.blobs.path(image.sha256), False) for image in frozen if not image.is_defect]
    predictions = with_progress(inspector.predict(held_out), len(held_out), phases("calibrating"))
    calibration, _ = calibrate_on(predictions, artifact.preprocess.roi)
    assert calibration is not None
    folder = workspace.new_model_folder(job.id)
    save(replace(artifact, calibration=calibration), folder)
    checks = score(workspace, inspector, frozen, calibration.pixel_threshold, phases)
    lineage = parent.lineage | {
        "reviews": [*parent.lineage.get("reviews", []), *job.settings["reviews"]],
        "images": sorted({*parent.lineage.get("images", []), *(one.sha256 for one in inspections)}),
        "num_good": int(parent.lineage.get("num_good", 0)) + len(inspections),
        "num_learned": len(inspections),
    }
    return Taught(folder, calibration, checks, lineage)


def score(
    workspace: Workspace, inspector: Inspector, images: Sequence[Image], pixel_threshold: float, phases: Phases
) -> list[Check]:
    """The score of each image, with the areas of its regions, and a preview with its map."""
    samples = [Sample(workspace.blobs.path(image.sha256), image.is_defect) for image in images]
    found = with_progress(inspector.inspect(samples, with_images=True), len(samples), phases("checking"))
    checks = []
    for image, prediction in zip(images, found, strict=True):
        if not isinstance(prediction, Prediction):
            raise BlemishError(prediction.error.replace(str(prediction.sample.image), image.name))
        areas = sorted((one.area for one in find_regions(prediction.map, pixel_threshold)), reverse=True)
        preview = workspace.blobs.put(encode_preview(prediction, pixel_threshold))
        checks.append(
            Check(
                image_id=image.id,
                is_defect=image.is_defect,
                score=prediction.score,
                areas=areas[:MOST_REGIONS],
                preview=preview,
            )
        )
    return checks


def record(session: Session, job: Job, taught: Taught) -> Model:
    """Writes a taught model to the database. The first of a product becomes active; one that learned is a candidate."""
    product = session.get_one(Product, job.product_id)
    number = 1 + (session.scalar(select(func.max(Model.number)).where(Model.product_id == product.id)) or 0)
    parent = session.get(Model, job.settings["parent"]) if job.kind == "learn" else None
    model = Model(
        product_id=product.id,
        number=number,
        folder=taught.folder.name,
        state="candidate" if parent else "ready",
        parent_id=parent.id if parent else None,
        lineage=taught.lineage,
        created_by=job.created_by,
    )
    session.add(model)
    session.flush()
    for check in taught.checks:
        check.model_id = model.id
        session.add(check)
    decision = first_decision(taught.calibration, job.created_by)
    if parent and (before := session.get(Decision, parent.active_decision_id)):
        decision = Decision(number=1, created_by=job.created_by, **plain(before))
    decision.model_id = model.id
    session.add(decision)
    session.flush()
    model.active_decision_id = decision.id
    job.model_id = model.id
    about = {"version": number, "good images": taught.lineage["num_good"], "thresholds": plain(decision)}
    audit.append(session, job.created_by, f"{job.kind} finished", f"product {product.name}", None, about)
    if product.active_model_id is None and not parent:
        product.active_model_id = model.id
        audit.append(session, job.created_by, "model activated", f"product {product.name}", None, number)
    return model


def _product(workspace: Workspace, product_id: int) -> tuple[Product, list[Image]]:
    with workspace.store.reading() as session:
        images = list(session.scalars(select(Image).where(Image.product_id == product_id).order_by(Image.id)))
        return session.get_one(Product, product_id), images


def _category(workspace: Workspace, product: Product, good: Sequence[Image]) -> Category:
    samples = tuple(Sample(workspace.blobs.path(image.sha256), False, split="train") for image in good)
    return Category(product.name, workspace.blobs.folder, "", samples)


def _to_learn(workspace: Workspace, job: Job) -> tuple[Product, Model, list[Image], list[Inspection]]:
    with workspace.store.reading() as session:
        product, parent = session.get_one(Product, job.product_id), session.get_one(Model, job.settings["parent"])
        frozen = session.scalars(
            select(Image).join(Check, Check.image_id == Image.id).where(Check.model_id == parent.id).order_by(Check.id)
        )
        chosen = session.scalars(select(Inspection).where(Inspection.id.in_(job.settings["inspections"])))
        return product, parent, list(frozen), [one for one in chosen if one.image]
