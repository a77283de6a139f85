"""Where a result came from: what it depends on, what computed it, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from blemish.detectors.base import Detector
from blemish.errors import BlemishError
from blemish.evaluation.results import EVALUATION, read_evaluation
from blemish.files import read_bytes
from blemish.imaging.roi import Roi
from blemish.model.folder import DOCUMENT, read_model
from blemish.runs.config import RunConfig
from blemish.types import Evaluation


def identity_of(config: RunConfig, data_sha256: str, roi: Roi | None) -> dict[str, Any]:
    """What the result depends on."""
    return {
        "config": config.identity,
        "data_sha256": data_sha256,
        "roi_sha256": hashlib.sha256(roi.png).hexdigest() if roi else None,
    }


def finished(folder: Path, identity: dict[str, Any]) -> Evaluation | None:
    """The evaluation of an earlier run of the same settings and data, if it came to its end."""
    if not (folder / DOCUMENT).exists() or not (folder / EVALUATION).exists():
        return None
    provenance = read_model(folder).provenance
    # What an older version did not know yet was at its default; but it took all pictures as they lie.
    defaults = {name: RunConfig.model_fields[name].default for name in identity["config"]} | {"align": "off"}
    provenance |= {"config": defaults | provenance.get("config", {})}
    if {name: provenance.get(name) for name in identity} != identity:
        raise BlemishError(
            f"{folder}: holds a run with {_difference(provenance, identity)}. "
            "Use the same settings and data, another ckpt_path, or leave --resume out to start over."
        )
    return read_evaluation(json.loads(read_bytes(folder / EVALUATION)), folder / EVALUATION)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    packages = ("blemish", "torch", "numpy", "opencv-python-headless", "imagecodecs", "simplejpeg", "safetensors")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def machine(detector: Detector) -> dict[str, Any]:
    """What computed the result."""
    device = detector.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "device": device.type,
        "processor": name,
        "threads": torch.get_num_threads(),
    }


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first field that differs, in words."""
    before, now = found.get("config", {}), wanted["config"]
    for name in now:
        if before.get(name) != now[name]:
            return f"{name} = {before.get(name)}, while this one has {now[name]}"
    same_data = found.get("data_sha256") == wanted["data_sha256"]
    return "another region of interest" if same_data else "other data"
