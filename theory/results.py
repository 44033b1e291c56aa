"""What every view returns: overlaps along time, and escape times with their censoring. The clock is samples."""

from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """Overlaps of ``n_runs`` runs on a common grid: times (n_times,) in samples, overlaps (n_runs, n_times, r)."""

    spikes: tuple[str, ...]
    times: Array
    overlaps: Array

    def of(self, spike: str) -> Array:
        """Overlaps with one spike, shape (n_runs, n_times)."""
        return self.overlaps[:, :, self.spikes.index(spike)]


@dataclass(frozen=True)
class EscapeTimes:
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


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a probability, ``hits`` of ``n``."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(hits * (n - hits) / n + z * z / 4)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


@dataclass(frozen=True)
class Ensemble:
    """What the finished replicas measured; ``replicas`` are their numbers, ``interrupted`` if some were given up."""

    trajectory: Trajectory
    escapes: EscapeTimes
    replicas: tuple[int, ...]
    interrupted: bool
    seconds: float
    samples: int


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
