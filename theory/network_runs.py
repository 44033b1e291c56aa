"""Replicas of a two-layer network's engine: what one call asks for, how they run, and the ensemble they make.

Shared by the engines, so that budgets, record times, stopping and divergence mean the same in all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from theory.errors import require
from theory.network_results import Divergence, NetworkEnsemble, NetworkTrajectory
from theory.replicas import OnBlock, replica_numbers, run_replicas, spike_mask
from theory.results import EscapeTimes, replica_seed, time_grid

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class NetworkRun(Protocol):
    """One finished replica: recorded R, Q, a, b, a_0 (nan after its end), escape times (-1: not seen), divergence."""

    @property
    def records(self) -> tuple[Array, ...]:
        """(n_times, K, r), (n_times, K, K), (n_times, K), (n_times, K), (n_times, 1)."""
        ...

    @property
    def escapes(self) -> Integers:
        """Samples (r,)."""
        ...

    @property
    def samples(self) -> int:
        """Samples it took."""
        ...

    @property
    def diverged(self) -> Divergence | None:
        """Where a number stopped being finite."""
        ...


@dataclass(frozen=True)
class RunPlan:
    """What all replicas of one call share; ``samples`` and ``times`` are multiples of the engine's grain."""

    spikes: tuple[str, ...]
    samples: int
    times: Integers
    threshold: float
    stop_mask: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        spikes: tuple[str, ...],
        grain: int,
        samples: int,
        threshold: float,
        stop_spikes: Sequence[str],
        times: Integers | None,
    ) -> "RunPlan":
        """Budget and ``times`` (None: ``time_grid``) rounded up to multiples of ``grain``. InputError for bad values."""
        require(1 <= samples <= 10**15, "samples", samples, "1 … 10^15")
        require(np.isfinite(threshold) and threshold > 0, "threshold", threshold, "a finite number > 0")
        grid = time_grid(samples) if times is None else np.asarray(times, dtype=np.int64)
        require(bool(np.all(np.diff(grid, prepend=-1) > 0)), "times", grid.tolist(), "increasing sample counts >= 0")
        last = -(-samples // grain) * grain
        grid = np.unique(-(-grid // grain) * grain)
        return cls(spikes, last, grid[grid <= last], threshold, spike_mask(spikes, stop_spikes))

    def run(
        self,
        work: Callable[[int, SeedSequence, OnBlock], NetworkRun | None],
        runs: int | Sequence[int],
        seed: int,
        label: str,
        threads: int | None,
        quiet: bool,
    ) -> NetworkEnsemble:
        """``work(replica, its seed, on_block)`` for all replicas by ``run_replicas``, BLAS kept to one thread."""
        require(seed >= 0, "seed", seed, "a whole number >= 0")
        listed = replica_numbers(runs).tolist()
        with threadpool_limits(1, user_api="blas"):
            done, seconds = run_replicas(
                lambda i, on_block: work(i, replica_seed(seed, i), on_block),
                listed,
                self.samples,
                label,
                threads,
                quiet,
            )
        rows = list(done.values())
        R, Q, a, b, output = (np.stack(parts) for parts in zip(*(row.records for row in rows), strict=True))
        escapes = np.stack([row.escapes for row in rows]).astype(float)
        escapes[escapes < 0] = np.inf
        return NetworkEnsemble(
            NetworkTrajectory(self.spikes, self.times.astype(float), R, Q, a, b, output[..., 0]),
            EscapeTimes(self.spikes, escapes, self.threshold, self.samples),
            tuple(done),
            len(done) < len(listed),
            seconds,
            sum(row.samples for row in rows),
            tuple(row.diverged for row in rows if row.diverged),
        )
