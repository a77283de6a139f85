"""The base classes of detectors: modules that are fitted to good images and score other images."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from itertools import chain
from typing import Annotated, Any, ClassVar, Self, get_type_hints

import torch
from pydantic import Field, ValidationError, create_model
from torch import Tensor, nn

from blemish.data.source import ImageSource
from blemish.detectors.parts.fitted import Fitted
from blemish.detectors.parts.one_by_one import ImagesOneByOne
from blemish.errors import BlemishError, first_problem
from blemish.features.base import Backbone, FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.features.devices import uses_bfloat16
from blemish.features.filters import membership_matrix, upsampling_matrix
from blemish.features.processes import Processes
from blemish.features.registry import create_backbone, default_backbone, has_network
from blemish.imaging.input_size import AnySize, InputSize, height_and_width
from blemish.imaging.preprocess import Combination
from blemish.progress import Progress, no_progress
from blemish.training.settings import Schedule, Training, constant
from blemish.types import Size

Smoothing = Annotated[float, Field(ge=0, le=32, description="map smoothing, sigma in pixels")]

TopShare = Annotated[
    float,
    Field(ge=0, le=1, description="share of the cells, the highest, whose mean is the score; 0: the map's maximum"),
]


class Detector(Fitted, ABC):
    """A module that is fitted to good images; all that it has learned is in its parameters and buffers.

    The constructor's arguments are the detector's options. It stores each as an attribute of the same name; `options`
    returns them all. Their annotations (pydantic `Field`) contain the ranges and descriptions, from which the flags of
    the command line are made. An argument may also be a frozen dataclass, a group of options that several detectors
    share; the options are then its fields.
    """

    combination: ClassVar[Combination] = "maximum"
    """How the scores of an image's tiles become the score of the image."""
    settings: ClassVar[Training] = Training()
    """The default training settings. Detectors that are fitted in closed form do not use them."""
    size: AnySize

    def __init__(self, size: InputSize = 128) -> None:
        super().__init__()
        self.size = size
        self.is_fitted = False
        self.losses_per_epoch: dict[str, Any] = {}
        """Losses of the last training for the record of a run; empty for a detector that is not trained."""
        self._one_by_one = ImagesOneByOne()

    @property
    def input_size(self) -> Size:
        """(height, width) of the input of `forward`."""
        return height_and_width(self.size)

    @property
    def device(self) -> torch.device:
        """The device of the detector's parameters and buffers."""
        return next(chain(self.parameters(), self.buffers())).device

    @abstractmethod
    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
        training: Training | None = None,
    ) -> Self:
        """Learns from good images and forgets all that it learned before; returns itself.

        Held-out good images, `validation`, are used for choices and for early stopping. The same images and seed give
        the same bits. `training` replaces the class's `settings` where the detector is trained by gradient descent.
        """

    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Learns from additional good images, without those it was fitted to; BlemishError where it is not possible."""
        raise BlemishError(f"{type(self).__name__} cannot learn from additional images. Fit it to all of them again.")

    @abstractmethod
    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The result of `forward`, for a fitted detector."""

    def forward(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Raw scores (B,) and raw maps (B, h, w) of images (B, 3, H, W) in [0, 1]; higher is more anomalous.

        With `inside`, a bool mask (B, H, W), scores depend only on places that show a True pixel; a score is -inf where
        there are none. A CPU computes images one at a time, which is as fast, takes less memory, and makes a score
        independent of its batch, to the bit. Raises BlemishError before `fit`.
        """
        if not self.is_fitted:
            raise BlemishError(f"this {type(self).__name__} is not fitted yet: call fit, or load a fitted one.")
        batch = (images,) if inside is None else (images, inside)
        if images.device.type != "cpu" or torch.compiler.is_exporting():
            return self.score(*batch)
        return self._one_by_one(self.score, *batch, kind=lambda: tuple(learned.shape for learned in self.buffers()))

    @classmethod
    def option_fields(cls) -> dict[str, Any]:
        """Name of each option -> (annotated type, default)."""
        found: dict[str, Any] = {}
        hints = get_type_hints(cls.__init__, include_extras=True)
        for name, default in cls._arguments().items():
            if is_dataclass(default):
                inner = get_type_hints(type(default), include_extras=True)
                found |= {field.name: (inner[field.name], getattr(default, field.name)) for field in fields(default)}
            else:
                found[name] = hints[name], default
        return found

    @classmethod
    def _arguments(cls) -> dict[str, Any]:
        """Name of each argument of the constructor -> default."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}

    @classmethod
    def create(cls, **options: Any) -> Self:
        """A detector with these options; those that are not given have their defaults.

        Each value is checked against its annotation. Raises BlemishError that names the option, the allowed values and
        the given one.
        """
        allowed = cls.option_fields()
        unknown = sorted(set(options) - set(allowed))
        if unknown:
            raise BlemishError(f"{unknown[0]}: not an option of {cls.__name__}. It has: {', '.join(sorted(allowed))}.")
        try:
            checked = dict(create_model(cls.__name__, **allowed)(**options))
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None
        arguments = {name: _regrouped(default, name, checked) for name, default in cls._arguments().items()}
        return cls(**arguments)

    @property
    def options(self) -> dict[str, Any]:
        """Name -> value of all options: `create(**options)` gives an unfitted detector with the same options."""
        found: dict[str, Any] = {}
        for name in self._arguments():
            value = getattr(self, name)
            found |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
        return found

    def chosen(self, name: str) -> Any:
        """The value of an option, or the value that `fit` chose for it where it was left open."""
        return self.choices.get(name, self.options[name])


def _regrouped(default: Any, name: str, values: dict[str, Any]) -> Any:
    """The value of a constructor's argument `name`, which may be a group of options, from the options' values."""
    if not is_dataclass(default) or isinstance(default, type):
        return values[name]
    return replace(default, **{field.name: values[field.name] for field in fields(default)})


class FeatureDetector(Detector):
    """A detector that compares the feature maps of an image with those of good images; it is fitted in closed form.

    A subclass implements `learn`, `learn_more` and `distances`.
    """

    top_share: float = 0.0
    """Share of the cells, the highest, whose mean distance is the score; 0: the maximum of the map."""

    def __init__(self, feature_options: FeatureOptions, smoothing: float) -> None:
        super().__init__(feature_options.size)
        self.feature_options, self.smoothing = feature_options, smoothing
        self.features = self._new_features()

    @torch.no_grad()
    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
        training: Training | None = None,  # noqa: ARG002 - nothing is trained
    ) -> Self:
        """Fits the backbone, computes the feature maps of each image once, and learns from them.

        Of several processes each computes those of a share of the images, and all learn the same.
        """
        self.choices, self.reasons = {}, []
        self._fit_features(images, seed, progress)
        held_out = self._computed(validation) if validation else None
        self.learn(self._computed(images, Processes.joined(self.device)), held_out, seed, progress)
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Learns from additional good images, with the backbone as it is."""
        self.learn_more(self._computed(images), progress)
        return self

    @abstractmethod
    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Learns from the feature maps of good images; options that are open are chosen by those of held-out images."""

    @abstractmethod
    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Learns from the feature maps of additional good images."""

    @abstractmethod
    def distances(self, features: Tensor) -> Tensor:
        """The distances (B, h, w) of feature maps (B, C, h, w) from those of good images, at each cell."""

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores (B,) and maps (B, H, W) of the distances, by `scores_and_maps`."""
        return scores_and_maps(self.distances(self.features(images)), images, self.smoothing, inside, self.top_share)

    def _computed(self, images: ImageSource, processes: Processes | None = None) -> ComputedFeatures:
        return ComputedFeatures(images, self.features, self.device, processes)

    def _take_choices(self, part: Fitted) -> None:
        """Takes over the choices of a part, and the reasons for them."""
        self.choices |= part.choices
        self.reasons += [reason for reason in part.reasons if reason not in self.reasons]

    def _new_features(self) -> Backbone:
        asked = self.feature_options
        precision, name = self.choices.get("precision", asked.precision), self.choices.get("backbone", asked.backbone)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        name = default_backbone()[0] if name == "auto" else name
        return create_backbone(name, asked.layers, asked.weights, dtype)

    def _fit_features(self, images: ImageSource, seed: int, progress: Progress) -> None:
        """Creates and fits the backbone, in the precision that suits the hardware."""
        if self.feature_options.backbone == "auto":
            name, reason = default_backbone()
            self._choose({"backbone": name}, reason)
        is_open = self.feature_options.precision == "auto" and has_network(self.chosen("backbone"))
        if is_open and uses_bfloat16("auto", self.device):
            self._choose({"precision": "bfloat16"}, "precision: bfloat16, which this hardware supports")
        self.features = self._new_features().to(self.device).fit(images, seed, progress)


def scores_and_maps(
    distances: Tensor, images: Tensor, smoothing: float, inside: Tensor | None = None, top_share: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scores (B,) and maps (B, H, W) of distances (B, h, w) on a grid.

    The maps are the distances enlarged bilinearly to the size of `images` (B, 3, H, W) and smoothed by a Gaussian of
    `smoothing` pixels. The scores are their maxima, or with a `top_share` the means of that share of the distances,
    the highest. With `inside` (B, H, W), only places that show a True pixel count; a score is -inf where none does.
    """
    rows, columns = (
        upsampling_matrix(cells, pixels, smoothing).to(distances)
        for cells, pixels in zip(distances.shape[1:], images.shape[-2:], strict=True)
    )
    maps = rows @ distances @ columns.T
    if top_share == 0:
        return max_scores(maps, inside), maps
    counted = None if inside is None else cells_inside(inside, distances.shape[1], distances.shape[2])
    return _top_scores(distances, counted, top_share), maps


def _top_scores(distances: Tensor, counted: Tensor | None, share: float) -> Tensor:
    """The mean (B,) of this share of the distances (B, h, w), the highest of those with a True in `counted`."""
    values = distances if counted is None else distances.masked_fill(~counted, -torch.inf)
    millionths = max(1, round(share * 1_000_000))  # in integers, since exports with variable sizes have no others
    count = (values.shape[1] * values.shape[2] * millionths + 999_999) // 1_000_000
    highest = values.flatten(1).topk(count, 1).values
    if counted is None:
        return highest.mean(1)
    shown = highest > -torch.inf
    means = highest.masked_fill(~shown, 0).sum(1) / shown.sum(1).clamp_min(1)
    return means.masked_fill(~shown[:, 0], -torch.inf)


def cells_inside(inside: Tensor, height: int, width: int) -> Tensor:
    """(B, height, width): the cells of a grid that contain a True pixel of `inside` (B, H, W)."""
    rows, columns = (
        membership_matrix(cells, pixels).to(inside.device)
        for cells, pixels in zip((height, width), inside.shape[1:], strict=True)
    )
    return (rows.T @ inside.float() @ columns) > 0


def max_scores(values: Tensor, inside: Tensor | None) -> Tensor:
    """The maxima (B,) of values (B, h, w), of those with a True in `inside` where it is given; -inf where none has."""
    return (values if inside is None else values.masked_fill(~inside, -torch.inf)).amax((1, 2))


class LearningDetector(Detector):
    """A detector that is trained by gradient descent; the loop is in `blemish.training.loop`.

    The detector defines the examples of an epoch, by default an image and a random seed, and their losses.
    """

    redraw = 1
    """Number of epochs after which an example is drawn again, from another seed."""
    ema_decay = 0.0
    """Decay of the exponential moving average of the weights, which is used in place of them; 0: no average."""

    @property
    def trained(self) -> nn.Module:
        """The module whose weights are trained, and that checkpoints contain; by default the detector itself."""
        return self

    def prepare(self, images: ImageSource, validation: ImageSource | None, seed: int) -> None:
        """Called before the first epoch, for what is learned without gradients; the same seed gives the same bits."""

    def finish(self) -> None:
        """Called after training, to release what only training needs."""

    def num_examples(self, images: ImageSource) -> int:
        """The number of examples per epoch on these images; a row is the number of an example."""
        return len(images)

    def examples(self, images: ImageSource, rows: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, ...]:
        """The arguments of `losses` for some rows: tensors whose first dimension is that of the examples.

        The loop calls it in advance, in another thread, without gradients. All that is random about rows[i] is drawn
        from seeds[i], so that it depends neither on the batch nor on the number of processes.
        """
        return images.batch(rows), torch.tensor(seeds)

    @abstractmethod
    def losses(self, *examples: Tensor) -> Tensor:
        """The loss of each example, (B,); their mean is minimised."""

    def configure_optimizer(self, learning_rate: float) -> tuple[torch.optim.Optimizer, Schedule]:
        """The optimiser of the trained module, and the schedule of its learning rate: by default Adam, constant.

        Small sets are trained in a few hundred steps, for which Adam's default second moment, averaged over a thousand
        steps, adapts too slowly. The smaller beta reached a lower validation loss on both categories tried.
        """
        return torch.optim.Adam(self.trained.parameters(), learning_rate, betas=(0.9, 0.95), fused=True), constant

    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
        training: Training | None = None,
    ) -> Self:
        """Trains, and keeps the weights of the epoch with the lowest validation loss; returns itself."""
        from blemish.training.loop import train

        history = train(self, images, validation, training or self.settings, seed=seed, progress=progress)
        self.losses_per_epoch = history.to_plain()
        return self


class ReconstructingDetector(LearningDetector):
    """A detector that scores images by their reconstruction error."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """The reconstruction of images (B, 3, H, W): the same shape, in [0, 1]."""

    @abstractmethod
    def losses(self, *examples: Tensor) -> Tensor:
        """The loss (B,) of images (B, 3, H, W) and seeds (B,), from which alone random numbers are drawn."""
