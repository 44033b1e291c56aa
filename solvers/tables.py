"""Aligned columns and JSON, as every command prints them."""

import json
from math import isfinite
from typing import Any


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as aligned lines."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def json_text(payload: dict[str, Any]) -> str:
    """A document that every reader of JSON takes. Raises ValueError for inf and nan."""
    return json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: float) -> float | None:
    """The value, or null in JSON."""
    return value if isfinite(value) else None
