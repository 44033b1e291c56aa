"""An ensemble of SGD runs whose replicas are kept in a store: overlaps as compressed float32, escape times as they are."""

import json
import os
from math import isfinite
from typing import Any

import numpy as np

from sims.ensemble import run_ensemble
from sims.sgd import OnlineSGD
from theory.archive import completed, fingerprint
from theory.results import Ensemble, EscapeTimes, Trajectory, time_grid
from theory.store import FINISHED, Point, Run, Store
from theory.store_payload import pack_overlaps, plain_times, read_times, unpack_overlaps

PROGRAM = "sims.compare"
PARTS = 10  # of the replicas, one of which a kill may lose


def kept_ensemble(
    store: Store, record: dict[str, Any], engine: OnlineSGD, runs: int, samples: int, seed: int, threshold: float,
    threads: int | None, quiet: bool,
) -> Ensemble:  # fmt: skip
    """``run_ensemble``, but for the replicas that the store has; ``record`` is the model as plain values.

    Ctrl-C keeps the finished replicas, in the store too. Raises KeyboardInterrupt if there are none.
    """
    start = None if engine.start is None else engine.start.tolist()
    config = {
        **record, "model": fingerprint(engine.model), "format": 1, "dim": engine.dim, "lr": engine.lr,
        "batch": engine.batch, "start": start, "threshold": threshold, "samples": samples, "seed": seed,
    }  # fmt: skip
    point, spikes = Point.of(PROGRAM, config, runs, 0.0), engine.model.spikes

    def compute(replicas: list[int]) -> list[Run]:
        found = run_ensemble(engine, replicas, samples, seed, threshold, threads, quiet)
        return [_row(point.hash, k, found) for k in range(len(found.replicas))]

    rows, interrupted = completed(
        store, point, compute, max(threads or len(os.sched_getaffinity(0)), -(-runs // PARTS))
    )
    if not rows:
        raise KeyboardInterrupt
    paths = [unpack_overlaps(row.trajectory or b"", len(spikes)) for row in rows]
    return Ensemble(
        Trajectory(spikes, time_grid(samples).astype(float), np.stack(paths).astype(float)),
        EscapeTimes(spikes, read_times([row.result for row in rows]), threshold, samples),
        tuple(row.replica for row in rows),
        interrupted,
        sum(row.seconds for row in rows),
        int(sum(row.samples for row in rows)),
    )


def _row(point: str, k: int, found: Ensemble) -> Run:
    n, times = len(found.replicas), found.escapes.times[k].tolist()
    result, path = json.dumps(plain_times(times)), pack_overlaps(found.trajectory.overlaps[k])
    censored = not all(map(isfinite, times))
    return Run(point, found.replicas[k], FINISHED, result, censored, found.samples / n, found.seconds / n, None, path)
