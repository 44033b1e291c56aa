"""The driver of chains that run LANES replicas side by side: threads, a queue of replicas, progress, Ctrl-C.

A chain is told apart by its compiled step alone (``Engine``). Replica i depends on (seed, i): not on threads, order, its
lane or its neighbours. The clock t counts samples.
"""

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray
from tqdm import tqdm

from solvers._chain_kernels import DIVERGED, IDLE, RUNNING
from theory.errors import DivergedError, require
from theory.normals import LANES, make_generator, seed_lane
from theory.replicas import replica_numbers
from theory.results import Ensemble, EscapeTimes, Trajectory, replica_seed, stream, time_grid

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
START, NOISE = 2, 3  # streams of a replica's seed; simulations in R^d take 0 and 1: equal seeds are independent runs


class Engine(Protocol):
    """A chain: what the driver needs to know of it."""

    @property
    def dim(self) -> int:
        """d: the step is lr/dim."""
        ...

    @property
    def lr(self) -> float:
        """δ."""
        ...

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the n recorded overlaps, with which its state begins."""
        ...

    @property
    def idle_state(self) -> Array:
        """A state (n_rows,) that step 0 leaves as it is."""
        ...

    def first_state(self, seed: SeedSequence) -> Array:
        """The start (n_rows,) of the replica with this seed."""
        ...

    def advance(self, lanes: "Lanes") -> int:
        """Move all running lanes until one of them is done, or for a fraction of a second: by how many samples each."""
        ...


@dataclass(frozen=True)
class LanePlan:
    """What all replicas of one call share. Raises InputError for values out of range."""

    engine: Engine
    samples: int
    seed: int
    threshold: float
    stop_mask: NDArray[np.bool_]
    times: Integers

    def __post_init__(self) -> None:
        """Check the threshold."""
        require(np.isfinite(self.threshold) and self.threshold > 0, "threshold", self.threshold, "a finite number > 0")

    def run(self, runs: int | Sequence[int], threads: int | None, quiet: bool) -> Ensemble:
        """Run the replicas. Raises KeyboardInterrupt if nothing had finished, DivergedError if a state is not finite."""
        require(threads is None or 1 <= threads <= 1024, "threads", threads, "1 … 1024")
        results, stop, begin = _Results(self, replica_numbers(runs)), Event(), perf_counter()
        workers = min(threads or len(os.sched_getaffinity(0)), -(-len(results.replicas) // LANES))
        total = len(results.replicas) * self.samples
        with (
            tqdm(total=total, unit="sample", unit_scale=True, disable=True if quiet else None, desc="chain") as bar,
            ThreadPoolExecutor(workers) as pool,
        ):
            futures = [pool.submit(_work, self, results, stop, bar) for _ in range(workers)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException as reason:
                stop.set()
                if not isinstance(reason, KeyboardInterrupt):
                    raise
        return results.ensemble(perf_counter() - begin)


def record_times(samples: int, times: Integers | None) -> Integers:
    """The asked times within the budget, or ``time_grid(samples)``. Raises InputError."""
    require(1 <= samples <= 10**15, "samples", samples, "1 … 10^15")
    grid = time_grid(samples) if times is None else np.asarray(times, dtype=np.int64)
    require(bool(np.all(np.diff(grid, prepend=-1) > 0)), "times", grid.tolist(), "increasing sample counts >= 0")
    return grid[grid <= samples]


class Lanes:
    """LANES replicas side by side. A lane that is done takes the next; without one it idles: step 0, no barrier."""

    def __init__(self, plan: LanePlan) -> None:
        n, idle = len(plan.engine.spikes), plan.engine.idle_state
        self.plan, self.row = plan, np.full(LANES, -1)
        self.work = make_generator(SeedSequence(0))  # idle lanes draw too
        self.state, self.barrier = np.repeat(idle[:, None], LANES, axis=1), np.full((len(idle), LANES), np.inf)
        self.step = np.zeros(LANES)
        self.status, self.clock = np.full(LANES, IDLE), np.zeros(LANES, np.int64)
        self.next_record = np.zeros(LANES, np.int64)
        self.overlaps, self.escapes = np.empty((LANES, len(plan.times), n)), np.empty((LANES, n), np.int64)

    def load(self, lane: int, row: int, replica: int) -> None:
        """Begin a replica."""
        plan, engine, seed = self.plan, self.plan.engine, replica_seed(self.plan.seed, replica)
        self.row[lane], self.status[lane], self.clock[lane], self.next_record[lane] = row, RUNNING, 0, 0
        self.state[:, lane], self.step[lane] = engine.first_state(seed), engine.lr / engine.dim
        self.barrier[: len(engine.spikes), lane] = plan.threshold
        self.overlaps[lane], self.escapes[lane] = np.nan, -1
        seed_lane(self.work, lane, stream(seed, NOISE))

    def unload(self, lane: int, results: "_Results") -> None:
        """Hand over a finished replica."""
        if self.status[lane] == DIVERGED:
            raise DivergedError(int(self.clock[lane]), self.plan.engine.lr)
        row = self.row[lane]
        results.overlaps[row], results.escapes[row] = self.overlaps[lane], self.escapes[lane]
        results.samples[row] = self.clock[lane]
        self.status[lane], self.step[lane], self.barrier[:, lane] = IDLE, 0.0, np.inf


class _Results:
    """One row per replica, filled by the threads as replicas finish, and the queue of those not begun."""

    def __init__(self, plan: LanePlan, replicas: Integers) -> None:
        n, r = len(replicas), len(plan.engine.spikes)
        self.plan, self.replicas, self.pending = plan, replicas, deque(range(n))
        self.overlaps = np.empty((n, len(plan.times), r))
        self.escapes, self.samples = np.empty((n, r), dtype=np.int64), np.full(n, -1)

    def ensemble(self, seconds: float) -> Ensemble:
        """The finished replicas."""
        spikes, finished = self.plan.engine.spikes, self.samples >= 0
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


def _work(plan: LanePlan, results: _Results, stop: Event, bar: Any) -> None:
    """One thread: fill the lanes, run them, hand over what is done, until nothing is left."""
    lanes = Lanes(plan)
    while not stop.is_set():
        for lane in np.flatnonzero(lanes.status == IDLE):
            with suppress(IndexError):  # nothing pending
                row = results.pending.popleft()
                lanes.load(int(lane), row, int(results.replicas[row]))
        running = int(np.sum(lanes.status == RUNNING))
        if not running:
            return
        moved = plan.engine.advance(lanes)
        with bar.get_lock():
            bar.update(moved * running)
        for lane in np.flatnonzero((lanes.status != RUNNING) & (lanes.status != IDLE)):
            lanes.unload(int(lane), results)
