"""Runs a study of escape times point by point, and keeps the runs in a store if there is one."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import isfinite

import numpy as np
from tqdm import tqdm

from sims.escape_study import Control, EscapeStudy, Job, Point, Scaling
from theory.archive import completed
from theory.results import EscapeTimes
from theory.scaling_laws import fit_scaling
from theory.store import FINISHED, Run, Store
from theory.store import Point as Kept
from theory.store_payload import plain_times, times_array

PROGRAM = "sims.scaling"
CHUNK_SECONDS, LEAST = 10.0, 32  # of runs that a kill may lose; two threads of sixteen lanes
Measured = list[tuple[str, str, EscapeTimes]]  # kind of learner, its activation, its escape times


def run_study(study: EscapeStudy, quiet: bool = True, store: Store | None = None) -> Scaling:
    """Measure every point and its controls, or take from ``store`` what it has of them, and keep there what it has not.

    Ctrl-C keeps the finished points; KeyboardInterrupt if there are none.
    """
    points: list[Point] = []
    controls: list[Control] = []
    costs = [study.seconds(job) for job, _ in study.jobs]
    form, interrupted = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, left {remaining}", False
    with tqdm(total=sum(costs), disable=True if quiet else None, bar_format=form) as bar:
        try:
            for n, ((job, predicted), cost) in enumerate(zip(study.jobs, costs, strict=True)):
                bar.set_description_str(f"points {n}/{len(costs)}, now d = {job.dim}")
                point, beside = _measure(study, job, predicted, store)
                points.append(point)
                controls += beside
                bar.update(cost)
                if study.gives_up and not isfinite(point.median):
                    break
        except KeyboardInterrupt:
            interrupted = True
    if not points:
        raise KeyboardInterrupt
    used = [p for p in points if p.fitted]
    dims, times = np.array([float(p.job.dim) for p in used]), [p.times for p in used]
    return Scaling(
        study, tuple(points), tuple(controls), fit_scaling(dims, times, study.seed, study.finite_size), interrupted
    )


def _measure(study: EscapeStudy, job: Job, predicted: float, store: Store | None) -> tuple[Point, list[Control]]:
    leads = job.batch == study.batches[0]
    fitted = leads and study.fits(job.dim)
    ((_, _, escapes),) = recalled(study, job, "runs", lambda part: [("", "", study.measure(part))], store)
    point = Point(job, escapes, study.target, predicted, fitted)
    if not (leads and study.has_controls):
        return point, []
    slowest = replace(job, samples=max(1.0, min(job.samples, float(point.times.max()))))
    controls = [
        Control(kind, activation, slowest, job.runs - escapes.n_censored(study.target), fitted)
        for kind, activation, escapes in recalled(study, slowest, "controls", study.measure_controls, store)
    ]
    return point, controls


def recalled(
    study: EscapeStudy, job: Job, part: str, measure: Callable[[Job], Measured], store: Store | None
) -> Measured:
    """What ``measure`` gives for a job, from the store where it has the runs. KeyboardInterrupt if any is missing."""
    if store is None:
        return measure(job)
    config = {
        **study.record, "model": study.fingerprint, "format": 1, "part": part, "engine": study.engine, "target": study.target,
        "threshold": study.threshold, "dim": job.dim, "lr": job.lr, "batch": job.batch, "samples": float(job.samples),
        "seed": job.seed,
    }  # fmt: skip
    point = Kept.of(PROGRAM, config, job.runs, study.seconds(job))

    def compute(replicas: list[int]) -> list[Run]:
        found = measure(replace(job, first=replicas[0], runs=len(replicas)))
        return [_row(point.hash, replica, k, study.target, found) for k, replica in enumerate(replicas)]

    rows, interrupted = completed(store, point, compute, max(LEAST, int(CHUNK_SECONDS / study.seconds(job))))
    if interrupted or not rows:
        raise KeyboardInterrupt
    return _measured([json.loads(row.result) for row in rows])


def _row(point: str, replica: int, k: int, target: str, found: Measured) -> Run:
    """Run k of what was measured."""
    kinds = [
        {
            "kind": kind, "activation": activation, "spikes": list(e.spikes), "threshold": e.threshold, "budget": e.budget,
            "times": plain_times(e.times[k].tolist()),
        }
        for kind, activation, e in found
    ]  # fmt: skip
    times = [e.of(target)[k] for *_, e in found]
    samples = sum(float(min(t, e.budget)) for t, (*_, e) in zip(times, found, strict=True))
    return Run(point, replica, FINISHED, json.dumps(kinds), not all(map(isfinite, times)), samples, 0.0)


def _measured(rows: list[list[dict]]) -> Measured:
    """The runs of every kind of learner, put together again."""
    return [
        (first["kind"], first["activation"], EscapeTimes(
            tuple(first["spikes"]), times_array([row[k]["times"] for row in rows]),
            first["threshold"], first["budget"],
        ))
        for k, first in enumerate(rows[0])
    ]  # fmt: skip
