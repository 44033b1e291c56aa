"""The law of the escape times from a random start, where noise decides: first-passage law for one overlap, SDE for several.

Also the learning rate that minimises the predicted median (``best_rate``), which for order >= 3 lies well above critical.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solvers.fields import Field, SeriesField, accurate_field, fitted_step
from solvers.fokker_planck import FirstPassage
from solvers.fokker_planck import best_rate as best_rate_of_one
from theory.exponents import first_form
from theory.lower import PolynomialMap
from theory.population import Population
from theory.results import EscapeTimes, wilson_interval

Array = NDArray[np.float64]
QUANTILES = (0.1, 0.5, 0.9)
RUNS, SEARCH_RUNS, GRID = 1000, 300, 9
SMALL_STEP = 1e-3
STEPS_A_RUN = 6000  # on average, or fewer runs: some seconds in all
HORIZON = 4.0  # of the time scale on which the flow, or noise, brings the last spike over the threshold
KOLMOGOROV, DIFFUSION = "first-passage law (Kolmogorov equation)", "diffusion (SDE)"


class TooLongError(ArithmeticError):
    """Escape is so slow against relaxation that following trajectories does not pay."""


@dataclass(frozen=True)
class EscapeLaw:
    """One spike: quantiles of its escape time in samples (inf: not within ``budget``), and P(escape within it).

    ``intervals`` are 95 % bootstrap intervals of the quantiles, ``probability_interval`` the 95 % Wilson interval; exact
    laws have intervals of no width.
    """

    spike: str
    quantiles: dict[float, float]
    intervals: dict[float, tuple[float, float]]
    recovery_probability: float
    probability_interval: tuple[float, float]

    @property
    def median(self) -> float:
        """The median escape time in samples."""
        return self.quantiles[0.5]


@dataclass(frozen=True)
class RandomStart:
    """Escape laws of all spikes from a random start; ``runs`` is 0 for the exact law, ``budget`` in samples or inf."""

    laws: tuple[EscapeLaw, ...]
    method: str
    runs: int
    budget: float

    def of(self, spike: str) -> EscapeLaw:
        """The law of one spike."""
        return next(law for law in self.laws if law.spike == spike)


def random_start(
    population: Population, series: bool, dim: float, lr: float, threshold: float, scale: float,
    driven: tuple[str, ...], budget: float | None = None, seed: int = 0,
) -> RandomStart:  # fmt: skip
    """Escape laws at learning rate ``lr``. ``series`` tells whether the truncated series is accurate where the flow goes.

    Without a ``budget`` (samples) the SDE covers four times ``scale``, and up to 4³ times more until half of the runs have
    recovered every spike of ``driven``; the exact law of one overlap needs no horizon.
    """
    spikes = population.model.spikes
    if len(spikes) == 1:
        law = FirstPassage.of(field_of(population, series), dim, lr, threshold)
        return RandomStart((_exact(spikes[0], law, budget),), KOLMOGOROV, 0, np.inf if budget is None else budget)
    horizon = HORIZON * scale if budget is None else budget
    for _ in range(4):
        escapes = _simulate(population, series, dim, lr, threshold, horizon, spikes, RUNS, seed)
        if budget is not None or all(np.isfinite(escapes.quantile(s, 0.5)) for s in driven):
            break
        horizon *= 4
    return RandomStart(tuple(_measured(escapes, s) for s in spikes), DIFFUSION, len(escapes.times), horizon)


def best_rate(
    population: Population, series: bool, dim: float, threshold: float, target: str, rate: float, scale: float
) -> float:
    """The learning rate that minimises the median escape time of ``target`` from a random start.

    One overlap: exactly, by the first-passage law. Several: a parabola through log median against log δ around the best of
    a grid about ``rate``, by the SDE; ``scale`` is the escape time expected there.
    """
    threshold = max(threshold, min(5 / np.sqrt(dim), 0.9))  # noise alone crosses lower ones
    if len(population.model.spikes) == 1:
        return min(
            best_rate_of_one(field_of(population, series), dim, threshold)[0], largest_small_rate(population, dim)
        )
    degree = (first_form(population) or (2, 0.0))[0]
    largest = largest_small_rate(population, dim)
    rates = np.minimum(rate, largest / 2) * np.geomspace(0.25, 2.0 if degree <= 2 else 16.0, GRID)
    rates = rates[rates <= largest * (1 + 1e-9)]
    medians, horizon = np.full(len(rates), np.inf), HORIZON * scale
    for k in np.argsort(np.abs(np.log(rates / rate))):  # outwards: what takes twice the best median is not the best
        escapes = _simulate(population, series, dim, rates[k], threshold, horizon, (target,), SEARCH_RUNS, 1)
        medians[k] = escapes.quantile(target, 0.5)
        horizon = min(horizon, 2 * medians[k])
    seen = np.isfinite(medians)
    if not seen.any():
        return rate
    best = int(np.argmin(medians))
    near = seen & (np.abs(np.arange(len(rates)) - best) <= 2)
    x, y = np.log(rates[near]), np.log(medians[near])
    if near.sum() < 4:
        return float(rates[best])
    curvature, slope, _ = np.polyfit(x, y, 2)
    return float(np.exp(np.clip(-slope / (2 * curvature), x[0], x[-1]))) if curvature > 0 else float(rates[best])


def largest_small_rate(population: Population, dim: float) -> float:
    """δ at which δ² V(0)/d = 10^-3: beyond, steps are too long for a diffusion (docs/ladder.md)."""
    return float(np.sqrt(SMALL_STEP * dim / float(population.variance.coeff_monomial(1))))


def natural_scale(population: Population, dim: float, lr: float, flow_escapes: Array) -> float:
    """Samples on which escape happens: the slowest of the ODE; for order k >= 3 also drift against noise, V d^(k-1)/A²."""
    slowest = float(flow_escapes[np.isfinite(flow_escapes)].max(initial=0.0))
    degree, maximum = first_form(population) or (2, 0.0)
    if degree >= 3:
        variance = float(population.variance.coeff_monomial(1))
        return max(slowest, variance * dim ** (degree - 1) / (degree * maximum) ** 2)
    return slowest or dim * np.log(dim) ** 2 / lr


def field_of(population: Population, series: bool) -> Field:
    """The drift and diffusion to use."""
    return SeriesField(population) if series else accurate_field(population)


@lru_cache(maxsize=32)
def step_of(population: Population, series: bool) -> PolynomialMap:
    """The map that the SDE steps with."""
    return population.lowered_step if series else fitted_step(population)


def _simulate(
    population: Population, series: bool, dim: float, lr: float, threshold: float, horizon: float,
    until: tuple[str, ...], runs: int, seed: int,
) -> EscapeTimes:  # fmt: skip
    from solvers.sde import OverlapSDE

    sde = OverlapSDE(population.model.spikes, step_of(population, series), dim, lr)
    affordable = int(runs * STEPS_A_RUN / sde.steps(horizon))
    if affordable < runs / 10:
        raise TooLongError(
            f"the SDE would take {sde.steps(horizon):.1g} steps a trajectory: one spike relaxes that much faster than the "
            "slowest escapes"
        )
    return sde.run(min(runs, affordable), horizon, seed, threshold, stop_spikes=until).escapes


def _exact(spike: str, law: FirstPassage, budget: float | None) -> EscapeLaw:
    quantiles = {q: law.quantile(q) for q in QUANTILES}
    if budget is not None:
        quantiles = {q: t if t <= budget else np.inf for q, t in quantiles.items()}
    recovered = 1.0 if budget is None else law.recovery_probability(budget)
    return EscapeLaw(spike, quantiles, {q: (t, t) for q, t in quantiles.items()}, recovered, (recovered, recovered))


def _measured(escapes: EscapeTimes, spike: str) -> EscapeLaw:
    n = len(escapes.times)
    return EscapeLaw(
        spike,
        {q: escapes.quantile(spike, q) for q in QUANTILES},
        {q: escapes.quantile_interval(spike, q) for q in QUANTILES},
        1 - escapes.n_censored(spike) / n,
        wilson_interval(n - escapes.n_censored(spike), n),
    )
