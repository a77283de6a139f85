"""What the interface for programs takes and gives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from blemish.station.recording import Condition
from blemish.station.verdicts import Verdict

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ReviewVerdict = Literal["good", "defect", "unsure"]


class Taken(BaseModel):
    """The base of what is taken: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class NewProduct(Taken):
    """A product to create."""

    name: Name


class ProductOut(BaseModel):
    """A product, and what happened to it today (since midnight in the station's time zone)."""

    id: int
    name: str
    state: Literal["empty", "teaching", "ready", "running"]
    """running: it was inspected in the last minute."""
    created_at: float
    model: int | None = Field(description="number of the active version")
    num_good: int
    num_defective: int
    inspected_today: int
    rejected_today: int
    to_review: int
    last_inspection: int | None


class Roi(Taken):
    """The region of interest: polygons in pixels of an image of this size; those `outside` are cut out."""

    size: tuple[Annotated[int, Field(ge=1, le=100_000)], Annotated[int, Field(ge=1, le=100_000)]] = Field(
        description="height, width"
    )
    polygons: list[list[tuple[Finite, Finite]]] = Field(default=[], max_length=50)
    outside: list[list[tuple[Finite, Finite]]] = Field(default=[], max_length=50)


class ImageOut(BaseModel):
    """An image to teach or check with."""

    id: int
    name: str
    is_defect: bool
    width: int
    height: int
    taken_at: float | None
    added_at: float


class RefusedOut(BaseModel):
    """An image that was not taken, and why."""

    name: str
    reason: str


class AddedOut(BaseModel):
    """What became of images that were sent."""

    added: int
    known: int
    refused: list[RefusedOut]
    images: list[int]


class FromFolder(Taken):
    """A folder of the station's machine."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]
    is_defect: bool = False


class FindingOut(BaseModel):
    """Something about the images that a person should look at; `text` is English."""

    kind: str
    severity: Literal["error", "warning"]
    text: str
    values: dict[str, Any]
    images: list[int]


class Teach(Taken):
    """How to teach; what is left out is chosen."""

    model: Annotated[str, StringConstraints(max_length=40)] | None = Field(None, description="the method")
    size: int | Annotated[str, StringConstraints(max_length=20)] | None = Field(
        None, description="side or HEIGHTxWIDTH in pixels, multiples of 16 from 32 to 1024"
    )
    time_per_image: float | Annotated[str, StringConstraints(max_length=20)] | None = Field(
        None, description="most time for an image, in seconds or as 50ms, which chooses the size"
    )
    validation: Annotated[float, Field(ge=0.05, le=0.5)] | None = Field(None, description="part of the images held out")
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    options: dict[str, str | int | float | bool | None] = Field({}, description="the method's own options")


class JobOut(BaseModel):
    """Teaching, or learning from reviews."""

    id: int
    product: int
    kind: str
    state: Literal["running", "done", "failed", "cancelled"]
    stage: str
    done: int
    total: int
    seconds_left: float | None
    log: list[dict[str, str]]
    error: str | None
    model: int | None
    created_by: str
    created_at: float
    ended_at: float | None


class DecisionIn(Taken):
    """Thresholds to apply."""

    review_threshold: Finite
    defect_threshold: Finite
    min_area: Annotated[int, Field(ge=0, le=10**9)] = 0
    note: Text = ""


class DecisionOut(BaseModel):
    """A version of a model's thresholds."""

    id: int
    model: int
    number: int
    review_threshold: float
    defect_threshold: float
    pixel_threshold: float
    min_area: int
    note: str
    is_active: bool
    created_by: str
    created_at: float


class CheckOut(BaseModel):
    """The score of an image of the frozen check set."""

    id: int
    image: int
    name: str
    is_defect: bool
    score: float
    areas: list[int]


class ModelOut(BaseModel):
    """A version of a product's detector."""

    id: int
    product: int
    number: int
    state: Literal["ready", "candidate", "discarded"]
    is_active: bool
    parent: int | None
    lineage: dict[str, Any]
    decision: DecisionOut | None
    exports: dict[str, Any]
    created_by: str
    created_at: float


class ExportIn(Taken):
    """The runtime to export for."""

    format: Literal["onnx", "openvino"] = "onnx"


class CompareOut(BaseModel):
    """Two versions on the images that both check sets have, each with its active decision."""

    num_good: int
    num_defective: int
    before: dict[str, int]
    after: dict[str, int]
    changed: list[dict[str, Any]]


class RegionOut(BaseModel):
    """A region, in pixels of the image."""

    box: tuple[int, int, int, int]
    area: int
    peak: float
    peak_at: tuple[int, int]
    centroid: tuple[float, float]


class InspectionOut(BaseModel):
    """The result for one image. `decision` is the verdict: good, review or defect."""

    id: int | None
    product: int
    model: int
    decision: Verdict
    score: float
    p_value: float
    review_threshold: float
    defect_threshold: float
    pixel_threshold: float
    regions: list[RegionOut]
    name: str
    width: int
    height: int
    created_at: float | None
    latency: float
    reviewed: str | None
    is_repeated: bool
    links: dict[str, str]


class InspectionProblem(BaseModel):
    """An image that could not be inspected."""

    name: str
    error: str


class ReviewIn(Taken):
    """What a person says of an inspection."""

    verdict: ReviewVerdict
    reason: Text = ""


class ReviewOut(BaseModel):
    """A review."""

    id: int
    inspection: int
    verdict: str
    reason: str
    created_by: str
    created_at: float
    undone_at: float | None


class QueueOut(BaseModel):
    """What waits for a review, and the next of them."""

    waiting: int
    learnable: int
    next: InspectionOut | None


class Ready(BaseModel):
    """Whether the station works."""

    status: Condition
    keeps_images: bool


class PeriodRow(BaseModel):
    """The figures of a part of a period."""

    label: str
    inspected: int
    good: int
    review: int
    defect: int
    reviewed_rejects: int = Field(description="rejects that a reviewer called good or defect")
    false_rejects: int = Field(description="those of them that are good")
    reviewed_good: int = Field(description="images called good, sampled at random, that a reviewer judged")
    missed: int = Field(description="those of them that are defects")
    p95: float | None = Field(description="95 % of the results took at most so many seconds")


class DriftOut(BaseModel):
    """Whether scores have drifted: a rank test that is wrong at the rate `level` where nothing has changed."""

    p_value: float | None
    is_drift: bool
    level: float
    num_images: int
    num_held_out: int
    needed: int


class PeriodOut(BaseModel):
    """The figures of a period."""

    begin: float
    end: float
    rows: list[PeriodRow]
    total: PeriodRow
    drift: DriftOut


class CountersOut(BaseModel):
    """What happened today, since midnight in the station's time zone."""

    inspected: int
    good: int
    review: int
    defect: int
    per_minute: int = Field(description="images of the last minute")
    p95: float | None


class WatchIn(Taken):
    """A folder of the station's machine to watch."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]


class WatchOut(BaseModel):
    """The folder that is watched, and what is wrong with it."""

    path: str | None
    problem: str | None
