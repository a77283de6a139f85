"""PaDiM: a Gaussian of the good images' features at each place."""

from __future__ import annotations

from torch import Tensor

from blemish.detectors.base import FeatureDetector, Smoothing
from blemish.detectors.parts.gaussians import GaussianOptions, Gaussians
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress


class PaDiM(FeatureDetector):
    """Map: the Mahalanobis distance of each place from the Gaussian of the good images there; score: its maximum.

    After Defard et al. 2020 (arXiv 2011.08785). With `shared` there is one Gaussian for all places; with several
    `scales` the map is the mean of the distances at each.
    """

    def __init__(
        self,
        feature_options: FeatureOptions = FeatureOptions(),
        gaussian_options: GaussianOptions = GaussianOptions(),
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(feature_options, smoothing)
        self.gaussian_options = gaussian_options
        self.gaussians = Gaussians(gaussian_options, self.features)

    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Takes the mean and covariance of the features."""
        self.gaussians.learn(features, validation, seed, progress)
        self._take_choices(self.gaussians)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Takes further features into the Gaussians."""
        self.gaussians.learn_more(features, progress)

    def distances(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, (B, h, w); of several scales their mean, 1 being the usual maximum of good images."""
        return self.gaussians.distances(features)
