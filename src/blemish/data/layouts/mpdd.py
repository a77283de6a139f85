"""Layout of MPDD: that of MVTec AD, with six categories of metal parts."""

from __future__ import annotations

from pathlib import Path

from blemish.data.layouts.layout import Found, Layout
from blemish.data.layouts.mvtec_ad import is_category, read_mvtec
from blemish.data.listing import list_folders
from blemish.files import absolute

CATEGORIES = frozenset({"bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"})
EXPECTED = (
    f"MPDD has the categories {', '.join(sorted(CATEGORIES))}, each with train/good, test/good, test/<type> and "
    "ground_truth/<type>/<stem>_mask.png."
)


def read_mpdd(path: Path) -> Found:
    """What `read_mvtec` finds, where all categories have names of MPDD; else empty."""
    folders = [folder for folder in (path, *list_folders(path)) if is_category(folder)]
    return read_mvtec(path) if {absolute(folder).name for folder in folders} <= CATEGORIES else {}


LAYOUT = Layout(read_mpdd, EXPECTED)
