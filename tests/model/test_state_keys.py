"""Models that earlier versions wrote are read: their tensors had other names."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from blemish.detectors import detector_class
from blemish.imaging.preprocess import Preprocess
from blemish.model.artifact import Artifact, load_detector, save
from blemish.model.changes import write_model
from blemish.model.folder import TENSORS, read_model

BEFORE = {
    "padim": {"gaussians.": ""},
    "patchcore": {"memory.": ""},
    "ensemble": {"gaussians.": "padim.", "memory.": "patchcore.", "features.": "patchcore.features."},
    "selfsup": {
        "known.gaussians.": "known.padim.",
        "known.memory.": "known.patchcore.",
        "known.features.": "known.patchcore.features.",
    },
}


def as_before(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for key, value in tensors.items():
        new = next((prefix for prefix in BEFORE[name] if key.startswith(prefix)), "")
        found[BEFORE[name].get(new, "") + key.removeprefix(new)] = value
    return found


@pytest.mark.parametrize("name", sorted(BEFORE))
@pytest.mark.parametrize("has_scales", [True, False])
def test_tensors_of_before_are_read(part_images, tmp_path, name, has_scales):
    """Before there were several scales, neither their loudness nor the option was saved."""
    detector = detector_class(name).create(size=64, **({"num_drawn": 2} if name == "selfsup" else {}))
    detector.fit(part_images, training=detector.settings.__class__(epochs=1))
    model = save(Artifact(name, detector, Preprocess((64, 64)), {}), tmp_path / "model")
    before = as_before(name, detector.state_dict())
    if not has_scales:
        dropped = {"padim": "", "ensemble": "padim.", "selfsup": "known.padim.", "patchcore": "-"}[name]
        before = {key: value for key, value in before.items() if key not in (f"{dropped}offset", f"{dropped}loudness")}
        model.options.pop("scales", None)
    save_file(before, tmp_path / "before.safetensors")
    write_model(model, {TENSORS: tmp_path / "before.safetensors"})
    images = part_images.batch([0, 1])
    for found, expected in zip(load_detector(read_model(tmp_path / "model"))(images), detector(images), strict=True):
        assert torch.equal(found, expected)
