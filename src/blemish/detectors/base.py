"""What every detector is: a module that was fitted to good images and scores others."""

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
from blemish.features.base import FILTER_BANKS, Backbone, FeatureOptions, Side
from blemish.features.computed import ComputedFeatures
from blemish.features.devices import uses_bfloat16
from blemish.features.filters import upsampling_matrix
from blemish.features.registry import create_backbone
from blemish.imaging.preprocess import Combination
from blemish.progress import Progress, no_progress
from blemish.training.settings import Schedule, Training, constant
from blemish.types import Size

Smoothing = Annotated[float, Field(ge=0, le=32, description="blur of the map, sigma in pixels")]

DEFAULT_BACKBONE = "gabor"


class Detector(Fitted, ABC):
    """Learns from good images; all that it learned is a parameter or a buffer.

    The constructor's arguments are its whole configuration: it stores them as attributes of the same names, and
    `options` gives them back. Their annotations (pydantic `Field`s) are where ranges and descriptions stand; the
    command line's flags are read from them. An argument may be a frozen dataclass, a group of options that several
    detectors share: its fields are options like any other.
    """

    combination: ClassVar[Combination] = "maximum"
    """How the scores of an image's pieces, where it is seen in tiles, become its score."""
    settings: ClassVar[Training] = Training()
    """How it is trained where nothing else is asked for; a closed-form detector reads none of it."""
    size: int

    def __init__(self, size: Side = 128) -> None:
        super().__init__()
        self.size = size
        self.is_fitted = False
        self.losses_per_epoch: dict[str, Any] = {}
        """What the last training is worth recording by; empty for a detector that does not train."""
        self._one_by_one = ImagesOneByOne()

    @property
    def input_size(self) -> Size:
        """(height, width) of the images that `forward` takes."""
        return self.size, self.size

    @property
    def device(self) -> torch.device:
        """Where the detector computes."""
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
        """Learns from good images, forgetting whatever was learned before. The same seed gives the same bits.

        A detector that trains by gradient does so as `training` says, by default as its own `settings` do.
        """

    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Learns from further good images without starting over; raises BlemishError where the method can't."""
        raise BlemishError(f"{type(self).__name__} can't take in further images. Fit it anew on all of them.")

    @abstractmethod
    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `forward` gives, for a detector that is fitted."""

    def forward(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Raw scores (B,) and raw maps (B, h, w) of images (B, 3, H, W) in [0, 1]; higher is more anomalous.

        With `inside`, (B, H, W) and bool, a score is of the places alone that show a pixel that is True; -inf where
        there is none. A processor computes each image by itself: that is as fast, takes less memory, and no rounding
        depends on the rest of the batch. Raises BlemishError before `fit`.
        """
        if not self.is_fitted:
            raise BlemishError(f"this {type(self).__name__} has learned nothing yet: call fit, or load a fitted one.")
        batch = (images,) if inside is None else (images, inside)
        if images.device.type != "cpu" or torch.compiler.is_exporting():
            return self.score(*batch)
        return self._one_by_one(self.score, *batch, kind=lambda: tuple(learned.shape for learned in self.buffers()))

    @classmethod
    def option_fields(cls) -> dict[str, Any]:
        """Name -> (annotated type, default) of each option."""
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
        """Name -> default of each argument of the constructor."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}

    @classmethod
    def create(cls, **options: Any) -> Self:
        """A detector with these options, each checked against its annotation.

        Raises BlemishError that names the option, what is allowed and what was given.
        """
        known = cls.option_fields()
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise BlemishError(f"{unknown[0]}: not an option of {cls.__name__}. It has: {', '.join(sorted(known))}.")
        try:
            checked = dict(create_model(cls.__name__, **known)(**options))
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None
        arguments = {name: _regrouped(default, name, checked) for name, default in cls._arguments().items()}
        return cls(**arguments)

    @property
    def options(self) -> dict[str, Any]:
        """Every option's value: `create(**options)` makes an unfitted twin."""
        found: dict[str, Any] = {}
        for name in self._arguments():
            value = getattr(self, name)
            found |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
        return found

    def chosen(self, name: str) -> Any:
        """The value of an option, or what `fit` chose where it was left open."""
        return self.choices.get(name, self.options[name])


def _regrouped(default: Any, name: str, values: dict[str, Any]) -> Any:
    """The value of a constructor's argument, which may be a group of options."""
    if not is_dataclass(default) or isinstance(default, type):
        return values[name]
    return replace(default, **{field.name: values[field.name] for field in fields(default)})


class FeatureDetector(Detector):
    """A detector that compares the features of each place with those of the good images, in closed form."""

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
        """Fits the features, computes them once for each image, and learns what they are like."""
        self.choices, self.reasons = {}, []
        self._fit_features(images, seed, progress)
        held_out = self._computed(validation) if validation else None
        self.learn(self._computed(images), held_out, seed, progress)
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Learns from further good images without starting over."""
        self.learn_more(self._computed(images), progress)
        return self

    @abstractmethod
    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Learns from the features of good images; those of held-out good images are what choices are made by."""

    @abstractmethod
    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Learns from the features of further good images."""

    @abstractmethod
    def distances(self, features: Tensor) -> Tensor:
        """How far the features (B, C, h, w) are from the good ones at each place: (B, h, w)."""

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The distances, brought to the images' size and smoothed, and their maximum."""
        return scores_and_maps(self.distances(self.features(images)), images, self.smoothing, inside)

    def _computed(self, images: ImageSource) -> ComputedFeatures:
        return ComputedFeatures(images, self.features, self.device)

    def _take_choices(self, part: Fitted) -> None:
        """Records what a part chose as the detector's own choice."""
        self.choices |= part.choices
        self.reasons += [reason for reason in part.reasons if reason not in self.reasons]

    def _new_features(self) -> Backbone:
        asked = self.feature_options
        precision = self.choices.get("precision", asked.precision)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        return create_backbone(self._backbone_name, asked.layers, asked.weights, dtype)

    @property
    def _backbone_name(self) -> str:
        name = self.feature_options.backbone
        return DEFAULT_BACKBONE if name == "auto" else name

    def _fit_features(self, images: ImageSource, seed: int, progress: Progress) -> None:
        """Fits fresh features, in the precision that is chosen for them."""
        is_network = self._backbone_name not in FILTER_BANKS
        if is_network and self.feature_options.precision == "auto" and uses_bfloat16("auto", self.device):
            self._choose({"precision": "bfloat16"}, "precision: bfloat16, which this hardware computes in")
        self.features = self._new_features().to(self.device).fit(images, seed, progress)


def scores_and_maps(
    distances: Tensor, images: Tensor, smoothing: float, inside: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Maps at the images' size, smoothed, of distances (B, h, w) on a grid, and their maxima."""
    rows, columns = (
        upsampling_matrix(cells, pixels, smoothing).to(distances)
        for cells, pixels in zip(distances.shape[1:], images.shape[-2:], strict=True)
    )
    maps = rows @ distances @ columns.T
    return max_scores(maps, inside), maps


def max_scores(values: Tensor, inside: Tensor | None) -> Tensor:
    """(B,): the maxima of values (B, h, w), of those that are inside where that is told; -inf where none is."""
    return (values if inside is None else values.masked_fill(~inside, -torch.inf)).amax((1, 2))


class LearningDetector(Detector):
    """A detector that learns by gradient; `blemish.training` owns the loop that trains it.

    An epoch sees each example once. What an example is, the detector says: by default an image and a seed.
    """

    redraw = 1
    """Epochs that an example serves before it is drawn anew from another seed."""
    ema_decay = 0.0
    """The weights that count are a mean over about the last 1 / (1 - ema_decay) steps; 0: those of the last one."""

    @property
    def trained(self) -> nn.Module:
        """The module whose weights the training changes: by default the detector. Checkpoints hold it alone."""
        return self

    def prepare(self, images: ImageSource, validation: ImageSource | None, seed: int) -> None:
        """Learns what needs no gradient, before the first epoch; the same seed gives the same bits."""

    def finish(self) -> None:
        """Forgets what only the training needed."""

    def num_examples(self, images: ImageSource) -> int:
        """The examples that an epoch on these images has; they are numbered by rows."""
        return len(images)

    def examples(self, images: ImageSource, rows: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, ...]:
        """The arguments of `losses` for some rows, each a tensor with a row per example.

        The loop calls it ahead of time, in a thread, without gradients. What is drawn at random for rows[i] is drawn
        from seeds[i] alone, so that it depends neither on the batch nor on how a batch is divided among processes.
        """
        return images.batch(rows), torch.tensor(seeds)

    @abstractmethod
    def losses(self, *examples: Tensor) -> Tensor:
        """One loss per example, (B,), whose mean is to be minimised."""

    def configure_optimizer(self, learning_rate: float) -> tuple[torch.optim.Optimizer, Schedule]:
        """The optimiser of what is trained, and how its learning rate changes; by default it stays.

        Small sets are trained in a few hundred steps; Adam's usual second moment, a mean over a thousand, follows too
        slowly for that. The shorter one reached a lower validation loss on both categories tried.
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
        """Trains, and keeps the weights of the epoch with the lowest validation loss."""
        from blemish.training.loop import train

        history = train(self, images, validation, training or self.settings, seed=seed, progress=progress)
        self.losses_per_epoch = history.to_plain()
        return self


class ReconstructingDetector(LearningDetector):
    """A detector that scores an image by how well it can be rebuilt."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """What the detector takes the good version of the images to be: (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def losses(self, *examples: Tensor) -> Tensor:
        """One loss per image, of images (B, 3, H, W) and a seed for each, from which alone its draws come."""
