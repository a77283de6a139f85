"""The demonstration: runs several methods on part of the built-in data set, and writes a table and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from blemish.data.synthetic import synthesize
from blemish.evaluation.results import comparison_tables
from blemish.progress import shown_progress
from blemish.reporting.render import report
from blemish.runs.config import RunConfig
from blemish.runs.run import run, write_run
from blemish.types import Evaluation

MODELS = ("ae", "vae", "padim", "patchcore", "ensemble", "selfsup")
CATEGORIES = ("fabric", "gear")
"""A texture, and a part in any rotation."""
SIZE = 128
"""The images' side in pixels. It is small, so that the demonstration takes at most four minutes on two cores."""
_EARLY_STOPPING = {"size": 64, "batch_size": 8, "epochs": 400, "patience": 20}
"""Many small batches of images of half the side, until the validation loss has not fallen for 20 epochs."""
SETTINGS: dict[str, dict[str, Any]] = {
    "ae": _EARLY_STOPPING,
    "vae": _EARLY_STOPPING,
    "selfsup": {"epochs": 6, "options": {"num_drawn": 256}},
}
"""Method -> settings that differ from the defaults; `selfsup` has fewer epochs and images, to save time."""


def demo(out: Path, console: Console, bars: Console) -> list[Evaluation]:
    """Draws the data in `out/data`, runs each method in `out/<method>`, prints the comparison and writes the report.

    Runs that an earlier call finished are reused.
    """
    data = out / "data"
    with shown_progress("demo:", bars) as phases:
        synthesize(data, categories=list(CATEGORIES), size=SIZE, progress=phases("drawing the built-in data set"))
    evaluations = [_run(model, category, data, out / model, bars) for model in MODELS for category in CATEGORIES]
    write_run(evaluations, out)
    console.print(*comparison_tables(evaluations), sep="\n\n")
    report([out / model for model in MODELS], out / "report.html")
    console.print(f"\nresults.json, results.csv and figures are in {out}")
    console.print(f"the report is {out / 'report.html'}", soft_wrap=True)
    return evaluations


def _run(model: str, category: str, data: Path, folder: Path, bars: Console) -> Evaluation:
    config = RunConfig.create(
        model=model,
        data_path=data,
        ckpt_path=folder,
        category=(category,),
        resume=True,
        **SETTINGS.get(model, {}),
    )
    with shown_progress(f"{model} on {category}:", bars) as phases:
        return run(config, phases)
