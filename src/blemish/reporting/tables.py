"""The overview as files for other programs: CSV, JSON, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from blemish.evaluation.results import latex_escaped
from blemish.files import csv_cells


def tables_of(summary: dict[str, Any]) -> dict[str, str]:
    """Name of a file -> its content: all of them as CSV and as JSON, each metric as LaTeX."""
    latex = {f"{name}.tex": to_latex(summary, name) for name in summary["overview"]}
    return {"results.csv": to_csv(summary), "results.json": to_json(summary), **latex}


def to_csv(summary: dict[str, Any]) -> str:
    """A row per metric, category and method: the figure, its interval, and whether it is significantly the best."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "category", "method", "value", "low", "high", "significantly_best"])
    for row in _rows(summary):
        low, high = row["interval"] or ("", "")
        value = "" if row["value"] is None else row["value"]
        names = row["metric"], row["category"], row["method"]
        writer.writerow(csv_cells([*names, value, low, high, int(row["best"])]))
    return text.getvalue()


def to_json(summary: dict[str, Any]) -> str:
    """The same as JSON, with what the methods cost."""
    return json.dumps({"overview": _rows(summary), "cost": summary["cost"]}, indent=1)


def to_latex(summary: dict[str, Any], metric: str) -> str:
    """One metric: a row per category, a column per method, in per cent; bold where significantly the best."""
    rows = summary["overview"][metric]
    title = next(m["title"] for m in summary["metrics"] if m["name"] == metric)
    body = [" & ".join([latex_escaped(row["category"]), *map(_latex_cell, row["cells"])]) + r" \\" for row in rows]
    heads = " & ".join(["category", *map(latex_escaped, summary["methods"])])
    lines = [
        f"% {title} in per cent; bold: significantly better than every other method (paired bootstrap, p < 0.05)",
        rf"\begin{{tabular}}{{l{'r' * len(summary['methods'])}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
        *body[:-1],
        r"\midrule",
        body[-1],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: dict[str, Any]) -> str:
    if cell["value"] is None:
        return "--"
    figure = f"{100 * cell['value']:.1f}"
    return rf"\textbf{{{figure}}}" if cell["best"] else figure


def _rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"metric": metric, "category": row["category"], "method": method} | cell
        for metric, rows in summary["overview"].items()
        for row in rows
        for method, cell in zip(summary["methods"], row["cells"], strict=True)
    ]
