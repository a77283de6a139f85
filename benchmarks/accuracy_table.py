"""The tables of `accuracy.py`: cells by set, variant and seed, their averages, and the choice with one set left out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from textwrap import fill
from typing import Any

from blemish.errors import BlemishError
from blemish.files import read_bytes, write_text

FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "pixel_ap": "pixel AP",
    "seg_f1": "SegF1",
    "aupimo": "AUPIMO",
    "fit_s": "fit, s",
    "image_ms": "an image, ms",
}
"""Figure of a cell -> its title; SegF1 is at the calibrated pixel threshold."""
CHOOSING = ("image_auroc", "pixel_auroc", "aupro", "pixel_ap")
"""The figures by which variants are compared where one set is left out."""
IDLE = 0.5
"""Load of the machine, beyond the threads of the cell before, from which times are not those of an idle machine."""
SHORT = ("image_auroc", "pixel_auroc", "aupro")
BUILT_IN = "built-in"
MARKERS = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"


@dataclass(frozen=True)
class Cell:
    """One measurement: a variant of the method on a set with a seed."""

    set: str
    variant: str
    seed: int
    folder: Path = Path()
    options: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    """What its file holds; empty before it is measured."""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.set, self.variant, self.seed

    @property
    def label(self) -> str:
        return f"{self.set}, {self.variant}, seed {self.seed}"

    def path(self, out: Path) -> Path:
        return out / self.set / self.variant / f"{self.seed}.json"


def read_cell(out: Path, cell: Cell) -> Cell | None:
    """The cell with the content of its file; None where there is none yet.

    Raises BlemishError for a file that is something else, or that was measured with other options.
    """
    path = cell.path(out)
    if not path.exists():
        return None
    try:
        record = json.loads(read_bytes(path))
        options, complete = (
            record["options"],
            {"figures", "code", "machine", "versions", "date", "threads", "load"} <= set(record),
        )
    except (ValueError, TypeError, KeyError):
        options, complete = None, False
    if not complete:
        raise BlemishError(f"{path}: not the figures of a cell. Delete the file to measure it again.")
    if options != dict(cell.options):
        raise BlemishError(
            f"{path}: measured with {json.dumps(options)}, not {json.dumps(dict(cell.options))}. "
            "Give the variant another name, or another OUT."
        )
    return replace(cell, record=record)


Spread = tuple[float, float | None]
"""Mean and standard deviation over the seeds; the latter is None for one seed."""


class Figures:
    """Means over the seeds by set, variant and figure. The built-in categories are also one set, their mean."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        found: dict[tuple[str, str, str], dict[int, float]] = {}
        for cell in cells:
            for name, value in cell.record["figures"].items():
                if value is not None:
                    found.setdefault((cell.set, cell.variant, name), {})[cell.seed] = value
        self.variants = list(dict.fromkeys(variant for _, variant, _ in found))
        self.parts = [name for name in dict.fromkeys(name for name, _, _ in found) if name.startswith(f"{BUILT_IN}/")]
        self.sets = [name for name in dict.fromkeys(name for name, _, _ in found) if name not in self.parts]
        if self.parts:
            self.sets.append(BUILT_IN)
            for variant in self.variants:
                for name in FIGURES:
                    _add_mean(found, [found.get((part, variant, name), {}) for part in self.parts], variant, name)
        self._found = found

    def value(self, name: str, variant: str, figure: str) -> Spread | None:
        """The figure of a set; None where it has none."""
        values = list(self._found.get((name, variant, figure), {}).values())
        return (fmean(values), stdev(values) if len(values) > 1 else None) if values else None

    def mean(self, name: str, variant: str, figure: str) -> float:
        """The mean over the seeds; NaN where there is none."""
        value = self.value(name, variant, figure)
        return value[0] if value else math.nan

    def average(self, variant: str, figure: str) -> Spread | None:
        """The mean over the sets that have the figure in every variant."""
        common = [name for name in self.sets if all(self.value(name, other, figure) for other in self.variants)]
        return (fmean(self.mean(name, variant, figure) for name in common), None) if common else None


def _add_mean(
    found: dict[tuple[str, str, str], dict[int, float]], parts: Sequence[dict[int, float]], variant: str, name: str
) -> None:
    """Adds the mean over the built-in categories, by seed, where every one of them has the figure."""
    if seeds := set.intersection(*map(set, parts)):
        found[BUILT_IN, variant, name] = {seed: fmean(part[seed] for part in parts) for seed in sorted(seeds)}


def tables(cells: Sequence[Cell]) -> str:
    """Markdown: a variant's averages per row, then a table of the sets for each variant, then the built-in parts."""
    if not cells:
        return "no cell was measured"
    figures = Figures(cells)
    every = len(figures.sets)
    title = f"Average of {every} sets" if every > 1 else figures.sets[0]
    pieces = [_origin(cells), f"{title}:", _table("variant", figures.variants, figures.average)]
    for variant in figures.variants:
        rows = [*figures.sets, "average"]
        pieces += [f"`{variant}`{_options(cells, variant)}:", _table("set", rows, _of(figures, variant))]
    if figures.parts:
        pieces += ["The built-in data, image / pixel AUROC / AUPRO:", _parts_table(figures)]
    return "\n\n".join(pieces)


def _origin(cells: Sequence[Cell]) -> str:
    """A sentence on the machine, the versions, the dates and the seeds."""
    machines = sorted({str(cell.record["machine"]) for cell in cells})
    known = sorted(
        {", ".join(f"{name} {version}" for name, version in cell.record["versions"].items()) for cell in cells}
    )
    dates = sorted({str(cell.record["date"]) for cell in cells})
    seeds = sorted({cell.seed for cell in cells})
    threads = sorted({str(cell.record["threads"]) for cell in cells})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    spread = ", standard deviation over the seeds behind ±" if len(seeds) > 1 else ""
    text = (
        f"{when}; {' and '.join(machines)}; threads: {', '.join(threads)}; {' and '.join(known)}; "
        f"seeds: {', '.join(map(str, seeds))}{spread}."
    )
    busy = sum(cell.record["load"] > cell.record["threads"] + IDLE for cell in cells)
    if busy:
        text += f" Other programs ran beside {busy} of the {len(cells)} cells, whose times are too long."
    return fill(text, 120, break_on_hyphens=False, break_long_words=False)


def _options(cells: Sequence[Cell], variant: str) -> str:
    options = next(cell.options for cell in cells if cell.variant == variant)
    return " (" + ", ".join(f"`{name}={value}`" for name, value in options.items()) + ")" if options else ""


def _of(figures: Figures, variant: str) -> Callable[[str, str], Spread | None]:
    def value(name: str, figure: str) -> Spread | None:
        if name == "average":
            return figures.average(variant, figure)
        return figures.value(name, variant, figure)

    return value


def _table(corner: str, rows: Sequence[str], value: Callable[[str, str], Spread | None]) -> str:
    lines = [f"| {corner} | {' | '.join(FIGURES.values())} |", "|---|" + "---:|" * len(FIGURES)]
    cells = ([_shown(value(row, figure), figure) for figure in FIGURES] for row in rows)
    return "\n".join([*lines, *(f"| {row} | {' | '.join(one)} |" for row, one in zip(rows, cells, strict=True))])


def _parts_table(figures: Figures) -> str:
    lines = [f"| category | {' | '.join(figures.variants)} |", "|---|" + "---|" * len(figures.variants)]
    for part in [*figures.parts, BUILT_IN]:
        row = (_triple(figures, part, variant) for variant in figures.variants)
        lines.append(f"| {part.rpartition('/')[2] if part != BUILT_IN else 'average'} | {' | '.join(row)} |")
    return "\n".join(lines)


def _triple(figures: Figures, name: str, variant: str, shown: Sequence[str] = SHORT) -> str:
    found = (figures.value(name, variant, figure) for figure in shown)
    return " / ".join("-" if value is None else f"{value[0]:.3f}" for value in found)


def _shown(value: Spread | None, figure: str) -> str:
    if value is None:
        return "-"
    mean, spread = value
    digits = 1 if figure in ("fit_s", "image_ms") else 3
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def choices(cells: Sequence[Cell], candidates: Sequence[str], by: str = "rank") -> str:
    """Markdown: for each set, the variant that the other sets choose, and its figures on this set.

    By "rank", the variant with the lowest mean rank over the other sets and the figures in `CHOOSING`; "normalised",
    the one with the largest mean difference from a set's mean, in units of the figure's usual deviation.
    """
    figures = Figures(cell for cell in cells if cell.variant in candidates)
    merits = {
        name: _merits(figures, candidates, name, by) for name in figures.sets if _complete(figures, candidates, name)
    }
    if len(merits) < 2:
        return "to leave one set out, two sets are needed in which every variant has every figure"
    lines = [
        f"Chosen by the other sets ({by} over {', '.join(FIGURES[name] for name in CHOOSING)}):",
        "",
        "| set | chosen | its figures | best there | its figures | the first variant's |",
        "|---|---|---|---|---|---|",
    ]
    for name in merits:
        chosen = _best(merits[other] for other in merits if other != name)
        best = _best([merits[name]])
        texts = [_triple(figures, name, variant, CHOOSING) for variant in (chosen, best, candidates[0])]
        lines.append(f"| {name} | {chosen} | {texts[0]} | {best} | {texts[1]} | {texts[2]} |")
    left_out = [name for name in figures.sets if name not in merits]
    note = f"; without {', '.join(left_out)}, where figures are missing" if left_out else ""
    return "\n".join([*lines, "", f"All {len(merits)} sets together choose {_best(merits.values())}{note}."])


def _complete(figures: Figures, candidates: Sequence[str], name: str) -> bool:
    return all(figures.value(name, variant, figure) for variant in candidates for figure in CHOOSING)


def _merits(figures: Figures, candidates: Sequence[str], name: str, by: str) -> dict[str, float]:
    """Variant -> how good it is on a set, higher is better; the mean over the figures."""
    merits = dict.fromkeys(candidates, 0.0)
    for figure in CHOOSING:
        values = {variant: figures.mean(name, variant, figure) for variant in candidates}
        scaled = _ranks(values) if by == "rank" else _normalised(figures, candidates, figure, values)
        merits = {variant: merits[variant] + scaled[variant] / len(CHOOSING) for variant in candidates}
    return merits


def _ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Minus the rank, 1 for the largest; equal values share the mean of their ranks."""
    others = list(values.values())
    return {
        variant: -(1 + sum(other > value for other in others) + 0.5 * (others.count(value) - 1))
        for variant, value in values.items()
    }


def _normalised(
    figures: Figures, candidates: Sequence[str], figure: str, values: Mapping[str, float]
) -> dict[str, float]:
    usual = fmean(
        stdev([figures.mean(name, variant, figure) for variant in candidates])
        for name in figures.sets
        if _complete(figures, candidates, name)
    )
    middle = fmean(values.values())
    return {variant: (value - middle) / usual if usual else 0.0 for variant, value in values.items()}


def _best(merits: Iterable[Mapping[str, float]]) -> str:
    """The variant with the highest sum; the first of equal ones."""
    several = list(merits)
    return max(several[0], key=lambda variant: round(sum(one[variant] for one in several), 9))


def write_between_markers(path: Path, text: str) -> None:
    """Replaces what is between the markers of a document; raises BlemishError where they are not there once each."""
    whole = read_bytes(path).decode("utf-8")
    begin, end = MARKERS
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise BlemishError(f"{path}: needs the line {begin}, and below it the line {end}, once each.")
    before, after = whole.split(begin)[0], whole.split(end)[1]
    write_text(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")
