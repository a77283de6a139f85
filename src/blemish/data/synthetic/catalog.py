"""The categories of the synthetic data set and their defect types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blemish.data.synthetic import assemblies, ground, objects, rail, roller, textures
from blemish.data.synthetic.canvas import Canvas
from blemish.data.synthetic.defects import Flaw


@dataclass(frozen=True)
class Recipe:
    """How a category is drawn: `draw(size, rng, flaw)` draws a part; the flaw changes nothing but the defect.

    `light` is the relative variation of the illumination; the images of a `grey` category have one channel. A `long`
    category is seen by a line camera: its images are half as high and four times as wide as the others. `noise` is that
    of the sensor, as a multiple of the usual.
    """

    draw: Callable[[int, np.random.Generator, Flaw], Canvas]
    kind: Literal["texture", "object"]
    defects: tuple[str, ...]
    light: float = 0.15
    grey: bool = False
    long: bool = False
    noise: float = 1.0

    def height(self, size: int) -> int:
        """The images' height in pixels where square images have `size`."""
        return size // 2 if self.long else size


CATEGORIES: dict[str, Recipe] = {
    "brushed_metal": Recipe(textures.brushed_metal, "texture", ("dent", "pits", "rust", "scratch"), grey=True),
    "concrete": Recipe(ground.concrete, "texture", ("branched_crack", "crazing", "hair_crack", "shear_cracks"), 0.2),
    "fabric": Recipe(textures.fabric, "texture", ("cut_thread", "foreign_fibre", "hole", "snag", "stain")),
    "leather": Recipe(textures.leather, "texture", ("cut", "discoloration", "fold", "glue", "puncture"), 0.22),
    "rail": Recipe(rail.rail, "texture", ("corner_cracks", "pit", "scratch", "spatter", "squat"), grey=True, long=True),
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
    "roller": Recipe(
        roller.roller, "object", ("contamination", "cut", "hole", "scuff", "torn_knob"), light=0.2, noise=1.5
    ),
    "screw": Recipe(objects.screw, "object", ("bent", "broken_tip", "crushed_thread", "head_scratch"), 0.25, grey=True),
}
