"""Looks for good images unlike the others in a data set, before anything is fitted: `blemish data check --outliers`."""

from __future__ import annotations

from pathlib import Path

from blemish.data.category import AUTO, find_categories, only_good
from blemish.imaging.limits import MAX_PIXELS
from blemish.progress import Phases, no_phases
from blemish.runs.config import FIT_MODEL, RunConfig
from blemish.runs.outliers import Outliers
from blemish.runs.steps import examined, load, plan


def outliers_of(
    path: Path, max_pixels: int = MAX_PIXELS, phases: Phases = no_phases, layout: str = AUTO
) -> dict[str, Outliers]:
    """Category -> its good images, scored by default detectors that were fitted to the others.

    Raises BlemishError where there is no data set, and for data that would make the result wrong.
    """
    found = {}
    for category in find_categories(path, layout=layout):
        fields = {"model": FIT_MODEL, "data_path": category.root, "ckpt_path": Path(), "max_pixels": max_pixels}
        planned = plan(RunConfig.create(**fields, outliers="show"), only_good(category), phases)
        outliers = examined(load(planned, phases), phases).outliers
        assert outliers is not None  # they were asked for
        found[category.name] = outliers
    return found
