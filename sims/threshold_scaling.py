"""Escape times measured against d: one subject, one engine, a rate for each d, blind and wrong-sign controls beside.

Medians respect censoring: a median beyond the budget is inf, a lower bound, and does not enter the fit. The clock t counts
samples.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite, log, sqrt

import numpy as np
from numpy.random import SeedSequence
from tqdm import tqdm

from sims.scaling_engines import ENGINES, Job, Subject
from sims.scaling_laws import ScalingFit, fit_scaling
from solvers.random_start import largest_small_rate, natural_scale
from theory.errors import require
from theory.results import Array, Ensemble, EscapeTimes, wilson_interval

CRITICAL, CONSTANT, LOG = "critical", "constant", "log"


@dataclass(frozen=True)
class Study:
    """What to measure: ``lrs`` holds one rate for each of ``dims``; ``budget`` is a factor of the predicted median.

    Only the first of the ``batches`` (sizes B) is fitted and has controls. Points with threshold < 5/√d, which noise alone
    crosses, are measured but not fitted unless ``keep_small``. Raises InputError for values outside their range.
    """

    subject: Subject
    engine: str
    dims: tuple[int, ...]
    lrs: tuple[float, ...]
    batches: tuple[int, ...] = (1,)
    runs: int = 64
    seed: int = 0
    budget: float = 20.0
    keep_small: bool = False
    controls: bool = True
    correction: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        subject, spikes = self.subject, self.subject.model.spikes
        require(self.engine in ENGINES, "engine", self.engine, ", ".join(ENGINES))
        different = len(self.dims) >= 2 and len(set(self.dims)) == len(self.dims)
        require(different, "dims", ",".join(map(str, self.dims)), "two or more different dimensions")
        require(2 <= self.runs <= 10**6, "runs", self.runs, "2 … 10^6")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        require(0 < subject.threshold < 1, "threshold", subject.threshold, "a number between 0 and 1")
        require(
            isfinite(self.budget) and self.budget >= 1, "budget", self.budget, "a factor >= 1 of the predicted median"
        )
        require(subject.target in spikes, "target", subject.target, ", ".join(spikes))
        ok = all(1 <= b <= 10**6 for b in self.batches) and len(set(self.batches)) == len(self.batches) >= 1
        require(ok, "batch", ",".join(map(str, self.batches)), "different whole numbers, 1 … 10^6")
        known = ENGINES[self.engine].minibatches or self.batches == (1,)
        require(known, "batch", ",".join(map(str, self.batches)), f"1 with engine {self.engine}", "take chain or highd")

    def large_enough(self, dim: int) -> bool:
        """Whether the threshold lies beyond what noise alone reaches, 5/√d."""
        return self.subject.threshold >= 5 / sqrt(dim)

    @property
    def random(self) -> bool:
        """Whether the engine's runs differ; the ODE from the typical start is one run."""
        return ENGINES[self.engine].random

    @cached_property
    def jobs(self) -> list[tuple[Job, float]]:
        """Every point to measure, with its predicted median (inf: never, by the theory)."""
        pairs, runs = [], self.runs if self.random else 1
        for dim, lr in zip(self.dims, self.lrs, strict=True):
            predicted = self.subject.predicted(dim, lr)
            unknown = natural_scale(self.subject.population, dim, lr, np.array([inf]))
            samples = self.budget * (predicted if isfinite(predicted) else unknown)
            for batch in self.batches:
                seed = int(SeedSequence(self.seed, spawn_key=(dim, batch)).generate_state(1)[0])
                pairs.append((Job(dim, lr, batch, runs, samples, seed), predicted))
        return pairs

    def check_cost(self, hours: float) -> None:
        """Raise InputError if this takes longer than ``hours`` on these cores: a run about twice its predicted median."""
        require(isfinite(hours) and hours > 0, "hours", hours, "a number > 0")
        cost = ENGINES[self.engine].cost
        seconds = sum(j.runs * cost(j.dim, min(2 * predicted, j.samples)) for j, predicted in self.jobs)
        expected = seconds / len(os.sched_getaffinity(0)) / 3600
        advice = "take --engine sde, smaller --dims, fewer --runs or a larger --kappa, or allow more by --hours"
        require(expected <= hours, "dims", f"about {expected:.2g} hours of work", f"at most {hours:g}", advice)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know."""
        small = [d for d in self.dims if not self.large_enough(d)]
        pairs = list(zip(self.dims, self.lrs, strict=True))
        rough = [d for d, lr in pairs if lr > largest_small_rate(self.subject.population, d)]
        fate = "kept in the fit" if self.keep_small else "not fitted (--keep-small fits them)"
        lines = []
        if small:
            names = ", ".join(map(str, small))
            lines.append(
                f"threshold {self.subject.threshold:g} is below 5/sqrt(d) at d = {names}: noise alone crosses it; {fate}"
            )
        if rough and self.engine == "sde":
            lines.append(
                f"lr is too large for a diffusion at d = {', '.join(map(str, rough))}: take --engine chain there"
            )
        if self.engine == "ode" and any(lr >= self.subject.critical_rate(d) for d, lr in pairs):
            lines.append(
                "lr is not below the critical rate: the ODE never escapes, noise may; give --kappa 0.5 or less"
            )
        return tuple(lines)


def rates(
    subject: Subject, dims: tuple[int, ...], scaling: str, first: float | None, kappa: float | None
) -> list[float]:
    """δ(d): κ δ_crit(d); or ``first`` at the first d, constant or ∝ 1/log d from there.

    ``first`` is by default ½ δ_crit, halved while a smaller rate lets more spikes reach the threshold; κ is 1 for order >= 3,
    which noise helps over the barrier, and that same ratio below.
    """
    critical = [subject.critical_rate(dim) for dim in dims]
    if scaling == CRITICAL:
        require(
            first is None,
            "lr",
            first,
            "auto with --lr-scaling critical",
            "give --kappa, the ratio to the critical rate",
        )
        assert subject.form is not None
        if kappa is None:
            kappa = 1.0 if subject.form[0] >= 3 else subject.moderate_rate(dims[0]) / critical[0]
        require(isfinite(kappa) and kappa > 0, "kappa", kappa, "a number > 0")
        return [kappa * c for c in critical]
    require(kappa is None, "kappa", kappa, "nothing unless --lr-scaling critical", "give --lr, the rate at the first d")
    start = subject.moderate_rate(dims[0]) if first is None else first
    require(isfinite(start) and start > 0, "lr", start, "a number > 0, or auto")
    return [start * (log(dims[0]) / log(dim) if scaling == LOG else 1) for dim in dims]


@dataclass(frozen=True)
class Point:
    """What one job measured; ``predicted`` is the theory's median, ``fitted`` whether the point was offered to the fit."""

    job: Job
    escapes: EscapeTimes
    target: str
    predicted: float
    fitted: bool

    @property
    def times(self) -> Array:
        """Escape times of the target, shape (runs,); inf where censored."""
        return self.escapes.of(self.target)

    @property
    def median(self) -> float:
        """Median in samples, inf beyond the budget."""
        return self.escapes.quantile(self.target, 0.5)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the median."""
        return self.escapes.median_interval(self.target, self.job.seed)


@dataclass(frozen=True)
class Control:
    """A neuron that cannot find the target, run as long as the slowest real run: its crossings are false alarms."""

    kind: str
    activation: str
    job: Job
    crossed: int
    fitted: bool

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the share that crossed."""
        return wilson_interval(self.crossed, self.job.runs)


def false_alarms(controls: list[Control]) -> tuple[int, int]:
    """Crossings and runs at the d that may be fitted; at all d if none may."""
    counted = [c for c in controls if c.fitted] or controls
    return sum(c.crossed for c in counted), sum(c.job.runs for c in counted)


@dataclass(frozen=True)
class Scaling:
    """The points and controls that were finished, and the fit (None: fewer than two usable points)."""

    study: Study
    points: tuple[Point, ...]
    controls: tuple[Control, ...]
    fit: ScalingFit | None
    interrupted: bool


def run_study(study: Study, quiet: bool = True) -> Scaling:
    """Measure every point and its controls. Ctrl-C keeps the finished points; KeyboardInterrupt if there are none."""
    points: list[Point] = []
    controls: list[Control] = []
    costs = [ENGINES[study.engine].cost(job.dim, job.samples) for job, _ in study.jobs]
    form, interrupted = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, left {remaining}", False
    with tqdm(total=sum(costs), disable=True if quiet else None, bar_format=form) as bar:
        try:
            for n, ((job, predicted), cost) in enumerate(zip(study.jobs, costs, strict=True)):
                bar.set_description_str(f"points {n}/{len(costs)}, now d = {job.dim}")
                point, beside = _measure(study, job, predicted)
                points.append(point)
                controls += beside
                bar.update(cost)
        except KeyboardInterrupt:
            interrupted = True
    if not points:
        raise KeyboardInterrupt
    return Scaling(study, tuple(points), tuple(controls), _fit(study, points), interrupted)


def _measure(study: Study, job: Job, predicted: float) -> tuple[Point, list[Control]]:
    engine, subject, leads = ENGINES[study.engine], study.subject, job.batch == study.batches[0]
    escapes = _whole(engine.measure(subject, job))
    fitted = leads and (study.keep_small or study.large_enough(job.dim))
    point = Point(job, escapes, subject.target, predicted, fitted)
    if not (study.controls and study.random and leads):
        return point, []
    slowest = replace(job, samples=max(1.0, min(job.samples, float(point.times.max()))))
    beside = []
    for kind, control in subject.controls.items():
        escapes = _whole(engine.measure(control, slowest))
        crossed = job.runs - escapes.n_censored(subject.target)
        beside.append(Control(kind, control.model.learner.activation.name, slowest, crossed, fitted))
    return point, beside


def _whole(result: Ensemble | EscapeTimes) -> EscapeTimes:
    """Escape times of all replicas: those that an interrupted ensemble had finished are its fastest, a biased sample."""
    if isinstance(result, EscapeTimes):
        return result
    if result.interrupted:
        raise KeyboardInterrupt
    return result.escapes


def _fit(study: Study, points: list[Point]) -> ScalingFit | None:
    """The fit; a threshold at finite η√d shortens the last leg by a share ∝ d^(-(k-2)/2), the correction for order k >= 3."""
    used = [p for p in points if p.fitted]
    degree = study.subject.form[0] if study.subject.form else 2
    power = max(degree - 2, 1) / 2 if study.correction else 0.0
    return fit_scaling(np.array([float(p.job.dim) for p in used]), [p.times for p in used], study.seed, power)
