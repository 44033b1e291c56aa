"""What a sweep has found, read from its store when asked: by point as escape times and overlaps, or whole as a table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sims.sweep_export import dataset, export, frame
from sims.sweep_table import PROGRAM, overlaps_of, plain, read_times, snapshot, times_of
from theory.errors import require
from theory.results import EscapeTimes, Trajectory
from theory.store_rows import FINISHED, Point, Run


@dataclass(frozen=True)
class SweepResults:
    """The results in a store; every call reads what is there at that moment, while another process may write."""

    path: Path

    def points(self) -> Iterator[Point]:
        """All points of sweeps, in the order of their hashes."""
        with snapshot(self.path) as store:
            yield from store.points(PROGRAM)

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The keys that differ between points, with their sorted values; None where a point has none."""
        return axes_of(point.values for point in self.points())

    def select(self, **config: Any) -> list[str]:
        """Hashes of the points with these values. Raises InputError for an unknown key, or values that no point has."""
        known: dict[str, set[Any]] = {}
        found = []
        for point in self.points():
            values = point.values
            for key in config:
                if key in values:
                    known.setdefault(key, set()).add(plain(values[key]))
            if all(key in values and plain(values[key]) == plain(wanted) for key, wanted in config.items()):
                found.append(point.hash)
        for key, wanted in config.items():
            require(
                key in known, "select", key, "a key of the configurations", "python -m sims.sweep status names the axes"
            )
            allowed = ", ".join(map(str, islice(ordered(known[key]), 20)))
            require(plain(wanted) in known[key], key, repr(wanted), allowed)
        require(bool(found) or not config, "select", config, "values that one point has together", "select fewer keys")
        return found

    def escapes(self, point: str) -> EscapeTimes:
        """Escape times of a point's finished runs by replica, in samples; inf where censored.

        A run without trajectory ends at its target: of the other spikes inf says that they had not escaped by then.
        """
        config, runs = self.finished(point)
        require(
            bool(runs),
            "point",
            f"{point} without finished runs",
            "a point with some",
            "python -m sims.sweep resume runs it",
        )
        times = read_times([run.result for run in runs])
        return EscapeTimes(tuple(config["spikes"]), times, config["threshold"], config["samples"])

    def trajectory(self, point: str) -> Trajectory:
        """Overlaps of a point's finished runs by replica, shape (n_runs, n_times, r); stored in single precision."""
        config, runs = self.finished(point)
        records = [run.trajectory for run in runs if run.trajectory is not None]
        require(bool(records), "point", f"{point} without trajectories", "a point with some", "set records in the grid")
        overlaps = np.stack([overlaps_of(self.path, record, config) for record in records])
        return Trajectory(tuple(config["spikes"]), times_of(config).astype(float), overlaps.astype(float))

    def finished(self, point: str) -> tuple[dict[str, Any], list[Run]]:
        """Configuration and finished runs of a point."""
        with snapshot(self.path) as store:
            kept, runs = store.point(point), store.runs(point)
        require(kept.program == PROGRAM, "point", f"{point}, a point of {kept.program}", f"a point of {PROGRAM}")
        return kept.values, [run for run in runs if run.status == FINISHED]

    def to_pandas(self) -> Any:
        """A DataFrame with a row for every run; see ``sims.sweep_table`` for its columns."""
        with snapshot(self.path) as store:
            return frame(store)

    def to_xarray(self) -> Any:
        """A Dataset: ``escape`` (run, spike), and ``overlap`` (run, record, spike) where runs were recorded.

        Configurations and environments are coordinates along run, scalars where all runs agree. A missing text is empty.
        """
        with snapshot(self.path) as store:
            return dataset(store)

    def export(self, path: Path) -> None:
        """Write NetCDF (.nc, all), Parquet or CSV (.parquet, .csv, the table), whole or not at all.

        Checksum, commands and environments stand in the attributes of the first two (``DataFrame.attrs`` of a Parquet file).
        ``pandas.read_csv(path, **sims.sweep_export.READ_CSV)`` reads a CSV back equal, since a hash may look like a number;
        before pandas 3.1 add ``float_precision="round_trip"``.
        """
        with snapshot(self.path) as store:
            export(store, path)


def axes_of(configs: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys that differ between configurations, with their sorted values; None where one has none."""
    values: dict[str, set[Any]] = {}
    n_there: Counter[str] = Counter()
    total = 0
    for total, config in enumerate(configs, 1):  # noqa: B007 - their number
        n_there.update(config.keys())
        for key, value in config.items():
            values.setdefault(key, set()).add(plain(value))
    for key in (key for key, count in n_there.items() if count < total):
        values[key].add(None)
    return {key: ordered(values[key]) for key in sorted(values) if len(values[key]) > 1}


def ordered(values: set[Any]) -> list[Any]:
    """Numbers, then texts, then None."""
    return sorted(values, key=lambda v: (v is None, isinstance(v, str), 0 if v is None else v))
