"""What a run is. The command line's flags and the keys of a TOML file are the fields of `RunConfig`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from blemish.detectors import DETECTORS
from blemish.errors import BlemishError, first_problem
from blemish.features.devices import DeviceName, Precision
from blemish.files import read_bytes
from blemish.imaging.alignment import Align
from blemish.imaging.limits import MAX_PIXELS

FIT_MODEL = "ensemble"
"""What learns where nothing is evaluated and no model is named."""
LARGEST_TOML = 1 << 20
"""Bytes: what is larger holds no settings."""
NOT_PART_OF_THE_RESULT = {
    "data_path",
    "ckpt_path",
    "category",
    "resume",
    "device",
    "workers",
    "memory_budget",
    "max_pixels",
    "figures",
    "roi",
}
"""Fields that may differ between two runs of the same result: of `roi` and the images it is the content that counts."""


class RunConfig(BaseModel):
    """Everything that a run depends on beside the images."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    model: str = Field("vae", description=f"detector: {', '.join(sorted(DETECTORS))}")
    epochs: int | None = Field(None, ge=1, description="epochs to train (selfsup: 40; default: 100)")
    batch_size: int = Field(32, ge=1, description="batch size for training and testing")
    learning_rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="learning rate (selfsup: 0.003; default: 0.001)"
    )
    size: int | None = Field(
        None,
        ge=32,
        le=1024,
        multiple_of=16,
        description="side length of the input image "
        "(default: 128 for ae and vae, 256 for ensemble, padim, patchcore and selfsup)",
    )
    data_path: Path = Field(description="root of the data set, or one category's folder")
    ckpt_path: Path = Field(description="directory for what is learned, results and figures")
    category: tuple[str, ...] = Field((), description="category to run, repeatable; all of them if none is given")
    aspect: Literal["squash", "pad"] = Field(
        "squash", description="how images that are not square are brought to the size"
    )
    align: Align = Field(
        "auto",
        description="turn and shift pictures so that parts lie alike; auto: where good ones lie turned or shifted",
    )
    tile: int | None = Field(
        None,
        ge=32,
        le=4096,
        description="for large pictures: side in pixels of the tiles that are looked at one by one, each brought to "
        "--size, which is then the tile's own by default",
    )
    overlap: int = Field(64, ge=0, description="pixels that neighbouring tiles share, half a tile at most")
    roi: Path | None = Field(
        None, description="region of interest: a mask (black does not count), or polygons in JSON; kept with the model"
    )
    validation: float = Field(0.1, ge=0, le=0.5, description="part of the good training images held out")
    patience: int | None = Field(
        None,
        ge=0,
        description="epochs without a lower validation loss before stopping, 0: never (default: 0; selfsup: 20)",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of everything that is drawn at random")
    device: DeviceName = "auto"
    precision: Precision = Field(
        "auto",
        description="of the training, and of a network of timm; auto: bfloat16 where the hardware computes in it",
    )
    resume: bool = Field(False, description="go on where an earlier run with these settings stopped")
    figures: int = Field(8, ge=0, le=64, description="test images per category that are shown in the figures")
    workers: int = Field(0, ge=0, le=256, description="threads that decode images; 0: one per core")
    memory_budget: ByteSize = Field(
        ByteSize(4 << 30),
        ge=0,
        description="for decoded images, beyond which the disk is used, and as much for what padim and patchcore keep",
    )
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, description="pixels of an image file at most; one with more is refused before it is decoded"
    )
    options: dict[str, Any] = Field({}, description="the detector's own options")

    @field_validator("model")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in DETECTORS:
            raise ValueError(f"not a detector; choose from {', '.join(sorted(DETECTORS))}")
        return name

    @field_validator("options")
    @classmethod
    def _of_the_detector_alone(cls, options: dict[str, Any]) -> dict[str, Any]:
        repeated = sorted(set(options) & set(cls.model_fields))
        if repeated:
            raise ValueError(f"{repeated[0]} is a setting of the run; give it beside them, not among them")
        return options

    @field_validator("overlap")
    @classmethod
    def _half_a_tile(cls, overlap: int, fields: ValidationInfo) -> int:
        tile = fields.data.get("tile")
        if tile is None and overlap != cls.model_fields["overlap"].default:
            raise ValueError("it is that of tiles, of which there are none; give their side by tile")
        if tile is not None and 2 * overlap > tile:
            raise ValueError(f"half a tile is allowed at most, which is {tile // 2}")
        return overlap

    @field_validator("roi")
    @classmethod
    def _lies_still(cls, roi: Path | None, fields: ValidationInfo) -> Path | None:
        if roi is not None and fields.data.get("align") == "on":
            raise ValueError("it lies still, and parts that are turned and shifted do not; leave align or roi out")
        return roi

    @classmethod
    def create(cls, **fields: Any) -> RunConfig:
        """The configuration; raises BlemishError that names the first field that is wrong."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None

    def for_category(self, name: str) -> RunConfig:
        """The same for one category alone."""
        return self.model_copy(update={"category": (name,)})

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that the result depends on, as plain data."""
        return self.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT)


def read_toml(path: Path) -> dict[str, Any]:
    """The fields in a TOML file; raises BlemishError where it cannot be read or has others."""
    try:
        found = tomllib.loads(read_bytes(path, LARGEST_TOML).decode())
    except BlemishError as error:
        raise BlemishError(f"config {error}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BlemishError(f"config {path}: {error}.") from None
    unknown = sorted(set(found) - set(RunConfig.model_fields))
    if unknown:
        known = ", ".join(RunConfig.model_fields)
        raise BlemishError(
            f"config {path}: {unknown[0]} is no setting. There are {known}; a model's own go below [options]."
        )
    if not isinstance(found.get("options", {}), dict):
        raise BlemishError(
            f"config {path}: options is {found['options']!r}. Write [options], and a line for each below it."
        )
    return found
