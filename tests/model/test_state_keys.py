"""Models that earlier versions wrote are read: their tensors had other names."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.imaging.preprocess import Preprocess
from blemish.model.artifact import Artifact, load_detector, save
from blemish.model.changes import write_model
from blemish.model.folder import TENSORS, read_model

FIRST = {
    "padim": {"gaussians.scale": "loudness", "gaussians.": ""},
    "patchcore": {"memory.": ""},
    "ensemble": {
        "gaussians.scale": "padim.loudness",
        "gaussians.": "padim.",
        "memory.": "patchcore.",
        "features.": "patchcore.features.",
    },
    "selfsup": {
        "ensemble.gaussians.scale": "known.padim.loudness",
        "ensemble.gaussians.": "known.padim.",
        "ensemble.memory.": "known.patchcore.",
        "ensemble.features.": "known.patchcore.features.",
        "ensemble.": "known.",
    },
}
"""Detector -> {beginning of a tensor's name today: the same beginning as the first versions saved it}."""
SECOND = {
    "padim": {"gaussians.scale": "gaussians.loudness"},
    "ensemble": {"gaussians.scale": "gaussians.loudness"},
    "selfsup": {"ensemble.gaussians.scale": "known.gaussians.loudness", "ensemble.": "known."},
}
"""The same for the versions after those, in which the ensemble was made of parts."""


def as_saved_by(names: dict[str, str], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for key, value in tensors.items():
        new = next((prefix for prefix in names if key.startswith(prefix)), "")
        found[names.get(new, "") + key.removeprefix(new)] = value
    return found


def fitted(name: str, images) -> Detector:
    detector = detector_class(name).create(size=64, **({"num_drawn": 2} if name == "selfsup" else {}))
    return detector.fit(images, training=detector.settings.__class__(epochs=1))


def check_loads(model, tensors: dict[str, torch.Tensor], detector: Detector, images, folder) -> None:
    """A model folder with these tensors gives the detector's scores and maps, to the bit."""
    save_file(tensors, folder / "before.safetensors")
    write_model(model, {TENSORS: folder / "before.safetensors"})
    batch = images.batch([0, 1])
    for found, expected in zip(load_detector(read_model(model.folder))(batch), detector(batch), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", sorted(FIRST))
@pytest.mark.parametrize("has_scales", [True, False])
def test_models_of_the_first_versions_load(part_images, tmp_path, name, has_scales):
    """Before there were several scales, neither their normalisation nor the option was saved."""
    detector = fitted(name, part_images)
    model = save(Artifact(name, detector, Preprocess((64, 64)), {}), tmp_path / "model")
    before = as_saved_by(FIRST[name], detector.state_dict())
    if not has_scales:
        dropped = {"padim": "", "ensemble": "padim.", "selfsup": "known.padim.", "patchcore": "-"}[name]
        before = {key: value for key, value in before.items() if key not in (f"{dropped}offset", f"{dropped}loudness")}
        model.options.pop("scales", None)
    check_loads(model, before, detector, part_images, tmp_path)


@pytest.mark.parametrize("name", sorted(SECOND))
def test_models_of_the_second_versions_load(part_images, tmp_path, name):
    detector = fitted(name, part_images)
    model = save(Artifact(name, detector, Preprocess((64, 64)), {}), tmp_path / "model")
    check_loads(model, as_saved_by(SECOND[name], detector.state_dict()), detector, part_images, tmp_path)
