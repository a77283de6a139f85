"""Defects drawn on good pictures, to learn from where there are no pictures of real ones.

Each operator gives a shape, with an opacity, and what is seen there instead of the picture. Sizes and contrasts are
spread evenly over their logarithms, from plain down to barely visible.
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

Picture = NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""

ATTEMPTS = 3
"""Draws until one can be seen."""
VISIBLE = 0.012
"""Change of a pixel's brightest channel, averaged over 3x3 pixels, that a camera's noise does not hide: 3 of 255."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What an operator draws from: a good picture, another one, and its own randomness."""

    picture: Picture
    other: Picture
    background: NDArray[np.float32] | None
    contrast: float
    """Standard deviation of the good pictures' pixels: the unit of all contrasts."""
    grey: bool
    centre: Point
    rng: np.random.Generator

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.picture.shape[0], self.picture.shape[1]

    def spread(self, low: float, high: float) -> float:
        """A number between the two, evenly over its logarithm."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def radius(self, low: float = 0.015, high: float = 0.22) -> float:
        """In pixels; given in parts of the picture's side."""
        return max(1.5, self.spread(low, high) * min(self.size))

    def region(self, radius: float) -> Shape:
        """A spot or a polygon."""
        draw = blob if self.rng.random() < 0.6 else polygon
        return draw(self.rng, self.size, self.centre, radius)

    def amplitude(self, low: float = 0.15, high: float = 2.5) -> float:
        """A change of brightness, up or down."""
        return float(self.rng.choice((-1, 1))) * self.spread(low, high) * self.contrast

    def colour(self) -> NDArray[np.float32]:
        """(3,): one that occurs in the pictures, made lighter or darker, or any at all; grey in grey pictures."""
        row, column = (int(self.rng.integers(side)) for side in self.size)
        own = self.other[row, column] + np.float32(self.amplitude(0.5, 2.5))
        if self.rng.random() < 0.7:
            return np.asarray(own, np.float32)
        drawn = self.rng.random(3, np.float32)
        return np.repeat(drawn[:1], 3) if self.grey else drawn


Change = tuple[Shape, Picture]
"""Where, and what is seen there: (h, w, 3), the shape's window."""
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
    """A patch of another good picture, turned and scaled, its edge brought to the brightness around it."""
    shape = scene.region(scene.radius(0.03, 0.3))
    patch = _taken(scene, scene.other, shape, scene.rng.uniform(-math.pi, math.pi), scene.spread(0.6, 1.7))
    return shape, patch + _membrane(shape.of(scene.picture) - patch, shape.opacity)


def paste(scene: Scene) -> Change:
    """A patch of another good picture with its edges, at its own or another place."""
    shape = _faint(scene, scene.region(scene.radius(0.02, 0.3)), 0.3)
    away = scene.rng.normal(0, 0.2, 2) * scene.size if scene.rng.random() < 0.7 else np.zeros(2)
    angle = float(scene.rng.integers(4)) * math.pi / 2 if scene.rng.random() < 0.5 else 0.0
    return shape, _taken(scene, scene.other, shape, angle, 1.0, away)


def shift(scene: Scene) -> Change:
    """What lies beside, moved here: a part that is displaced, or twice there."""
    shape = scene.region(radius := scene.radius(0.02, 0.25))
    away = scene.rng.normal(0, max(0.7 * radius, 3), 2)
    patch = _taken(scene, scene.picture, shape, scene.rng.normal(0, 0.3), 1.0, away)
    if scene.rng.random() < 0.5:
        patch = patch + _membrane(shape.of(scene.picture) - patch, shape.opacity)
    return shape, patch


def missing(scene: Scene) -> Change:
    """Nothing: the surroundings drawn over it, or the background."""
    shape = scene.region(scene.radius(0.015, 0.2))
    own = shape.of(scene.picture)
    if scene.background is not None and scene.rng.random() < 0.5:
        filled = np.broadcast_to(scene.background, own.shape)
    else:
        filled = _membrane(own, shape.opacity)
    grain = own - cv2.GaussianBlur(own, (0, 0), 2)
    turned = grain[::-1, ::-1] * np.float32(scene.rng.uniform(0, 0.8))
    return shape, filled + turned


def warp(scene: Scene) -> Change:
    """The picture pushed aside smoothly, by up to a third of the spot's radius."""
    shape = blob(scene.rng, scene.size, scene.centre, radius := scene.radius(0.04, 0.25))
    shape = Shape(shape.rows, shape.columns, np.minimum(3 * shape.opacity, 1))
    reach = np.float32(scene.spread(0.08, 0.5) * radius) * shape.opacity
    size = shape.opacity.shape
    x = np.arange(shape.columns.start, shape.columns.stop, dtype=np.float32)[None]
    y = np.arange(shape.rows.start, shape.rows.stop, dtype=np.float32)[:, None]
    across = x + reach * np.tanh(noise(scene.rng, size, radius, 1))
    down = y + reach * np.tanh(noise(scene.rng, size, radius, 1))
    pushed = cv2.remap(scene.picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return shape, np.asarray(pushed, np.float32)


def stain(scene: Scene) -> Change:
    """A film of one colour through which the picture shows, cloudy, at times with a rim."""
    shape = _faint(scene, blob(scene.rng, scene.size, scene.centre, radius := scene.radius()), 0.08)
    size = shape.opacity.shape
    cloudy = 1 - np.float32(scene.rng.uniform(0, 0.7)) * np.clip(noise(scene.rng, size, 0.6 * radius), 0, 1)
    if scene.rng.random() < 0.3:
        top = max(float(shape.opacity.max()), 1e-6)
        cloudy = cloudy * (1 - np.float32(0.7) * (shape.opacity / top) ** 4)
    return Shape(shape.rows, shape.columns, shape.opacity * cloudy), _flat(scene, shape)


def texture(scene: Scene) -> Change:
    """A foreign material: streaks or grains between two colours."""
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
    """The picture lighter, darker, or of another colour."""
    shape = scene.region(scene.radius(0.02, 0.3))
    amount = np.float32(scene.amplitude(0.12, 1.5))
    toward = np.ones(3, np.float32)
    if not scene.grey and scene.rng.random() < 0.5:
        toward = np.asarray(scene.rng.uniform(-1, 1, 3), np.float32)
    own = shape.of(scene.picture)
    if scene.rng.random() < 0.5:  # by a factor, as light does
        return shape, own * np.maximum(1 + amount * toward / max(float(own.mean()), 0.1), 0)
    return shape, own + amount * toward


def gloss(scene: Scene) -> Change:
    """The picture flatter or harsher than it was, as where a surface is worn, polished or out of focus."""
    shape = scene.region(scene.radius(0.03, 0.3))
    own = shape.of(scene.picture)
    smooth = cv2.GaussianBlur(own, (0, 0), scene.spread(1.2, 6))
    factor = scene.rng.uniform(0, 0.5) if scene.rng.random() < 0.6 else scene.rng.uniform(1.8, 3.5)
    return shape, smooth + np.float32(factor) * (own - smooth)


def scratch(scene: Scene) -> Change:
    """A thin smooth line, lighter or darker, often with the other tone at its side as a groove has."""
    points = path(scene.rng, scene.centre, scene.radius(0.06, 0.9), scene.rng.uniform(0, 1.5), 0)
    shape = line(scene.size, points, _widths(scene, 0.5, 3.5))
    amount = np.float32(scene.amplitude(0.4, 3.5))
    relief = shape.opacity
    if scene.rng.random() < 0.5:
        aside = tuple(int(value) for value in scene.rng.choice((-1, 1), 2))
        beside = np.roll(shape.opacity, aside, (0, 1))
        relief = np.asarray(relief - np.float32(scene.rng.uniform(0.3, 1)) * beside, np.float32)
        shape = Shape(shape.rows, shape.columns, np.maximum(shape.opacity, np.abs(relief)))
    toned = shape.of(scene.picture) + amount * np.sign(relief)[..., None]
    return shape, np.asarray(toned, np.float32)


def crack(scene: Scene) -> Change:
    """A jagged line that forks and gapes, dark or as the background is."""
    length = scene.radius(0.08, 0.8)
    trunk = path(scene.rng, scene.centre, length, 1.0, 0.4)
    widths = _widths(scene, 0.6, 7.0)
    shape = line(scene.size, trunk, widths)
    if scene.rng.random() < 0.5:
        start = trunk[int(scene.rng.integers(6, 19))]
        branch = path(scene.rng, (start[0], start[1]), 0.5 * length, 1.0, 0.4)
        branch += start - branch[0]
        shape = _both(shape, line(scene.size, branch, 0.7 * widths))
    own = shape.of(scene.picture)
    if scene.background is not None and scene.rng.random() < 0.3:
        return shape, np.broadcast_to(scene.background, own.shape)
    return shape, np.maximum(own - np.float32(scene.spread(0.3, 4) * scene.contrast), 0)


def dust(scene: Scene) -> Change:
    """Grains and short fibres, lighter or darker."""
    shape = specks(scene.rng, scene.size, scene.centre, scene.radius(0.02, 0.3), int(scene.rng.integers(1, 25)))
    if scene.rng.random() < 0.5:
        points = path(scene.rng, scene.centre, scene.radius(0.04, 0.2), 3.0, 0)
        shape = _both(shape, line(scene.size, points, np.full(24, scene.rng.uniform(0.5, 1.5))))
    return _faint(scene, shape, 0.2), _flat(scene, shape)


OPERATORS: dict[str, Operator] = {name: globals()[name] for name in get_args(OperatorName)}
"""Name -> operator."""
OperatorNames = Annotated[tuple[OperatorName, ...], Field(description="kinds of defects that are drawn; default: all")]


@dataclass(frozen=True)
class Synthesis:
    """Draws defects on good pictures; the same seed gives the same bits."""

    others: Sequence[Picture]
    """Good pictures to take patches from."""
    foreground: Foreground
    contrast: float
    grey: bool = False
    """Whether the pictures have no colour, which what is drawn then has not either."""
    operators: Sequence[str] = ()
    """Names of those that are drawn from; none means all."""
    most: int = 3
    """Defects in a picture."""

    def __call__(self, picture: Picture, seed: int) -> tuple[Picture, NDArray[np.bool_]]:
        """The picture (H, W, 3) with one to `most` defects, and where it was visibly changed (H, W)."""
        rng = np.random.default_rng(seed)
        part = self.foreground(picture)
        drawn, mask = picture.copy(), np.zeros(picture.shape[:2], bool)
        for _ in range(int(rng.integers(1, self.most + 1))):
            for _ in range(ATTEMPTS):
                if self._draw(drawn, mask, part, rng):
                    break
        return drawn, mask

    def _draw(self, picture: Picture, mask: NDArray[np.bool_], part: Plane, rng: np.random.Generator) -> bool:
        """Draws one defect into picture and mask; whether it can be seen."""
        names = self.operators or tuple(OPERATORS)
        operator = OPERATORS[names[int(rng.integers(len(names)))]]
        other = self.others[int(rng.integers(len(self.others)))]
        scene = Scene(picture, other, self.foreground.background, self.contrast, self.grey, _place(part, rng), rng)
        shape, seen = operator(scene)
        own = shape.of(picture)
        opacity = (shape.opacity * shape.of(part))[..., None]
        new = np.clip(own + opacity * (seen - own), 0, 1)
        changed = visible(own, new)
        if np.count_nonzero(changed) < 4:
            return False
        own[...] = new
        shape.of(mask)[changed] = True
        return True


def visible(before: Picture, after: Picture) -> NDArray[np.bool_]:
    """(H, W): where a picture was changed by more than VISIBLE, and more than a sixth of the strongest change."""
    red, green, blue = cv2.split(cv2.absdiff(after, before))
    change = cv2.blur(cv2.max(cv2.max(red, green), blue), (3, 3))
    found = (change > max(VISIBLE, float(change.max()) / 6)).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), bool)


def typical_contrast(pictures: Sequence[Picture]) -> float:
    """The standard deviation of the pictures' pixels (their median), at least that of a barely structured one."""
    return max(float(np.median([picture.std() for picture in pictures])), 0.04)


def _place(part: Plane, rng: np.random.Generator) -> Point:
    """A point on the part; anywhere where there is none."""
    for _ in range(20):
        row, column = int(rng.integers(part.shape[0])), int(rng.integers(part.shape[1]))
        if part[row, column] > 0.5:
            break
    return float(row), float(column)


def _taken(
    scene: Scene, source: Picture, shape: Shape, angle: float, scale: float, away: NDArray[np.float64] | None = None
) -> Picture:
    """(h, w, 3): what lies in `source` at the shape's place, moved by `away`, turned and scaled."""
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


def _membrane(values: Picture, opacity: Plane) -> Picture:
    """(h, w, 3): what the values outside the shape say of its inside, as smoothly as a film spanned over it.

    Averages of what is outside, at growing widths, the narrowest that reaches a place being used: the solution of
    Laplace's equation would look the same after blending and costs far more.
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
    """The shape with an opacity anywhere between `least` and full."""
    return Shape(shape.rows, shape.columns, shape.opacity * np.float32(scene.spread(least, 1)))


def _flat(scene: Scene, shape: Shape) -> Picture:
    """One colour all over the shape."""
    return np.broadcast_to(scene.colour(), (*shape.opacity.shape, 3))


def _mean_colour(scene: Scene, shape: Shape) -> NDArray[np.float32]:
    return np.asarray(shape.of(scene.picture).mean((0, 1)), np.float32)


def _widths(scene: Scene, low: float, high: float) -> NDArray[np.float64]:
    """(24,): the widths along a line in pixels at a side of 256, zero at its ends or open at one."""
    widest = scene.spread(low, high) * max(min(scene.size) / 256, 0.5)
    along = np.linspace(0, 1, 24) if scene.rng.random() < 0.3 else np.sin(np.linspace(0.1, math.pi - 0.1, 24))
    return np.maximum(widest * along * scene.rng.uniform(0.7, 1.3, 24), 0.3)


def _both(first: Shape, second: Shape) -> Shape:
    """The two shapes as one."""
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
