"""Defects that can be drawn on any part. They change the colour, relief and gloss of a canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.data.synthetic.canvas import Canvas, Colour, Field, Points, blur, noise, smoothstep


@dataclass(frozen=True)
class Flaw:
    """A defect to draw: its type ("good": none), its random generator, and its strength.

    Strength goes from 0 (barely visible) to 1 (obvious). A flaw uses only its own generator, so that the rest of the
    part is drawn as it would be without the flaw.
    """

    kind: str
    rng: np.random.Generator
    strength: float

    def between(self, weak: float, strong: float) -> float:
        """The value between `weak` (strength 0) and `strong` (strength 1), linear in the strength."""
        return weak + (strong - weak) * self.strength

    def place(self, reach: float) -> tuple[float, float]:
        """A random point (x, y) at most `reach` from the centre along each axis."""
        x, y = self.rng.uniform(-reach, reach, 2)
        return float(x), float(y)


def blob(canvas: Canvas, rng: np.random.Generator, at: tuple[float, float], radius: float, rough: float) -> Field:
    """The signed distance (n, m) from a ragged spot's edge, in image heights, negative inside; `rough` in [0, 1]."""
    stretch = np.float32(rng.uniform(0.75, 1.3))
    x, y = (canvas.x - np.float32(at[0])) * stretch, (canvas.y - np.float32(at[1])) / stretch
    # The tanh limits the noise; otherwise small pieces of the spot would appear far away from it.
    ragged = np.tanh(noise(rng, canvas.n, 0.9 / radius, octaves=4, aspect=canvas.aspect))
    distance = np.sqrt(x * x + y * y) * (1 + np.float32(0.4 * rough) * ragged) - np.float32(radius)
    return np.asarray(distance)


def curve(rng: np.random.Generator, at: tuple[float, float], length: float, angle: float, bend: float) -> Points:
    """Points (25, 2) of a line through `at` whose direction changes smoothly by about `bend` radians."""
    steps = 24
    swing = np.cumsum(rng.normal(0, bend / steps**0.5, steps))
    heading = angle + swing - swing.mean()
    moves = length / steps * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    return np.asarray(path - path[steps // 2] + at, np.float64)


def stain(canvas: Canvas, flaw: Flaw, at: tuple[float, float], radius: float, colour: Colour, within: Field) -> None:
    """Draws a translucent spot with a darker rim, as of a dried liquid."""
    edge = blob(canvas, flaw.rng, at, radius, rough=0.7)
    inside = smoothstep(0, 1, 0.5 - edge / np.float32(0.5 * radius))
    rim = np.exp(-((edge / np.float32(0.18 * radius)) ** 2))
    opacity = flaw.between(0.3, 0.75) * inside + flaw.between(0.08, 0.25) * rim
    canvas.lay(np.clip(opacity, 0, 1) * within, colour)


def scratch(canvas: Canvas, flaw: Flaw, path: Points, width: float, bright: float, within: Field) -> None:
    """Draws a groove along a path; `bright` above 0 makes it lighter (bare metal), below 0 darker."""
    line = canvas.strokes([path], width, fade=True) * within
    core = blur(line, 0.0008 * canvas.n)
    canvas.tint(1 + np.float32(bright) * core)
    canvas.height -= np.float32(flaw.between(0.35, 0.7) * width) * blur(line, 0.0015 * canvas.n)


def fibre(canvas: Canvas, flaw: Flaw, at: tuple[float, float], length: float, colour: Colour, width: float) -> None:
    """Draws a hair or a thread that lies on the part and casts a shadow."""
    path = curve(flaw.rng, at, length, flaw.rng.uniform(0, 2 * np.pi), bend=flaw.rng.uniform(1.5, 3.5))
    line = canvas.strokes([path], width)
    canvas.lay(line, colour, gloss=0.05)
    canvas.height += np.float32(2 * width) * blur(line, 0.001 * canvas.n)


def crack(canvas: Canvas, flaw: Flaw, at: tuple[float, float], length: float, width: float, within: Field) -> None:
    """Draws a jagged dark line with a branch, thinner towards its ends."""
    rng, angle = flaw.rng, flaw.rng.uniform(0, 2 * np.pi)
    trunk = _jagged(rng, curve(rng, at, length, angle, bend=0.9))
    fork = trunk[int(rng.integers(8, 17))]
    side = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
    ahead = (fork[0] + 0.2 * length * np.cos(side), fork[1] + 0.2 * length * np.sin(side))
    branch = _jagged(rng, curve(rng, ahead, 0.4 * length, side, bend=0.6))
    line = np.maximum(canvas.strokes([trunk], width), 0.8 * canvas.strokes([branch], 0.6 * width)) * within
    canvas.tint(1 - np.float32(flaw.between(0.55, 0.9)) * line)
    canvas.height -= np.float32(0.8 * width) * blur(line, 0.001 * canvas.n)


def _jagged(rng: np.random.Generator, path: Points) -> Points:
    step = float(np.linalg.norm(path[1] - path[0]))
    return np.asarray(path + rng.normal(0, 0.35 * step, path.shape), np.float64)


def hollow(canvas: Canvas, edge: Field, depth: float, colour: Colour, bank: float) -> None:
    """Removes material where the signed distance `edge` is negative; `bank` is the width of the hole's slope."""
    inside = smoothstep(0, 1, -edge / np.float32(bank))
    canvas.lay(inside, colour, gloss=0.0)
    canvas.height -= np.float32(depth) * inside


def dent(canvas: Canvas, at: tuple[float, float], radius: float, depth: float, within: Field) -> None:
    """Draws a round depression, which changes the relief and the shading only."""
    squared = ((canvas.x - np.float32(at[0])) ** 2 + (canvas.y - np.float32(at[1])) ** 2) / np.float32(radius**2)
    bowl = np.exp(-squared * squared) * within
    canvas.height -= np.float32(depth) * bowl
    canvas.tint(1 - np.float32(0.12) * bowl)


def specks(canvas: Canvas, flaw: Flaw, at: tuple[float, float], spread: float, count: int, colour: Colour) -> None:
    """Draws `count` small raised grains around a point."""
    centres = np.asarray(at) + flaw.rng.normal(0, spread, (count, 2))
    for centre in centres:
        radius = float(flaw.rng.uniform(0.003, flaw.between(0.006, 0.010)))
        edge = np.hypot(canvas.x - np.float32(centre[0]), canvas.y - np.float32(centre[1])) - np.float32(radius)
        canvas.lay(canvas.cover(edge), colour, gloss=0.1)
        canvas.height += np.float32(0.8) * np.sqrt(np.maximum(-edge * np.float32(radius), 0))
