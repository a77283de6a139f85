"""Long images as of a line camera: the head of a rail that passes below it."""

from __future__ import annotations

import cv2
import numpy as np

from blemish.data.synthetic.canvas import Canvas, Field, blur, noise, rgb, smoothstep
from blemish.data.synthetic.defects import Flaw, blob, curve, dent, hollow, scratch

_ASPECT = 8
_HEAD, _BAND = 0.36, 0.20


def rail(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A piece of a rail's head, eight times as long as high: rusty flanks, a polished band that wanders a little."""
    canvas = Canvas(size, rgb("#2b2826"), aspect=_ASPECT)
    canvas.tint(1 + 0.2 * noise(rng, canvas.n, 20, octaves=3, aspect=_ASPECT))
    v = canvas.y - np.float32(0.012) * _along(rng, canvas, 5) - np.float32(rng.uniform(-0.03, 0.03))
    head = canvas.cover(np.abs(v) - np.float32(_HEAD))
    canvas.lay(head, rgb("#6f6a66"))
    canvas.raise_to(head, 0.03 + np.float32(0.05) * np.sqrt(np.maximum(1 - (v / np.float32(_HEAD)) ** 2, 0)))
    rust = noise(rng, canvas.n, 14, octaves=3, aspect=_ASPECT)
    canvas.tint(1 + 0.13 * head * rust)
    edge = np.abs(v - np.float32(rng.uniform(-0.04, 0.04))) - np.float32(_BAND)
    edge += np.float32(0.015) * _along(rng, canvas, 9) + np.float32(0.01) * rust
    band = smoothstep(-0.05, 0.05, -edge)
    canvas.tint((1 - 0.06 * band * rust) * (1 + band * (np.float32(0.8) + 0.05 * _along(rng, canvas, 3))))
    canvas.tint(1 + (0.04 + 0.07 * band) * head * _ground(rng, canvas))
    canvas.tint(1 + 0.035 * band * np.sin(canvas.x * np.float32(2 * np.pi / rng.uniform(0.11, 0.16))))
    _mark_rail(canvas, flaw, head)
    return canvas


def _along(rng: np.random.Generator, canvas: Canvas, points: int) -> Field:
    """Smooth noise (1, m) along the rail with that many hills."""
    hills = rng.standard_normal((1, points + 1), dtype=np.float32)
    return np.asarray(cv2.resize(hills, (canvas.shape[1], 1), interpolation=cv2.INTER_CUBIC), np.float32)


def _ground(rng: np.random.Generator, canvas: Canvas) -> Field:
    """The grooves of grinding and of wheels, along the rail."""
    grooves = np.zeros(canvas.shape, np.float32)
    for rows, columns in ((60, 6), (140, 24)):
        lines = rng.standard_normal((rows, columns), dtype=np.float32)
        grooves += np.asarray(cv2.resize(lines, canvas.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    return grooves


def _mark_rail(canvas: Canvas, flaw: Flaw, head: Field) -> None:
    rng = flaw.rng
    at = (float(rng.uniform(-3.7, 3.7)), float(rng.uniform(-0.2, 0.2)))
    if flaw.kind == "corner_cracks":
        _corner_cracks(canvas, flaw, at[0], head)
    elif flaw.kind == "pit":
        for spot in np.asarray(at) + rng.normal(0, (0.12, 0.05), (round(flaw.between(2, 5)), 2)):
            edge = blob(canvas, rng, (spot[0], spot[1]), float(rng.uniform(0.02, flaw.between(0.03, 0.04))), rough=0.7)
            hollow(canvas, edge, 0.02, rgb("#45403c"), bank=0.012)
    elif flaw.kind == "scratch":
        path = curve(rng, at, flaw.between(0.5, 1.2), rng.normal(0, 0.12), bend=0.12)
        scratch(canvas, flaw, path, flaw.between(0.012, 0.018), rng.choice([-1, 1]) * flaw.between(0.4, 0.7), head)
    elif flaw.kind == "spatter":
        for spot in np.asarray(at) + rng.normal(0, (0.2, 0.07), (round(flaw.between(5, 10)), 2)):
            edge = blob(canvas, rng, (spot[0], spot[1]), float(rng.uniform(0.014, 0.03)), rough=0.4)
            drop = canvas.cover(edge) * head
            canvas.lay(drop, rgb("#47423d"), gloss=0.1)
            canvas.height += np.float32(0.8) * np.sqrt(np.maximum(-edge, 0) * np.float32(0.02)) * drop
    elif flaw.kind == "squat":
        radius = flaw.between(0.08, 0.13)
        dent(canvas, at, radius, flaw.between(0.3, 0.45) * radius, head)
        edge = blob(canvas, rng, at, 0.7 * radius, rough=0.8)
        canvas.tint(1 - np.float32(flaw.between(0.35, 0.6)) * smoothstep(-0.01, 0.02, -edge) * head)


def _corner_cracks(canvas: Canvas, flaw: Flaw, x: float, head: Field) -> None:
    """Draws a row of fine cracks, nearly across the rail, at one side of the polished band."""
    rng = flaw.rng
    side, slant = float(rng.choice([-1, 1])), rng.uniform(1.05, 1.4)
    steps = np.arange(round(flaw.between(5, 12))) * rng.uniform(0.06, 0.1)
    paths = []
    for step in steps:
        spot = (x + step - steps.mean(), side * (_BAND - 0.04 + rng.normal(0, 0.012)))
        paths.append(curve(rng, spot, float(rng.uniform(0.1, 0.18)), side * slant, bend=0.35))
    line = canvas.strokes(paths, flaw.between(0.009, 0.012), fade=True) * head
    canvas.tint(1 - np.float32(flaw.between(0.4, 0.7)) * line)
    canvas.height -= np.float32(0.006) * blur(line, 0.002 * canvas.n)
