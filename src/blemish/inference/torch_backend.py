"""The torch backend."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.detectors.base import Detector
from blemish.model.artifact import load_detector
from blemish.model.folder import ModelFolder


class TorchBackend:
    """Computes a fitted detector with torch, on the detector's device."""

    def __init__(self, detector: Detector):
        self.detector = detector.eval()

    def __call__(
        self, images: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (B,) and maps (B, h, w) of a batch; see `blemish.inference.inspector.Backend`."""
        given = [torch.from_numpy(array).to(self.detector.device) for array in (images, inside) if array is not None]
        with torch.inference_mode():
            scores, maps = self.detector(*given)
        return scores.float().cpu().numpy(), maps.float().cpu().numpy()


def torch_backend(model: ModelFolder, threads: int = 0, device: str = "auto") -> TorchBackend:
    """The torch backend of a model. `threads` sets torch's number of threads in the whole process; 0: unchanged."""
    if threads:
        torch.set_num_threads(threads)
    return TorchBackend(load_detector(model, device))
