"""Textures that fill the image: woven cloth, brushed metal, leather, terrazzo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.canvas import Canvas, Field, Pose, blur, noise, rgb, smoothstep
from blemish.data.synthetic.defects import (
    Flaw,
    blob,
    crack,
    curve,
    dent,
    fibre,
    hollow,
    scratch,
    specks,
    stain,
)

_ONES = np.ones((1, 1), np.float32)


# Woven cloth

_THREADS = 36
_WARP, _WEFT = rgb("#3d5c8c"), rgb("#c9ced6")


def fabric(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A 2/1 twill of blue warp and pale weft; the pose of the cloth and the tone of each thread vary."""
    canvas = Canvas(size, _WEFT)
    u, v = Pose.jitter(rng, shift=0.2, angle=0.06, scale=0.04).local(canvas)
    pull_u, pull_v = _pull(canvas, flaw)
    u = (u + pull_u) * _THREADS + 0.22 * noise(rng, canvas.n, 5, octaves=2)
    v = (v + pull_v) * _THREADS + 0.22 * noise(rng, canvas.n, 5, octaves=2)
    warp, weft = _weave(u, v, flaw)
    top = smoothstep(-0.12, 0.12, warp - weft)
    canvas.lay(top, _WARP)
    canvas.tint(top * _thread_tones(rng, u) + (1 - top) * _thread_tones(rng, v))
    canvas.tint(_spun(rng, canvas, u, v, top))
    upper = np.maximum(warp, weft)
    canvas.height = np.float32(0.18 / _THREADS) * np.maximum(upper, -0.6)
    canvas.tint(smoothstep(-0.9, 0.9, upper) * 0.6 + 0.45)
    _mark_fabric(canvas, flaw)
    return canvas


def _weave(u: Field, v: Field, flaw: Flaw) -> tuple[Field, Field]:
    """The heights (n, n) of warp and weft in half threads, at the thread coordinates (u, v) of each point."""
    third = np.float32(2 * np.pi / 3)
    i, j = np.floor(u), np.floor(v)
    warp = _yarn(u - i - 0.5) - 0.55 * np.cos((v - 0.5 + i) * third) + 0.16
    weft = _yarn(v - j - 0.5) + 0.55 * np.cos((u - 0.5 + j) * third)
    if flaw.kind == "cut_thread":
        warp -= 3 * _missing_thread(flaw, i, v)
    return warp, weft


def _yarn(across: Field) -> Field:
    return np.sqrt(np.maximum(1 - 4 * across * across, 0)) - 1


def _thread_tones(rng: np.random.Generator, across: Field) -> Field:
    """Each thread's own brightness."""
    tones = np.asarray(1 + 0.09 * rng.standard_normal(128), np.float32)
    return tones[np.floor(across).astype(np.int32) % 128]


def _spun(rng: np.random.Generator, canvas: Canvas, u: Field, v: Field, top: Field) -> Field:
    """The twist and the fuzz of the yarn, as a factor (n, n) of the colour."""
    twist = top * np.sin(9 * v + 7 * (u - np.floor(u))) + (1 - top) * np.sin(9 * u - 7 * (v - np.floor(v)))
    fuzz = blur(rng.standard_normal((canvas.n, canvas.n), dtype=np.float32), 1.0)
    return 1 + 0.07 * twist + 0.22 * fuzz


def _missing_thread(flaw: Flaw, i: Field, v: Field) -> Field:
    rng = flaw.rng
    thread, middle = rng.integers(-12, 12), rng.uniform(-10, 10)
    reach = flaw.between(3.5, 9)
    return np.asarray((i == thread) * smoothstep(0.0, 0.8, reach - np.abs(v - np.float32(middle))))


def _pull(canvas: Canvas, flaw: Flaw) -> tuple[Field, Field]:
    """The displacement (x, y) of the threads by a snag."""
    if flaw.kind != "snag":
        return 0 * _ONES, 0 * _ONES
    (x, y), angle = flaw.place(0.3), flaw.rng.uniform(0, 2 * np.pi)
    along, across = Pose(x, y, angle).local(canvas)
    reach = flaw.between(0.05, 0.085)
    bump = np.exp(-((along / reach) ** 2) - (across / (0.45 * reach)) ** 2) * np.float32(flaw.between(0.022, 0.034))
    return bump * np.float32(np.cos(angle)), bump * np.float32(np.sin(angle))


def _mark_fabric(canvas: Canvas, flaw: Flaw) -> None:
    rng, at = flaw.rng, flaw.place(0.34)
    if flaw.kind == "hole":
        edge = blob(canvas, rng, at, flaw.between(0.022, 0.05), rough=0.8)
        fray = np.float32(0.006) * noise(rng, canvas.n, 120)
        hollow(canvas, edge + fray, 0.02, rgb("#1c1a1a"), bank=0.006)
    elif flaw.kind == "stain":
        stain(canvas, flaw, at, flaw.between(0.05, 0.09), rgb("#4a3a22"), _ONES)
    elif flaw.kind == "foreign_fibre":
        fibre(canvas, flaw, at, flaw.between(0.14, 0.3), rgb("#7c2f2a"), 0.006)


# Brushed metal


def brushed_metal(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """A ground steel sheet with horizontal grain and a bright band where it reflects the lamp."""
    canvas = Canvas(size, rgb("#9a9b9d"), gloss=0.0)
    grain = sum(
        (weight * _streaks(rng, canvas.n, columns) for columns, weight in ((3, 0.5), (9, 0.7), (40, 0.6))),
        start=np.float32(0) * _ONES,
    )
    turn = cv2.getRotationMatrix2D((canvas.n / 2, canvas.n / 2), rng.uniform(-4, 4), 1.08)
    grain = np.asarray(cv2.warpAffine(grain, turn, (canvas.n, canvas.n), borderMode=cv2.BORDER_REFLECT), np.float32)
    canvas.height = np.float32(0.0004) * grain
    canvas.tint(1 + 0.10 * grain + 0.03 * noise(rng, canvas.n, 3, octaves=2))
    _mark_metal(canvas, flaw)
    band = canvas.x - np.float32(rng.uniform(-0.35, 0.35))
    canvas.tint(0.8 + 0.5 * np.exp(-((band / np.float32(rng.uniform(0.22, 0.32))) ** 2)))
    return canvas


def _streaks(rng: np.random.Generator, n: int, columns: int) -> Field:
    lines = rng.standard_normal((n, columns), dtype=np.float32)
    return np.asarray(cv2.resize(lines, (n, n), interpolation=cv2.INTER_LINEAR), np.float32)


def _mark_metal(canvas: Canvas, flaw: Flaw) -> None:
    rng, at = flaw.rng, flaw.place(0.33)
    if flaw.kind == "scratch":
        angle = rng.choice([-1, 1]) * rng.uniform(0.35, 1.4)
        path = curve(rng, at, flaw.between(0.18, 0.5), angle, bend=0.25)
        scratch(canvas, flaw, path, flaw.between(0.005, 0.009), flaw.between(0.4, 0.9), _ONES)
    elif flaw.kind == "dent":
        radius = flaw.between(0.03, 0.06)
        dent(canvas, at, radius, flaw.between(0.4, 0.7) * radius, _ONES)
    elif flaw.kind == "rust":
        _rust(canvas, flaw, at, flaw.between(0.035, 0.08))
    elif flaw.kind == "pits":
        for spot in np.asarray(at) + rng.normal(0, 0.035, (int(flaw.between(3, 8)), 2)):
            edge = blob(canvas, rng, (spot[0], spot[1]), float(rng.uniform(0.007, 0.013)), rough=0.5)
            hollow(canvas, edge, 0.006, rgb("#4c4c4e"), bank=0.004)


def _rust(canvas: Canvas, flaw: Flaw, at: tuple[float, float], radius: float) -> None:
    edge = blob(canvas, flaw.rng, at, radius, rough=1.0)
    flowers = smoothstep(-0.6, 0.5, noise(flaw.rng, canvas.n, 45, octaves=3))
    inside = smoothstep(0, 1, 0.3 - edge / np.float32(0.5 * radius))
    canvas.lay(np.float32(flaw.between(0.45, 0.9)) * inside * (0.35 + 0.65 * flowers), rgb("#6d4a32"), gloss=0.0)
    canvas.height += np.float32(0.002) * inside * flowers


# Leather


def leather(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """Brown grained hide: pebbles of uneven size between fine creases."""
    canvas = Canvas(size, rgb("#7d5136"), gloss=0.10)
    edge_distance, label = cells(rng, canvas.n, 44)
    swell = noise(rng, canvas.n, 4, octaves=2)
    pebble = 1 - np.exp(-((edge_distance * np.float32(1 / 0.006)) ** 1.5))
    fine = noise(rng, canvas.n, 90, octaves=2)
    canvas.height = np.float32(0.0022) * pebble * (1 + 0.2 * swell) + np.float32(0.0004) * fine
    tone = np.asarray(1 + 0.06 * rng.standard_normal(4096), np.float32)[label % 4096]
    canvas.tint((0.62 + 0.38 * pebble) * tone * (1 + 0.06 * swell))
    _mark_leather(canvas, flaw)
    return canvas


def _mark_leather(canvas: Canvas, flaw: Flaw) -> None:
    rng, at = flaw.rng, flaw.place(0.33)
    if flaw.kind == "cut":
        path = curve(rng, at, flaw.between(0.10, 0.26), rng.uniform(0, np.pi), bend=0.3)
        slit = canvas.strokes([path], flaw.between(0.006, 0.012), fade=True)
        canvas.height += np.float32(0.004) * blur(slit, 0.006 * canvas.n)
        canvas.height -= np.float32(0.012) * slit
        canvas.lay(0.85 * slit, rgb("#2a1a12"), gloss=0.0)
    elif flaw.kind == "fold":
        path = curve(rng, at, flaw.between(0.25, 0.5), rng.uniform(0, np.pi), bend=0.6)
        ridge = blur(canvas.strokes([path], 0.012, fade=True), 0.007 * canvas.n)
        canvas.height += np.float32(flaw.between(0.010, 0.022)) * ridge
    elif flaw.kind == "glue":
        edge = blob(canvas, rng, at, flaw.between(0.03, 0.065), rough=0.8)
        film = smoothstep(0, 1, -edge / np.float32(0.012))
        canvas.height += film * (np.float32(0.003) - 0.75 * (canvas.height - blur(canvas.height, 0.012 * canvas.n)))
        canvas.lay(np.float32(flaw.between(0.14, 0.4)) * film, rgb("#cfc4a8"), gloss=flaw.between(0.2, 0.45))
    elif flaw.kind == "puncture":
        for spot in np.asarray(at) + rng.normal(0, 0.05, (int(flaw.between(1, 4)), 2)):
            edge = blob(canvas, rng, (spot[0], spot[1]), flaw.between(0.014, 0.019), rough=0.3)
            hollow(canvas, edge, 0.015, rgb("#1d120c"), bank=0.006)
    elif flaw.kind == "discoloration":
        stain(canvas, flaw, at, flaw.between(0.06, 0.11), rgb("#3a2a20"), _ONES)


# Terrazzo

_CHIPS = tuple(rgb(code) for code in ("#a1988a", "#8f9196", "#c9bba4", "#b5836c", "#e6e0d4", "#93a19c"))
_CEMENT = rgb("#cfcac0")


def terrazzo(size: int, rng: np.random.Generator, flaw: Flaw) -> Canvas:
    """Polished stone chips in pale cement, large ones and gravel between them."""
    canvas = Canvas(size, _CEMENT, gloss=0.06)
    canvas.tint(1 + 0.03 * noise(rng, canvas.n, 60, octaves=3))
    for across, keep, gap in ((26, 0.45, 0.0045), (9, 0.6, 0.011)):
        distance, label = cells(rng, canvas.n, across)
        ragged = distance - np.float32(gap) * (1 + 0.3 * noise(rng, canvas.n, 40))
        present = (rng.random(4096) < keep).astype(np.float32)[label % 4096]
        veins = 1 + 0.10 * noise(rng, canvas.n, 30, octaves=3)
        paint = np.asarray(_CHIPS, np.float32)[rng.integers(0, len(_CHIPS), 4096)][label % 4096]
        canvas.lay(np.float32(0.88) * canvas.cover(-ragged) * present, np.moveaxis(paint, -1, 0) * veins)
    _mark_terrazzo(canvas, flaw)
    return canvas


def _mark_terrazzo(canvas: Canvas, flaw: Flaw) -> None:
    rng, at = flaw.rng, flaw.place(0.33)
    if flaw.kind == "crack":
        crack(canvas, flaw, at, flaw.between(0.25, 0.6), flaw.between(0.004, 0.007), _ONES)
    elif flaw.kind == "chipped":
        edge = blob(canvas, rng, at, flaw.between(0.03, 0.06), rough=1.0)
        floor = np.float32(0.003) * noise(rng, canvas.n, 60, octaves=2)
        hollow(canvas, edge + floor, flaw.between(0.008, 0.016), rgb("#67615a"), bank=0.010)
    elif flaw.kind == "oil":
        edge = blob(canvas, rng, at, flaw.between(0.05, 0.10), rough=0.6)
        film = smoothstep(0, 1, -edge / np.float32(0.02))
        canvas.lay(np.float32(flaw.between(0.4, 0.75)) * film, rgb("#4f3f1f"))
        canvas.gloss += np.float32(0.15) * film
        canvas.height += np.float32(0.002) * film
    elif flaw.kind == "scuff":
        _scuff(canvas, flaw, at)
    elif flaw.kind == "grit":
        specks(canvas, flaw, at, 0.04, int(flaw.between(7, 16)), rgb("#241f1c"))


def _scuff(canvas: Canvas, flaw: Flaw, at: tuple[float, float]) -> None:
    """Draws a bundle of parallel rubber marks."""
    angle = flaw.rng.uniform(0, np.pi)
    side = np.array([-np.sin(angle), np.cos(angle)])
    for offset in flaw.rng.normal(0, 0.014, 7):
        centre = np.asarray(at) + offset * side
        path = curve(flaw.rng, (centre[0], centre[1]), float(flaw.rng.uniform(0.12, 0.25)), angle, bend=0.15)
        line = blur(canvas.strokes([path], 0.006, fade=True), 0.002 * canvas.n)
        canvas.lay(np.float32(flaw.between(0.35, 0.7)) * line, rgb("#2b2a2c"))


def cells(rng: np.random.Generator, n: int, across: int) -> tuple[Field, NDArray[np.int32]]:
    """A Voronoi pattern of `across` cells per side: the distance (n, n) to the nearest wall, and the cell numbers."""
    corner = np.stack(np.meshgrid(np.arange(across), np.arange(across)), axis=-1).reshape(-1, 2)
    points = ((corner + rng.uniform(0.05, 0.95, corner.shape)) / across * n).astype(np.int32)
    seeds = np.ones((n, n), np.uint8)
    seeds[points[:, 1], points[:, 0]] = 0
    _, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    inside = np.ones((n, n), np.uint8)
    inside[:, 1:] &= label[:, 1:] == label[:, :-1]
    inside[1:, :] &= label[1:, :] == label[:-1, :]
    distance = np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, 5), np.float32)
    return distance / np.float32(n), np.asarray(label, np.int32)
