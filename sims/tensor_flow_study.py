"""How many tensors gradient flow on a fixed sample needs for the first spike and for all of them, and how that grows with N.

For each N the same replicas (a tensor and a start) are followed at a ladder of n. The share P(n) of those that recover at
least one spike, or all, is fitted by P = 1/(1 + (n_half/n)^s); intervals come from a bootstrap over replicas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sims.fixed_sample_flow import FixedSampleFlow, FlowEnsemble, recovered
from theory.errors import require
from theory.results import Array, wilson_interval
from theory.tensor_pca import SpikedTensor

GOALS = ("first", "all")  # at least one spike; every spike
LOWEST, HIGHEST = 0.5, 8.0  # ends of the ladder: n λ_1², where no method could tell, and n λ_r²/N^(p-2)
RESAMPLES = 1000
SLOPES = np.geomspace(0.3, 20, 16)  # s of the fit
PLACES = 300  # of n_half on the ladder


@dataclass(frozen=True)
class FlowStudy:
    """``runs`` replicas at each N of ``dims``, recovery at |m_ij| >= ``threshold``.

    Raises InputError for fewer than two different N, or N so small that random overlaps reach the threshold (3/√N), runs
    outside 4 … 10^4, a negative seed, and for what ``FixedSampleFlow`` refuses.
    """

    tensor: SpikedTensor
    dims: tuple[int, ...]
    runs: int = 32
    threshold: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        shown = ",".join(map(str, self.dims))
        require(len(set(self.dims)) == len(self.dims) >= 2, "dims", shown, "two or more different dimensions")
        require(4 <= self.runs <= 10**4, "runs", self.runs, "4 … 10^4")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        for dim in self.dims:
            self.flow(dim)
        least = int(np.ceil(9 / self.threshold**2))
        advice = "random overlaps reach the threshold below: raise --threshold or N"
        require(
            min(self.dims) >= least, "dims", min(self.dims), f"at least {least} at threshold {self.threshold:g}", advice
        )

    def flow(self, dim: int) -> FixedSampleFlow:
        """The engine at N = ``dim``."""
        return FixedSampleFlow(self.tensor, dim, self.ladder(dim), self.threshold)

    def ladder(self, dim: int) -> tuple[float, ...]:
        """Numbers of tensors n, each twice the one before."""
        scale = float(dim) ** (self.tensor.order - 2)
        low, high = LOWEST / self.tensor.snr[0] ** 2, HIGHEST * scale / self.tensor.snr[-1] ** 2
        return tuple((low * 2.0 ** np.arange(np.ceil(np.log2(high / low)) + 1)).tolist())


@dataclass(frozen=True)
class FlowPoint:
    """One N: which of the replicas reached each goal, and what it cost."""

    dim: int
    counts: tuple[float, ...]
    reached: dict[str, NDArray[np.bool_]]  # (n_runs, n_counts)
    accepted: float
    unfinished: int
    seconds: float

    @classmethod
    def of(cls, study: FlowStudy, dim: int, ensemble: FlowEnsemble) -> "FlowPoint":
        """Count the spikes recovered."""
        spikes = recovered(ensemble.overlaps, study.threshold)
        reached = {"first": spikes >= 1, "all": spikes == study.tensor.rank}
        accepted = len(spikes) / float(ensemble.starts.sum())
        return cls(dim, study.ladder(dim), reached, accepted, int(ensemble.unfinished.sum()), ensemble.seconds)

    def shares(self, goal: str) -> tuple[Array, Array]:
        """P(n) (n_counts,) and its Wilson intervals (n_counts, 2)."""
        hits, runs = self.reached[goal].sum(axis=0), len(self.reached[goal])
        return hits / runs, np.array([wilson_interval(int(k), runs) for k in hits])


@dataclass(frozen=True)
class Half:
    """n at which P = ½ with its 95 % interval, 0 or inf where beyond the ladder; the s of the fit; log n of the resamples."""

    n: float
    interval: tuple[float, float]
    slope: float
    resampled: Array

    @property
    def seen(self) -> bool:
        """Whether it lies on the ladder."""
        return bool(0 < self.n < np.inf)


def fit_half(counts: Array, reached: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES) -> Half:
    """The likeliest P = 1/(1 + (n_half/n)^s) on a grid, for the replicas (n_runs, n_counts) and for draws from them."""
    logs, runs = np.log(counts), len(reached)
    places = np.linspace(logs[0], logs[-1], PLACES)
    z = SLOPES[:, None, None] * (logs - places[:, None])
    up, down = (-np.logaddexp(0, -s * z).reshape(-1, len(counts)) for s in (1, -1))
    drawn = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), resamples)
    hits = np.vstack([np.ones(runs), drawn]) @ reached
    best = np.argmax(hits @ up.T + (runs - hits) @ down.T, axis=1)
    found = places[best % PLACES]
    beyond = np.where(found == places[0], -np.inf, np.where(found == places[-1], np.inf, found))
    low, high = np.exp(np.quantile(beyond[1:], (0.025, 0.975), method="inverted_cdf"))
    return Half(float(np.exp(beyond[0])), (float(low), float(high)), float(SLOPES[best[0] // PLACES]), found[1:])


@dataclass(frozen=True)
class Growth:
    """n_half ∝ N^exponent, with the 95 % bootstrap interval; ``level`` is log n_half at N = 1.

    ``resampled`` holds (level, exponent) of the resamples (2, resamples).
    """

    exponent: float
    interval: tuple[float, float]
    level: float
    resampled: Array

    def at(self, dims: Array) -> Array:
        """n_half at each N."""
        return np.asarray(np.exp(self.level) * dims**self.exponent)

    def band(self, dims: Array) -> Array:
        """95 % band of n_half at each N: (2, n_dims)."""
        level, exponent = self.resampled[:, :, None]
        return np.asarray(np.exp(np.quantile(level + exponent * np.log(dims), (0.025, 0.975), axis=0)))


def fit_growth(dims: Array, halves: list[Half]) -> Growth | None:
    """Weighted least squares of log n_half on log N; None for fewer than two N with n_half on the ladder.

    A resample whose n_half leaves the ladder counts as lying at its end, so the interval may then be too short.
    """
    kept = [k for k, half in enumerate(halves) if half.seen]
    if len(kept) < 2:
        return None
    draws = np.array([halves[k].resampled for k in kept])
    errors = np.maximum(draws.std(axis=1), 1e-3)
    design = np.stack([np.ones(len(kept)), np.log(dims[kept])], axis=1)
    rows = np.linalg.pinv(design / errors[:, None]) / errors
    level, exponent = rows @ np.log([halves[k].n for k in kept])
    resampled = rows @ draws
    low, high = np.quantile(resampled[1], (0.025, 0.975))
    return Growth(float(exponent), (float(low), float(high)), float(level), resampled)


@dataclass(frozen=True)
class FlowResult:
    """Points by N; ``halves`` and ``growth`` by goal."""

    study: FlowStudy
    points: tuple[FlowPoint, ...]
    interrupted: bool

    @cached_property
    def halves(self) -> dict[str, list[Half]]:
        """n_half at every N."""
        return {
            goal: [fit_half(np.array(p.counts), p.reached[goal], self.study.seed) for p in self.points]
            for goal in GOALS
        }

    @cached_property
    def growth(self) -> dict[str, Growth | None]:
        """How n_half grows."""
        dims = np.array([p.dim for p in self.points], dtype=float)
        return {goal: fit_growth(dims, self.halves[goal]) for goal in GOALS}


def run_study(
    study: FlowStudy, quiet: bool = True, threads: int | None = None,
    each: Callable[[FlowPoint], None] = lambda _: None,
) -> FlowResult:  # fmt: skip
    """All N, the smallest first; Ctrl-C keeps the finished replicas. Raises KeyboardInterrupt if there are none."""
    points: list[FlowPoint] = []
    for dim in sorted(study.dims):
        try:
            ensemble = study.flow(dim).run(study.runs, study.seed, threads, quiet)
        except KeyboardInterrupt:
            if not points:
                raise
            return FlowResult(study, tuple(points), True)
        points.append(FlowPoint.of(study, dim, ensemble))
        each(points[-1])
        if ensemble.interrupted:
            return FlowResult(study, tuple(points), True)
    return FlowResult(study, tuple(points), False)
