"""Single parts on a tray: a gear wheel, a screw, a two-coloured capsule."""

from __future__ import annotations

import numpy as np

from blemish.data.synthetic.canvas import Canvas, Colour, Field, Pose, blur, noise, rgb, smoothstep
from blemish.data.synthetic.defects import Flaw, blob, crack, curve, fibre, hollow, scratch, stain


def tray(size: int, rng: np.random.Generator, colour: Colour, mottle: float = 0.05) -> Canvas:
    """A canvas with a matt, slightly worn mat of one colour."""
    canvas = Canvas(size, colour)
    canvas.tint(1 + np.float32(mottle) * (0.5 * noise(rng, canvas.n, 3) + noise(rng, canvas.n, 150)))
    return canvas


# Gear

_TEETH = 20
_PITCH_RADIUS = 0.335
_HOLES = 5
_HOLE, _HOLE_CIRCLE = np.float32(0.046), 0.21


def gear(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A turned steel spur gear with a keyed bore and five lightening holes, lying at any angle on a dark mat."""
    canvas = tray(size, rng, rgb("#33363b"))
    pose = Pose.jitter(rng, shift=0.025, angle=np.pi, scale=0)
    u, v = pose.local(canvas)
    radius, angle = np.sqrt(u * u + v * v), np.arctan2(v, u)
    outline = _gear_outline(radius, angle, flaw)
    holes = _gear_holes(u, v, radius, flaw)
    body = np.maximum(outline, -holes)
    solid = canvas.cover(body)
    canvas.lay(solid, rgb("#8e9094"), gloss=0.22)
    bevel = np.clip(-body / np.float32(0.008), 0, 1)
    canvas.raise_to(solid, np.float32(0.028) + np.float32(0.007) * bevel * (2 - bevel))
    recess = smoothstep(0.135, 0.145, radius) * smoothstep(-0.285, -0.275, -radius)
    canvas.height -= np.float32(0.006) * recess * solid
    _turn(canvas, rng, radius, angle, solid)
    _leave_floor(canvas, flaw, pose)
    _mark_gear(canvas, flaw, pose, solid)
    return canvas


def _gear_outline(radius: Field, angle: Field, flaw: Flaw) -> Field:
    """The approximate signed distance from the toothed rim, in image sides, negative inside."""
    tooth = np.floor(angle * np.float32(_TEETH / (2 * np.pi)))
    profile = np.tanh(np.float32(2.2) * np.sin(angle * _TEETH - np.float32(np.pi / 2))) / np.float32(0.976)
    if flaw.kind == "broken_tooth":
        left = flaw.between(0.55, -1.0) + flaw.rng.uniform(-0.1, 0.1)
        ragged = np.float32(0.15) * np.sin(angle * 211 + flaw.rng.uniform(0, 6))
        broken = tooth == flaw.rng.integers(-_TEETH // 2, _TEETH // 2)
        profile = np.where(broken, np.minimum(profile, np.float32(max(left, -0.9)) + ragged), profile)
    return np.asarray(0.75 * (radius - _PITCH_RADIUS - np.float32(0.028) * profile), np.float32)


def _gear_holes(u: Field, v: Field, radius: Field, flaw: Flaw) -> Field:
    """The signed distance from the edge of the nearest hole, in image sides, negative inside."""
    key = np.maximum(np.abs(v) - np.float32(0.018), np.abs(u - np.float32(0.085)) - np.float32(0.02))
    nearest = np.minimum(radius - np.float32(0.082), key)
    blocked = _blocked_hole(flaw)
    for k in range(_HOLES):
        around = 2 * np.pi * (k + 0.5) / _HOLES
        x, y = np.float32(_HOLE_CIRCLE * np.cos(around)), np.float32(_HOLE_CIRCLE * np.sin(around))
        if k != blocked:
            nearest = np.minimum(nearest, np.sqrt((u - x) ** 2 + (v - y) ** 2) - _HOLE)
    return np.asarray(nearest, np.float32)


def _blocked_hole(flaw: Flaw) -> int | None:
    # Computed from the strength, so that outline and floor agree without a second random draw.
    return int(flaw.strength * 997) % _HOLES if flaw.kind == "blocked_hole" else None


def _leave_floor(canvas: Canvas, flaw: Flaw, pose: Pose) -> None:
    """Draws a hole that is not drilled through: a rough recess with the dimple of the drill's point."""
    blocked = _blocked_hole(flaw)
    if blocked is None:
        return
    around = 2 * np.pi * (blocked + 0.5) / _HOLES
    spot = pose.world([[_HOLE_CIRCLE * np.cos(around), _HOLE_CIRCLE * np.sin(around)]])[0]
    x, y = canvas.x - np.float32(spot[0]), canvas.y - np.float32(spot[1])
    radius = np.sqrt(x * x + y * y)
    floor = canvas.cover(radius - _HOLE)
    rough = noise(flaw.rng, canvas.n, 90, octaves=2)
    canvas.height -= floor * (
        np.float32(flaw.between(0.010, 0.016)) + np.float32(0.004) * smoothstep(-0.012, 0.0, -radius)
    )
    canvas.tint(1 - floor * np.float32(flaw.between(0.25, 0.4)) * (1 + 0.3 * rough + 0.3 * np.sin(radius * 900)))


def _turn(canvas: Canvas, rng: np.random.Generator, radius: Field, angle: Field, solid: Field) -> None:
    """Draws the turning marks of a lathe and their two bright reflections."""
    groove = np.asarray(rng.standard_normal(600), np.float32)[(radius * 900).astype(np.int32) % 600]
    fan = np.cos(2 * (angle + np.float32(2.2 + np.pi / 2)))
    canvas.tint(1 + solid * (0.07 * groove + 0.26 * fan + 0.04 * noise(rng, canvas.n, 12, octaves=3)))


def _mark_gear(canvas: Canvas, flaw: Flaw, pose: Pose, solid: Field) -> None:
    rng, around = flaw.rng, flaw.rng.uniform(0, 2 * np.pi)
    spot = pose.world([[0.2 * np.cos(around), 0.2 * np.sin(around)]])[0]
    at = (float(spot[0]), float(spot[1]))
    if flaw.kind == "scratch":
        path = curve(rng, at, flaw.between(0.14, 0.32), rng.uniform(0, np.pi), bend=0.3)
        scratch(canvas, flaw, path, flaw.between(0.006, 0.010), flaw.between(0.5, 0.9), solid)
    elif flaw.kind == "rust":
        edge = blob(canvas, rng, at, flaw.between(0.04, 0.09), rough=1.0)
        bloom = smoothstep(-0.02, 0.02, -edge) * smoothstep(-0.8, 0.5, noise(rng, canvas.n, 40, octaves=3)) * solid
        canvas.lay(np.float32(flaw.between(0.5, 0.9)) * bloom, rgb("#7a4522"), gloss=0.0)
    elif flaw.kind == "fibre":
        fibre(canvas, flaw, at, flaw.between(0.12, 0.3), rgb("#d8d4c8"), 0.005)


# Screw


def screw(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A zinc-plated machine screw lying at any angle on a pale grey plate."""
    canvas = tray(size, rng, rgb("#a9aaa8"), mottle=0.03)
    pose = Pose.jitter(rng, shift=0.03, angle=np.pi, scale=0.02)
    u, v = pose.local(canvas)
    v = _bend(u, v, flaw)
    # The thread's flanks alternate along the axis, half a turn apart on the two sides.
    turn = np.float32(2 * np.pi / 0.030) * (u + np.float32(0.13) * v)
    ridge = _thread(u, v, turn, flaw)
    reach = _screw_radius(u, ridge, flaw)
    body = np.abs(v) - reach
    solid = canvas.cover(body * np.float32(0.8))
    canvas.lay(solid, rgb("#7d7f80"), gloss=0.35)
    round_side = np.sqrt(np.maximum(reach * reach - v * v, 0))
    canvas.raise_to(solid, 0.7 * round_side + np.float32(0.006) + np.float32(0.0035) * ridge)
    canvas.tint(1 + solid * (0.10 * ridge + 0.06 * noise(rng, canvas.n, 40, octaves=3)))
    canvas.tint(1 - 0.25 * solid * smoothstep(0.4, 1.0, np.abs(v) / np.maximum(reach, np.float32(0.01))))
    if flaw.kind == "bent":
        canvas.fault = blur(solid, 0.012 * canvas.n)
    if flaw.kind == "head_scratch":
        _scratch_head(canvas, flaw, pose, solid)
    return canvas


def _bend(u: Field, v: Field, flaw: Flaw) -> Field:
    if flaw.kind != "bent":
        return v
    side = flaw.rng.choice([-1.0, 1.0])
    past = np.maximum(u - np.float32(flaw.rng.uniform(-0.02, 0.10)), 0)
    return np.asarray(v + np.float32(side * flaw.between(0.12, 0.4)) * past * (1 + past), np.float32)


def _thread(u: Field, v: Field, turn: Field, flaw: Flaw) -> Field:
    """The thread's relief from -1 to 1, 0 on the head and the plain shank."""
    ridge = np.sin(turn + np.float32(1.2) * v)
    ridge = np.sign(ridge) * np.abs(ridge) ** np.float32(0.7)
    ridge = ridge * smoothstep(-0.12, -0.10, u)
    if flaw.kind == "crushed_thread":
        middle, reach = flaw.rng.uniform(-0.03, 0.26), flaw.between(0.03, 0.06)
        near = smoothstep(-reach, -0.7 * reach, -np.abs(u - np.float32(middle)))
        side = smoothstep(-0.02, 0.005, np.float32(flaw.rng.choice([-1.0, 1.0])) * v)
        ridge = ridge * (1 - near * side) - np.float32(0.5) * near * side
    return np.asarray(ridge, np.float32)


def _screw_radius(u: Field, ridge: Field, flaw: Flaw) -> Field:
    """The half width along the axis, in image sides: a domed head, a neck, the threaded shank, a blunt point."""
    end = 0.40 - (flaw.between(0.022, 0.07) if flaw.kind == "broken_tip" else 0)
    dome = np.float32(0.115) * np.sqrt(np.clip((u + np.float32(0.385)) / np.float32(0.05), 0, 1))
    dome = np.where(u < -0.285, dome, 0)
    shank = np.float32(0.052) + np.float32(0.010) * ridge
    point = np.clip((np.float32(0.405) - u) / np.float32(0.055), 0, 1)
    shank = shank * np.minimum(1, np.float32(0.35) + np.float32(0.65) * point)
    ragged = np.float32(end) + (0.006 * np.sin(ridge * 9) if flaw.kind == "broken_tip" else np.float32(0))
    shank = np.where((u >= -0.285) & (u < ragged), shank, np.float32(-0.02))
    return np.asarray(np.where(u < -0.285, np.where(u < -0.385, -0.02, dome), shank), np.float32)


def _scratch_head(canvas: Canvas, flaw: Flaw, pose: Pose, solid: Field) -> None:
    spot = pose.world([[-0.33, flaw.rng.uniform(-0.04, 0.04)]])[0]
    angle = pose.angle + flaw.rng.uniform(0.6, 2.5)
    path = curve(flaw.rng, (float(spot[0]), float(spot[1])), flaw.between(0.10, 0.2), angle, bend=0.3)
    scratch(canvas, flaw, path, flaw.between(0.008, 0.012), -flaw.between(0.5, 0.8), solid)


# Capsule

_RED, _CREAM = rgb("#a8352b"), rgb("#e2d8bd")


def capsule(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A hard gelatine capsule, red cap over a cream body with a printed code, on a blue-grey belt."""
    canvas = tray(size, rng, rgb("#5b6670"))
    pose = Pose.jitter(rng, shift=0.045, angle=0.35, scale=0.02)
    u, v = pose.local(canvas)
    reach = np.where(u < 0.03, np.float32(0.142), np.float32(0.135))
    reach = reach * (1 - _squeeze(u, v, flaw))
    ends = np.maximum(np.abs(u) - np.float32(0.235), 0)
    distance = np.sqrt(ends * ends + v * v) - reach
    solid = canvas.cover(distance)
    gelatine = np.where(
        (u < 0.03), np.asarray(_RED, np.float32)[:, None, None], np.asarray(_CREAM, np.float32)[:, None, None]
    )
    canvas.lay(solid, gelatine.astype(np.float32), gloss=0.45)
    bulge = np.sqrt(np.maximum(reach * reach - ends * ends - v * v, 0))
    canvas.raise_to(solid, np.float32(0.01) + 0.42 * bulge)
    seam = np.exp(-(((u - np.float32(0.034)) / np.float32(0.004)) ** 2)) * solid
    lock = np.exp(-(((u + np.float32(0.10)) / np.float32(0.006)) ** 2)) * solid
    canvas.height -= np.float32(0.0025) * lock
    canvas.tint((1 - 0.35 * seam) * (1 + 0.03 * solid * noise(rng, canvas.n, 20, octaves=2)))
    _print_code(canvas, flaw, pose)
    _mark_capsule(canvas, flaw, pose, solid)
    return canvas


def _squeeze(u: Field, v: Field, flaw: Flaw) -> Field:
    """How far the side is pressed in, as a fraction of the radius."""
    if flaw.kind != "squeeze":
        return np.zeros_like(u)
    middle, side = flaw.rng.uniform(-0.2, 0.2), flaw.rng.choice([-1.0, 1.0])
    near = np.exp(-(((u - np.float32(middle)) / np.float32(flaw.between(0.05, 0.09))) ** 2))
    return np.asarray(
        np.float32(flaw.between(0.14, 0.34)) * near * smoothstep(-0.05, 0.05, np.float32(side) * v),
        np.float32,
    )


def _print_code(canvas: Canvas, flaw: Flaw, pose: Pose) -> None:
    ink, place = 0.8, Pose(0.15, 0.0)
    lines = ["B 25"]
    if flaw.kind == "faulty_imprint":
        fault = flaw.rng.integers(3)
        lines = [["B 2", "B25 25", "8 S"][fault]]
        place = Pose(0.15, float(flaw.rng.choice([-1, 1]) * flaw.between(0.01, 0.035)), flaw.between(0.05, 0.3))
    spot = pose.world([[place.x, place.y]])[0]
    upright = Pose(float(spot[0]), float(spot[1]), pose.angle + place.angle, pose.scale)
    canvas.lay(np.float32(ink) * canvas.text(lines, upright, 0.075), rgb("#3a3430"))


def _mark_capsule(canvas: Canvas, flaw: Flaw, pose: Pose, solid: Field) -> None:
    rng = flaw.rng
    spot = pose.world([[rng.uniform(-0.25, 0.25), rng.uniform(-0.07, 0.07)]])[0]
    at = (float(spot[0]), float(spot[1]))
    if flaw.kind == "crack":
        crack(canvas, flaw, at, flaw.between(0.12, 0.28), flaw.between(0.005, 0.008), solid)
    elif flaw.kind == "hole":
        edge = blob(canvas, rng, at, flaw.between(0.014, 0.032), rough=0.5)
        hollow(canvas, edge, 0.02, rgb("#2b1d18"), bank=0.006)
    elif flaw.kind == "smear":
        stain(canvas, flaw, at, flaw.between(0.04, 0.08), rgb("#46362c"), solid)
        canvas.gloss = blur(canvas.gloss, 0.5)
