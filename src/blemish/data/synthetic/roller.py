"""A part that turns about its own axis in a dark scene: a studded rubber roller on its shaft."""

from __future__ import annotations

from functools import cache

import numpy as np

from blemish.data.synthetic.canvas import Canvas, Field, Points, Pose, blur, noise, rgb, smoothstep
from blemish.data.synthetic.defects import Flaw, blob, curve, hollow, scratch, specks

_RADIUS, _HALF = 0.27, 0.20
_ROWS, _COLUMNS = 22, 4
_ROW = 2 * np.pi / _ROWS
_STUD = 0.014


def roller(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A black roller with studs of many shapes, stopped at any angle about its axis, under one weak lamp."""
    canvas = Canvas(size, rgb("#0d1014"))
    canvas.tint(1 + 0.15 * noise(rng, canvas.n, 3))
    pose = Pose.jitter(rng, shift=0.015, angle=0.025)
    turn = float(rng.uniform(0, 2 * np.pi))
    u, v = pose.local(canvas)
    _shaft(canvas, rng, u, v)
    radius = np.float32(_RADIUS) * (1 - np.float32(0.16) * np.clip(np.abs(u) / np.float32(_HALF), 0, 1) ** 4)
    solid = canvas.cover(np.maximum(np.abs(v) - radius, np.abs(u) - np.float32(_HALF)))
    around = np.arcsin(np.clip(v / radius, -1, 1)) + np.float32(turn)
    stud = _studs(u, around, _torn(flaw, turn))
    canvas.lay(solid, rgb("#222226"), gloss=0.16)
    barrel = np.sqrt(np.maximum(radius * radius - v * v, 0))
    canvas.raise_to(solid, np.float32(0.6) * barrel + np.float32(_STUD) * stud)
    worn = noise(rng, canvas.n, 60, octaves=2)
    canvas.tint(1 + solid * (0.55 * stud + 0.08 * worn - 0.25 * (1 - stud)))
    canvas.gloss += solid * np.float32(0.2) * stud
    _mark_roller(canvas, flaw, pose, solid, stud)
    return canvas


def _shaft(canvas: Canvas, rng: np.random.Generator, u: Field, v: Field) -> None:
    """Draws the steel shaft, whose turned grooves look the same from all sides."""
    solid = canvas.cover(np.abs(v) - np.float32(0.05))
    canvas.lay(solid, rgb("#2c2d30"), gloss=0.06)
    canvas.raise_to(solid, np.sqrt(np.maximum(np.float32(0.0025) - v * v, 0)))
    canvas.tint(1 + 0.1 * solid * np.sin(u * np.float32(330)) + 0.05 * solid * noise(rng, canvas.n, 40))


@cache
def _design() -> tuple[Points, Points, Points]:
    """Of every stud (rows, columns): its middle along the axis, its half length, its half width around."""
    rng = np.random.default_rng(11)
    place = np.linspace(-0.145, 0.145, _COLUMNS) + rng.uniform(-0.016, 0.016, (_ROWS, _COLUMNS))
    place[::2] += 0.012
    return place, rng.uniform(0.014, 0.032, place.shape), rng.uniform(0.26, 0.40, place.shape) * _ROW * _RADIUS


def _studs(u: Field, around: Field, torn: tuple[int, int] | None) -> Field:
    """The relief of the studs (n, n) from 0 to 1; `around` is the angle on the roller."""
    row = np.floor(around / np.float32(_ROW)).astype(np.int32)
    off = np.abs(around - (row + np.float32(0.5)) * np.float32(_ROW)) * np.float32(_RADIUS)
    row %= _ROWS
    relief = np.zeros_like(u)
    for column in range(_COLUMNS):
        place, half, width = (np.asarray(table[:, column], np.float32)[row] for table in _design())
        edge = np.maximum(np.abs(u - place) - half, off - width)
        stud = smoothstep(0, 0.007, -edge)
        if torn is not None and torn[1] == column:
            stud = np.where(row == torn[0], 0.12 * stud, stud)
        relief = np.maximum(relief, stud)
    return np.asarray(relief, np.float32)


def _torn(flaw: Flaw, turn: float) -> tuple[int, int] | None:
    """The row and column of the stud that is torn off, one that can be seen."""
    if flaw.kind != "torn_knob":
        return None
    seen = turn + flaw.rng.uniform(-0.9, 0.7)
    return int(seen // _ROW) % _ROWS, int(flaw.rng.integers(_COLUMNS))


def _mark_roller(canvas: Canvas, flaw: Flaw, pose: Pose, solid: Field, stud: Field) -> None:
    rng = flaw.rng
    spot = pose.world([[rng.uniform(-0.15, 0.15), rng.uniform(-0.19, 0.15)]])[0]
    at = (float(spot[0]), float(spot[1]))
    if flaw.kind == "contamination":
        specks(canvas, flaw, at, 0.012, round(flaw.between(5, 9)), rgb("#8f8474"))
    elif flaw.kind == "cut":
        path = curve(rng, at, flaw.between(0.08, 0.14), rng.uniform(0, np.pi), bend=0.3)
        slit = canvas.strokes([path], flaw.between(0.008, 0.013), fade=True) * solid
        canvas.height += np.float32(0.006) * blur(slit, 0.006 * canvas.n)
        canvas.height -= np.float32(0.02) * slit
        canvas.lay(np.float32(flaw.between(0.6, 0.9)) * slit, rgb("#5b5349"), gloss=0.0)
    elif flaw.kind == "hole":
        edge = blob(canvas, rng, at, flaw.between(0.016, 0.026), rough=0.5)
        hollow(canvas, edge, 0.03, rgb("#050505"), bank=0.006)
        lip = np.exp(-((edge / np.float32(0.005)) ** 2)) * solid
        canvas.lay(np.float32(flaw.between(0.35, 0.7)) * lip, rgb("#6a6259"))
    elif flaw.kind == "scuff":
        for offset in rng.normal(0, 0.009, (5, 2)):
            path = curve(rng, (at[0] + offset[0], at[1] + offset[1]), 0.09, pose.angle + 0.3, bend=0.15)
            scratch(canvas, flaw, path, 0.004, flaw.between(1.6, 2.8), solid * (0.45 + 0.55 * stud))
