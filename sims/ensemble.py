"""Replicas of one simulation over threads: one SeedSequence child each, so results do not depend on the thread count."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sims.sgd import OnlineSGD, Replica
from theory.errors import require
from theory.replicas import OnBlock, replica_numbers, run_replicas
from theory.results import Ensemble, EscapeTimes, Trajectory, replica_seed, time_grid


def check_ensemble(runs: int | Sequence[int], samples: int, threads: int | None) -> None:
    """Raise InputError for values that ``run_ensemble`` refuses."""
    replica_numbers(runs)
    require(1 <= samples <= 10**15, "samples", samples, "1 … 10^15")
    require(threads is None or 1 <= threads <= 1024, "threads", threads, "1 … 1024")


def run_ensemble(
    engine: OnlineSGD,
    runs: int | Sequence[int],
    samples: int,
    seed: int = 0,
    threshold: float = 0.3,
    threads: int | None = None,
    quiet: bool = True,
    times: NDArray[np.int64] | None = None,
    stop_spikes: Sequence[str] = (),
) -> Ensemble:
    """Run replicas 0 … runs-1, or those listed, for ``samples`` samples each. Ctrl-C keeps the finished ones.

    Overlaps are recorded at ``times`` (default: ``time_grid(samples)``). A replica ends early once all of ``stop_spikes``
    have escaped: then record nothing (an empty array).

    Progress goes to stderr unless ``quiet`` or not a terminal. Raises KeyboardInterrupt if nothing had finished.
    """
    check_ensemble(runs, samples, threads)
    times = time_grid(samples) if times is None else times
    engine.warm_up()

    def work(replica: int, on_block: OnBlock) -> Replica | None:
        return engine.run(replica_seed(seed, replica), samples, threshold, times, stop_spikes, on_block)

    listed = replica_numbers(runs).tolist()
    done, seconds = run_replicas(work, listed, samples, "SGD", threads, quiet)
    return _collect(engine, done, threshold, samples, len(done) < len(listed), seconds)


def _collect(
    engine: OnlineSGD, done: dict[int, Replica], threshold: float, samples: int, interrupted: bool, seconds: float
) -> Ensemble:
    spikes, order = engine.model.spikes, sorted(done)
    escapes = np.array([done[i].escapes for i in order], dtype=float)
    escapes[escapes < 0] = np.inf
    trajectory = Trajectory(spikes, done[order[0]].times.astype(float), np.stack([done[i].overlaps for i in order]))
    return Ensemble(
        trajectory,
        EscapeTimes(spikes, escapes, threshold, samples),
        tuple(order),
        interrupted,
        seconds,
        sum(done[i].samples for i in order),
    )
