"""The settings of a run: the fields of `RunConfig` are the options of the command and the keys of a TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from blemish.data.augment import Augment
from blemish.data.category import AUTO
from blemish.detectors import DETECTORS
from blemish.errors import BlemishError, first_problem
from blemish.features.devices import DeviceName, Precision
from blemish.files import read_bytes
from blemish.imaging.alignment import Align
from blemish.imaging.input_size import InputSize
from blemish.imaging.limits import MAX_PIXELS

FIT_MODEL = "ensemble"
"""The default detector of `fit`."""
LARGEST_TOML = 1 << 20
"""Bytes that a TOML file may have at most."""
LONGEST = 3600
"""Seconds that a `Duration` may have."""
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
"""Fields that do not change the result. The contents of `roi` and of the images do, and are hashed separately."""


def registered(name: str) -> str:
    """The name of a registered detector; raises ValueError for any other."""
    if name not in DETECTORS:
        raise ValueError(f"not a detector; choose from {', '.join(sorted(DETECTORS))}")
    return name


def once_each(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values without repetitions, in the order of their first."""
    return tuple(dict.fromkeys(values))


Method = Annotated[str, AfterValidator(registered)]
"""The name of a registered detector."""
Categories = Annotated[tuple[str, ...], AfterValidator(once_each)]
"""Names of categories, each once."""


class Duration(float):
    """Seconds, given as a number of them or as text with a unit: 50ms, 0.2s."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.read)

    @classmethod
    def read(cls, given: Any) -> Self:
        """The duration that was given; raises ValueError where it is none, or not above 0 and up to an hour."""
        parts = re.fullmatch(r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?) *(ms|s|)", str(given).strip().lower())
        found = float(parts[1]) / (1000 if parts[2] == "ms" else 1) if parts else 0.0
        if not 0 < found <= LONGEST:
            raise ValueError("should be a time of up to an hour, such as 50ms or 0.2s")
        return cls(found)


class RunConfig(BaseModel):
    """All settings of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    model: Method = Field("vae", description=f"detector: {', '.join(sorted(DETECTORS))}")
    epochs: int | None = Field(None, ge=1, description="epochs to train")
    batch_size: int = Field(32, ge=1, description="images per batch")
    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False, description="learning rate")
    size: InputSize | None = Field(
        None,
        description="side or HEIGHTxWIDTH in pixels",
    )
    time_per_image: Duration | None = Field(
        None,
        description="most time for an image, such as 50ms; default: any",
    )
    data_path: Path = Field(description="root of the data set, or one category's folder")
    ckpt_path: Path = Field(description="directory for models, results and figures")
    category: tuple[str, ...] = Field((), description="category to run, repeatable; default: all")
    layout: str = Field(AUTO, description="layout of the data set")
    group: str | None = Field(None, description="regular expression for one part's paths; default: none")
    aspect: Literal["squash", "pad"] = Field("squash", description="how images fit the size")
    align: Align = Field(
        "auto",
        description="rotate and shift parts to one pose; auto: where this helps",
    )
    tile: int | None = Field(
        None,
        ge=32,
        le=4096,
        description="side in pixels of tiles; default: no tiles",
    )
    overlap: int = Field(64, ge=0, description="overlap of tiles in pixels")
    roi: Path | None = Field(
        None,
        description="region of interest: mask or JSON polygons; default: all",
    )
    validation: float = Field(0.1, ge=0, le=0.5, description="part of good images held out")
    augment: Augment = Field(
        "off",
        description="varied copies to learn from; auto: pose for few images",
    )
    outliers: Literal["keep", "show", "leave-out"] = Field(
        "keep",
        description="what to do with good images unlike the others",
    )
    patience: int | None = Field(
        None,
        ge=0,
        description="stop after so many epochs without a lower validation loss; 0: never",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of all random numbers")
    device: DeviceName = "auto"
    precision: Precision = Field(
        "auto",
        description="of training and timm networks; auto: bfloat16 where it is fast",
    )
    resume: bool = Field(False, description="continue an interrupted run with the same settings")
    figures: int = Field(8, ge=0, le=64, description="test images per category in the figures")
    workers: int = Field(0, ge=0, le=256, description="decoding threads; 0: one per core")
    memory_budget: ByteSize = Field(
        ByteSize(4 << 30),
        ge=0,
        description="memory for decoded images, and the same again for fitting",
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="most pixels in an image")
    options: dict[str, Any] = Field({}, description="the detector's own options")

    @field_validator("options")
    @classmethod
    def _of_the_detector_alone(cls, options: dict[str, Any]) -> dict[str, Any]:
        repeated = sorted(set(options) & set(cls.model_fields))
        if repeated:
            raise ValueError(
                f"{repeated[0]} is a setting of the run, not an option of the detector. Give it outside of options"
            )
        return options

    @field_validator("size", mode="before")
    @classmethod
    def _left_open(cls, size: Any) -> Any:
        return None if size == "auto" else size

    @field_validator("time_per_image")
    @classmethod
    def _chooses_the_size(cls, duration: Duration | None, fields: ValidationInfo) -> Duration | None:
        if duration is not None and (size := fields.data.get("size")) is not None:
            raise ValueError(f"chooses the size, which is given as {size}. Leave one out")
        return duration

    @field_validator("tile")
    @classmethod
    def _square(cls, tile: int | None, fields: ValidationInfo) -> int | None:
        if tile is not None and isinstance(size := fields.data.get("size"), str):
            raise ValueError(f"tiles are square, but their size {size} is not. Give one side as size")
        return tile

    @field_validator("overlap")
    @classmethod
    def _half_a_tile(cls, overlap: int, fields: ValidationInfo) -> int:
        tile = fields.data.get("tile")
        if tile is None and overlap != cls.model_fields["overlap"].default:
            raise ValueError("only tiles overlap, and none are set. Give tile, their side in pixels")
        if tile is not None and 2 * overlap > tile:
            raise ValueError(f"half a tile is allowed at most, which is {tile // 2}")
        return overlap

    @field_validator("roi")
    @classmethod
    def _lies_still(cls, roi: Path | None, fields: ValidationInfo) -> Path | None:
        if roi is not None and fields.data.get("align") == "on":
            raise ValueError("cannot be combined with align, which moves the images but not the region. Leave one out")
        return roi

    @classmethod
    def create(cls, **fields: Any) -> RunConfig:
        """The configuration; raises BlemishError that names the first invalid field."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise BlemishError(first_problem(error)) from None

    def for_category(self, name: str) -> RunConfig:
        """A copy for one category alone."""
        return self.model_copy(update={"category": (name,)})

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that the result depends on, as plain data: all but NOT_PART_OF_THE_RESULT."""
        return self.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT)


def load_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises BlemishError where it cannot be read."""
    try:
        return tomllib.loads(read_bytes(path, LARGEST_TOML).decode())
    except BlemishError as error:
        raise BlemishError(f"config {error}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BlemishError(f"config {path}: {error}.") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; raises BlemishError where it cannot be read or has an unknown setting."""
    found = load_toml(path)
    unknown = sorted(set(found) - set(RunConfig.model_fields))
    if unknown:
        known = ", ".join(RunConfig.model_fields)
        raise BlemishError(
            f"config {path}: {unknown[0]} is not a setting. Settings are {known}; "
            "options of the detector belong below [options]."
        )
    if not isinstance(found.get("options", {}), dict):
        raise BlemishError(
            f"config {path}: options is {found['options']!r}. Write [options], and one option per line below it."
        )
    return found
