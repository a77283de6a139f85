"""The canvas that parts are drawn on: colour, relief and gloss on a grid, illuminated from one side.

Lengths are fractions of the image's height, so that a part looks the same at every size. The image spans [-0.5, 0.5] in
y (down) and [-aspect / 2, aspect / 2] in x (to the right); most are square. The grid is twice as fine as the image; the
camera averages it, which smooths edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Always float32; typed loosely, since numpy's type stubs lose the width in many operations.
Field = NDArray[np.floating[Any]]
Points = NDArray[np.float64]
Colour = tuple[float, float, float]

SUPERSAMPLE = 2
_SUBPIXEL_BITS = 4


def rgb(code: str) -> Colour:
    """The linear intensities in [0, 1] of a colour written as in CSS, such as "#3a5f8a"."""
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red**2, green**2, blue**2


def smoothstep(low: float, high: float, values: Field) -> Field:
    """0 below `low`, 1 above `high`, and a smooth step in between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def blur(field: Field, sigma: float) -> Field:
    """The field smoothed by a Gaussian of `sigma` grid points; unchanged where sigma is below 0.3."""
    if sigma < 0.3:
        return field
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def noise(rng: np.random.Generator, n: int, cells: float, octaves: int = 1, aspect: int = 1) -> Field:
    """Smooth noise (n, aspect * n), `cells` hills per height, of deviation 1; octaves are finer and half as strong."""
    total = np.zeros((n, aspect * n), np.float32)
    for octave in range(octaves):
        points = max(2, round(cells * 2**octave))
        hills = rng.standard_normal((points + 1, aspect * points + 1), dtype=np.float32)
        total += 0.5**octave * np.asarray(cv2.resize(hills, (aspect * n, n), interpolation=cv2.INTER_CUBIC), np.float32)
    return total


@dataclass(frozen=True)
class Pose:
    """The pose of a part: its centre (x, y), its rotation in radians, its scale."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    scale: float = 1.0

    @classmethod
    def jitter(cls, rng: np.random.Generator, shift: float, angle: float, scale: float = 0.01) -> Pose:
        """A random pose: shifted by at most `shift`, rotated by at most `angle` radians, scaled by 1 +- `scale`."""
        draw = rng.uniform(-1, 1, 4)
        return cls(shift * draw[0], shift * draw[1], angle * draw[2], 1 + scale * draw[3])

    def world(self, points: Points | Sequence[Sequence[float]]) -> Points:
        """Image coordinates (k, 2) of points in the part's coordinates."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = np.asarray(points, np.float64) @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(self.scale * turned + (self.x, self.y), np.float64)

    def local(self, canvas: Canvas) -> tuple[Field, Field]:
        """The part's coordinates (x, y) of every grid point, two fields (n, n)."""
        cos, sin = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        x, y = canvas.x - np.float32(self.x), canvas.y - np.float32(self.y)
        return np.float32(cos) * x + np.float32(sin) * y, np.float32(cos) * y - np.float32(sin) * x


@lru_cache(maxsize=4)
def _grid(n: int, aspect: int) -> tuple[Field, Field]:
    along, down = (((np.arange(k * n) + 0.5) / n - 0.5 * k).astype(np.float32) for k in (aspect, 1))
    x, y = np.meshgrid(along, down)
    x.flags.writeable = y.flags.writeable = False
    return x, y


class Canvas:
    """The scene: linear `albedo` (3, n, m), `height` (n, m) in image heights, `gloss` (n, m) from 0 (matt) to 1.

    `size` is the image's height in pixels, `n` that of the grid, and m = `aspect` * n.
    """

    def __init__(self, size: int, colour: Colour, gloss: float = 0.0, aspect: int = 1):
        self.size = size
        self.aspect = aspect
        self.n = n = SUPERSAMPLE * size
        self.shape = n, aspect * n
        self.x, self.y = _grid(n, aspect)
        self.albedo: Field = np.empty((3, *self.shape), np.float32)
        self.albedo[:] = np.asarray(colour, np.float32)[:, None, None]
        self.height: Field = np.zeros(self.shape, np.float32)
        self.gloss: Field = np.full(self.shape, gloss, np.float32)
        # Where the mask may be, None: anywhere. A bent part is masked where it is, not where it should be.
        self.fault: Field | None = None

    def cover(self, distance: Field) -> Field:
        """The coverage (n, n) in [0, 1] of an outline, given by its signed distance in image sides, negative inside."""
        return np.asarray(np.clip(np.float32(0.5) - distance * np.float32(self.n), 0, 1))

    def lay(self, alpha: Field, colour: Colour | Field, gloss: float | None = None) -> None:
        """Paints with opacity `alpha` (n, n); `colour` is one colour or a field (3, n, n)."""
        paint = np.asarray(colour, np.float32)
        rows, columns = _touched(alpha)
        alpha = alpha[rows, columns]
        for channel in range(3):
            below = self.albedo[channel, rows, columns]
            below += alpha * ((paint[channel] if paint.ndim == 1 else paint[channel, rows, columns]) - below)
        if gloss is not None:
            shine = self.gloss[rows, columns]
            shine += alpha * (np.float32(gloss) - shine)

    def tint(self, factor: Field) -> None:
        """Multiplies the colour by a field (n, n)."""
        self.albedo *= np.maximum(factor, 0)

    def raise_to(self, alpha: Field, height: Field | float) -> None:
        """Blends the relief with `height` by the opacity `alpha` (n, n)."""
        self.height += alpha * (np.asarray(height, np.float32) - self.height)

    def polygons(self, outlines: Sequence[Points]) -> Field:
        """The coverage (n, n) of filled polygons, each (k, 2) in image coordinates."""
        mask = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(mask, [self._fixed(outline) for outline in outlines], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        return mask.astype(np.float32) / 255

    def strokes(self, paths: Sequence[Points], width: float, fade: bool = False) -> Field:
        """The coverage (n, n) of lines through points (k, 2); with `fade`, both ends fade out."""
        mask = np.zeros(self.shape, np.uint8)
        thickness = max(1, round(width * self.n))
        for path in paths:
            fixed = self._fixed(path)
            steps = len(fixed) - 1
            for i in range(steps):
                level = 255 * min(1.0, 4 * min(i + 0.5, steps - i - 0.5) / steps) if fade else 255
                cv2.line(
                    mask,
                    fixed[i].tolist(),
                    fixed[i + 1].tolist(),
                    level,
                    thickness,
                    cv2.LINE_AA,
                    _SUBPIXEL_BITS,
                )
        return mask.astype(np.float32) / 255

    def discs(self, centres: Points, radius: float) -> Field:
        """The coverage (n, n) of discs around centres (k, 2)."""
        mask = np.zeros(self.shape, np.uint8)
        for centre in self._fixed(centres):
            reach = round(radius * self.n * 2**_SUBPIXEL_BITS)
            cv2.circle(mask, centre.tolist(), reach, 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        return mask.astype(np.float32) / 255

    def text(self, lines: Sequence[str], pose: Pose, line_height: float) -> Field:
        """The coverage (n, n) of printed lines, centred on the pose."""
        mask = np.zeros(self.shape, np.uint8)
        pitch, middle, across = line_height * self.n, self.n / 2, self.shape[1] / 2
        thickness = max(1, round(pitch / 9))
        for row, line in enumerate(lines):
            scale = 0.6 * pitch / 22
            (width, tall), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
            baseline = middle + (row - (len(lines) - 1) / 2) * pitch + tall / 2
            origin = round(across - width / 2), round(baseline)
            cv2.putText(mask, line, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
        turn = cv2.getRotationMatrix2D((across, middle), -float(np.degrees(pose.angle)), pose.scale)
        move = np.array([[0, 0, pose.x * self.n], [0, 0, pose.y * self.n]])
        return np.asarray(cv2.warpAffine(mask, turn + move, self.shape[::-1]), np.float32) / 255

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        corner = np.array([0.5 * self.aspect, 0.5])
        scaled = ((np.asarray(points) + corner) * self.n - 0.5) * 2**_SUBPIXEL_BITS
        return np.asarray(np.round(scaled), np.int32)


def _touched(alpha: Field) -> tuple[slice, slice]:
    """The rows and columns outside of which `alpha` is 0: only these are painted, which saves time."""
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if rows.size == 0:
        return slice(0), slice(0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@dataclass(frozen=True)
class Lamp:
    """A soft light: its azimuth and elevation in radians, and the share of ambient light."""

    azimuth: float = -2.2
    elevation: float = 0.95
    ambient: float = 0.35

    @classmethod
    def jitter(cls, rng: np.random.Generator, azimuth: float = -2.2, elevation: float = 0.95) -> Lamp:
        """A lamp whose azimuth and elevation vary a little."""
        return cls(azimuth + rng.uniform(-0.15, 0.15), elevation + rng.uniform(-0.05, 0.05))

    @property
    def direction(self) -> tuple[float, float, float]:
        """The unit vector from the scene to the lamp."""
        flat = np.cos(self.elevation)
        return flat * np.cos(self.azimuth), flat * np.sin(self.azimuth), np.sin(self.elevation)


def illuminate(canvas: Canvas, lamp: Lamp) -> Field:
    """The light (3, n, m) from the scene: Lambert and Blinn reflection, cast shadows, ambient occlusion."""
    lx, ly, lz = (np.float32(part) for part in lamp.direction)
    # The Scharr filter gives the slope; both axes are in image sides.
    slope_x, slope_y = (
        np.asarray(cv2.Scharr(canvas.height, cv2.CV_32F, dx, 1 - dx), np.float32) * np.float32(canvas.n / 32)
        for dx in (1, 0)
    )
    length = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    diffuse = np.maximum(lz - lx * slope_x - ly * slope_y, 0) / (length * lz)
    half = np.sqrt(2 + 2 * lz)
    mirror = np.maximum((1 + lz - lx * slope_x - ly * slope_y) / (length * half), 0)
    sun = _sunlight(canvas.height, lamp)
    light = (np.float32(lamp.ambient) + np.float32(1 - lamp.ambient) * diffuse * sun) * _openness(canvas.height)
    broad = mirror**8
    shine = canvas.gloss * (0.25 * broad + 0.75 * broad**8) * (0.3 + 0.7 * sun)
    return np.asarray(canvas.albedo * light + shine, np.float32)


def _sunlight(height: Field, lamp: Lamp) -> Field:
    """1 where the lamp is visible, towards 0 in a cast shadow; computed on a coarse grid, since shadows are soft."""
    n, m = height.shape
    small = np.asarray(cv2.resize(height, (m // 2, n // 2), interpolation=cv2.INTER_AREA), np.float32)
    lx, ly, lz = lamp.direction
    rise = lz / np.hypot(lx, ly)
    shadow = np.zeros_like(small)
    for reach in (0.006, 0.012, 0.02, 0.03, 0.042):
        step = reach / np.hypot(lx, ly) * n / 2
        move = np.array([[1, 0, -lx * step], [0, 1, -ly * step]], np.float64)
        ahead = cv2.warpAffine(small, move, (m // 2, n // 2), borderMode=cv2.BORDER_REPLICATE)
        shadow = np.maximum(shadow, np.clip((ahead - small - reach * rise) / 0.012, 0, 1))
    soft = blur(shadow.astype(np.float32), 0.004 * n)
    return 1 - np.asarray(cv2.resize(soft, (m, n), interpolation=cv2.INTER_LINEAR), np.float32)


def _openness(height: Field) -> Field:
    """Ambient occlusion from 0.45 to 1: less light beside a step and in a crevice."""
    n, m = height.shape
    small = np.asarray(cv2.resize(height, (m // 2, n // 2), interpolation=cv2.INTER_AREA), np.float32)
    around = blur(small, 0.006 * n)
    wider = np.asarray(cv2.resize(around, (m, n), interpolation=cv2.INTER_LINEAR), np.float32)
    return 1 - np.clip((wider - height) * 30, 0, 0.55)
