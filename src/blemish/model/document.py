"""The schema of model.json: type and range of each field, validated before anything is used.

An unknown key is an error, because ignoring it could change a decision. Only provenance may hold further keys.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import from_json

from blemish.calibration.thresholds import PIXEL_RATES, Calibration
from blemish.errors import BlemishError, first_problem, short_repr
from blemish.imaging.preprocess import Aspect, Combination
from blemish.model.migrations import migrated

FORMAT_VERSION = 4
READABLE = (1, 2, 3, 4)
ROI, REFERENCE = "roi.png", "reference.png"
LARGEST_DOCUMENT = 64 << 20
"""The largest allowed size of a model.json in bytes."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=1, le=4096)]


class _Strict(BaseModel):
    """A strict model: no conversions (1.0 is no integer, "1" no number), finite numbers, no unknown keys."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), regex_engine="python-re"
    )


class PreprocessFields(_Strict):
    """The preprocessing of an image. Its mask of the region and its reference image are files beside model.json."""

    size: tuple[Side, Side]
    aspect: Aspect
    tile: Annotated[int, Field(ge=32, le=4096)] | None = None
    overlap: int = Field(0, ge=0)
    combination: Combination = "maximum"
    roi: Literal["roi.png"] | None = None
    reference: Literal["reference.png"] | None = None

    @field_validator("overlap")
    @classmethod
    def _at_most_half_a_tile(cls, overlap: int, fields: ValidationInfo) -> int:
        tile = fields.data.get("tile")
        if tile is not None and 2 * overlap > tile:
            raise ValueError(f"half a tile is allowed at most, which is {tile // 2}")
        return overlap


class _Open(_Strict):
    """Allows unknown keys."""

    model_config = ConfigDict(extra="allow")


class _Config(_Open):
    """The settings of the run that other commands read."""

    seed: int = Field(0, ge=0, lt=2**32)
    validation: float = Field(0.1, ge=0, le=0.5)
    batch_size: int = Field(32, ge=1)


class _Images(_Open):
    """Properties of the training images; images that differ from them cause a warning."""

    colours: list[str] = []
    depths: list[str] = []
    sizes: list[Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]] = []

    @field_validator("sizes")
    @classmethod
    def _smallest_and_largest(cls, sizes: list[list[int]]) -> list[list[int]]:
        if len(sizes) not in (0, 2):
            raise ValueError("needs the smallest and the largest size, or no size")
        return sizes


class _Provenance(_Open):
    """The parts of the provenance that other commands read."""

    config: _Config = _Config()
    images: _Images = _Images()
    learned_from: list[str] = []
    held_out: list[str] = []
    data_path: str | None = None
    updates: list[dict[str, Any]] = []


class Document(_Strict):
    """The content of model.json."""

    format_version: int
    model: str
    options: dict[str, Any]
    preprocess: PreprocessFields
    sha256: dict[str, Digest]
    files: dict[str, str]
    category: str
    provenance: dict[str, Any]
    calibration: Calibration | None = None
    exports: dict[str, dict[str, Any]] = {}
    metrics: dict[str, Annotated[float, Field(ge=0, le=1)] | None] = {}

    @field_validator("sha256", "files")
    @classmethod
    def _within_the_folder(cls, known: dict[str, str], field: ValidationInfo) -> dict[str, str]:
        for name in (*known, *(known.values() if field.field_name == "files" else ())):
            if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", name) or re.search(r"(^|/)\.\.?(/|$)", name):
                raise ValueError(f"names {short_repr(name)}, which is outside its folder")
        return known

    @field_validator("files")
    @classmethod
    def _same_names_as_sha256(cls, files: dict[str, str], fields: ValidationInfo) -> dict[str, str]:
        if set(files) != set(fields.data.get("sha256", files)):
            raise ValueError("needs a path for each file in sha256, and no others")
        return files

    @field_validator("provenance")
    @classmethod
    def _valid_provenance(cls, provenance: dict[str, Any]) -> dict[str, Any]:
        try:
            _Provenance.model_validate(provenance)
        except ValidationError as error:
            raise ValueError(first_problem(error).removesuffix(".")) from None
        return provenance

    @field_validator("calibration")
    @classmethod
    def _valid_calibration(cls, calibration: Calibration | None) -> Calibration | None:
        if calibration is None:
            return None
        rates = calibration.false_alarm_rate, calibration.pixel_rate
        if not all(rate is None or 0 < rate < 1 for rate in rates):
            raise ValueError("a rate must lie between 0 and 1")
        if len(calibration.pixel_levels) not in (0, len(PIXEL_RATES)):
            raise ValueError(f"pixel_levels needs {len(PIXEL_RATES)} levels, or none")
        if not 0 <= calibration.min_area < 2**63:
            raise ValueError("min_area must be a number of pixels, 0 or more")
        return calibration


def parse(content: bytes, path: Path) -> Document:
    """The document in the `content` of the model.json at `path`, migrated to the newest version.

    Raises BlemishError that names the invalid field.
    """
    advice = "Train again, or copy it anew."
    if len(content) > LARGEST_DOCUMENT:
        raise BlemishError(f"{path}: larger than the {LARGEST_DOCUMENT >> 20} MB that are allowed. {advice}")
    try:
        plain = from_json(content)
    except ValueError as error:
        raise BlemishError(f"{path}: not JSON ({error}). {advice}") from None
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if type(version) is not int or version not in READABLE:
        readable = f"{READABLE[0]} to {READABLE[-1]}"
        raise BlemishError(
            f"{path}: format_version {short_repr(version)}, this blemish reads {readable}. Upgrade blemish."
        )
    try:
        document = Document.model_validate_json(json.dumps(migrated(plain, path.parent)))
    except (KeyError, TypeError, AttributeError) as error:  # a field that a migration needs
        raise BlemishError(f"{path}: damaged, {error!r}. {advice}") from None
    except ValidationError as error:
        raise BlemishError(f"{path}: damaged, {first_problem(error)} {advice}") from None
    if not _is_finite(plain):
        raise BlemishError(f"{path}: damaged, a number is not finite. {advice}")
    return document


def _is_finite(plain: Any) -> bool:
    """Whether no number is infinite, such as 1e400; covers the fields that the schema leaves open."""
    try:
        json.dumps(plain, allow_nan=False)
    except ValueError:
        return False
    return True
