"""PaDiM: the Mahalanobis distance from a Gaussian of the good images' features at each position."""

from __future__ import annotations

from torch import Tensor

from blemish.detectors.base import FeatureDetector, Smoothing
from blemish.detectors.parts.gaussians import GaussianOptions, Gaussians
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress


class PaDiM(FeatureDetector):
    """Map: the Mahalanobis distance of each cell's features from the good images' Gaussian there; score: its maximum.

    After Defard et al. 2020 (arXiv 2011.08785). With `shared` there is one Gaussian for all positions; with several
    `scales` the map is the mean of the distances at all scales.
    """

    def __init__(
        self,
        feature_options: FeatureOptions = FeatureOptions(),
        gaussian_options: GaussianOptions = GaussianOptions(),
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(feature_options, smoothing)
        self.gaussian_options = gaussian_options
        self.gaussians = Gaussians(gaussian_options)

    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Estimates the mean and covariance of the features."""
        self.gaussians.learn(features, validation, seed, progress)
        self._take_choices(self.gaussians)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Updates the Gaussians with additional features."""
        self.gaussians.learn_more(features, progress)

    def distances(self, features: Tensor) -> Tensor:
        """Mahalanobis distances (B, h, w); with several scales the mean of the normalised distances."""
        return self.gaussians.distances(features)
