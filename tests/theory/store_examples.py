"""Points and runs made up from their numbers: any of them can be made again and compared."""

import json
import random
import zlib
from struct import pack

from theory.store import DIVERGED, FINISHED, Point, Run, Store

PROGRAM = "tests.store"


def point_of(i: int, runs: int = 10, size: int = 0) -> Point:
    """Point i; ``size`` more bytes in its configuration."""
    return Point.of(PROGRAM, {"task": "mixed-cumulant", "i": i, "lr": 0.1 * i, "text": "x" * size}, runs, 0.5)


def run_of(point: Point, replica: int, status: str = FINISHED, path: int = 0, salt: int = 0) -> Run:
    """Replica of a point; ``path`` float32 values in its trajectory. The result is a number that no other run has."""
    noise = random.Random(f"{point.hash}:{replica}:{salt}")
    good = status in (FINISHED, DIVERGED)
    result = json.dumps([noise.randrange(10**15, 10**16), None] if good else [])
    data = zlib.compress(pack(f"<{path}f", *(noise.random() for _ in range(path)))) if path and good else None
    error = None if good else f"ValueError: {status}"
    return Run(point.hash, replica, status, result, replica % 3 == 0, 1e5 * noise.random(), noise.random(), error, data)


def fill(store: Store, points: list[Point], path: int = 0) -> list[Run]:
    """All runs of the points, in batches that mix them."""
    store.add_points(points)
    runs = [run_of(point, replica, path=path) for point in points for replica in range(point.runs)]
    random.Random(1).shuffle(runs)
    for start in range(0, len(runs), 50):
        store.add(runs[start : start + 50], '{"host":"here"}')
    return sorted(runs)
