"""The figures of a period as a PDF of one page or more. Needs matplotlib, of the extra `train`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from blemish.station.schemas import PeriodOut, PeriodRow
from blemish.station.texts.reader import Texts

PAPER = (8.27, 11.69)
"""A4, in inches."""
COLOURS = {"good": "#7d9ab5", "review": "#b98500", "defect": "#c4500a"}
FEWEST_BARS = 12
"""The chart has room for so many bars at least, so that few are not wide."""
FIRST, OTHERS = 24, 48
"""Rows of the table on the first page, and on each further one."""


def as_pdf(found: PeriodOut, product: str, texts: Texts) -> bytes:
    """The content of a PDF file: totals, a chart of the verdicts, drift, and the table."""
    file = io.BytesIO()
    with PdfPages(file, metadata={"Title": product, "CreationDate": None}) as pages:
        pages.savefig(_first(found, product, texts))
        rest = found.rows[FIRST:]
        for start in range(0, len(rest), OTHERS):
            figure = Figure(PAPER)
            _table(figure, (0.08, 0.06, 0.84, 0.88), rest[start : start + OTHERS], texts)
            pages.savefig(figure)
    return file.getvalue()


def _first(found: PeriodOut, product: str, texts: Texts) -> Figure:
    figure, total = Figure(PAPER), found.total
    figure.text(0.08, 0.94, product, size=18, weight="bold")
    begin, end = (f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M}" for at in (found.begin, found.end))
    figure.text(0.08, 0.92, f"{texts.say('period')}: {begin} - {end}", size=9)
    words = [
        f"{texts.say('inspected')}: {total.inspected}",
        f"{texts.say('yield')}: {_share(total.good, total.inspected)}",
        f"{texts.say('rejects')}: {total.defect}",
        f"{texts.say('reviews')}: {total.review}",
        f"{texts.say('false_rejects')}: {total.false_rejects} {texts.say('of')} {total.reviewed_rejects}",
        f"{texts.say('missed')}: {total.missed} {texts.say('of')} {total.reviewed_good}",
    ]
    for index, one in enumerate(words):
        figure.text(0.08 + 0.3 * (index % 3), 0.89 - 0.022 * (index // 3), one, size=10)
    drift = found.drift
    if drift.p_value is not None:
        values = {"p": f"{drift.p_value:.2g}", "number": drift.num_images, "held": drift.num_held_out}
        key = "drift_found" if drift.is_drift else "drift_none"
        figure.text(0.08, 0.835, texts.say(key, **values, level=f"{drift.level:.0%}"), size=9, wrap=True)
    _chart(figure, found.rows, texts)
    _table(figure, (0.08, 0.06, 0.84, 0.46), found.rows[:FIRST], texts)
    return figure


def _chart(figure: Figure, rows: Sequence[PeriodRow], texts: Texts) -> None:
    axes = figure.add_axes((0.1, 0.56, 0.82, 0.22))
    below = [0] * len(rows)
    for name, colour in COLOURS.items():
        heights = [getattr(row, name) for row in rows]
        axes.bar(range(len(rows)), heights, bottom=below, color=colour, label=texts.say(f"verdict_{name}"))
        below = [sum(pair) for pair in zip(below, heights, strict=True)]
    step = max(1, len(rows) // 8)
    axes.set_xticks(range(0, len(rows), step), [row.label for row in rows[::step]], size=7, rotation=20)
    axes.set_xlim(-0.6, max(len(rows), FEWEST_BARS) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _table(figure: Figure, place: tuple[float, float, float, float], rows: Sequence[PeriodRow], texts: Texts) -> None:
    axes = figure.add_axes(place)
    axes.set_axis_off()
    names = ("when", "inspected", "yield", "rejects", "reviews", "false_rejects", "latency")
    cells = [
        [
            row.label,
            row.inspected,
            _share(row.good, row.inspected),
            row.defect,
            row.review,
            f"{row.false_rejects} / {row.reviewed_rejects}",
            "-" if row.p95 is None else f"{1000 * row.p95:.0f} ms",
        ]
        for row in rows
    ]
    if cells:
        table = axes.table(cells, colLabels=[texts.say(name) for name in names], loc="upper center", edges="horizontal")
        table.auto_set_font_size(False)
        table.set_fontsize(7)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
