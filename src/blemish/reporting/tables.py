"""The overview of a report as CSV, JSON and LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from blemish.evaluation.results import latex_escaped
from blemish.files import csv_cells


def tables_of(summary: dict[str, Any]) -> dict[str, str]:
    """File name -> content: all metrics as CSV and as JSON, and one LaTeX file per metric."""
    latex = {f"{plain(name)}.tex": to_latex(summary, name) for name in summary["overview"]}
    return {"results.csv": to_csv(summary), "results.json": to_json(summary), **latex}


def to_csv(summary: dict[str, Any]) -> str:
    """CSV with a row per metric, category and method: value, interval, whether it is significantly the best, and the
    standard deviation over the seeds of a benchmark with several.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "category", "method", "value", "low", "high", "significantly_best", "spread"])
    for row in _rows(summary):
        low, high = row["interval"] or ("", "")
        value = "" if row["value"] is None else row["value"]
        names = row["metric"], row["category"], row["method"]
        writer.writerow(csv_cells([*names, value, low, high, int(row["best"]), row.get("spread")]))
    return text.getvalue()


def to_json(summary: dict[str, Any]) -> str:
    """JSON with the rows of `to_csv`, the computing times of the methods, and a comparison's ranks and tests."""
    others = {name: summary[name] for name in ("ranks", "pairs", "failed") if name in summary}
    return json.dumps({"overview": _rows(summary), "cost": summary["cost"], **others}, indent=1)


def to_latex(summary: dict[str, Any], metric: str) -> str:
    """A LaTeX table of one metric in per cent: a row per category, a column per method; bold: significantly best."""
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
        *_latex_ranks(summary, metric),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_ranks(summary: dict[str, Any], metric: str) -> list[str]:
    """The row of mean ranks, for a comparison that has them."""
    found = summary.get("ranks", {}).get(metric)
    return [" & ".join(["mean rank", *(f"{rank:.2f}" for rank in found["ranks"])]) + r" \\"] if found else []


def _latex_cell(cell: dict[str, Any]) -> str:
    if cell["value"] is None:
        return "--"
    figure = f"{100 * cell['value']:.1f}"
    spread = "" if cell.get("spread") is None else rf" $\pm$ {100 * cell['spread']:.1f}"
    return (rf"\textbf{{{figure}}}" if cell["best"] else figure) + spread


def plain(name: str) -> str:
    """The name with characters that file systems or shells treat specially replaced by _."""
    return re.sub(r"[^\w.+-]+", "_", name)


def _rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"metric": metric, "category": row["category"], "method": method} | cell
        for metric, rows in summary["overview"].items()
        for row in rows
        for method, cell in zip(summary["methods"], row["cells"], strict=True)
    ]
