"""In what order does SGD learn the levels of a hierarchy: theory and exact chain at several edge correlations.

At each the same neuron, d and learning rate: the ODE (fixed points, ranks), the SDE and the overlap chain (laws of escape
times, overlaps at the end). The order of two spikes is scored run by run.
"""

from dataclasses import dataclass
from itertools import combinations
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.chain import OverlapChain
from solvers.prediction import Prediction, predict
from solvers.random_start import step_of
from solvers.sde import OverlapSDE
from solvers.tables import columns, finite, json_text
from theory.errors import require
from theory.population import Model
from theory.results import Ensemble, EscapeTimes, time_grid, wilson_interval

Array = NDArray[np.float64]
RECORDS, REST = 60, 20  # records in log time, and in the last third, where overlaps are at rest
PATIENCE = 6  # random starts take about twice the time of the typical one, and come to rest later
GOOD_SERIES = 0.02  # of the largest drift along the flow; the polynomial fitted in its place is worse in three overlaps
TIED = 0.01  # the ODE's escape times closer than this fraction are a tie


@dataclass(frozen=True)
class LevelsStudy:
    """What every point shares; ``samples`` None: ``PATIENCE`` times the last escape of the ODE from its typical start."""

    dim: int = 1000
    lr: float = 0.2
    threshold: float = 0.3
    order: int = 20
    runs: int = 200
    samples: int | None = None
    seed: int = 0
    sde_runs: int = 1000


@dataclass(frozen=True)
class Point:
    """One model: the prediction of the ODE, and trajectories of SDE and chain from a random start up to one budget."""

    label: float
    prediction: Prediction
    sde: Ensemble
    chain: Ensemble

    @property
    def correlations(self) -> Array:
        """E[ν_a ν_b]."""
        return np.asarray(self.prediction.model.task.correlations)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Score:
    """The order of two spikes: share of runs in which ``first`` escaped before ``then``, by SDE and chain, with intervals."""

    first: str
    then: str
    predicted: float
    predicted_interval: tuple[float, float]
    measured: float
    measured_interval: tuple[float, float]
    runs: int


def run_study(
    study: LevelsStudy, models: list[tuple[float, Model]], threads: int | None = None, quiet: bool = True
) -> list[Point]:
    """One point for each labelled model. Raises InputError for values outside their range.

    Ctrl-C keeps the whole points, and as the last one whose chain was cut short; KeyboardInterrupt if there are none.
    """
    require(1 <= study.runs <= 10**6, "runs", study.runs, "1 … 10^6")
    require(study.seed >= 0, "seed", study.seed, "a whole number >= 0")
    points: list[Point] = []
    for label, model in models:
        try:
            points.append(_point(study, label, model, threads, quiet))
        except KeyboardInterrupt:
            if not points:
                raise
            break
        if points[-1].chain.interrupted:
            break
    return points


def _point(study: LevelsStudy, label: float, model: Model, threads: int | None, quiet: bool) -> Point:
    p = predict(model, study.dim, study.lr, study.threshold, study.order)
    escapes = [d.escape_samples for d in p.directions if isfinite(d.escape_samples)]
    scale = max(escapes, default=study.dim * np.log(study.dim) ** 2 / study.lr)
    samples = study.samples or int(PATIENCE * scale)
    require(1000 <= samples <= 10**12, "samples", samples, "1000 … 10^12 a run")
    late = np.linspace(2 * samples // 3, samples, REST).astype(np.int64)
    times = np.unique(np.concatenate([time_grid(samples, RECORDS, 2), late]))
    sde = OverlapSDE(model.spikes, step_of(p.population, p.series_gap < GOOD_SERIES), study.dim, study.lr)
    theory = sde.run(study.sde_runs, float(samples), study.seed, study.threshold, times.astype(float), threads=threads)
    chain = OverlapChain(model, study.dim, study.lr)
    truth = chain.run(study.runs, samples, study.seed, study.threshold, times=times, threads=threads, quiet=quiet)
    return Point(label, p, theory, truth)


def overlap_at_rest(ensemble: Ensemble, spike: str) -> tuple[float, float]:
    """Mean |α| over the last third of the budget, and its standard error over the runs."""
    means = np.abs(ensemble.trajectory.of(spike)[:, -REST:]).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else inf


def first_of_two(escapes: EscapeTimes, first: str, then: str) -> tuple[int, int]:
    """Runs in which ``first`` escaped before ``then``, and runs in which either escaped at a time of its own."""
    a, b = escapes.of(first), escapes.of(then)
    return int(np.sum(a < b)), int(np.sum(a != b))


def scores(point: Point) -> list[Score]:
    """Every pair that the ODE puts in an order, the spikes that it never brings over the threshold behind the others.

    Spikes that the ODE leaves below the threshold are ordered by their fixed points.
    """
    found = []
    for first, then in predicted_pairs(point.prediction):
        (hits, n), (seen, runs) = (first_of_two(e.escapes, first, then) for e in (point.sde, point.chain))
        found.append(Score(first, then, *_share(hits, n), *_share(seen, runs), runs))
    return found


def _share(hits: int, n: int) -> tuple[float, tuple[float, float]]:
    return (hits / n, wilson_interval(hits, n)) if n else (np.nan, (0.0, 1.0))


def predicted_pairs(p: Prediction) -> list[tuple[str, str]]:
    """(first, then) for all pairs of driven spikes that are not tied in the ODE."""
    driven = [d for d in p.directions if abs(d.fixed_point) > 1e-5]
    pairs = []
    for a, b in combinations(driven, 2):
        early, late = sorted((a, b), key=lambda d: (d.escape_samples, -abs(d.fixed_point)))
        apart = late.escape_samples > (1 + TIED) * early.escape_samples
        if early.escape_samples == late.escape_samples == inf:
            apart = abs(early.fixed_point) > (1 + TIED) * abs(late.fixed_point)
        if apart:
            pairs.append((early.spike, late.spike))
    return pairs


def whole_order(point: Point) -> tuple[int, int]:
    """Runs in which no pair is against the predicted order, and the runs in which some pair had an order at all."""
    escapes, n = point.chain.escapes, len(point.chain.replicas)
    good, told = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    for first, then in predicted_pairs(point.prediction):
        good &= escapes.of(first) <= escapes.of(then)
        told |= escapes.of(first) != escapes.of(then)
    return int((good & told).sum()), int(told.sum())


def study_table(study: LevelsStudy, points: list[Point], interrupted: bool = False) -> str:
    """For people."""
    learner = points[0].prediction.model.learner
    lines = [
        f"run       d = {study.dim}, lr = {study.lr:g}, threshold {study.threshold:g}, {study.runs} runs of the exact chain, "
        f"{study.sde_runs} of the SDE, random start, seed {study.seed}",
        f"learner   {learner.activation.name}, {learner.loss.name} loss",
    ]
    for point in points:
        lines += ["", point.prediction.model.task.describe(), *_spike_lines(point), *_order_lines(point)]
    if interrupted:
        lines += ["", f"INTERRUPTED: {len(points)} correlations, {len(points[-1].chain.replicas)} runs of the last"]
    return "\n".join(lines) + "\n"


def _spike_lines(point: Point) -> list[str]:
    head = ("spike", "rank", "ODE/samples", "SDE median", "chain median", "95 % interval", "censored", "α* ODE", "|α| SDE",
            "|α| chain", "status")  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for d in point.prediction.directions:
        escapes, theory = point.chain.escapes, point.sde.escapes.quantile(d.spike, 0.5)
        low, high = escapes.median_interval(d.spike)
        rest, error = overlap_at_rest(point.chain, d.spike)
        rows.append((
            d.spike, "-" if d.order_reached is None else str(d.order_reached), _seen(d.escape_samples, "never"),
            _seen(theory), _seen(escapes.quantile(d.spike, 0.5)), f"{_seen(low)} – {_seen(high)}",
            f"{escapes.n_censored(d.spike)}/{len(escapes.times)}", f"{d.fixed_point:.3f}",
            f"{overlap_at_rest(point.sde, d.spike)[0]:.3f}", f"{rest:.3f} ± {1.96 * error:.3f}", d.status,
        ))  # fmt: skip
    return columns(rows)


def _order_lines(point: Point) -> list[str]:
    lines = []
    for s in scores(point):
        low, high = s.measured_interval
        share = f"{s.measured:.3f} [{low:.3f}, {high:.3f}] of {s.runs} runs" if s.runs else "neither in any run"
        lines.append(f"order     {s.first} before {s.then}: SDE {_share_text(s.predicted)}, chain {share}")
    hits, n = whole_order(point)
    if n == 0:
        return [*lines, "order     no pair of spikes to score"]
    low, high = wilson_interval(hits, n)
    return [*lines, f"order     as predicted in all pairs: {hits / n:.3f} [{low:.3f}, {high:.3f}] of {n} runs"]


def _share_text(value: float) -> str:
    return f"{value:.3f}" if isfinite(value) else "neither"


def _seen(value: float, beyond: str = "> budget") -> str:
    return f"{value:.4g}" if isfinite(value) else beyond


def study_json(study: LevelsStudy, points: list[Point], interrupted: bool = False) -> str:
    """``{"schema": 1, "run", "interrupted", "points": [{"corr", "spikes": {name: …}, "pairs": […], …}]}``."""
    return json_text({
        "schema": 1,
        "run": {name: getattr(study, name) for name in ("dim", "lr", "threshold", "order", "runs", "seed")},
        "interrupted": interrupted,
        "points": [_as_dict(point) for point in points],
    })  # fmt: skip


def _as_dict(point: Point) -> dict[str, Any]:
    hits, n = whole_order(point)
    return {
        "corr": point.label,
        "description": point.prediction.model.task.describe(),
        "samples": int(point.chain.escapes.budget),
        "correlations": point.correlations.tolist(),
        "spikes": {d.spike: _spike_dict(point, d.spike) for d in point.prediction.directions},
        "pairs": [
            {"first": s.first, "then": s.then, "sde": finite(s.predicted), "chain": finite(s.measured),
             "chain_ci95": list(s.measured_interval), "runs": s.runs}
            for s in scores(point)
        ],
        "runs": len(point.chain.replicas),
        "order": {"as_predicted": hits, "runs": n, "ci95": list(wilson_interval(hits, n)) if n else None},
    }  # fmt: skip


def _spike_dict(point: Point, spike: str) -> dict[str, Any]:
    d = next(d for d in point.prediction.directions if d.spike == spike)
    escapes, (rest, error) = point.chain.escapes, overlap_at_rest(point.chain, spike)
    return {
        "exponent": d.information_exponent, "rank": d.order_reached, "waits_for": list(d.waits_for), "status": d.status,
        "ode_samples": finite(d.escape_samples), "sde_median": finite(point.sde.escapes.quantile(spike, 0.5)),
        "chain_median": finite(escapes.quantile(spike, 0.5)),
        "chain_median_ci95": [finite(x) for x in escapes.median_interval(spike)], "censored": escapes.n_censored(spike),
        "fixed_point": d.fixed_point, "sde_at_rest": overlap_at_rest(point.sde, spike)[0],
        "chain_at_rest": rest, "chain_at_rest_error": finite(error),
    }  # fmt: skip
