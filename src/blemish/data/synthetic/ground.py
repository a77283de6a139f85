"""Rough ground with hair cracks: a floor of concrete."""

from __future__ import annotations

import numpy as np

from blemish.data.synthetic.canvas import Canvas, Field, Points, blur, noise, rgb, smoothstep
from blemish.data.synthetic.defects import Flaw, blob
from blemish.data.synthetic.textures import cells

_HALVINGS = 6


def concrete(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """Weathered concrete: grit, pores and stains; tone, roughness and grain vary between the slabs."""
    canvas = Canvas(size, rgb("#8f8b85"))
    cast = 1 + 0.07 * rng.uniform(-1, 1)
    canvas.albedo *= np.array([cast, 1, 2 - cast], np.float32)[:, None, None]
    rough = rng.uniform(0.7, 1.3)
    canvas.height += np.float32(0.0011 * rough) * noise(rng, canvas.n, 45, octaves=3)
    canvas.tint(1 + 0.05 * noise(rng, canvas.n, 3, octaves=2) + np.float32(0.06 * rough) * noise(rng, canvas.n, 150))
    _grit(canvas, rng, rough)
    _pores(canvas, rng)
    _stains(canvas, rng)
    _mark_concrete(canvas, flaw)
    return canvas


def _grit(canvas: Canvas, rng: np.random.Generator, rough: float) -> None:
    """Sand and fine gravel in the surface, each grain with its own tone."""
    for across, spread in ((70, 0.13), (150, 0.16)):
        distance, label = cells(rng, canvas.n, across)
        tone = np.clip(rng.normal(0, spread * rough, 8192), -0.45, 0.6).astype(np.float32)[label % 8192]
        canvas.tint(1 + tone * smoothstep(0, 0.3 / across, distance))


def _pores(canvas: Canvas, rng: np.random.Generator) -> None:
    """Air bubbles that were cut open: small dark pits."""
    for radius in (0.0025, 0.004, 0.0065):
        centres = rng.uniform(-0.5, 0.5, (int(rng.integers(3, 5 + round(0.09 / radius))), 2))
        pit = canvas.discs(centres, radius)
        canvas.tint(1 - np.float32(rng.uniform(0.4, 0.65)) * pit)
        canvas.height -= np.float32(radius) * pit


def _stains(canvas: Canvas, rng: np.random.Generator) -> None:
    """Up to three damp or worn patches with soft edges."""
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.5, 0.5, 2)
        edge = blob(canvas, rng, (float(x), float(y)), float(rng.uniform(0.05, 0.16)), rough=0.9)
        canvas.tint(1 - np.float32(rng.uniform(-0.08, 0.16)) * smoothstep(-0.02, 0.03, -edge))


def _mark_concrete(canvas: Canvas, flaw: Flaw) -> None:
    rng, at, angle = flaw.rng, np.asarray(flaw.place(0.25)), flaw.rng.uniform(0, np.pi)
    if flaw.kind == "hair_crack":
        _open(canvas, flaw, [_fracture(rng, at, angle, flaw.between(0.45, 0.9))])
    elif flaw.kind == "branched_crack":
        trunk = _fracture(rng, at, angle, flaw.between(0.45, 0.8))
        sides = rng.choice([-1, 1], 3) * rng.uniform(0.5, 1.1, 3)
        roots = trunk[rng.integers(8, 56, 3)]
        reach = rng.uniform(0.12, 0.25, 3)
        ends = roots + reach[:, None] * np.stack([np.cos(angle + sides), np.sin(angle + sides)], axis=1)
        _open(canvas, flaw, [trunk, *(_broken(rng, root, end) for root, end in zip(roots, ends, strict=True))])
    elif flaw.kind == "shear_cracks":
        along, slant = np.array([np.cos(angle), np.sin(angle)]), angle + rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)
        steps = np.linspace(-1, 1, round(flaw.between(4, 7))) * rng.uniform(0.16, 0.24)
        spots = at + steps[:, None] * along + rng.normal(0, 0.008, (len(steps), 2))
        _open(canvas, flaw, [_fracture(rng, spot, slant, float(rng.uniform(0.1, 0.18))) for spot in spots])
    elif flaw.kind == "crazing":
        distance, _ = cells(rng, canvas.n, 10)
        patch = smoothstep(0, 0.05, -blob(canvas, rng, (at[0], at[1]), flaw.between(0.17, 0.26), rough=0.6))
        _darken(canvas, flaw, patch * canvas.cover(distance - np.float32(0.5 * _width(flaw))))


def _width(flaw: Flaw) -> float:
    return flaw.between(0.0038, 0.0065)


def _fracture(rng: np.random.Generator, at: Points, angle: float, length: float) -> Points:
    half = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    return _broken(rng, at - half, at + half)


def _broken(rng: np.random.Generator, start: Points, end: Points) -> Points:
    """Points (65, 2) of a jagged line between two points: each piece is broken beside its middle, over and over."""
    path = np.stack([start, end])
    for _ in range(_HALVINGS):
        step = np.diff(path, axis=0)
        side = np.stack([-step[:, 1], step[:, 0]], axis=1)
        middle = path[:-1] + 0.5 * step + rng.normal(0, 0.13, (len(step), 1)) * side
        path = np.insert(path, np.arange(1, len(path)), middle, axis=0)
    return np.asarray(path, np.float64)


def _open(canvas: Canvas, flaw: Flaw, paths: list[Points]) -> None:
    _darken(canvas, flaw, canvas.strokes(paths, _width(flaw), fade=True))


def _darken(canvas: Canvas, flaw: Flaw, line: Field) -> None:
    """Draws a fine dark gap whose depth varies along its length."""
    line = line * (0.5 + 0.5 * smoothstep(-1.0, 0.4, noise(flaw.rng, canvas.n, 14)))
    canvas.tint(1 - np.float32(flaw.between(0.5, 0.78)) * line)
    canvas.height -= np.float32(0.5 * _width(flaw)) * blur(line, 0.001 * canvas.n)
