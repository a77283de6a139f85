"""Makes docs/images/predictions.png: what the default method says of one defect in each of six categories.

    python docs/headline.py [FOLDER]

The built-in data is made and the detectors are fitted in FOLDER (runs/headline), where they are not there yet.
"""

from __future__ import annotations

import sys
from pathlib import Path

from blemish.data import find_categories
from blemish.data.synthetic import synthesize
from blemish.inference.inspector import Inspector
from blemish.reporting import plots as figures
from blemish.runs.config import RunConfig
from blemish.runs.run import run
from blemish.types import Prediction

SHOWN = {
    "gear": "broken_tooth",
    "chip": "solder_bridge",
    "cable": "missing_strands",
    "fabric": "snag",
    "screw": "crushed_thread",
    "leather": "cut",
}


def main(folder: Path) -> None:
    synthesize(folder / "data", categories=list(SHOWN))
    shown = [predicted(folder, category, defect) for category, defect in SHOWN.items()]
    figures.predictions(shown, None, Path(__file__).parent / "images" / "predictions.png")


def predicted(folder: Path, name: str, defect: str) -> Prediction:
    """The first picture of a defect, as the ensemble sees it."""
    fields = {"model": "ensemble", "data_path": folder / "data", "ckpt_path": folder, "resume": True}
    run(RunConfig.create(**fields, category=(name,)))
    (category,) = find_categories(folder / "data", [name])
    sample = next(sample for sample in category.of("test") if sample.defect == defect)
    return next(Inspector.load(folder / name).predict([sample]))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/headline"))
