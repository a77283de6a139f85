"""Assemblies: the cross-section of a cable, a chip on its board."""

from __future__ import annotations

from functools import cache

import numpy as np

from blemish.data.synthetic.canvas import Canvas, Colour, Field, Points, Pose, blur, noise, rgb
from blemish.data.synthetic.defects import Flaw, blob, fibre, specks
from blemish.data.synthetic.objects import tray

# Cable

_JACKETS = (rgb("#4a6f9e"), rgb("#7a5238"), rgb("#7f9a4c"))
_OTHER_JACKETS = (rgb("#8c8a88"), rgb("#a2563c"), rgb("#6f5a8c"))


def cable(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A sawn three-wire cable, seen end on: grey sheath, three coloured jackets, copper strands."""
    canvas = tray(size, rng, rgb("#22252a"))
    pose = Pose.jitter(rng, shift=0.02, angle=1.2, scale=0.015)
    u, v = pose.local(canvas)
    wobble = np.float32(0.004) * noise(rng, canvas.n, 4)
    radius = np.sqrt(u * u + v * v) + wobble
    _disc(canvas, radius - np.float32(0.415), rgb("#8a8d8f"), 0.050, 0.10)
    _disc(canvas, radius - np.float32(0.355), rgb("#3c3a38"), 0.034, 0.0)
    saw = 1 + 0.06 * noise(rng, canvas.n, 60, octaves=2) + 0.05 * np.sin(np.float32(260) * (u * 0.5 + v) + 9 * wobble)
    canvas.tint(saw)
    colours = list(_JACKETS)
    if flaw.kind == "wrong_wire":
        colours[int(flaw.rng.integers(3))] = _OTHER_JACKETS[int(flaw.rng.integers(len(_OTHER_JACKETS)))]
    lost = int(flaw.rng.integers(3)) if flaw.kind == "missing_wire" else -1
    hurt = int(flaw.rng.integers(3))
    for wire, colour in enumerate(colours):
        centre = _wire_centre(rng, wire)
        strands = _strands(rng)
        if wire == lost:
            _empty_place(canvas, pose, centre, wobble)
        else:
            _wire(canvas, flaw if wire == hurt else _FINE, pose, centre, strands, colour, wobble)
    return canvas


_FINE = Flaw("good", np.random.default_rng(0), 0.0)


def _disc(canvas: Canvas, distance: Field, colour: Colour, height: float, gloss: float) -> None:
    solid = canvas.cover(distance)
    canvas.lay(solid, colour, gloss)
    bevel = np.clip(-distance / np.float32(0.008), 0, 1)
    canvas.raise_to(solid, np.float32(height - 0.006) + np.float32(0.006) * bevel)


def _wire_centre(rng: np.random.Generator, wire: int) -> Points:
    around = 2 * np.pi * wire / 3 - np.pi / 2
    return np.array([0.185 * np.cos(around), 0.185 * np.sin(around)]) + rng.uniform(-0.006, 0.006, 2)


def _strands(rng: np.random.Generator) -> Points:
    """The centres (37, 2) of a hexagonal bundle, each shifted a little at random."""
    rings = [np.zeros((1, 2))]
    for ring in (1, 2, 3):
        turn = np.arange(6 * ring) * 2 * np.pi / (6 * ring) + 0.3 * ring
        rings.append(0.0285 * ring * np.stack([np.cos(turn), np.sin(turn)], axis=1))
    bundle = np.concatenate(rings)
    angle = rng.uniform(0, 2 * np.pi)
    return Pose(angle=angle).world(bundle + rng.normal(0, 0.0012, bundle.shape))


def _wire(
    canvas: Canvas, flaw: Flaw, pose: Pose, centre: Points, strands: Points, colour: Colour, wobble: Field
) -> None:
    middle = pose.world(centre[None])[0]
    x, y = canvas.x - np.float32(middle[0]), canvas.y - np.float32(middle[1])
    radius = np.sqrt(x * x + y * y) / np.float32(pose.scale) + wobble
    ring = np.maximum(radius - np.float32(0.150), np.float32(0.098) - radius)
    if flaw.kind == "cut_insulation":
        ring = np.maximum(ring, -_notch(canvas, flaw, x, y))
    _disc(canvas, ring, colour, 0.052, 0.12)
    _disc(canvas, radius - np.float32(0.100), rgb("#1d1712"), 0.036, 0.0)
    if flaw.kind == "missing_strands":
        away = strands[flaw.rng.integers(len(strands))]
        nearest = np.argsort(np.linalg.norm(strands - away, axis=1))
        strands = np.delete(strands, nearest[: round(flaw.between(2, 7))], axis=0)
    if flaw.kind == "stray_strand":
        around, reach = (
            flaw.rng.uniform(0, 2 * np.pi),
            np.linspace(0.104, flaw.between(0.125, 0.16), 12)[:, None],
        )
        strands = np.concatenate([strands, reach * [np.cos(around), np.sin(around)]])
    _copper(canvas, middle + pose.scale * strands)


def _empty_place(canvas: Canvas, pose: Pose, centre: Points, wobble: Field) -> None:
    """Draws the jute filler that is visible where a wire is missing."""
    middle = pose.world(centre[None])[0]
    radius = np.hypot(canvas.x - np.float32(middle[0]), canvas.y - np.float32(middle[1])) + wobble
    _disc(canvas, radius - np.float32(0.147), rgb("#8d7c5c"), 0.026, 0.0)
    inside = canvas.cover(radius - np.float32(0.147))
    tangle = noise(np.random.default_rng(7), canvas.n, 45, octaves=3)
    canvas.tint(1 + 0.22 * inside * tangle)
    canvas.height += np.float32(0.002) * inside * tangle


def _notch(canvas: Canvas, flaw: Flaw, x: Field, y: Field) -> Field:
    """The signed distance from a wedge that is cut out of the jacket, negative inside."""
    around, half = flaw.rng.uniform(0, 2 * np.pi), flaw.between(0.14, 0.4)
    off = np.abs(np.arctan2(y * np.cos(around) - x * np.sin(around), x * np.cos(around) + y * np.sin(around)))
    ragged = np.float32(0.004) * noise(flaw.rng, canvas.n, 70, octaves=2)
    return np.asarray((off - half) * np.float32(0.12) + ragged, np.float32)


def _copper(canvas: Canvas, centres: Points) -> None:
    ends = canvas.discs(centres, 0.0135)
    canvas.lay(ends, rgb("#b97a50"), gloss=0.30)
    dome = blur(ends, 0.004 * canvas.n)
    canvas.raise_to(ends, np.float32(0.040) + np.float32(0.012) * dome)


# Chip

_PINS = 8
_PITCH = 0.040
_BODY = 0.185
_FOOT = -_BODY - 0.052
_SOLDER = rgb("#b3b2ac")
_PARTS = (  # centre, half length, half width, upright, colour
    (-0.34, -0.36, 0.052, 0.026, False, "#2a2a2c"),
    (-0.13, -0.38, 0.052, 0.026, False, "#a8825a"),
    (0.33, -0.37, 0.052, 0.026, False, "#2a2a2c"),
    (-0.38, 0.36, 0.052, 0.026, False, "#a8825a"),
    (0.12, 0.38, 0.052, 0.026, False, "#2a2a2c"),
    (0.38, 0.34, 0.026, 0.052, True, "#a8825a"),
    (0.39, -0.10, 0.026, 0.052, True, "#a8825a"),
    (-0.40, 0.04, 0.026, 0.052, True, "#2a2a2c"),
)


def chip(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A controller in its 32-pin package among small parts on a green board that a fixture holds nearly still."""
    canvas = Canvas(size, rgb("#2f6b48"), gloss=0.10)
    pose = Pose.jitter(rng, shift=0.014, angle=0.035, scale=0.01)
    canvas.tint(1 + 0.04 * noise(rng, canvas.n, 6, octaves=2) + 0.03 * noise(rng, canvas.n, 100))
    _board(canvas, pose)
    _small_parts(canvas, rng, flaw, pose)
    _pins(canvas, flaw, pose)
    _package(canvas, rng, flaw, pose)
    if flaw.kind == "contamination":
        at = flaw.place(0.36)
        specks(canvas, flaw, at, 0.03, round(flaw.between(5, 12)), rgb("#d9d2c0"))
        fibre(canvas, flaw, at, flaw.between(0.1, 0.22), rgb("#cfcabd"), 0.005)
    return canvas


def _box(x: float, y: float, half_x: float, half_y: float, turn: float = 0) -> Points:
    corners = np.array([[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]])
    return Pose(x, y, turn).world(corners)


@cache
def _layout() -> tuple[list[Points], list[Points], Points]:
    """Draws what is the same on all boards: traces, pads, vias."""
    rng = np.random.default_rng(4071)
    traces, vias = [], []
    for side in range(4):
        for pin in range(_PINS):
            start = np.array([(pin - (_PINS - 1) / 2) * _PITCH, -(_BODY + 0.055)])
            out = start + np.array([0.7 * start[0], -rng.uniform(0.05, 0.11)])
            end = out + np.array([np.sign(start[0]) * rng.uniform(0, 0.10), -rng.uniform(0.02, 0.16)])
            traces.append(Pose(angle=side * np.pi / 2).world(np.stack([start, out, end])))
            vias.append(traces[-1][-1])
    pads = [
        _box(x + sign * (0 if upright else 0.8 * hx), y + sign * (0.8 * hy if upright else 0), 0.027, 0.027)
        for x, y, hx, hy, upright, _ in _PARTS
        for sign in (-1, 1)
    ]
    return traces, pads, np.asarray(vias)


def _board(canvas: Canvas, pose: Pose) -> None:
    traces, pads, vias = _layout()
    copper = canvas.strokes([pose.world(trace) for trace in traces], 0.009)
    canvas.lay(copper, rgb("#4f8f62"))
    canvas.height += np.float32(0.0015) * blur(copper, 0.001 * canvas.n)
    canvas.lay(canvas.discs(pose.world(vias), 0.012), rgb("#b9a66a"), gloss=0.2)
    canvas.lay(canvas.discs(pose.world(vias), 0.006), rgb("#15201a"), gloss=0.0)
    land = canvas.polygons([pose.world(pad) for pad in pads])
    canvas.lay(land, rgb("#b9b8b2"), gloss=0.25)
    canvas.height += np.float32(0.002) * blur(land, 0.003 * canvas.n)
    silk = canvas.strokes([pose.world(_box(0, 0, 0.272, 0.272)[[0, 1, 2, 3, 0]])], 0.004)
    corner = canvas.discs(pose.world([[-0.265, -0.3]]), 0.010)
    canvas.lay(0.8 * np.maximum(silk, corner), rgb("#dcdfd8"), gloss=0.0)


def _small_parts(canvas: Canvas, rng: np.random.Generator, flaw: Flaw, pose: Pose) -> None:
    hurt = int(flaw.rng.integers(len(_PARTS)))
    for k, (x, y, hx, hy, upright, colour) in enumerate(_PARTS):
        dx, dy, turn = rng.normal(0, 0.002, 3) * (1, 1, 10)
        if k == hurt and flaw.kind == "missing_part":
            continue
        if k == hurt and flaw.kind == "displaced_part":
            dx, dy = (
                dx + flaw.rng.choice([-1, 1]) * flaw.between(0.005, 0.02),
                dy + flaw.between(-0.005, 0.02),
            )
            turn += flaw.rng.choice([-1, 1]) * flaw.between(0.25, 0.8)
        half = (hx, hy) if not upright else (hy, hx)
        frame = Pose(x + dx, y + dy, turn + (np.pi / 2 if upright else 0))
        _small_part(canvas, pose, frame, half, rgb(colour))


def _small_part(canvas: Canvas, pose: Pose, frame: Pose, half: tuple[float, float], colour: Colour) -> None:
    long, wide = half
    whole = canvas.polygons([pose.world(frame.world(_box(0, 0, long, wide)))])
    caps = canvas.polygons([pose.world(frame.world(_box(sign * 0.8 * long, 0, 0.2 * long, wide))) for sign in (-1, 1)])
    canvas.lay(whole, colour, gloss=0.08)
    canvas.lay(caps, rgb("#bdbcb8"), gloss=0.35)
    canvas.raise_to(whole, np.float32(0.006) + np.float32(0.012) * blur(whole, 0.002 * canvas.n))


def _pins(canvas: Canvas, flaw: Flaw, pose: Pose) -> None:
    side, pin = int(flaw.rng.integers(4)), int(flaw.rng.integers(_PINS - 1))
    lean = np.zeros((4, _PINS))
    if flaw.kind == "bent_pin":
        lean[side, pin] = flaw.rng.choice([-1, 1]) * flaw.between(0.014, 0.030)
    turns = [Pose(angle=k * np.pi / 2) for k in range(4)]
    places = [(k, j) for k in range(4) for j in range(_PINS)]
    land = canvas.polygons([pose.world(turns[k].world(_box(_along(j), _FOOT, 0.013, 0.018))) for k, j in places])
    metal = canvas.polygons([pose.world(turns[k].world(_leg(j, lean[k, j]))) for k, j in places])
    canvas.lay(land, _SOLDER, gloss=0.3)
    canvas.height += np.float32(0.004) * blur(land, 0.004 * canvas.n)
    canvas.lay(metal, rgb("#c4c3bf"), gloss=0.35)
    canvas.raise_to(metal, np.float32(0.004) + np.float32(0.008) * blur(metal, 0.002 * canvas.n))
    if flaw.kind == "solder_bridge":
        _bridge(canvas, flaw, pose.world(turns[side].world([[_along(pin + 0.5), _FOOT]]))[0])


def _along(pin: float) -> float:
    return (pin - (_PINS - 1) / 2) * _PITCH


def _leg(pin: int, lean: float) -> Points:
    """The outline (4, 2) of a pin on the upper side; its end is shifted by `lean`."""
    x, top, foot = _along(pin), -_BODY + 0.01, -_BODY - 0.062
    outline = [[x - 0.0095, top], [x + 0.0095, top], [x + 0.0095 + lean, foot], [x - 0.0095 + lean, foot]]
    return np.array(outline)


def _bridge(canvas: Canvas, flaw: Flaw, middle: Points) -> None:
    edge = blob(canvas, flaw.rng, (middle[0], middle[1]), flaw.between(0.017, 0.030), rough=0.4)
    drop = canvas.cover(edge)
    canvas.lay(drop, _SOLDER, gloss=0.4)
    canvas.raise_to(drop, np.float32(0.006) + np.float32(0.5) * np.maximum(-edge, 0))


def _package(canvas: Canvas, rng: np.random.Generator, flaw: Flaw, pose: Pose) -> None:
    turned = flaw.kind == "rotated_chip"
    seat = Pose(angle=np.pi / 2 * int(flaw.rng.integers(1, 4)) if turned else 0)
    outline = pose.world(_box(0, 0, _BODY, _BODY))
    body = canvas.polygons([outline])
    canvas.lay(body, rgb("#34353a"), gloss=0.05)
    canvas.raise_to(body, np.float32(0.012) + np.float32(0.016) * blur(body, 0.003 * canvas.n))
    canvas.tint(1 + 0.08 * body * noise(rng, canvas.n, 130, octaves=2))
    dimple = canvas.discs(pose.world(seat.world([[-0.14, -0.14]])), 0.016)
    canvas.height -= np.float32(0.004) * blur(dimple, 0.001 * canvas.n)
    canvas.tint(1 - 0.25 * dimple)
    label = canvas.text(["BLM4071", "A2 26-08"], Pose(pose.x, pose.y, pose.angle + seat.angle, pose.scale), 0.07)
    canvas.lay(0.65 * label, rgb("#b4b5b2"))
