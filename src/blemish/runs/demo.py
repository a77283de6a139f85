"""The demonstration: part of the built-in data set, the methods on it, one table, one report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from blemish.data.synthetic import synthesize
from blemish.evaluation.results import comparison_tables
from blemish.progress import shown_progress
from blemish.reporting.render import report
from blemish.runs.config import RunConfig
from blemish.runs.run import run, write_run
from blemish.types import Evaluation

MODELS = ("ae", "vae", "padim", "patchcore", "ensemble", "selfsup")
CATEGORIES = ("fabric", "gear", "screw")
"""A texture, a part that lies in any rotation, and one that is hard for most methods."""
SIZE, EPOCHS = 256, 6
"""The pictures' side in pixels, and fewer epochs than by default: four minutes on two cores are the limit."""
OPTIONS = {"selfsup": {"num_drawn": 256}}
"""Fewer drawn pictures than by default, for the same reason."""


def demo(out: Path, console: Console, bars: Console) -> list[Evaluation]:
    """Makes the data in `out/data`, runs each method in `out/<method>`, prints and writes the comparison and report.

    What an earlier call has done is reused.
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
        epochs=EPOCHS,
        data_path=data,
        ckpt_path=folder,
        category=(category,),
        resume=True,
        options=OPTIONS.get(model, {}),
    )
    with shown_progress(f"{model} on {category}:", bars) as phases:
        return run(config, phases)
