"""From predictions to figures: every metric of the table on raw scores, at each file's own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.images import read_mask
from blemish.metrics import Value, evaluate_rankings, rank_images, rank_labelled
from blemish.types import Evaluation, Prediction, Sample


def evaluate(
    predictions: Iterable[Prediction], samples: Sequence[Sample], *, method: str, category: str, root: Path
) -> Evaluation:
    """The figures of the predictions of `samples`, which come one at a time and in the same order.

    Paths are given relative to `root`. Where there are no samples, every metric is not applicable.
    """
    rows: list[dict[str, Any]] = []

    def pairs() -> Iterator[tuple[NDArray[np.bool_] | None, NDArray[np.float32]]]:
        for prediction in predictions:
            rows.append(_row(prediction, root))
            mask = prediction.sample.mask
            yield read_mask(mask) if mask else None, prediction.map

    values = _values([bool(sample.label) for sample in samples], pairs(), rows) if samples else {}
    return Evaluation(
        method,
        category,
        {name: value.value for name, value in values.items()},
        {name: value.reason for name, value in values.items() if value.reason},
        rows,
    )


def _values(
    labels: list[bool],
    pairs: Iterator[tuple[NDArray[np.bool_] | None, NDArray[np.float32]]],
    rows: list[dict[str, Any]],
) -> dict[str, Value]:
    pixels = rank_labelled(labels, pairs)
    return evaluate_rankings(rank_images(labels, [row["score"] for row in rows]), pixels)


def _row(prediction: Prediction, root: Path) -> dict[str, Any]:
    sample = prediction.sample
    return {
        "path": sample.image.relative_to(root).as_posix(),
        "defect": sample.defect,
        "label": sample.label,
        "score": prediction.score,
    }
