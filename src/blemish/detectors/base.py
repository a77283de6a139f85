"""What every detector is: a module that was fitted to good images and scores others."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar, Self, get_type_hints

import torch
from pydantic import Field, ValidationError, create_model
from torch import Tensor, nn

from blemish.data.source import ImageSource
from blemish.detectors.parts.apart import Apart
from blemish.errors import BlemishError, first_problem
from blemish.features.base import FILTER_BANKS, Backbone, BackboneName, ComputedIn, Layers, Weights
from blemish.features.devices import uses_bfloat16
from blemish.features.filters import enlarging
from blemish.features.registry import create_backbone
from blemish.imaging.preprocess import Combination
from blemish.progress import Progress, no_progress
from blemish.types import Size

Side = Annotated[int, Field(ge=32, le=1024, multiple_of=16, description="side length of the input image in pixels")]
Smoothing = Annotated[
    float, Field(ge=0, le=32, description="standard deviation in pixels of the Gaussian that smooths the map")
]

DEFAULT_BACKBONE = "gabor"

logger = logging.getLogger("blemish")


class Detector(nn.Module, ABC):
    """Learns from good images; all that it learned is a parameter or a buffer.

    The constructor's arguments are its whole configuration: it stores them as attributes of the same names, and
    `options` gives them back. Their annotations (pydantic `Field`s) are where ranges and descriptions stand; the
    command line's flags are read from them.
    """

    combination: ClassVar[Combination] = "maximum"
    """How the scores of an image's pieces, where it is seen in tiles, become its score."""
    size: int

    def __init__(self, size: Side = 128) -> None:
        super().__init__()
        self.size = size
        self.is_fitted = False
        self.choices: dict[str, Any] = {}
        """Options that were left open, and what `fit` chose for them."""
        self.reasons: list[str] = []
        """Why, a sentence for each choice."""
        self._learned: list[str] = []
        self._apart = Apart()

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
    ) -> Self:
        """Learns from good images, forgetting whatever was learned before. The same seed gives the same bits."""

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
        return self._apart(self.score, *batch, kind=lambda: tuple(learned.shape for learned in self.buffers()))

    @classmethod
    def option_fields(cls) -> dict[str, Any]:
        """Name -> (annotated type, default) of the constructor's arguments."""
        hints = get_type_hints(cls.__init__, include_extras=True)
        defaults = cls.__init__.__kwdefaults__ or {}
        positional = cls.__init__.__defaults__ or ()
        names = [name for name in hints if name != "return"]
        by_name = dict(zip(names, positional, strict=False)) | defaults
        return {name: (hints[name], by_name[name]) for name in names}

    @classmethod
    def create(cls, **options: Any) -> Self:
        """A detector with these options, each checked against its annotation.

        Raises BlemishError that names the option, what is allowed and what was given.
        """
        fields = cls.option_fields()
        unknown = sorted(set(options) - set(fields))
        if unknown:
            raise BlemishError(f"{unknown[0]}: not an option of {cls.__name__}. It has: {', '.join(sorted(fields))}.")
        try:
            checked = create_model(cls.__name__, **fields)(**options)
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None
        return cls(**dict(checked))

    def _add_learned(self, name: str, dimensions: int, dtype: torch.dtype = torch.float32) -> None:
        """Registers an empty buffer that `fit` fills: its shape depends on the data, so loading takes the saved one."""
        self.register_buffer(name, torch.empty((0,) * dimensions, dtype=dtype))
        self._learned.append(name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._learned:
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            if saved is not None and saved.ndim == own.ndim:  # otherwise torch says what does not fit
                setattr(self, name, own.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments: `create(**options)` makes an unfitted twin."""
        return {name: getattr(self, name) for name in self.option_fields()}

    def chosen(self, name: str) -> Any:
        """The value of an option, or what `fit` chose where it was left open."""
        return self.choices.get(name, getattr(self, name))

    def _choose(self, choices: dict[str, Any], reason: str) -> None:
        self.choices |= choices
        self.reasons.append(reason)
        logger.info("%s", reason)


class FeatureDetector(Detector):
    """A detector that compares the features of each place with those of the good images, in closed form."""

    def __init__(
        self,
        size: Side = 256,
        backbone: BackboneName = "auto",
        layers: Layers = (),
        weights: Weights = "hub",
        precision: ComputedIn = "auto",
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(size)
        self.backbone, self.layers, self.weights, self.precision = backbone, layers, weights, precision
        self.smoothing = smoothing
        self.features = self._new_features()

    @abstractmethod
    def distances(self, features: Tensor) -> Tensor:
        """How far the features (B, C, h, w) are from the good ones at each place: (B, h, w)."""

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The distances, brought to the images' size and smoothed, and their maximum."""
        return scores_and_maps(self.distances(self.features(images)), images, self.smoothing, inside)

    def _new_features(self) -> Backbone:
        dtypes = {"bfloat16": torch.bfloat16, "int8": torch.int8}
        dtype = dtypes.get(self.chosen("precision"), torch.float32)
        return create_backbone(self._backbone_name, self.layers, self.weights, dtype)

    @property
    def _backbone_name(self) -> str:
        return DEFAULT_BACKBONE if self.backbone == "auto" else self.backbone

    def _fit_features(self, images: ImageSource, seed: int, progress: Progress) -> tuple[int, int, int]:
        """Forgets what was chosen and fits fresh features; the (C, h, w) of what they give."""
        self.choices, self.reasons = {}, []
        is_network = self._backbone_name not in FILTER_BANKS
        if self.precision == "int8" and not is_network:
            raise BlemishError(f"precision int8: it is for networks of timm, not for {self._backbone_name}. Use auto.")
        if is_network and self.precision == "auto" and uses_bfloat16("auto", self.device):
            self._choose({"precision": "bfloat16"}, "precision: bfloat16, which this hardware computes in")
        self.features = self._new_features().to(self.device).fit(images, seed, progress)
        _, channels, height, width = self.features(images.batch([0]).to(self.device)).shape
        return channels, height, width


def scores_and_maps(
    distances: Tensor, images: Tensor, smoothing: float, inside: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Maps at the images' size, smoothed, of distances (B, h, w) on a grid, and their maxima."""
    rows, columns = (
        enlarging(cells, pixels, smoothing).to(distances)
        for cells, pixels in zip(distances.shape[1:], images.shape[-2:], strict=True)
    )
    maps = rows @ distances @ columns.T
    return highest(maps, inside), maps


def highest(values: Tensor, inside: Tensor | None) -> Tensor:
    """(B,): the maxima of values (B, h, w), of those that are inside where that is told; -inf where none is."""
    return (values if inside is None else values.masked_fill(~inside, -torch.inf)).amax((1, 2))


class LearningDetector(Detector):
    """A detector that learns by gradient; `blemish.training.loop` owns the loop that fits it.

    An epoch sees each example once. What an example is, the detector says: by default an image and a seed.
    """

    redraw = 1
    """Epochs that an example serves before it is drawn anew from another seed."""
    averaging = 0.0
    """The weights that count are a mean over about the last 1 / (1 - averaging) steps; 0: those of the last one."""
    settings: ClassVar[dict[str, Any]] = {}
    """Fields of `blemish.training.loop.Training` that differ from its own where nothing else is asked for."""

    def prepare(self, images: ImageSource, validation: ImageSource | None, seed: int) -> None:
        """Learns what needs no gradient, before the first epoch; the same seed gives the same bits."""

    def finish(self) -> None:
        """Forgets what only the training needed."""

    def num_examples(self, images: ImageSource) -> int:
        """The examples that an epoch on these images has; they are numbered by rows."""
        return len(images)

    def examples(self, images: ImageSource, rows: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What `losses` takes, for some rows; the loop calls it ahead of time, in a thread, without gradients.

        What is drawn at random for rows[i] is drawn from seeds[i] alone, so that it depends neither on the batch nor
        on how a batch is divided among processes.
        """
        return images.batch(rows), torch.tensor(seeds)

    @abstractmethod
    def losses(self, images: Tensor, drawn: Tensor, /) -> Tensor:
        """One loss per example, (B,), whose mean is to be minimised."""

    def optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        """The optimiser of all parameters.

        Small sets are trained in a few hundred steps; Adam's usual second moment, a mean over a thousand, follows too
        slowly for that. The shorter one reached a lower validation loss on both categories tried.
        """
        return torch.optim.Adam(self.parameters(), learning_rate, betas=(0.9, 0.95), fused=True)

    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Self:
        """Trains with the default settings; `blemish.training.loop.train` takes others."""
        from blemish.training.loop import Training, train

        train(self, images, validation, Training(**self.settings), seed=seed, progress=progress)
        return self


class ReconstructingDetector(LearningDetector):
    """A detector that scores an image by how well it can be rebuilt."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """What the detector takes the good version of the images to be: (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def losses(self, images: Tensor, seeds: Tensor, /) -> Tensor:
        """One loss per image, (B,), whose mean is to be minimised.

        What the loss draws at random for images[i] it draws from seeds[i] alone.
        """
