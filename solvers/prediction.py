"""What the theory predicts for one model, dimension and learning rate: escape times, thresholds, fixed points, reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.ode import FlowRun, best_signs, run_converged, settle
from theory.errors import InputError, require
from theory.exponents import Staircase, ThresholdLaw, Verdict, critical_rate, driving_forms, first_form
from theory.population import Model, Population
from theory.quadrature import tail_bound
from theory.results import Result
from theory.summaries import ABSENT, Summary, samples_text

if TYPE_CHECKING:
    from solvers.random_start import EscapeLaw, RandomStart

Array = NDArray[np.float64]
MAX_HALVINGS = 6


@dataclass(frozen=True)
class Direction:
    """One spike: information exponent, rank in the staircase, status with its reason, fixed point, escape in samples."""

    spike: str
    information_exponent: int | None
    order_reached: int | None
    waits_for: tuple[str, ...]
    law: ThresholdLaw | None
    status: str
    reason: str
    fixed_point: float
    escape_samples: float


@dataclass(frozen=True)
class Baseline:
    """The spike v alone, at its own learning rate: what the accelerated case is compared with.

    From a random start ``random`` is its escape law at its own best rate ``random_lr``; otherwise both are None.
    """

    law: ThresholdLaw | None
    lr: float
    escape_samples: float
    random_lr: float | None = None
    random: "EscapeLaw | None" = None


@dataclass(frozen=True, repr=False)
class Prediction(Result):
    """Everything ``python -m solvers.predict`` prints; times in samples, inf where it never happens.

    ``flow`` and the directions' escape times are the ODE's from ``start``. ``random`` holds the escape laws from a random
    start, if they were asked for; ``lr_gain`` is then the predicted median at the rate of ``automatic_rate`` over that at
    ``lr``, if ``lr`` was chosen by the solver.
    """

    model: Model
    population: Population
    dim: int
    lr: float
    lr_critical: float | None
    threshold: float
    start: Array
    method: str
    series_gap: float
    tail_bound: float
    flow: FlowRun
    directions: tuple[Direction, ...]
    baseline: Baseline | None
    warnings: tuple[str, ...] = ()
    random: "RandomStart | None" = None
    lr_gain: float | None = None

    @property
    def target(self) -> Direction | None:
        """The cumulant spike v, if the task has one."""
        return next((d for d in self.directions if d.spike == "v"), None)

    def law_of(self, spike: str) -> "EscapeLaw | None":
        """Escape law of one spike from a random start, if that was asked for."""
        return None if self.random is None else self.random.of(spike)

    @property
    def speedup(self) -> float | None:
        """Escape time of v alone over its escape time here (medians from a random start); None if either never happens."""
        if self.baseline is None or self.target is None:
            return None
        times = self.baseline.escape_samples, self.target.escape_samples
        if self.random is not None and self.baseline.random is not None:
            times = self.baseline.random.median, self.random.of("v").median
        return times[0] / times[1] if np.all(np.isfinite(times)) and times[1] > 0 else None

    def summary(self) -> Summary:
        """Law, status and escape in samples of every spike; model, speed-up and warnings."""
        head = ("spike", "threshold law", "status", "ODE", "α at end")
        laws = () if self.random is None else ("random start: median", "10 %", "90 %", "P(recovery)")
        rows = [
            (
                d.spike, str(d.law or ABSENT), d.status, samples_text(d.escape_samples), f"{d.fixed_point:.3f}",
                *self._law_cells(d.spike),
            )
            for d in self.directions
        ]  # fmt: skip
        what = "ODE, typical starts" if self.random is None else "medians from random starts"
        gain = (
            () if self.speedup is None or len(rows) == 1 else (f"speed-up over v alone ({what}): {self.speedup:.4g}",)
        )
        title = f"Prediction: d = {self.dim}, lr = {self.lr:.4g}, threshold {self.threshold:g}; escapes in samples"
        notes = (self.model.describe(), *gain, *(f"warning: {line}" for line in self.warnings))
        return Summary(title, (*head, *laws), tuple(rows), notes)

    def _law_cells(self, spike: str) -> tuple[str, ...]:
        law = self.law_of(spike)
        if law is None or self.random is None:
            return ()
        times = (samples_text(law.quantiles[q], self.random.budget) for q in (0.5, 0.1, 0.9))
        return (*times, f"{law.recovery_probability:.3g}")

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw the flow and, from a random start, median and 10 … 90 % of every escape. Returns the Matplotlib axes."""
        from theory.drawing import mark_laws, mark_threshold

        axes = self.flow.plot(ax, log)
        mark_threshold(axes, self.threshold, named=log)
        if self.random is not None:
            mark_laws(axes, self.threshold, {law.spike: law.quantiles for law in self.random.laws})
        return axes

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row a spike, times in samples: the summary to the last digit (needs pandas)."""
        from solvers.prediction_tables import prediction_frame

        return prediction_frame(self)

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset``: the flow's, and escape quantiles (quantile, spike) from a random start (needs xarray)."""
        from solvers.prediction_tables import prediction_dataset

        return prediction_dataset(self)


def predict(
    model: Model,
    dim: int = 1000,
    lr: float | None = None,
    threshold: float = 0.3,
    order: int = 20,
    start: Array | None = None,
) -> Prediction:
    """Predict escape times and thresholds of one neuron from the population flow (theory §3, §6).

    Parameters: ``dim`` d >= 10; ``lr`` the learning rate δ (step δ/d), None for the automatic one (half the critical rate,
    halved further while that brings more spikes above the threshold); ``threshold`` the overlap of weak recovery;
    ``order`` of the series; ``start`` overlaps (r,), None for d^(-1/2) on every spike with the signs that are attracted.
    Raises InputError for values outside their range.
    """
    require(isinstance(dim, (int, np.integer)) and 10 <= dim <= 10**12, "dim", dim, "a whole number, 10 … 10^12")
    require(0 < threshold < 1, "threshold", threshold, "a number between 0 and 1")
    require(lr is None or (np.isfinite(lr) and 0 < lr <= 1e6), "lr", lr, "a number > 0 (at most 1e6), or auto")
    typical = start is not None or threshold > dim**-0.5
    require(
        typical, "threshold", threshold, f"above d^(-1/2) = {dim**-0.5:.3g}, where a start lies", "raise it or --dim"
    )
    population = Population(model, order)
    _require_visible_order(population)
    origin = best_signs(population, dim**-0.5) if start is None else np.asarray(start, dtype=float)
    critical_rates = _critical_rates(population, dim, threshold)
    critical = max(critical_rates, default=None)
    rate = lr if lr is not None else _fastest_rate(population, critical_rates, dim, origin, threshold)
    ode, flow, method, gap = run_converged(population, dim, rate, origin, threshold)
    stairs = Staircase(population, ode, lambda a, active: settle(population, dim, rate, a, active), dim**-0.5)
    return Prediction(
        model, population, dim, rate, critical, threshold, origin, method, gap,
        tail_bound(population, _into_ball(flow.end)), flow, _directions(stairs, flow, threshold),
        _baseline(population, dim, threshold, flow if len(model.spikes) == 1 and lr is None else None, rate),
        _warnings(dim, threshold, rate, critical),
    )  # fmt: skip


def predict_random(
    model: Model,
    dim: int = 1000,
    lr: float | None = None,
    threshold: float = 0.3,
    order: int = 20,
    budget: float | None = None,
    seed: int = 0,
) -> Prediction:
    """Predict with the laws of the escape times from a random start, where noise decides (theory §4).

    ``lr`` None: the rate that minimises the predicted median of v (of the last driven spike, where v is not). ``budget``:
    samples within which recovery counts. The ODE's answer from the typical start stands beside. Raises InputError.
    """
    from solvers.random_start import TooLongError, best_rate, natural_scale, random_start

    require(budget is None or (np.isfinite(budget) and budget >= 1), "budget", budget, "a number of samples >= 1")
    result = predict(model, dim, lr, threshold, order)
    population, series = result.population, result.method == "series"
    scale = natural_scale(population, dim, result.lr, result.flow.escape_samples)
    goals, gain = _goals(result), None

    def law_at(rate: float, within: float | None) -> "RandomStart":
        return random_start(population, series, dim, rate, threshold, scale, goals, within, seed)

    try:
        if lr is None and goals:
            before = law_at(result.lr, None)
            rate = best_rate(population, series, dim, threshold, goals[-1], result.lr, scale)
            result = predict(model, dim, rate, threshold, order)
            law = after = law_at(rate, None)
            gain = before.of(goals[-1]).median / after.of(goals[-1]).median
        if budget is not None or gain is None:
            law = law_at(result.lr, budget)
    except TooLongError as reason:
        warning = f"no law from a random start: {reason}; the ODE's answer from the typical start stands"
        return replace(result, warnings=(*result.warnings, warning))
    warnings = result.warnings + _random_warnings(result)
    return replace(
        result, random=law, lr_gain=gain, baseline=_random_baseline(result, threshold, law), warnings=warnings
    )


def _random_warnings(result: Prediction) -> tuple[str, ...]:
    from solvers.random_start import largest_small_rate

    limit = largest_small_rate(result.population, result.dim)
    if result.lr <= limit * (1 + 1e-9):
        return ()
    return (
        f"lr {result.lr:.4g} is above {limit:.4g}, where δ² V/d = 0.001: steps that long are no diffusion, the laws from a "
        "random start come out too early (docs/ladder.md); measure them with sims.compare",
    )


def _goals(result: Prediction) -> tuple[str, ...]:
    """The spikes that the flow recovers; last the one whose median ``lr`` auto minimises: v, or else the slowest."""
    recovered = [d for d in result.directions if d.status == "recovered"]
    return tuple(d.spike for d in sorted(recovered, key=lambda d: (d.spike == "v", d.escape_samples)))


def _random_baseline(result: Prediction, threshold: float, own: "RandomStart") -> Baseline | None:
    """The baseline with the exact escape law of v alone at its best rate; its own law if v is alone here."""
    from solvers.random_start import best_rate, random_start

    base = result.baseline
    if base is None or base.law is None:
        return base
    if len(result.model.spikes) == 1:
        return replace(base, random_lr=result.lr, random=own.laws[0])
    alone = result.model.task.alone("v")
    if alone is None:
        return base
    solo = Population(Model(alone, result.model.learner), result.population.order)
    rate = best_rate(solo, True, result.dim, threshold, "v", base.lr, base.escape_samples)
    law = random_start(solo, True, result.dim, rate, threshold, base.escape_samples, ("v",))
    return replace(base, random_lr=rate, random=law.laws[0])


def _critical_rates(population: Population, dim: int, threshold: float) -> list[float]:
    """δ_crit of the form that drives first; where it is of order 1, which has no barrier, also that of the next."""
    forms = list(islice(driving_forms(population), 2))
    return [critical_rate(population, *f, dim, threshold) for f in forms[: 2 if forms and forms[0][0] == 1 else 1]]


def _fastest_rate(
    population: Population, critical_rates: Sequence[float | None], dim: int, start: Array, threshold: float
) -> float:
    """The automatic rate of each critical one; of several, that which recovers most spikes, and these soonest."""
    rates = [automatic_rate(population, c, dim, start, threshold) for c in (critical_rates or [None])]

    def success(rate: float) -> tuple[int, float]:
        times = run_converged(population, dim, rate, start, threshold)[1].escape_samples
        seen = times[np.isfinite(times)]
        return len(seen), -float(seen.max(initial=0.0))

    return max(rates, key=success) if len(rates) > 1 else rates[0]


def automatic_rate(population: Population, critical: float | None, dim: int, start: Array, threshold: float) -> float:
    """½ δ_crit, halved while a smaller rate lets more spikes reach the threshold; 0.1/V(0) if nothing is driven."""
    if critical is None:
        return 0.1 / float(population.variance.coeff_monomial(1))

    def recovered(rate: float) -> int:
        return int((np.abs(settle(population, dim, rate, start)) >= threshold).sum())

    rate = critical / 2
    attainable = recovered(rate / 2**MAX_HALVINGS)
    for _ in range(MAX_HALVINGS):
        if recovered(rate) >= attainable:
            return rate
        rate /= 2
    return rate


def _directions(stairs: Staircase, flow: FlowRun, threshold: float) -> tuple[Direction, ...]:
    verdicts = stairs.verdicts()
    # Spikes that fall in the same stage are ranked by the flow.
    fallen = [
        (v.fall.stage, flow.escape_samples[k], -abs(v.fixed_point), v.spike) for k, v in enumerate(verdicts) if v.fall
    ]
    ranks = {spike: rank for rank, (*_, spike) in enumerate(sorted(fallen), 1)}
    return tuple(_direction(v, ranks.get(v.spike), flow, threshold) for v in verdicts)


def _direction(verdict: Verdict, rank: int | None, flow: FlowRun, threshold: float) -> Direction:
    k = flow.spikes.index(verdict.spike)
    escape, end = float(flow.escape_samples[k]), float(flow.end[k])
    status, reason = verdict.cause, verdict.reason
    if np.isfinite(escape):
        status = "recovered"
        if verdict.cause != "driven":
            reason = f"from zero: {reason}; but this start lies beyond the barrier"
        if abs(end) < threshold:
            reason += f"; only in passing: the flow ends at {end:.3f}"
    elif verdict.cause == "driven" and 1e-5 < abs(end) < threshold:
        status, reason = "below_threshold", f"{reason}, but settles at {end:.3f}, below the threshold {threshold:g}"
    elif verdict.cause == "driven":
        status, reason = _lost(verdict, threshold, at_rest=not flow.segments)
    fall = verdict.fall
    law = fall.law if fall else None
    if fall is None and status in ("noise_activated", "recovered") and verdict.exponent:
        law = ThresholdLaw(verdict.exponent)  # at a fixed ratio of lr to the critical one, noise scales as drift does
    return Direction(
        verdict.spike, verdict.exponent, rank, fall.waits_for if fall else (), law, status, reason, end, escape,
    )  # fmt: skip


def _lost(verdict: Verdict, threshold: float, at_rest: bool) -> tuple[str, str]:
    """Driven in some random starts, or from a better start, but not by the flow from this one."""
    if at_rest:
        return (
            "wrong_sign",
            f"{verdict.reason}, but this start rests at a fixed point of the flow that noise would leave",
        )
    if abs(verdict.fixed_point) < threshold:
        return (
            "below_threshold",
            f"{verdict.reason}, but its fixed point {verdict.fixed_point:.3f} is below the threshold",
        )
    return "wrong_sign", f"{verdict.reason}, but this start lies on the side that is pushed back"


def _baseline(
    population: Population, dim: int, threshold: float, own_flow: FlowRun | None, own_rate: float
) -> Baseline | None:
    task = population.model.task
    alone = task.alone("v") if "v" in task.spikes else None
    if alone is None:
        return None
    solo = Population(Model(alone, population.model.learner), population.order)
    form = first_form(solo)
    if form is None:
        return Baseline(None, own_rate, np.inf)
    if own_flow is not None:
        return Baseline(ThresholdLaw(form[0]), own_rate, float(own_flow.escape_samples[0]))
    start = best_signs(solo, dim**-0.5)
    rate = automatic_rate(solo, critical_rate(solo, *form, dim, threshold), dim, start, threshold)
    _, flow, *_ = run_converged(solo, dim, rate, start, threshold, stop_at_escape=True)
    return Baseline(ThresholdLaw(form[0]), rate, float(flow.escape_samples[0]))


def _require_visible_order(population: Population) -> None:
    """An order below the cumulant's would silently drop the very term that is asked about."""
    degree = population.model.task.signal_order
    if population.order < degree:
        raise InputError("order", population.order, f"{degree} … 60 for this task", f"--order {degree} or more")


def _into_ball(alpha: Array) -> Array:
    return alpha / max(1.0, float(np.linalg.norm(alpha)))


def _warnings(dim: int, threshold: float, lr: float, critical: float | None) -> tuple[str, ...]:
    lines = []
    if threshold < 5 / np.sqrt(dim):
        lines.append(
            f"threshold {threshold:g} is below 5/sqrt(d) = {5 / np.sqrt(dim):.3g}: noise alone crosses it in simulations"
        )
    if critical is not None and lr > critical:
        lines.append(
            f"lr {lr:.4g} is above the critical {critical:.4g}: the ODE says never (order >= 3: noise may); its own would "
            f"be --lr {critical / 2:.4g}"
        )
    if critical is None:
        lines.append("no spike is driven from a random start: lr auto is only a scale (0.1/V)")
    return tuple(lines)
