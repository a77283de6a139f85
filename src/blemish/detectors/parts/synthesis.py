"""Draws synthetic defects on good images, for training without images of real defects.

Each operator draws one kind of defect: a shape with an opacity, and the content that replaces the image there. Sizes
and contrasts are log-uniform, from obvious to barely visible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blemish.detectors.parts.shapes import Plane, Point, Shape, blob, line, noise, path, polygon, specks
from blemish.imaging.foreground import Foreground
from blemish.types import Size

Image = NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""

ATTEMPTS = 3
"""Number of attempts to draw a visible defect."""
VISIBLE = 0.012
"""Smallest change of a pixel's most changed channel, averaged over 3x3 pixels, that is visible in camera noise: 3 of
255."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The input of an operator: a good image to change, another good image, and a random generator."""

    image: Image
    other: Image
    """Another good image, to take patches and colours from."""
    background: NDArray[np.float32] | None
    """(3,): the colour of the background; None where there is none."""
    contrast: float
    """Standard deviation of the good images' pixels: the unit of all contrasts."""
    grey: bool
    """Whether the images are grey; defects are then grey too."""
    centre: Point
    """Where the defect is drawn."""
    rng: np.random.Generator

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    def spread(self, low: float, high: float) -> float:
        """A log-uniform random number between `low` and `high`."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def radius(self, low: float = 0.015, high: float = 0.22) -> float:
        """A log-uniform random radius in pixels; `low` and `high` are fractions of the image's shorter side."""
        return max(1.5, self.spread(low, high) * min(self.size))

    def region(self, radius: float) -> Shape:
        """A spot or a polygon of about this radius in pixels."""
        draw = blob if self.rng.random() < 0.6 else polygon
        return draw(self.rng, self.size, self.centre, radius)

    def amplitude(self, low: float = 0.15, high: float = 2.5) -> float:
        """A random change of brightness, positive or negative; `low` and `high` are in units of the contrast."""
        return float(self.rng.choice((-1, 1))) * self.spread(low, high) * self.contrast

    def colour(self) -> NDArray[np.float32]:
        """(3,): a colour of the other image, made lighter or darker, or a random one; grey in grey images."""
        row, column = (int(self.rng.integers(side)) for side in self.size)
        own = self.other[row, column] + np.float32(self.amplitude(0.5, 2.5))
        if self.rng.random() < 0.7:
            return np.asarray(own, np.float32)
        drawn = self.rng.random(3, np.float32)
        return np.repeat(drawn[:1], 3) if self.grey else drawn


Change = tuple[Shape, Image]
"""The shape of a defect, and the content (h, w, 3) of the shape's window that replaces the image."""
Operator = Callable[[Scene], Change]
OperatorName = Literal[
    "graft",
    "paste",
    "shift",
    "missing",
    "warp",
    "stain",
    "texture",
    "tint",
    "gloss",
    "scratch",
    "crack",
    "dust",
]


def graft(scene: Scene) -> Change:
    """A patch of another good image, rotated and scaled; its colours are shifted to match the image at its edge."""
    shape = scene.region(scene.radius(0.03, 0.3))
    patch = _transformed_patch(scene, scene.other, shape, scene.rng.uniform(-math.pi, math.pi), scene.spread(0.6, 1.7))
    return shape, patch + _membrane(shape.crop(scene.image) - patch, shape.opacity)


def paste(scene: Scene) -> Change:
    """A patch of another good image, from the same or another place, with visible edges."""
    shape = _faint(scene, scene.region(scene.radius(0.02, 0.3)), 0.3)
    away = scene.rng.normal(0, 0.2, 2) * scene.size if scene.rng.random() < 0.7 else np.zeros(2)
    angle = float(scene.rng.integers(4)) * math.pi / 2 if scene.rng.random() < 0.5 else 0.0
    return shape, _transformed_patch(scene, scene.other, shape, angle, 1.0, away)


def shift(scene: Scene) -> Change:
    """A patch from nearby in the same image: a displaced or duplicated part."""
    shape = scene.region(radius := scene.radius(0.02, 0.25))
    away = scene.rng.normal(0, max(0.7 * radius, 3), 2)
    patch = _transformed_patch(scene, scene.image, shape, scene.rng.normal(0, 0.3), 1.0, away)
    if scene.rng.random() < 0.5:
        patch = patch + _membrane(shape.crop(scene.image) - patch, shape.opacity)
    return shape, patch


def missing(scene: Scene) -> Change:
    """A missing part: the surroundings continued smoothly, or the background."""
    shape = scene.region(scene.radius(0.015, 0.2))
    own = shape.crop(scene.image)
    if scene.background is not None and scene.rng.random() < 0.5:
        filled = np.broadcast_to(scene.background, own.shape)
    else:
        filled = _membrane(own, shape.opacity)
    grain = own - cv2.GaussianBlur(own, (0, 0), 2)
    turned = grain[::-1, ::-1] * np.float32(scene.rng.uniform(0, 0.8))
    return shape, filled + turned


def warp(scene: Scene) -> Change:
    """The image distorted smoothly within a spot, by up to half of its radius."""
    shape = blob(scene.rng, scene.size, scene.centre, radius := scene.radius(0.04, 0.25))
    shape = Shape(shape.rows, shape.columns, np.minimum(3 * shape.opacity, 1))
    reach = np.float32(scene.spread(0.08, 0.5) * radius) * shape.opacity
    size = shape.opacity.shape
    x = np.arange(shape.columns.start, shape.columns.stop, dtype=np.float32)[None]
    y = np.arange(shape.rows.start, shape.rows.stop, dtype=np.float32)[:, None]
    across = x + reach * np.tanh(noise(scene.rng, size, radius, 1))
    down = y + reach * np.tanh(noise(scene.rng, size, radius, 1))
    pushed = cv2.remap(scene.image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return shape, np.asarray(pushed, np.float32)


def stain(scene: Scene) -> Change:
    """A translucent, uneven film of one colour, sometimes with a rim."""
    shape = _faint(scene, blob(scene.rng, scene.size, scene.centre, radius := scene.radius()), 0.08)
    size = shape.opacity.shape
    cloudy = 1 - np.float32(scene.rng.uniform(0, 0.7)) * np.clip(noise(scene.rng, size, 0.6 * radius), 0, 1)
    if scene.rng.random() < 0.3:
        top = max(float(shape.opacity.max()), 1e-6)
        cloudy = cloudy * (1 - np.float32(0.7) * (shape.opacity / top) ** 4)
    return Shape(shape.rows, shape.columns, shape.opacity * cloudy), _flat(scene, shape)


def texture(scene: Scene) -> Change:
    """A foreign texture: streaks or grains between two colours."""
    shape = _faint(scene, scene.region(radius := scene.radius(0.02, 0.25)), 0.3)
    height, width = shape.opacity.shape
    stretch = 2.0 ** scene.rng.uniform(-2, 2)
    cell = scene.spread(2, max(radius, 4))
    grid = max(2, round(height * stretch**0.5)), max(2, round(width / stretch**0.5))
    grain = cv2.resize(noise(scene.rng, grid, cell, 3), (width, height), interpolation=cv2.INTER_LINEAR)
    mixed = np.clip(0.5 + 0.7 * grain, 0, 1)[..., None]
    base = scene.colour() if scene.rng.random() < 0.5 else _mean_colour(scene, shape)
    second = base + np.float32(scene.amplitude(0.5, 2.5))
    return shape, base * mixed + second * (1 - mixed)


def tint(scene: Scene) -> Change:
    """The image made lighter, darker, or tinted."""
    shape = scene.region(scene.radius(0.02, 0.3))
    amount = np.float32(scene.amplitude(0.12, 1.5))
    toward = np.ones(3, np.float32)
    if not scene.grey and scene.rng.random() < 0.5:
        toward = np.asarray(scene.rng.uniform(-1, 1, 3), np.float32)
    own = shape.crop(scene.image)
    if scene.rng.random() < 0.5:  # by a factor, like a change of illumination
        return shape, own * np.maximum(1 + amount * toward / max(float(own.mean()), 0.1), 0)
    return shape, own + amount * toward


def gloss(scene: Scene) -> Change:
    """The image with less or more local contrast, as of a worn, polished or defocused surface."""
    shape = scene.region(scene.radius(0.03, 0.3))
    own = shape.crop(scene.image)
    smooth = cv2.GaussianBlur(own, (0, 0), scene.spread(1.2, 6))
    factor = scene.rng.uniform(0, 0.5) if scene.rng.random() < 0.6 else scene.rng.uniform(1.8, 3.5)
    return shape, smooth + np.float32(factor) * (own - smooth)


def scratch(scene: Scene) -> Change:
    """A thin smooth line, lighter or darker, often with the opposite tone beside it, like a groove."""
    points = path(scene.rng, scene.centre, scene.radius(0.06, 0.9), scene.rng.uniform(0, 1.5), 0)
    shape = line(scene.size, points, _widths(scene, 0.5, 3.5))
    amount = np.float32(scene.amplitude(0.4, 3.5))
    relief = shape.opacity
    if scene.rng.random() < 0.5:
        aside = tuple(int(value) for value in scene.rng.choice((-1, 1), 2))
        beside = np.roll(shape.opacity, aside, (0, 1))
        relief = np.asarray(relief - np.float32(scene.rng.uniform(0.3, 1)) * beside, np.float32)
        shape = Shape(shape.rows, shape.columns, np.maximum(shape.opacity, np.abs(relief)))
    toned = shape.crop(scene.image) + amount * np.sign(relief)[..., None]
    return shape, np.asarray(toned, np.float32)


def crack(scene: Scene) -> Change:
    """A jagged line, sometimes with a branch, darker than the image or in the background's colour."""
    length = scene.radius(0.08, 0.8)
    trunk = path(scene.rng, scene.centre, length, 1.0, 0.4)
    widths = _widths(scene, 0.6, 7.0)
    shape = line(scene.size, trunk, widths)
    if scene.rng.random() < 0.5:
        start = trunk[int(scene.rng.integers(6, 19))]
        branch = path(scene.rng, (start[0], start[1]), 0.5 * length, 1.0, 0.4)
        branch += start - branch[0]
        shape = _union(shape, line(scene.size, branch, 0.7 * widths))
    own = shape.crop(scene.image)
    if scene.background is not None and scene.rng.random() < 0.3:
        return shape, np.broadcast_to(scene.background, own.shape)
    return shape, np.maximum(own - np.float32(scene.spread(0.3, 4) * scene.contrast), 0)


def dust(scene: Scene) -> Change:
    """Grains and short fibres of one colour."""
    shape = specks(scene.rng, scene.size, scene.centre, scene.radius(0.02, 0.3), int(scene.rng.integers(1, 25)))
    if scene.rng.random() < 0.5:
        points = path(scene.rng, scene.centre, scene.radius(0.04, 0.2), 3.0, 0)
        shape = _union(shape, line(scene.size, points, np.full(24, scene.rng.uniform(0.5, 1.5))))
    return _faint(scene, shape, 0.2), _flat(scene, shape)


OPERATORS: dict[str, Operator] = {name: globals()[name] for name in get_args(OperatorName)}
"""Name -> operator, which draws one kind of defect."""
OperatorNames = Annotated[tuple[OperatorName, ...], Field(description="kinds of defects that are drawn; default: all")]


@dataclass(frozen=True)
class Synthesis:
    """Draws synthetic defects on good images; the same seed gives the same bits."""

    others: Sequence[Image]
    """Good images to take patches from."""
    foreground: Foreground
    """Where the part is; defects are drawn on it alone."""
    contrast: float
    """Standard deviation of the good images' pixels, by `typical_contrast`."""
    grey: bool = False
    """Whether the images are grey; defects are then grey too."""
    operators: Sequence[str] = ()
    """Names of the operators to choose from; empty: all."""
    max_defects: int = 3
    """Largest number of defects per image."""

    def __call__(self, image: Image, seed: int) -> tuple[Image, NDArray[np.bool_]]:
        """The image (H, W, 3) with one to `max_defects` defects, and a mask (H, W) of the visible changes."""
        rng = np.random.default_rng(seed)
        part = self.foreground(image)
        drawn, mask = image.copy(), np.zeros(image.shape[:2], bool)
        for _ in range(int(rng.integers(1, self.max_defects + 1))):
            for _ in range(ATTEMPTS):
                if self._draw(drawn, mask, part, rng):
                    break
        return drawn, mask

    def _draw(self, image: Image, mask: NDArray[np.bool_], part: Plane, rng: np.random.Generator) -> bool:
        """Draws one defect into the image and the mask, in place; returns False, and draws nothing, if invisible."""
        names = self.operators or tuple(OPERATORS)
        operator = OPERATORS[names[int(rng.integers(len(names)))]]
        other = self.others[int(rng.integers(len(self.others)))]
        scene = Scene(image, other, self.foreground.background, self.contrast, self.grey, _place(part, rng), rng)
        shape, content = operator(scene)
        own = shape.crop(image)
        opacity = (shape.opacity * shape.crop(part))[..., None]
        new = np.clip(own + opacity * (content - own), 0, 1)
        changed = visible(own, new)
        if np.count_nonzero(changed) < 4:
            return False
        own[...] = new
        shape.crop(mask)[changed] = True
        return True


def visible(before: Image, after: Image) -> NDArray[np.bool_]:
    """(H, W): True where an image changed by more than VISIBLE, and by more than a sixth of the strongest change."""
    red, green, blue = cv2.split(cv2.absdiff(after, before))
    change = cv2.blur(cv2.max(cv2.max(red, green), blue), (3, 3))
    found = (change > max(VISIBLE, float(change.max()) / 6)).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), bool)


def typical_contrast(images: Sequence[Image]) -> float:
    """The median of the standard deviations of the images' pixels, at least 0.04."""
    return max(float(np.median([image.std() for image in images])), 0.04)


def _place(part: Plane, rng: np.random.Generator) -> Point:
    """A random point on the part; if none is found in 20 attempts, any point."""
    for _ in range(20):
        row, column = int(rng.integers(part.shape[0])), int(rng.integers(part.shape[1]))
        if part[row, column] > 0.5:
            break
    return float(row), float(column)


def _transformed_patch(
    scene: Scene, source: Image, shape: Shape, angle: float, scale: float, away: NDArray[np.float64] | None = None
) -> Image:
    """(h, w, 3): a patch of `source` around the shape's place, shifted by `away`, rotated and scaled.

    `away` is (rows, columns) in pixels; None: random.
    """
    height, width = shape.opacity.shape
    middle = shape.columns.start + width / 2, shape.rows.start + height / 2
    if away is None:
        away = scene.rng.uniform(-0.5, 0.5, 2) * scene.size
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    turn = np.array([[cos, -sin], [sin, cos]])
    offset = np.array(middle) + away[::-1] - turn @ (width / 2, height / 2)
    matrix = np.concatenate([turn, offset[:, None]], 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    taken = cv2.warpAffine(source, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(taken, np.float32)


def _membrane(values: Image, opacity: Plane) -> Image:
    """(h, w, 3): the values outside of the shape, smoothly continued to its inside (inpainting).

    Each pixel inside gets a Gaussian average of the values outside, of the smallest sigma that reaches them. The
    solution of Laplace's equation would look the same after blending and takes far longer.
    """
    height, width = opacity.shape
    outside = (1 - np.minimum(4 * opacity, 1)) + np.float32(1e-4)
    small = min(width, 24), min(height, 24)
    weight = cv2.resize(outside, small, interpolation=cv2.INTER_AREA)
    weighted = cv2.resize(values * outside[..., None], small, interpolation=cv2.INTER_AREA)
    total, reach = np.zeros((*small[::-1], 3), np.float32), np.ones(small[::-1], np.float32)
    for sigma in (0.8, 2.0, 5.0, 12.0):
        near = np.asarray(cv2.GaussianBlur(weight, (0, 0), sigma), np.float32)
        value = np.asarray(cv2.GaussianBlur(weighted, (0, 0), sigma), np.float32) / near[..., None]
        share = reach * np.minimum(near * 4, 1) if sigma < 12 else reach
        total += share[..., None] * value
        reach = reach - share
    return np.asarray(cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _faint(scene: Scene, shape: Shape, least: float) -> Shape:
    """The shape with its opacity multiplied by a log-uniform factor between `least` and 1."""
    return Shape(shape.rows, shape.columns, shape.opacity * np.float32(scene.spread(least, 1)))


def _flat(scene: Scene, shape: Shape) -> Image:
    """(h, w, 3): one random colour."""
    return np.broadcast_to(scene.colour(), (*shape.opacity.shape, 3))


def _mean_colour(scene: Scene, shape: Shape) -> NDArray[np.float32]:
    return np.asarray(shape.crop(scene.image).mean((0, 1)), np.float32)


def _widths(scene: Scene, low: float, high: float) -> NDArray[np.float64]:
    """(24,): random widths in pixels along a line, tapered at one end or both; `low`, `high`: at a side of 256."""
    widest = scene.spread(low, high) * max(min(scene.size) / 256, 0.5)
    along = np.linspace(0, 1, 24) if scene.rng.random() < 0.3 else np.sin(np.linspace(0.1, math.pi - 0.1, 24))
    return np.maximum(widest * along * scene.rng.uniform(0.7, 1.3, 24), 0.3)


def _union(first: Shape, second: Shape) -> Shape:
    """The union of two shapes."""
    rows = slice(min(first.rows.start, second.rows.start), max(first.rows.stop, second.rows.stop))
    columns = slice(min(first.columns.start, second.columns.start), max(first.columns.stop, second.columns.stop))
    joined = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for shape in (first, second):
        part = joined[
            shape.rows.start - rows.start : shape.rows.stop - rows.start,
            shape.columns.start - columns.start : shape.columns.stop - columns.start,
        ]
        np.maximum(part, shape.opacity, out=part)
    return Shape(rows, columns, joined)
