"""Five neurons timed over d by the exact chain, at the best of a few learning rates each: what smoothing gains, and where.

At every d the rate is the best of κ δ_crit(d), κ on a grid around the optimum of the order (theory §4), by the medians of
pilot runs with seeds of their own. Above δ_crit only neurons of order >= 3 escape at large d, hence κ <= 1 for the others.
"""

import json
import sys
from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt

import numpy as np

from solvers.chain import LANES, OverlapChain
from theory.activations import Activation, hermite_mixture, relu
from theory.errors import require
from theory.exponents import critical_rate, first_form
from theory.learners import CorrelationLoss, Neuron, SmoothedNeuron
from theory.population import Model, Population
from theory.results import Array, EscapeTimes
from theory.scaling_laws import ScalingFit, fit_scaling
from theory.smoothed_population import SmoothedPopulation
from theory.tasks import RADEMACHER, MixedCumulant, spiked_cumulant

NO_RECORDS = np.empty(0, dtype=np.int64)
TARGET, INVISIBLE = "v", 1e-9  # β_v of the control
STEEPEST = 3.5  # power of d by which a point is given up before it is begun


@dataclass(frozen=True)
class Subject:
    """A neuron to be timed, and the κ = δ/δ_crit to try, best guess first."""

    name: str
    task: MixedCumulant
    learner: Neuron | SmoothedNeuron
    kappas: tuple[float, ...]

    @property
    def model(self) -> Model:
        """Task and learner."""
        return Model(self.task, self.learner)

    @property
    def control(self) -> Model:
        """The same with an invisible spike."""
        return Model(replace(self.task, beta_v=INVISIBLE), self.learner)

    def critical_rate(self, dim: int, threshold: float) -> float:
        """δ_crit in dimension d."""
        if isinstance(self.learner, SmoothedNeuron):
            return SmoothedPopulation(self.model, dim).critical_rate()
        population = Population(self.model)
        form = first_form(population)
        assert form is not None
        return critical_rate(population, *form, dim, threshold)


@dataclass(frozen=True)
class SmoothingStudy:
    """What to measure: λ = d^radius_power; ``samples`` is what all runs of one point may take together."""

    dims: tuple[int, ...]
    radius_power: float = 0.25
    threshold: float = 0.5
    runs: int = 64
    samples: float = 3e8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(len(set(self.dims)) == len(self.dims), "dims", self.dims, "different dimensions")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        require(2 <= self.runs <= 10**5, "runs", self.runs, "2 … 10^5")
        enough = isfinite(self.samples) and self.samples >= 1000 * self.runs
        require(enough, "samples", self.samples, "a finite number, at least 1000 a run")
        require(0 < self.threshold < 1, "threshold", self.threshold, "a number between 0 and 1")

    @property
    def subjects(self) -> list[Subject]:
        """Pure He_4 and ReLU on the cumulant spike alone, plain and smoothed, and ReLU on correlated latents."""
        alone, together = spiked_cumulant(RADEMACHER), MixedCumulant(corr=0.75)

        def plain(activation: Activation) -> Neuron:
            return Neuron(activation, CorrelationLoss())

        def smooth(activation: Activation) -> SmoothedNeuron:
            return SmoothedNeuron(activation, self.radius_power)

        # E[He_4(ν)] = -2: c_4 < 0 attracts.
        fourth, rectifier = hermite_mixture({4: -1.0}), relu()
        high, low = (4.0, 2.0, 8.0), (0.5, 0.25, 1.0)
        return [
            Subject("He4", alone, plain(fourth), high),
            Subject("He4, smoothed", alone, smooth(fourth), low),
            Subject("ReLU, correlated latents", together, plain(rectifier), (0.25, 0.125, 0.5)),
            Subject("ReLU", alone, plain(rectifier), high),
            Subject("ReLU, smoothed", alone, smooth(rectifier), low),
        ]

    def fitted(self, dim: int) -> bool:
        """Whether the threshold is clear of chance, threshold >= 5/√d."""
        return self.threshold >= 5 / sqrt(dim)


@dataclass(frozen=True)
class Point:
    """Escape times at one d and the rate κ δ_crit; ``crossed`` of as many blind controls passed within the median."""

    dim: int
    kappa: float
    lr: float
    escapes: EscapeTimes
    crossed: int
    fitted: bool

    @property
    def median(self) -> float:
        """Samples; inf if censored."""
        return self.escapes.quantile(TARGET, 0.5)


@dataclass(frozen=True)
class Curve:
    """One neuron over d."""

    name: str
    points: tuple[Point, ...]
    fit: ScalingFit | None


def run_study(study: SmoothingStudy) -> list[Curve]:
    """Measure all five neurons; progress goes to stderr."""
    return [_run_subject(study, subject) for subject in study.subjects]


def _run_subject(study: SmoothingStudy, subject: Subject) -> Curve:
    points: list[Point] = []
    for dim in study.dims:
        if points:
            last = points[-1]
            if last.median * (dim / last.dim) ** STEEPEST * study.runs > study.samples:
                break
        points.append(_run_point(study, subject, dim))
        sys.stderr.write(f"{subject.name}: d = {dim}, median {points[-1].median:.3g} samples\n")
    used = [p for p in points if p.fitted and isfinite(p.median)]
    times: list[Array] = [p.escapes.of(TARGET) for p in used]
    fit = fit_scaling(np.array([float(p.dim) for p in used]), times, study.seed) if len(used) > 1 else None
    return Curve(subject.name, tuple(points), fit)


def _run_point(study: SmoothingStudy, subject: Subject, dim: int) -> Point:
    """Pilots at every κ, each given up at the best median so far; then the runs, and the blind controls.

    Where no pilot comes to its median, a budget's worth of runs shows that there is none.
    """
    critical, budget = subject.critical_rate(dim, study.threshold), study.samples / study.runs
    best, shortest = subject.kappas[0], inf
    for kappa in subject.kappas:
        samples = min(2 * budget, shortest)
        pilot = _time(subject.model, study, dim, kappa * critical, 2 * LANES, samples, study.seed + 1)
        if pilot.quantile(TARGET, 0.5) < shortest:
            best, shortest = kappa, pilot.quantile(TARGET, 0.5)
    lr = best * critical
    longest = 10 * budget if isfinite(shortest) else budget
    escapes = _time(subject.model, study, dim, lr, study.runs, longest, study.seed)
    samples = min(escapes.quantile(TARGET, 0.5), budget)
    blind = _time(subject.control, study, dim, lr, study.runs, samples, study.seed + 2)
    crossed = study.runs - blind.n_censored(TARGET)
    return Point(dim, best, lr, escapes, crossed, study.fitted(dim))


def _time(
    model: Model, study: SmoothingStudy, dim: int, lr: float, runs: int, samples: float, seed: int
) -> EscapeTimes:
    chain = OverlapChain(model, dim, lr)
    return chain.run(runs, int(samples), seed, study.threshold, (TARGET,), NO_RECORDS).escapes


def study_table(curves: list[Curve]) -> str:
    """Two tables in Markdown: the points, and the exponents."""
    lines = ["| neuron | d | κ | δ | median samples | 95 % | censored | controls across |", "|---|" + "---:|" * 7]
    for curve in curves:
        for p in curve.points:
            low, high = p.escapes.median_interval(TARGET)
            lines.append(
                f"| {curve.name} | {p.dim}{'' if p.fitted else ' *'} | {p.kappa:g} | {p.lr:.4g} | {p.median:.3g} "
                f"| {low:.3g} … {high:.3g} | {p.escapes.n_censored(TARGET)} | {p.crossed}/{len(p.escapes.times)} |"
            )
    lines += ["", "\\* threshold below 5/√d: not fitted", ""]
    lines += ["| neuron | exponent k of d^k | 95 % | preferred law |", "|---|---:|---:|---|"]
    for curve in curves:
        if curve.fit:
            low, high = curve.fit.interval
            law = curve.fit.laws[0].law.name if curve.fit.laws else "–"
            lines.append(f"| {curve.name} | {curve.fit.exponent:.2f} | {low:.2f} … {high:.2f} | {law} |")
    return "\n".join(lines) + "\n"


def study_json(study: SmoothingStudy, curves: list[Curve]) -> str:
    """{"schema": 1, "radius_power", "threshold", "curves": [{"name", "exponent", "ci95", "points"}]}; null is infinite."""

    def finite(x: float) -> float | None:
        return x if isfinite(x) else None

    def entry(p: Point) -> dict[str, object]:
        interval = [finite(x) for x in p.escapes.median_interval(TARGET)]
        return {
            "dim": p.dim, "kappa": p.kappa, "lr": p.lr, "median": finite(p.median), "ci95": interval,
            "censored": p.escapes.n_censored(TARGET), "controls_crossed": p.crossed, "fitted": p.fitted,
        }  # fmt: skip

    listed = [
        {
            "name": c.name,
            "exponent": c.fit.exponent if c.fit else None,
            "ci95": [finite(x) for x in c.fit.interval] if c.fit else None,
            "law": c.fit.laws[0].law.name if c.fit and c.fit.laws else None,
            "points": [entry(p) for p in c.points],
        }
        for c in curves
    ]
    record = {
        "schema": 1,
        "radius_power": study.radius_power,
        "threshold": study.threshold,
        "runs": study.runs,
        "curves": listed,
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"
