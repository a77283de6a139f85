"""The parquet files of bulk scoring: a row per image, and as many rows in a file as a shard has images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blemish.inference.rows import Row

REGION = pa.struct(
    [
        *((name, pa.int32()) for name in ("x", "y", "width", "height")),
        ("area", pa.int64()),
        ("peak", pa.float64()),
        *((name, pa.int32()) for name in ("peak_x", "peak_y")),
        *((name, pa.float64()) for name in ("centroid_x", "centroid_y")),
    ]
)
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("score", pa.float64()),
        ("decision", pa.string()),
        ("p_value", pa.float64()),
        ("regions", pa.list_(REGION)),
        ("map", pa.string()),
        ("error", pa.string()),
    ]
)
"""The columns; those that a row of an unreadable file lacks are null."""


def to_parquet(rows: Sequence[Row], about: Mapping[str, str]) -> bytes:
    """The content of a parquet file with these rows, of `rows.to_row`; `about` is stored beside the schema."""
    columns = [pa.array([_value(row, field.name) for row in rows], field.type) for field in SCHEMA]
    content = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA.with_metadata(dict(about))), content, compression="zstd")
    return content.getvalue()


def _value(row: Row, name: str) -> Any:
    value = row.get(name)
    if name == "regions" and value is not None:
        return [_region(region) for region in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _region(region: Mapping[str, Any]) -> dict[str, Any]:
    x, y, width, height = region["box"]
    (peak_x, peak_y), (centroid_x, centroid_y) = region["peak_at"], region["centroid"]
    return {
        "x": x, "y": y, "width": width, "height": height, "area": region["area"], "peak": region["peak"],
        "peak_x": peak_x, "peak_y": peak_y, "centroid_x": centroid_x, "centroid_y": centroid_y,
    }  # fmt: skip
