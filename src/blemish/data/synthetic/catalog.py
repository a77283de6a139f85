"""The categories of the synthetic data set and their defect types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blemish.data.synthetic import assemblies, objects, textures
from blemish.data.synthetic.canvas import Canvas
from blemish.data.synthetic.defects import Flaw


@dataclass(frozen=True)
class Recipe:
    """How a category is drawn: `draw(size, rng, flaw)` draws a part; the flaw changes nothing but the defect.

    `light` is the relative variation of the illumination; the images of a `grey` category have one channel.
    """

    draw: Callable[[int, np.random.Generator, Flaw], Canvas]
    kind: Literal["texture", "object"]
    defects: tuple[str, ...]
    light: float = 0.15
    grey: bool = False


CATEGORIES: dict[str, Recipe] = {
    "brushed_metal": Recipe(textures.brushed_metal, "texture", ("dent", "pits", "rust", "scratch"), grey=True),
    "fabric": Recipe(textures.fabric, "texture", ("cut_thread", "foreign_fibre", "hole", "snag", "stain")),
    "leather": Recipe(textures.leather, "texture", ("cut", "discoloration", "fold", "glue", "puncture"), 0.22),
    "terrazzo": Recipe(textures.terrazzo, "texture", ("chipped", "crack", "grit", "oil", "scuff"), 0.25),
    "cable": Recipe(
        assemblies.cable,
        "object",
        ("cut_insulation", "missing_strands", "missing_wire", "stray_strand", "wrong_wire"),
        light=0.22,
    ),
    "capsule": Recipe(objects.capsule, "object", ("crack", "faulty_imprint", "hole", "smear", "squeeze"), 0.2),
    "chip": Recipe(
        assemblies.chip,
        "object",
        ("bent_pin", "contamination", "displaced_part", "missing_part", "rotated_chip", "solder_bridge"),
        light=0.2,
    ),
    "gear": Recipe(objects.gear, "object", ("blocked_hole", "broken_tooth", "fibre", "rust", "scratch")),
    "screw": Recipe(objects.screw, "object", ("bent", "broken_tip", "crushed_thread", "head_scratch"), 0.25, grey=True),
}
