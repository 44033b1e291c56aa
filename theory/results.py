"""What every view returns: overlaps along time, and escape times with their censoring. The clock is samples.

Every result introduces itself (``repr``, HTML in notebooks), draws itself (``plot``), becomes a pandas table or an xarray
data set, and is kept in one file (``save``; ``theory.result_files.load``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from theory.summaries import ABSENT, Summary, clock_text, counted, last_recorded, samples_text, spread_text

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Result:
    """What every result can do. ``provenance``: command, environment and model in the file it was loaded from, if it was."""

    provenance: Mapping[str, Any] | None = field(default=None, kw_only=True, compare=False)

    def summary(self) -> Summary:
        """The table by which it introduces itself: its ``repr``, and what a notebook shows of it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The summary as text."""
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()

    def save(self, path: Path | str, model: Any = None, command: str | None = None) -> None:
        """Keep it in one file, whole or not at all; see ``theory.result_files.save``. Raises InputError."""
        from theory.result_files import save

        save(self, Path(path), model, command)


@dataclass(frozen=True, repr=False)
class Trajectory(Result):
    """Overlaps of ``n_runs`` runs on a common grid: times (n_times,) in samples, overlaps (n_runs, n_times, r)."""

    spikes: tuple[str, ...]
    times: Array
    overlaps: Array

    def of(self, spike: str) -> Array:
        """Overlaps with one spike, shape (n_runs, n_times)."""
        return self.overlaps[:, :, self.spikes.index(spike)]

    def summary(self) -> Summary:
        """Size of every overlap at its first and last time, median and 10 … 90 % over runs."""
        title = f"Trajectory: {counted(len(self.overlaps), 'run')}, {clock_text(self.times)}"
        rows = [
            (s, spread_text(sizes[:, :1].reshape(-1)), spread_text(last_recorded(sizes)))
            for s, sizes in ((s, np.abs(self.of(s))) for s in self.spikes)
        ]
        return Summary(title, ("spike", "|overlap| at first", "at last"), tuple(rows))

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw |α_k| against samples: median over runs and 10–90 % band. Returns the Matplotlib axes, new ones for None."""
        from theory.drawing import draw_trajectory

        return draw_trajectory(self, ax, log)

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row for each run and time: ``overlap_SPIKE`` (needs pandas)."""
        from theory.result_tables import trajectory_frame

        return trajectory_frame(self)

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset`` with ``overlap`` (run, time [samples], spike) (needs xarray)."""
        from theory.result_tables import trajectory_dataset

        return trajectory_dataset(self)


@dataclass(frozen=True, repr=False)
class EscapeTimes(Result):
    """First times, in samples, at which |α_k| >= threshold: shape (n_runs, r); inf where a run ended first (censored).

    ``budget`` is the number of samples after which a run was stopped. A quantile that falls among the censored runs is
    inf, never a number: nothing beyond the budget was seen.
    """

    spikes: tuple[str, ...]
    times: Array
    threshold: float
    budget: float

    def of(self, spike: str) -> Array:
        """Times of one spike, shape (n_runs,)."""
        return self.times[:, self.spikes.index(spike)]

    def n_censored(self, spike: str) -> int:
        """Runs that did not escape within the budget."""
        return int(np.isinf(self.of(spike)).sum())

    def quantile(self, spike: str, q: float) -> float:
        """Quantile over runs, a linear interpolation of order statistics; inf if it reaches into the censored runs."""
        return censored_quantile(self.of(spike), q)

    def median_interval(self, spike: str, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval of the median over runs (scipy.stats.bootstrap); an end may be inf."""
        from scipy.stats import bootstrap

        times = self.of(spike)
        if len(times) < 2:
            return (0.0, float("inf"))
        # Ranks stand for times: they resample alike, and inf needs no arithmetic.
        ranks = np.sort(times)
        result = bootstrap(
            (np.arange(len(times), dtype=float),),
            lambda x, axis: np.quantile(x, 0.5, axis=axis, method="inverted_cdf"),
            confidence_level=level,
            method="percentile",
            n_resamples=2000,
            rng=np.random.default_rng(seed),
        )
        low, high = np.clip(result.confidence_interval, 0, len(times) - 1)
        return float(ranks[int(np.floor(low))]), float(ranks[int(np.ceil(high))])

    def quantile_interval(self, spike: str, q: float, z: float = 1.96) -> tuple[float, float]:
        """Distribution-free interval of a quantile: order statistics q n ± z √(n q (1-q)); an end may be inf (or 0)."""
        ordered, n = np.sort(self.of(spike)), len(self.times)
        spread = z * np.sqrt(n * q * (1 - q))
        low, high = int(np.floor(n * q - spread)) - 1, int(np.ceil(n * q + spread))
        return (float(ordered[low]) if low >= 0 else 0.0, float(ordered[high]) if high < n else np.inf)

    def summary(self) -> Summary:
        """Median with its distribution-free 95 % interval, 10 and 90 % quantiles and censoring of every spike, in samples."""
        n = len(self.times)
        head = ("spike", "median", "95 % interval", "10 %", "90 %", "censored") if n > 1 else ("spike", "escape")
        rows = tuple((s, *self._cells(s)) for s in self.spikes)
        return Summary(f"EscapeTimes in samples: {counted(n, 'run')}, {self.limits}", head, rows)

    @property
    def limits(self) -> str:
        """Threshold and budget in words."""
        budget = "no budget" if self.budget == np.inf else f"budget {self.budget:.4g} samples"
        return f"threshold {self.threshold:g}, {budget}"

    def _cells(self, spike: str) -> tuple[str, ...]:
        n = len(self.times)
        if n < 2:
            return (samples_text(float(self.of(spike)[0]), self.budget) if n else ABSENT,)
        low, median, high = (samples_text(self.quantile(spike, q), self.budget) for q in (0.1, 0.5, 0.9))
        ends = self.quantile_interval(spike, 0.5)
        # So few runs bound the median on neither side.
        interval = ABSENT if ends == (0.0, np.inf) else " … ".join(samples_text(t, self.budget) for t in ends)
        return median, interval, low, high, f"{self.n_censored(spike)} of {n}"

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw the share of runs recovered by t, with its 95 % band. Returns the Matplotlib axes, new ones for None."""
        from theory.drawing import draw_escapes

        return draw_escapes(self, ax, log)

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row a run: ``escape_SPIKE`` in samples, inf where censored (needs pandas)."""
        from theory.result_tables import escape_frame

        return escape_frame(self)

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset`` with ``escape`` (run, spike) in samples (needs xarray)."""
        from theory.result_tables import escape_dataset

        return escape_dataset(self)


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a probability, ``hits`` of ``n``."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(hits * (n - hits) / n + z * z / 4)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


@dataclass(frozen=True, repr=False)
class Ensemble(Result):
    """What the finished replicas measured; ``replicas`` are their numbers, ``interrupted`` if some were given up."""

    trajectory: Trajectory
    escapes: EscapeTimes
    replicas: tuple[int, ...]
    interrupted: bool
    seconds: float
    samples: int

    def summary(self) -> Summary:
        """Escapes and last overlaps of every spike."""
        sizes = np.abs(self.trajectory.overlaps)
        ends = {s: spread_text(last_recorded(sizes[..., k])) for k, s in enumerate(self.trajectory.spikes)}
        return ensemble_summary(self, "Ensemble", "last |overlap|", ends)

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw overlaps as ``Trajectory.plot``, and on the threshold the median escapes. Returns the Matplotlib axes."""
        from theory.drawing import draw_ensemble

        return draw_ensemble(self, ax, log)

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row a replica: ``escape_SPIKE`` and last ``overlap_SPIKE`` (needs pandas)."""
        from theory.result_tables import ensemble_frame

        return ensemble_frame(self)

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset`` with ``overlap``, ``escape`` and the replicas' numbers (needs xarray)."""
        from theory.result_tables import ensemble_dataset

        return ensemble_dataset(self)


def ensemble_summary(
    ensemble: Any, kind: str, column: str, ends: Mapping[str, str], notes: tuple[str, ...] = ()
) -> Summary:
    """Summary of the escapes with one more ``column``, under a title that says how many runs finished at what cost."""
    n, escapes = len(ensemble.replicas), ensemble.escapes.summary()
    cut = " (interrupted)" if ensemble.interrupted else ""
    title = f"{kind}: {counted(n, 'run')}{cut}, {ensemble.samples:.4g} samples in {ensemble.seconds:.3g} s"
    rows = tuple((*row, ends.get(row[0], ABSENT)) for row in escapes.rows)
    what = f"escapes in samples, {ensemble.escapes.limits}; recorded at {clock_text(ensemble.trajectory.times)}"
    return Summary(title, (*escapes.head, column), rows, (what, *notes))


def replica_seed(seed: int, replica: int) -> SeedSequence:
    """The child of ``seed`` for one replica, the same whether it is run alone or among others."""
    return SeedSequence(seed, spawn_key=(replica,))


def stream(seed: SeedSequence, purpose: int) -> SeedSequence:
    """The child of a replica's seed for one purpose (start, noise, …): the engines take different numbers."""
    return SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, purpose))


def time_grid(samples: int, n_log: int = 120, n_linear: int = 120) -> NDArray[np.int64]:
    """0, then increasing sample counts evenly spaced in log time and in time, the last one ``samples``."""
    points = [np.zeros(1), np.geomspace(1, samples, n_log).round(), np.linspace(0, samples, n_linear).round()]
    return np.unique(np.concatenate(points).astype(np.int64))


def censored_quantile(times: Array, q: float) -> float:
    """Quantile of times of which some are inf (right-censored at a common budget)."""
    ordered = np.sort(times)
    position = q * (len(ordered) - 1)
    low, high = ordered[int(np.floor(position))], ordered[int(np.ceil(position))]
    if np.isinf(high):
        return float(high) if position > np.floor(position) else float(low)
    return float(low + (position - np.floor(position)) * (high - low))
