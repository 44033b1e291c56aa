"""The overlap chain: the exact law of high-dimensional SGD in r + 1 numbers, at any d, at O(r) work a sample (theory §5).

    α ← (α + Σ_b h_b (ξ_b - s_b α)) / √(1 + ‖Σ_b h_b (x_b - s_b w)‖²),   h_b = (δ/d) g(y_b, s_b),   b = 1 … B

needs of the input only ξ = Uᵀx, a = x·w_⊥/|w_⊥| and, once a batch, a χ² with d - r - 1 degrees of freedom for the rest. No
approximation: (α_t) has the law of ``sims.sgd.OnlineSGD``. The clock t counts samples. For a ``SmoothedNeuron`` g is a
function of ‖x‖² = |ξ|² + a² + χ² too: the χ² must be that of one input, B = 1.
"""

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from time import perf_counter
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray
from tqdm import tqdm

from solvers._chain_kernels import DIVERGED, IDLE, LANES, RUNNING, follow_chain, run_chain
from theory.errors import DivergedError, require
from theory.learners import SmoothedNeuron
from theory.lower import compile_gradient_lanes, compile_law_lanes
from theory.normals import fill_normals, make_generator, seed_lane
from theory.population import Model
from theory.replicas import replica_numbers, spike_mask
from theory.results import Ensemble, EscapeTimes, Trajectory, replica_seed, stream, time_grid

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
START, NOISE = 2, 3  # streams of a replica's seed; sims.sgd takes 0 and 1, so that equal seeds are independent runs
BLOCK_SAMPLES = 1_000_000  # samples of one lane between two looks at the clock, about 0.3 s


@dataclass(frozen=True)
class OverlapChain:
    """The overlaps of online projected SGD in dimension d, learning rate δ (step δ/d), mini-batch size B (summed).

    ``start`` is the overlaps (r,) of the first w; None: w uniform on the sphere. Raises InputError for d below the number
    of spikes + 2, a start outside the ball, or values that are not positive.
    """

    model: Model
    dim: int
    lr: float
    batch: int = 1
    start: Array | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        r = len(self.model.spikes)
        require(r + 2 <= self.dim <= 10**15, "dim", self.dim, f"{r + 2} (spikes + 2) … 10^15")
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        require(1 <= self.batch <= 10**6, "batch", self.batch, "1 … 10^6")
        single = self.batch == 1 or not isinstance(self.model.learner, SmoothedNeuron)
        require(
            single, "batch", self.batch, "1 with the smoothed loss, whose gradient depends on the norm of each input"
        )
        if self.start is not None:
            start = np.asarray(self.start, dtype=float)
            ok = start.shape == (r,) and bool(np.all(np.isfinite(start))) and start @ start <= 1 + 1e-12
            require(ok, "start", start.tolist(), f"{r} finite overlaps with sum of squares <= 1")

    def first_state(self, seed: SeedSequence) -> Array:
        """(α_1 … α_r, q) of the first w of the replica with this seed, q² = 1 - |α|²."""
        r = len(self.model.spikes)
        if self.start is not None:
            alpha = np.asarray(self.start, dtype=float)
            return np.append(alpha, np.sqrt(max(1 - alpha @ alpha, 0)))
        rng = np.random.default_rng(stream(seed, START))
        w = np.append(rng.standard_normal(r), np.sqrt(rng.chisquare(self.dim - r)))
        return w / np.linalg.norm(w)

    def run(
        self,
        runs: int | Sequence[int],
        samples: int,
        seed: int = 0,
        threshold: float = 0.3,
        stop_spikes: Sequence[str] = (),
        times: Integers | None = None,
        threads: int | None = None,
        quiet: bool = True,
    ) -> Ensemble:
        """Run replicas 0 … runs-1, or those listed, for ``samples`` samples each. Ctrl-C keeps the finished ones.

        A replica ends early once all of ``stop_spikes`` have escaped. Overlaps are recorded at ``times`` (default:
        ``time_grid(samples)``; an empty array records nothing), nan after an early end; escapes are exact to the batch.
        Replica i depends on (seed, i) alone. Progress goes to stderr unless ``quiet`` or not a terminal. Raises
        KeyboardInterrupt if nothing had finished, DivergedError if a state is not finite.
        """
        plan = _Plan(
            self, samples, seed, threshold, spike_mask(self.model.spikes, stop_spikes), self._times(samples, times)
        )
        require(threads is None or 1 <= threads <= 1024, "threads", threads, "1 … 1024")
        results, stop, begin = _Results(plan, replica_numbers(runs)), Event(), perf_counter()
        workers = min(threads or len(os.sched_getaffinity(0)), -(-len(results.replicas) // LANES))
        total = len(results.replicas) * samples
        with (
            tqdm(total=total, unit="sample", unit_scale=True, disable=True if quiet else None, desc="chain") as bar,
            ThreadPoolExecutor(workers) as pool,
        ):
            futures = [pool.submit(_work, plan, results, stop, bar) for _ in range(workers)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException as reason:
                stop.set()
                if not isinstance(reason, KeyboardInterrupt):
                    raise
        return results.ensemble(perf_counter() - begin)

    def _times(self, samples: int, times: Integers | None) -> Integers:
        """The asked times that a whole number of batches reaches within the budget."""
        require(1 <= samples <= 10**15, "samples", samples, "1 … 10^15")
        grid = time_grid(samples) if times is None else np.asarray(times, dtype=np.int64)
        require(bool(np.all(np.diff(grid, prepend=-1) > 0)), "times", grid.tolist(), "increasing sample counts >= 0")
        return grid[grid <= samples // self.batch * self.batch]

    def follow(self, xi: Array, y: Array, a: Array, chi_squares: Array) -> Array:
        """(α, q) after every batch, shape (n, r + 1), from ``start``, on given inputs instead of random ones.

        xi (n, B, r); y, a (n, B); chi_squares (n,). On the data of a d-dimensional run this is its trajectory.
        """
        n, _, r = xi.shape
        state = np.repeat(self.first_state(SeedSequence(0))[:, None], LANES, axis=1)
        inputs = np.concatenate([xi, a[:, :, None]], axis=2)
        inputs, labels, chi = (np.repeat(x[..., None], LANES, axis=-1) for x in (inputs, y, chi_squares))
        states = np.empty((n, r + 1, LANES))
        step = np.full(LANES, self.lr / self.dim)
        follow_chain(*compile_gradient_lanes(self.model.learner, self.dim), state, step, inputs, labels, chi, states)
        return states[:, :, 0]


@dataclass(frozen=True)
class _Plan:
    """What all replicas of one call share; the model is compiled here, in the calling thread."""

    chain: OverlapChain
    samples: int
    seed: int
    threshold: float
    stop_mask: NDArray[np.bool_]
    times: Integers

    def __post_init__(self) -> None:
        require(np.isfinite(self.threshold) and self.threshold > 0, "threshold", self.threshold, "a finite number > 0")
        self.compiled  # noqa: B018 - fills the cache

    @cached_property
    def compiled(self) -> tuple[Any, Any, Array, Array, int]:
        """law, gradient, the parameters of either, and how many normals the label takes."""
        law, chain = self.chain.model.task.law(), self.chain
        lanes, theta = compile_law_lanes(law)
        gradient, shape = compile_gradient_lanes(chain.model.learner, chain.dim)
        return lanes, gradient, theta, shape, len(law.normals)


class _Results:
    """One row per replica, filled by the threads as replicas finish, and the queue of those not begun."""

    def __init__(self, plan: _Plan, replicas: Integers) -> None:
        n, r = len(replicas), len(plan.chain.model.spikes)
        self.plan, self.replicas, self.pending = plan, replicas, deque(range(n))
        self.overlaps = np.empty((n, len(plan.times), r))
        self.escapes, self.samples = np.empty((n, r), dtype=np.int64), np.full(n, -1)

    def ensemble(self, seconds: float) -> Ensemble:
        """The finished replicas."""
        spikes, finished = self.plan.chain.model.spikes, self.samples >= 0
        if not finished.any():
            raise KeyboardInterrupt
        escapes = np.where(self.escapes < 0, np.inf, self.escapes)[finished]
        return Ensemble(
            Trajectory(spikes, self.plan.times.astype(float), self.overlaps[finished]),
            EscapeTimes(spikes, escapes, self.plan.threshold, self.plan.samples),
            tuple(self.replicas[finished].tolist()),
            not finished.all(),
            seconds,
            int(self.samples[finished].sum()),
        )


class _Lanes:
    """LANES replicas side by side. A lane that is done takes the next; without one it idles: step 0, no barrier."""

    def __init__(self, plan: _Plan) -> None:
        r = len(plan.chain.model.spikes)
        self.plan, self.row = plan, np.full(LANES, -1)
        self.work = make_generator(SeedSequence(0))  # idle lanes draw too
        self.state, self.barrier = np.zeros((r + 1, LANES)), np.full((r + 1, LANES), np.inf)
        self.state[r], self.step = 1.0, np.zeros(LANES)
        self.status, self.clock = np.full(LANES, IDLE), np.zeros(LANES, np.int64)
        self.next_record = np.zeros(LANES, np.int64)
        self.overlaps, self.escapes = np.empty((LANES, len(plan.times), r)), np.empty((LANES, r), np.int64)

    def load(self, lane: int, row: int, replica: int) -> None:
        """Begin a replica."""
        plan, seed = self.plan, replica_seed(self.plan.seed, replica)
        self.row[lane], self.status[lane], self.clock[lane], self.next_record[lane] = row, RUNNING, 0, 0
        self.state[:, lane], self.step[lane] = plan.chain.first_state(seed), plan.chain.lr / plan.chain.dim
        self.barrier[:-1, lane], self.overlaps[lane], self.escapes[lane] = plan.threshold, np.nan, -1
        seed_lane(self.work, lane, stream(seed, NOISE))

    def unload(self, lane: int, results: _Results) -> None:
        """Hand over a finished replica."""
        if self.status[lane] == DIVERGED:
            raise DivergedError(int(self.clock[lane]), self.plan.chain.lr)
        row = self.row[lane]
        results.overlaps[row], results.escapes[row] = self.overlaps[lane], self.escapes[lane]
        results.samples[row] = self.clock[lane]
        self.status[lane], self.step[lane], self.barrier[:, lane] = IDLE, 0.0, np.inf

    def advance(self) -> int:
        """Run until a lane is done or for a fraction of a second; returns the samples of all running lanes."""
        plan, chain = self.plan, self.plan.chain
        law, gradient, theta, shape, n_extra = plan.compiled
        running = int(np.sum(self.status == RUNNING))
        dof = chain.dim - len(chain.model.spikes) - 1
        batches = run_chain(
            fill_normals, law, gradient, theta, shape, self.work, self.state, self.barrier, self.step, chain.batch,
            dof, n_extra, max(BLOCK_SAMPLES // chain.batch, 1), plan.samples, plan.threshold,
            plan.stop_mask, plan.times, self.status, self.clock, self.next_record, self.overlaps, self.escapes,
        )  # fmt: skip
        return batches * chain.batch * running


def _work(plan: _Plan, results: _Results, stop: Event, bar: Any) -> None:
    """One thread: fill the lanes, run them, hand over what is done, until nothing is left."""
    lanes = _Lanes(plan)
    while not stop.is_set():
        for lane in np.flatnonzero(lanes.status == IDLE):
            with suppress(IndexError):  # nothing pending
                row = results.pending.popleft()
                lanes.load(int(lane), row, int(results.replicas[row]))
        if not np.any(lanes.status == RUNNING):
            return
        samples = lanes.advance()
        with bar.get_lock():
            bar.update(samples)
        for lane in np.flatnonzero((lanes.status != RUNNING) & (lanes.status != IDLE)):
            lanes.unload(int(lane), results)
