"""Writing a comparison to a folder: tables, figures, and one HTML page with all of them."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blemish.evaluation.columns import columns, value_in
from blemish.evaluation.results import format_value
from blemish.files import csv_cells, read_bytes, write_text
from blemish.metrics import METRICS
from blemish.reporting.benchmark import Compared, seconds_per_category, value_with_spread
from blemish.reporting.benchmark_figures import comparison_figures
from blemish.reporting.export import save_figure
from blemish.reporting.read_runs import Approach
from blemish.reporting.sweep_figures import write_sweep_figures
from blemish.reporting.tables import tables_of

PAGE, TABLE = "benchmark.html", "cells.csv"
JsonDict = dict[str, Any]


def write_comparison(
    compared: Compared, approaches: Sequence[Approach], folder: Path, sweep: JsonDict | None = None
) -> Path:
    """Writes the tables (CSV, JSON, LaTeX), the figures (SVG, PNG) and the page to a folder; returns the page.

    `sweep` is the search that the approaches come from, whose choices and figures the page then begins with.
    """
    summary = compared.summary
    for name, content in tables_of(summary).items():
        write_text(folder / "tables" / name, content)
    write_text(folder / "tables" / TABLE, to_cells(approaches))
    drawn = write_sweep_figures(sweep, folder / "figures") if sweep else {}
    pictures = {name: _address(path) for name, path in drawn.items()}
    for name, figure in comparison_figures(summary):
        save_figure(figure, folder / "figures" / f"{name}.png")
        pictures[name] = _address(save_figure(figure, folder / "figures" / f"{name}.svg"))
    write_text(folder / PAGE, render_comparison(summary, pictures, sweep))
    return folder / PAGE


def to_cells(approaches: Sequence[Approach]) -> str:
    """CSV with a row per approach, category and seed, and a column per metric; a value that is missing is empty."""
    rows = [(a.label, run.seed, part.evaluation) for a in approaches for run in a.runs for part in run.parts]
    names = [one.name for one in columns([evaluation for _, _, evaluation in rows])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "category", "seed", *names, "fit_seconds", "predict_seconds"])
    for label, seed, evaluation in rows:
        times = [evaluation.durations.get(name) for name in ("fit", "predict")]
        values = [value_in(evaluation, name) for name in names]
        writer.writerow(csv_cells([label, evaluation.category, seed, *values, *times]))
    return text.getvalue()


def render_comparison(summary: JsonDict, pictures: dict[str, str], sweep: JsonDict | None = None) -> str:
    """The HTML of a comparison; `pictures` are the addresses of its figures by name. All names are escaped."""
    loader = PackageLoader("blemish.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": format_value, "value": value_with_spread, "seconds": seconds_per_category}
    environment.globals["source"] = lambda name: Markup(loader.get_source(environment, name)[0])
    searched = chosen_configurations(sweep) if sweep else None
    return environment.get_template("benchmark.html").render(summary=summary, pictures=pictures, sweep=searched)


def chosen_configurations(sweep: JsonDict) -> JsonDict:
    """A sweep as its page shows it: a row per option, a column for the defaults and for each trial that was chosen."""
    trials: dict[int, JsonDict] = {}
    for category, own in sorted(sweep["chosen"].items(), key=lambda row: row[1]["trial"]):
        trials.setdefault(own["trial"], {"values": own["values"], "categories": []})["categories"].append(category)
    rows = [
        {"name": name, "values": [short(default), *(short(own["values"].get(name, "-")) for own in trials.values())]}
        for name, default in sweep["defaults"].items()
    ]
    columns = [{"trial": number, "categories": own["categories"]} for number, own in trials.items()]
    done = sum(trial["value"] is not None for trial in sweep["trials"])
    return {**sweep, "columns": columns, "rows": rows, "num_complete": done, "title": METRICS[sweep["metric"]].title}


def short(value: object) -> str:
    """A value of an option in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _address(svg: Path) -> str:
    """The content of an SVG file as an address."""
    return f"data:image/svg+xml;base64,{b64encode(read_bytes(svg)).decode()}"
