"""What runs a fitted detector with torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.detectors.base import Detector
from blemish.model.artifact import load_detector
from blemish.model.folder import ModelFolder


class TorchBackend:
    """Runs a fitted detector with torch, on the device that it is on."""

    def __init__(self, detector: Detector):
        self.detector = detector.eval()

    def __call__(
        self, images: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and maps of the batch."""
        given = [torch.from_numpy(array).to(self.detector.device) for array in (images, inside) if array is not None]
        with torch.inference_mode():
            scores, maps = self.detector(*given)
        return scores.float().cpu().numpy(), maps.float().cpu().numpy()


def torch_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> TorchBackend:
    """What runs the detector of a model folder with torch; its number of threads is that of the whole process."""
    if threads:
        torch.set_num_threads(threads)
    return TorchBackend(load_detector(model, device))
