"""What a run's row carries, there and back: escape times as JSON, null where censored, and overlaps as compressed float32."""

import json
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any
from zlib import compress, decompress

import numpy as np
from numpy.typing import NDArray

from theory.results import Array


def plain_times(times: Iterable[float]) -> list[float | None]:
    """Escape times as JSON has them: None for inf."""
    return [t if isfinite(t) else None for t in times]


def times_array(values: Any) -> Array:
    """The times, of any shape, that ``plain_times`` made plain."""
    times = np.array(values, dtype=float)
    times[np.isnan(times)] = np.inf
    return times


def read_times(results: Sequence[str]) -> Array:
    """Escape times (n_runs, r) of finished runs from their JSON."""
    return times_array(json.loads(f"[{','.join(results)}]"))


def pack_overlaps(path: Array) -> bytes:
    """Overlaps (n_times, r) as they are stored: little-endian float32, compressed."""
    return compress(path.astype("<f4").tobytes())


def unpack_overlaps(record: bytes, spikes: int) -> NDArray[np.float32]:
    """Overlaps (n_times, r) from what ``pack_overlaps`` made. Raises zlib.error or ValueError for anything else."""
    return np.frombuffer(decompress(record), dtype="<f4").reshape(-1, spikes)
