"""How far a sweep is, in words and as JSON: counts by SQL, medians of the points shown alone, while a driver may write."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from sims.progress import rough
from sims.sweep_results import SweepResults, axes_of
from sims.sweep_table import MINE, PROGRAM, plain, snapshot
from solvers.tables import columns, finite, json_text
from theory.archive import shard_of
from theory.results import EscapeTimes, wilson_interval
from theory.store import Store
from theory.store_files import holder_of
from theory.store_payload import read_times
from theory.store_rows import DIVERGED, FAILED, FINISHED, KILLED, Point, hash_of, number_of

SHOWN, SORTED, MEASURED, ERRORS, WIDTH = 30, 2000, 4096, 10, 160
STATUSES = (FINISHED, DIVERGED, FAILED, KILLED)


@dataclass(frozen=True)
class PointStatus:
    """One point: its values on the axes, runs by status, the median of its target with a 95 % interval.

    Times are in samples, of its first ``MEASURED`` finished runs.
    """

    point: str
    axes: dict[str, Any]
    wanted: int
    statuses: dict[str, int]
    censored: int
    target: str
    budget: float
    median: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Failure:
    """Runs whose errors differ in numbers alone: how many, the text of one, HASH:replica of it."""

    count: int
    text: str
    example: str


@dataclass(frozen=True)
class Status:
    """A store at one moment; ``expected`` seconds of computing are left, by predicted costs times the measured ratio."""

    path: Path
    holder: str | None
    points: int
    wanted: int
    statuses: dict[str, int]
    censored: int
    seconds: float
    samples: float
    left: int
    expected: float
    checksum: str | None
    shown: tuple[PointStatus, ...]
    failures: tuple[Failure, ...]

    @property
    def there(self) -> int:
        """Runs, whatever their status."""
        return sum(self.statuses.values())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the censored share of the finished runs."""
        finished = self.statuses[FINISHED]
        return wilson_interval(self.censored, finished) if finished else (0.0, 1.0)


def read_status(results: SweepResults, checksum: bool = False) -> Status:
    """One snapshot; the checksum reads every result."""
    with snapshot(results.path) as store:
        statuses, censored, seconds, samples = _tally(store, MINE)
        points, cost_there = _priced(store)
        left, cost_left = store.left(PROGRAM, shard_of(results.path))
        ratio = seconds / cost_there if seconds and cost_there else 1.0
        wanted, expected = sum(statuses.values()) + left, ratio * cost_left
        return Status(
            results.path, holder_of(results.path), points, wanted, statuses, censored, seconds, samples, left, expected,
            store.checksum() if checksum else None, tuple(_shown(store)), tuple(_failures(store)),
        )  # fmt: skip


def _tally(store: Store, rows: str, *values: int) -> tuple[dict[str, int], int, float, float]:
    """Runs by status, censored ones of the finished, seconds and samples, of the rows of an SQL condition; one scan."""
    counts = ", ".join(f"coalesce(sum(status = '{status}'), 0)" for status in STATUSES)
    *there, censored, seconds, samples = store.connection.execute(
        f"SELECT {counts}, coalesce(sum(censored AND status = '{FINISHED}'), 0), total(seconds), total(samples) "
        f"FROM runs WHERE {rows}", values,
    ).fetchone()  # fmt: skip
    return dict(zip(STATUSES, there, strict=True)), censored, seconds, samples


def _priced(store: Store) -> tuple[int, float]:
    """Points, and the predicted seconds of the runs that are there."""
    (points,) = store.connection.execute("SELECT count(*) FROM points WHERE program = ?", (PROGRAM,)).fetchone()
    (cost_there,) = store.connection.execute(
        "SELECT total(cost) FROM runs JOIN points ON id = point WHERE program = ?", (PROGRAM,)
    ).fetchone()
    return points, cost_there


def _failures(store: Store) -> list[Failure]:
    """The most frequent errors; texts that differ in numbers alone are one."""
    kinds: dict[str, Failure] = {}
    for error, count, point, replica in store.connection.execute(
        f"SELECT error, count(*), min(point), replica FROM runs WHERE error IS NOT NULL AND {MINE} GROUP BY error"
    ):
        kind = re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", error)
        known = kinds.get(kind, Failure(0, error, f"{hash_of(point)}:{replica}"))
        kinds[kind] = replace(known, count=known.count + count)
    return sorted(kinds.values(), key=lambda failure: -failure.count)[:ERRORS]


def _shown(store: Store) -> Iterator[PointStatus]:
    """The first points in the order of their axes; among very many those with the first hashes."""
    points = [(point, point.values) for point in islice(store.points(PROGRAM), SORTED)]
    axes = axes_of(values for _, values in points)
    ranks = {key: {value: rank for rank, value in enumerate(values)} for key, values in axes.items()}
    places = [([ranks[key][plain(values.get(key))] for key in axes], k) for k, (_, values) in enumerate(points)]
    for _, k in sorted(places)[:SHOWN]:
        point, values = points[k]
        yield _point_status(store, point, {key: plain(values.get(key)) for key in axes})


def _point_status(store: Store, point: Point, axes: dict[str, Any]) -> PointStatus:
    number, config = number_of(point.hash), point.values
    statuses, censored, _, _ = _tally(store, "point = ?", number)
    results = store.connection.execute(
        "SELECT result FROM runs WHERE point = ? AND status = ? ORDER BY replica LIMIT ?", (number, FINISHED, MEASURED)
    ).fetchall()
    target, median, interval = config["target"], nan, (nan, nan)
    if results:
        times = read_times([text for (text,) in results])
        escapes = EscapeTimes(tuple(config["spikes"]), times, config["threshold"], config["samples"])
        median, interval = escapes.quantile(target, 0.5), escapes.quantile_interval(target, 0.5)
    return PointStatus(point.hash, axes, point.runs, statuses, censored, target, config["samples"], median, interval)


def status_table(results: SweepResults, checksum: bool = False) -> str:
    """The table for people."""
    s = read_status(results, checksum)
    kinds = ", ".join(f"{count} {status}" for status, count in s.statuses.items() if count or status == FINISHED)
    low, high = s.interval
    rate = (
        f", {s.there / s.seconds:.3g} runs and {s.samples / s.seconds:.3g} samples a second of it" if s.seconds else ""
    )
    lines = [
        f"store      {s.path}",
        f"writer     {s.holder or 'nobody now'}",
        f"runs       {s.there} of {s.wanted} of {s.points} points: {kinds}",
        f"censored   {s.censored}/{s.statuses[FINISHED]} finished runs, 95 % {low:.4f} – {high:.4f}",
        f"computing  {rough(s.seconds)}, {s.samples:.4g} samples{rate}",
        f"left       {s.left} runs, about {rough(s.expected)} of computing, to be divided by the workers",
        *([f"checksum   {s.checksum}"] if s.checksum else []),
    ]
    if s.shown:
        lines += ["", *columns(_rows(s))]
    if s.points > len(s.shown):
        lines.append(f"… and {s.points - len(s.shown)} points more")
    lines += (
        ["", f"times in samples, of a point's first {MEASURED} runs; '> x': beyond the budget x"] if s.shown else []
    )
    for failure in s.failures:
        text = " ".join(failure.text.split())
        lines += ["", f"{failure.count} × {text[:WIDTH]}", f"  {_again(s.path, failure.example)}"]
    return "\n".join(lines) + "\n"


def _rows(s: Status) -> list[tuple[str, ...]]:
    names = tuple(s.shown[0].axes)
    rows: list[tuple[str, ...]] = [("point", *names, "runs", "spike", "median", "95 % interval", "censored", "failed")]
    for p in s.shown:
        low, high = p.interval
        there, finished = sum(p.statuses.values()), p.statuses[FINISHED]
        values = tuple(f"{v:.5g}" if isinstance(v, float) else "-" if v is None else str(v) for v in p.axes.values())
        known = isfinite(low) and finished > 1
        interval = f"{low:.4g} – {_seen(high, p.budget)}" if known else _seen(low, p.budget) if low == inf else "-"
        rows.append((
            p.point, *values, f"{there}/{p.wanted}", p.target, _seen(p.median, p.budget), interval,
            f"{p.censored}/{finished}", str(there - finished),
        ))  # fmt: skip
    return rows


def _seen(time: float, budget: float) -> str:
    return f"> {budget:.4g}" if time == inf else f"{time:.4g}" if isfinite(time) else "-"


def _again(path: Path, example: str) -> str:
    return f"python -m sims.sweep resume --store {shlex.quote(str(path.parent))} --only {example}"


def status_json(results: SweepResults, checksum: bool = False) -> str:
    """The documented JSON, schema 1; times in samples, null: not known, or beyond the budget.

    store, writer (null: nobody), points, wanted, there, runs {finished, diverged, failed, killed}, censored {count, share,
    ci95}, seconds, samples, left {runs, seconds}, checksum (null: not asked for), shown [{point, axes, wanted, runs,
    censored, target, budget, median, ci95}] (30 points at most), failures [{count, text, example, command}] (10 at most).
    """
    s = read_status(results, checksum)
    finished = s.statuses[FINISHED]
    return json_text({
        "schema": 1, "store": str(s.path), "writer": s.holder, "points": s.points, "wanted": s.wanted, "there": s.there,
        "runs": s.statuses,
        "censored": {"count": s.censored, "share": s.censored / finished if finished else None, "ci95": list(s.interval)},
        "seconds": s.seconds, "samples": s.samples, "left": {"runs": s.left, "seconds": s.expected}, "checksum": s.checksum,
        "shown": [_point_dict(p) for p in s.shown],
        "failures": [asdict(f) | {"command": _again(s.path, f.example)} for f in s.failures],
    })  # fmt: skip


def _point_dict(p: PointStatus) -> dict[str, Any]:
    return {
        "point": p.point, "axes": p.axes, "wanted": p.wanted, "runs": p.statuses, "censored": p.censored, "target": p.target,
        "budget": p.budget, "median": finite(p.median), "ci95": [finite(x) for x in p.interval],
    }  # fmt: skip
