"""Tensor PCA at one N: which spike is recovered when, in which order, and up to what, by the exact chain beside the flow."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solvers.ode import FlowRun, PopulationODE
from solvers.tensor_chain import TensorChain
from theory.errors import require
from theory.results import Array, Ensemble, EscapeTimes, replica_seed, time_grid, wilson_interval
from theory.tensor_pca import OUTCOMES, SpikedTensor, TensorField, drift_times, elimination, outcome

RECOVERED = 0.8  # entries of M (singular values) from which a spike (the subspace) counts as recovered at the end
PATIENCE = 30.0  # budget in units of the drift's time for the weakest spike from the typical overlap N^(-1/2)
SECONDS, MOST_HOURS = 1.5e-8, 2.0  # of a sample over r²; what a budget that nobody gave may take
SMALL_STEP = 0.1  # growth of an overlap in one step up to which the flow describes the chain
Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Share:
    """``hits`` of ``runs`` with the 95 % Wilson interval."""

    hits: int
    runs: int

    @property
    def value(self) -> float:
        """The share, nan without runs."""
        return self.hits / self.runs if self.runs else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        return wilson_interval(self.hits, self.runs)


def default_strength(order: int) -> float:
    """δ_0: 0.3 for p >= 3; 0.05 for p = 2, where a step of the natural rate is not small (theory §8)."""
    return 0.05 if order == 2 else 0.3


def typical_budget(tensor: SpikedTensor, dim: int, strength: float, threshold: float) -> int:
    """Samples within which nearly all runs recover all spikes: ``PATIENCE`` times the drift's time of the weakest."""
    typical = np.full((tensor.rank, tensor.rank), dim**-0.5)
    slowest = drift_times(tensor, typical, dim, tensor.rate(strength, dim), threshold)[-1, -1]
    return int(max(np.ceil(PATIENCE * slowest), 10))


def spike_times(tensor: SpikedTensor, escapes: EscapeTimes) -> EscapeTimes:
    """Recovery of the spikes "1" … "r", and of the "first" and "last" of a run, from the escapes of the overlaps.

    Spike i is recovered when some |m_ij| reaches the threshold. Times (n_runs, r + 2) in samples, inf where censored.
    """
    times = escapes.times.reshape(-1, tensor.rank, tensor.rank).min(axis=2)
    names = (*(str(i + 1) for i in range(tensor.rank)), "first", "last")
    ends = np.stack([times.min(axis=1), times.max(axis=1)], axis=1)
    return EscapeTimes(names, np.hstack([times, ends]), escapes.threshold, escapes.budget)


@dataclass(frozen=True)
class TensorStudy:
    """``runs`` replicas of online SGD in dimension N from random frames, δ = δ_0 N^{(3-p)/2}, by the exact chain.

    ``samples`` None: ``typical_budget``. Raises InputError for values outside their range (see ``TensorChain``).
    """

    tensor: SpikedTensor
    dim: int
    strength: float
    runs: int = 200
    samples: int | None = None
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(
            np.isfinite(self.strength) and 0 < self.strength <= 100, "lr", self.strength, "a number > 0, at most 100"
        )
        require(0 < self.threshold < 1, "threshold", self.threshold, "a number between 0 and 1")
        require(1 <= self.runs <= 10**6, "runs", self.runs, "1 … 10^6")
        require(self.samples is None or 1 <= self.samples <= 10**15, "samples", self.samples, "1 … 10^15")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        self.chain  # noqa: B018 - checks N
        if self.samples is None:
            hours = self.budget * self.runs * SECONDS * self.tensor.rank**2 / 3600
            require(hours <= MOST_HOURS, "samples", f"auto = {self.budget:.3g} a run, {hours:.2g} hours of a core in all",
                    f"at most {MOST_HOURS:g} hours on auto", "give --samples, a larger --lr or fewer --runs")  # fmt: skip

    @property
    def lr(self) -> float:
        """δ."""
        return self.tensor.rate(self.strength, self.dim)

    @property
    def budget(self) -> int:
        """Samples of a run."""
        return self.samples or typical_budget(self.tensor, self.dim, self.strength, self.threshold)

    @cached_property
    def chain(self) -> TensorChain:
        """The view."""
        return TensorChain(self.tensor, self.dim, self.lr)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the flow is not the chain's, and where the threshold misleads."""
        lines = []
        growth = self.strength * self.tensor.order * self.tensor.snr[0] ** 2 * self.dim ** (2.0 - self.tensor.order)
        if growth > SMALL_STEP:
            lines.append(f"one step changes the overlap of spike 1 by up to {growth:.2g} of itself: the flow, which has no "
                         "steps, does not describe this rate; the chain is exact")  # fmt: skip
        if self.threshold < 5 / np.sqrt(self.dim):
            lines.append(
                f"threshold {self.threshold:g} is within chance: random overlaps reach 5/√N = {5 / np.sqrt(self.dim):.2g}"
            )
        return tuple(lines)

    def run(self, threads: int | None = None, quiet: bool = True) -> "TensorResult":
        """Run the chain, and the flow from the same starts. KeyboardInterrupt if no replica had finished."""
        ensemble = self.chain.run(
            self.runs,
            self.budget,
            self.seed,
            self.threshold,
            times=time_grid(self.budget),
            threads=threads,
            quiet=quiet,
        )
        return TensorResult(self, ensemble)


@dataclass(frozen=True)
class TensorResult:
    """What the finished replicas did, beside what their starts foretell."""

    study: TensorStudy
    ensemble: Ensemble

    @property
    def tensor(self) -> SpikedTensor:
        """The model."""
        return self.study.tensor

    @cached_property
    def times(self) -> EscapeTimes:
        """Recovery times of the spikes, of the first and of the last."""
        return spike_times(self.tensor, self.ensemble.escapes)

    @cached_property
    def starts(self) -> Array:
        """M at the start of each replica (n_runs, r, r)."""
        chain, seed = self.study.chain, self.study.seed
        drawn = np.array([chain.first_state(replica_seed(seed, i)) for i in self.ensemble.replicas])
        return drawn.reshape(-1, self.tensor.rank, self.tensor.rank)

    def flow(self, k: int) -> FlowRun:
        """The population flow from the start of the k-th finished replica."""
        study = self.study
        ode = PopulationODE(self.tensor, TensorField(self.tensor, study.dim, study.lr), study.dim, study.lr)
        return ode.run(self.starts[k].ravel(), study.threshold)

    @cached_property
    def seen(self) -> list[Pairs]:
        """The pairs (spike, column) of each run in the order in which they escaped."""
        return [elimination(t.reshape(self.starts[0].shape)) for t in self.ensemble.escapes.times]

    @cached_property
    def foretold(self) -> list[Pairs]:
        """The same by sequential elimination of the starts."""
        study = self.study
        return [elimination(drift_times(self.tensor, M, study.dim, study.lr, study.threshold)) for M in self.starts]

    @property
    def complete(self) -> list[int]:
        """Runs that recovered every spike: only they have an order.

        Where two spikes crossed the threshold in one column, one of them in passing, the order seen is shorter than r and
        counts as not foretold.
        """
        return np.flatnonzero(np.isfinite(self.times.of("last"))).tolist()

    def score(self, foretold: list[Pairs], first_only: bool) -> Share:
        """Complete runs whose first pair, or whose whole sequence of pairs, was foretold."""
        n = 1 if first_only else self.tensor.rank
        return Share(sum(self.seen[k][:n] == foretold[k][:n] for k in self.complete), len(self.complete))

    @property
    def by_strength(self) -> list[Pairs]:
        """The rival forecast that knows the λ's and no start: spike i in column i, the strongest first."""
        return [[(i, i) for i in range(self.tensor.rank)]] * len(self.seen)

    @cached_property
    def outcomes(self) -> dict[str, Share]:
        """How many runs ended in exact, permutation, subspace or only partial recovery."""
        ends = self.ensemble.trajectory.overlaps[:, -1].reshape(self.starts.shape)
        found = [outcome(M, RECOVERED) for M in ends]
        return {name: Share(found.count(name), len(found)) for name in OUTCOMES}
