"""Models that earlier versions wrote are read: their tensors had other names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.imaging.preprocess import Preprocess
from blemish.model.artifact import Artifact, load_detector, save
from blemish.model.changes import write_model
from blemish.model.folder import TENSORS, ModelFolder, read_model
from blemish.model.state_keys import completed

FIRST = {
    "padim": {"gaussians.scale": "loudness", "gaussians.": ""},
    "patchcore": {"memory.": ""},
    "ensemble": {
        "gaussians.scale": "padim.loudness",
        "gaussians.": "padim.",
        "memories.0.": "patchcore.",
        "features.": "patchcore.features.",
    },
    "selfsup": {
        "ensemble.gaussians.scale": "known.padim.loudness",
        "ensemble.gaussians.": "known.padim.",
        "ensemble.memories.0.": "known.patchcore.",
        "ensemble.features.": "known.patchcore.features.",
        "ensemble.": "known.",
    },
}
"""Detector -> {beginning of a tensor's name today: the same beginning as the first versions saved it}."""
SECOND = {
    "padim": {"gaussians.scale": "gaussians.loudness"},
    "ensemble": {"gaussians.scale": "gaussians.loudness", "memories.0.": "memory."},
    "selfsup": {
        "ensemble.gaussians.scale": "known.gaussians.loudness",
        "ensemble.memories.0.": "known.memory.",
        "ensemble.": "known.",
    },
}
"""The same for the versions after those, in which the ensemble was made of parts."""
THIRD = {
    "padim": {},
    "patchcore": {},
    "ensemble": {"memories.0.": "memory."},
    "selfsup": {"ensemble.memories.0.": "ensemble.memory."},
}
"""The same for the last versions before there was a memory bank for each kind of features."""


def as_saved_by(names: dict[str, str], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for key, value in tensors.items():
        new = next((prefix for prefix in names if key.startswith(prefix)), "")
        found[names.get(new, "") + key.removeprefix(new)] = value
    return found


def fitted(name: str, images, **options) -> Detector:
    """A detector that computes as those of before did: on Gabor filters, with the maximum of the map as score."""
    before = {"backbone": "gabor"} | ({"top_share": 0.0} if name in ("ensemble", "selfsup") else {})
    before |= {"num_drawn": 2} if name == "selfsup" else {}
    detector = detector_class(name).create(size=64, **before | options)
    return detector.fit(images, validation=images, training=detector.settings.__class__(epochs=1))


def saved(name: str, detector: Detector, folder: Path) -> ModelFolder:
    """Its folder, with the options that versions of before wrote: \"auto\" for gabor, or none where there were none."""
    model = save(Artifact(name, detector, Preprocess((64, 64)), {}), folder)
    model.options["backbone"] = "auto"
    model.options.pop("top_share", None)
    if name == "selfsup":
        for option in ("backbone", "layers", "weights", "precision"):
            del model.options[option]
    return model


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
    model = saved(name, detector, tmp_path / "model")
    before = as_saved_by(FIRST[name], detector.state_dict())
    if not has_scales:
        dropped = {"padim": "", "ensemble": "padim.", "selfsup": "known.padim.", "patchcore": "-"}[name]
        before = {key: value for key, value in before.items() if key not in (f"{dropped}offset", f"{dropped}loudness")}
        model.options.pop("scales", None)
    check_loads(model, before, detector, part_images, tmp_path)


@pytest.mark.parametrize("name", sorted(SECOND))
def test_models_of_the_second_versions_load(part_images, tmp_path, name):
    detector = fitted(name, part_images)
    model = saved(name, detector, tmp_path / "model")
    check_loads(model, as_saved_by(SECOND[name], detector.state_dict()), detector, part_images, tmp_path)


@pytest.mark.parametrize("name", sorted(THIRD))
def test_models_of_the_third_versions_load(part_images, tmp_path, name):
    """With options that were chosen by likelihood then, and the weights of an ensemble."""
    then = {} if name == "patchcore" else {"shared": False, "shrinkage": 0.1, "scales": (0.0, 3.0)}
    detector = fitted(name, part_images, **then)
    ensemble = getattr(detector, "ensemble", detector)
    if name in ("ensemble", "selfsup"):
        ensemble.weight.copy_(torch.tensor([0.75, 0.25]))
    model = saved(name, detector, tmp_path / "model")
    check_loads(model, as_saved_by(THIRD[name], detector.state_dict()), detector, part_images, tmp_path)


@pytest.mark.parametrize("name", sorted(THIRD))
def test_a_model_of_before_computes_with_the_filters_and_the_maximum(name):
    found = completed(name, {"size": 64, "backbone": "auto"}, {})
    assert found == completed(name, {"size": 64}, {})
    assert found["backbone"] == "gabor"
    assert found.get("top_share") == (0.0 if name in ("ensemble", "selfsup") else None)
    given = {"size": 64, "backbone": "efficientnet_lite2+gabor", "top_share": 0.01}
    assert completed(name, given, {}) == given
    assert completed("ae", {"size": 64}, {}) == {"size": 64}
