"""The torch backend."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.detectors.base import Detector
from blemish.features.threads import computing_on
from blemish.model.artifact import load_detector
from blemish.model.folder import ModelFolder


class TorchBackend:
    """Runs a fitted detector with torch, on the device that it is on.

    On a processor it takes `threads` cores (0: as many as torch does in the thread that calls).
    """

    def __init__(self, detector: Detector, threads: int = 0):
        self.detector, self.threads = detector.eval(), threads

    def __call__(
        self, images: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (B,) and maps (B, h, w) of a batch; see `blemish.inference.inspector.Backend`."""
        given = [torch.from_numpy(array).to(self.detector.device) for array in (images, inside) if array is not None]
        with torch.inference_mode(), computing_on(self.threads):
            scores, maps = self.detector(*given)
        return scores.float().cpu().numpy(), maps.float().cpu().numpy()


def torch_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> TorchBackend:
    """What runs the detector of a model folder with torch, on so many threads (0: as many as usual) or on a device."""
    return TorchBackend(load_detector(model, device), threads)
