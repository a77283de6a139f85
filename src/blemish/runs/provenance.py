"""The provenance of a result: settings, data, versions and machine; and whether an earlier run has it already."""

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
    """What the result depends on, as plain data: settings, and hashes of the data and of the region of interest."""
    return {
        "config": config.identity,
        "data_sha256": data_sha256,
        "roi_sha256": hashlib.sha256(roi.png).hexdigest() if roi else None,
    }


def finished(folder: Path, identity: dict[str, Any]) -> Evaluation | None:
    """The evaluation of a finished earlier run in this folder; None where there is none.

    Raises BlemishError where that run had other settings or data.
    """
    if not (folder / DOCUMENT).exists() or not (folder / EVALUATION).exists():
        return None
    provenance = read_model(folder).provenance
    # Settings that an older version did not have were at their defaults, but it had no registration.
    defaults = {name: RunConfig.model_fields[name].default for name in identity["config"]} | {"align": "off"}
    provenance |= {"config": defaults | provenance.get("config", {})}
    if {name: provenance.get(name) for name in identity} != identity:
        raise BlemishError(
            f"{folder}: holds a run with {_difference(provenance, identity)}. "
            "Use the same settings and data, another ckpt_path, or leave resume out to start over."
        )
    return read_evaluation(json.loads(read_bytes(folder / EVALUATION)), folder / EVALUATION)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    packages = ("blemish", "torch", "numpy", "opencv-python-headless", "imagecodecs", "simplejpeg", "safetensors")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def machine(detector: Detector) -> dict[str, Any]:
    """The system, device and processor that the result was computed with."""
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
