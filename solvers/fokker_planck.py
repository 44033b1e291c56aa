"""First-passage law of one overlap: the Kolmogorov equation of its diffusion, by finite volumes (theory §4).

    dα = b dt + √(2a) dB,    b = (δ/d) flow(α) - (δ²/2d) V(α) α,    a = ½ (δ/d)² D(α)            (t in samples)

on (-η, η), absorbed ("recovered") at either end, on the nodes α = sinh(ξ)/√d with ξ evenly spaced. Where drift has won, the
rest of the way to η takes a time of which only mean and variance are kept: the mesh ends there, and the cost, some
milliseconds, does not depend on d.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import make_interp_spline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import stdtr

from solvers.birth_death import Absorption, Chain
from solvers.fields import Field
from theory.errors import require

Array = NDArray[np.float64]
SAMPLED_CELLS = 8  # the field is evaluated this often per unit of ξ, and interpolated by quintic splines
BALLISTIC = 100.0  # where bα/a stays above it up to η, the rest of the way is drift with small noise
MAX_ITERATIONS = 1000
START_REACH = 4.0  # standard deviations of a random start that lie inside the part with full noise


@dataclass(frozen=True)
class Interval:
    """A field of one overlap on the mesh of (-η, η), ``cells`` per unit of ξ = asinh(α√d); no learning rate yet.

    Raises InputError for d < 3, a threshold outside (0, 1), or one up to which the field's diffusion is not positive.
    """

    field: Field
    dim: float
    threshold: float = 0.3
    cells: int = 64

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(3 <= self.dim <= 1e15, "dim", self.dim, "a number, 3 … 1e15")
        require(0 < self.threshold < 1, "threshold", self.threshold, "a number between 0 and 1")
        require(8 <= self.cells <= 4096, "cells", self.cells, "8 … 4096 per unit of asinh(α√d)")

    @cached_property
    def alpha(self) -> Array:
        """Nodes, shape (n + 2,); the first and the last are ∓η."""
        reach = np.arcsinh(self.threshold * np.sqrt(self.dim))
        half = int(np.ceil(reach * self.cells))
        nodes = np.sinh(reach * np.arange(-half, half + 1) / half) / np.sqrt(self.dim)
        nodes[[0, -1]] = -self.threshold, self.threshold  # not up to rounding
        return np.asarray(nodes)

    @cached_property
    def coefficients(self) -> Array:
        """Flow, V and D at the nodes, shape (3, n + 2)."""
        xi = np.arcsinh(self.alpha * np.sqrt(self.dim))
        coarse = np.linspace(xi[0], xi[-1], 2 * int(np.ceil(xi[-1] * SAMPLED_CELLS)) + 7)
        rows = []
        for point in np.sinh(coarse[:, None]) / np.sqrt(self.dim):
            (flow,), variance = self.field(point)
            rows.append(
                [flow if abs(flow) > self.field.resolution else 0.0, variance, self.field.diffusion(point)[0, 0]]
            )
        values = np.asarray(make_interp_spline(coarse, rows, k=5)(xi).T)
        advice = "lower it, or take the field by quadrature"
        require(
            bool(np.all(values[2] > 0)), "threshold", self.threshold, "overlaps where the noise is positive", advice
        )
        return values

    @property
    def critical_rate(self) -> float:
        """The δ up to which, on one side at least, drift leads from d^(-1/2) all the way to η; 0 if it never does."""
        flow, variance, _ = self.coefficients
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = 2 * flow / (variance * self.alpha)
        start = self.dim**-0.5
        sides = [rates[side] for side in (self.alpha <= -start, self.alpha >= start) if side.any()]
        return max([0.0, *(float(side.min()) for side in sides)])

    def start_mass(self, start: float | None) -> Array:
        """Mass at the nodes, shape (n + 2,), of a point or (None) of the overlap of a uniform random w; the ends recovered.

        The density of that overlap is ∝ (1-α²)^((d-3)/2).
        """
        if start is not None:
            weight = np.interp(start, self.alpha, np.arange(len(self.alpha), dtype=float))
            return np.maximum(0.0, 1 - np.abs(np.arange(len(self.alpha)) - weight))
        edges = (self.alpha[1:] + self.alpha[:-1]) / 2
        edges[[0, -1]] = self.alpha[[0, -1]]
        # α√(d-1)/√(1-α²) has Student's law with d - 1 degrees of freedom.
        below = stdtr(self.dim - 1, edges * np.sqrt((self.dim - 1) / (1 - edges**2)))
        return np.diff(below, prepend=0, append=1)


@dataclass(frozen=True)
class Cloud:
    """Quasi-stationary law of the overlap before escape: density at the nodes ``alpha``, and its mean escape time in samples.

    Where drift leads to η, the nodes end where the mesh does.
    """

    alpha: Array
    density: Array
    lifetime: float


@dataclass(frozen=True)
class FirstPassage:
    """Law of the first time, in samples, at which |α| >= η, for one overlap at learning rate δ (step δ/d).

    ``start`` is an overlap, or None for that of a uniform random w. Raises InputError for a rate that is not positive or a
    start outside [-1, 1].
    """

    interval: Interval
    lr: float
    start: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        require(self.start is None or abs(self.start) <= 1, "start", self.start, "an overlap, -1 … 1")

    @classmethod
    def of(
        cls, field: Field, dim: float, lr: float, threshold: float = 0.3, start: float | None = None, cells: int = 64
    ) -> "FirstPassage":
        """The law of a field at once; build the ``Interval`` yourself to try several rates."""
        return cls(Interval(field, dim, threshold, cells), lr, start)

    @cached_property
    def _velocity(self) -> tuple[Array, Array]:
        """Drift b and half variance a, per sample, at the nodes."""
        unit, (flow, variance, diffusion) = self.lr / self.interval.dim, self.interval.coefficients
        return unit * (flow - self.lr / 2 * variance * self.interval.alpha), unit**2 / 2 * diffusion

    @cached_property
    def _legs(self) -> tuple[tuple[int, float, float], tuple[int, float, float]]:
        """Where the mesh ends below and above (node), and mean and standard deviation of the time from there to ∓η."""
        alpha, (drift, spread) = self.interval.alpha, self._velocity
        node, mean, deviation = self._leg(-alpha[::-1], -drift[::-1], spread[::-1], -1)
        return (len(alpha) - 1 - node, mean, deviation), self._leg(alpha, drift, spread, 1)

    def _leg(self, alpha: Array, drift: Array, spread: Array, side: int) -> tuple[int, float, float]:
        """Where undisturbed drift to the upper end begins (node); mean and deviation of the time that it takes.

        To first order in the noise, b m' + a m'' = -1 gives the mean ∫ (1 + a b'/b²)/b dα, and the variance is ∫ 2a/b³ dα.
        """
        random = START_REACH * self.interval.dim**-0.5 if self.start is None else 0.0
        undisturbed = (drift * alpha >= BALLISTIC * spread) & (alpha >= random)
        node = len(alpha) - max(1, int(np.argmin(undisturbed[::-1])))
        if node == len(alpha) - 1:
            return node, 0.0, 0.0
        x, a, b, slope = alpha[node:], spread[node:], drift[node:], np.gradient(drift, alpha)[node:]
        begin = x[0] if self.start is None else np.clip(side * self.start, x[0], x[-1])
        mean, variance = (
            np.interp(begin, x, total[-1] - total)
            for total in cumulative_trapezoid([(1 + a * slope / b**2) / b, 2 * a / b**3], x, initial=0)
        )
        return node, float(mean), float(np.sqrt(variance))

    @cached_property
    def _chain(self) -> Chain:
        """The chain on the mesh between the legs."""
        (first, *_), (last, *_) = self._legs
        inside = slice(first, last + 1)
        return Chain.of(self.interval.alpha[inside], *(v[inside] for v in self._velocity))

    @cached_property
    def _start(self) -> Array:
        """Mass on that mesh, shape (n + 2,)."""
        (first, *_), (last, *_) = self._legs
        mass = self.interval.start_mass(self.start)
        return np.concatenate([[mass[: first + 1].sum()], mass[first + 1 : last], [mass[last:].sum()]])

    @cached_property
    def _absorption(self) -> Absorption:
        return Absorption.of(self._chain, self._start)

    def _at(self, samples: ArrayLike, derivative: int) -> Array:
        """Recovered share (m, 2) or its rate. The two-point law m ± σ of a leg's time has its mean and variance."""
        times = np.atleast_1d(np.asarray(samples, dtype=float))
        require(bool(np.all(times >= 0)), "samples", samples, "numbers >= 0")
        sides = [
            sum(
                self._absorption.at(times - shift, derivative)[:, side]
                for shift in (mean - deviation, mean + deviation)
            )
            for side, (_, mean, deviation) in enumerate(self._legs)
        ]
        return np.stack(sides, axis=1) / 2

    def recovered(self, samples: ArrayLike) -> Array:
        """P(recovered at -η, at +η within ``samples``), shape (m, 2)."""
        return self._at(samples, 0)

    def survival(self, samples: ArrayLike) -> Array:
        """P(not recovered within ``samples``), shape (m,)."""
        return np.maximum(0.0, 1 - self.recovered(samples).sum(axis=1))

    def density(self, samples: ArrayLike) -> Array:
        """Density of the escape time, per sample, shape (m,)."""
        return self._at(samples, 1).sum(axis=1)

    def recovery_probability(self, budget: float) -> float:
        """P(recovered within ``budget`` samples)."""
        return float(self.recovered(budget).sum())

    def quantile(self, q: float) -> float:
        """Samples within which a share ``q`` recovers; inf if that takes more than e^700 of them."""
        require(0 < q < 1, "quantile", q, "a number between 0 and 1")
        if self.recovery_probability(0) >= q:
            return 0.0
        law, slowest = self._absorption, max(mean + deviation for _, mean, deviation in self._legs)
        waiting = np.log(law.remaining / (1 - q)) if law.remaining > 1 - q else 0.0
        latest = law.end + slowest + (law.lifetime * waiting if waiting else 0.0)
        if np.isinf(latest):
            return np.inf

        def excess(log_time: float) -> float:
            return self.recovery_probability(np.exp(log_time)) - q

        earliest = np.log(min(law.history.x[1], latest) * 1e-3)
        return float(np.exp(brentq(excess, earliest, np.log(latest) + 1e-6, xtol=1e-10)))

    @cached_property
    def log_mean(self) -> float:
        """Log of the mean escape time, directly from the Green's function: finite where the mean itself overflows."""
        legs = float(np.dot(self.final_sides, [mean for _, mean, _ in self._legs]))
        with np.errstate(divide="ignore"):
            return float(np.logaddexp(np.logaddexp.reduce(self._chain.log_occupation(self._start[1:-1])), np.log(legs)))

    @property
    def mean(self) -> float:
        """Mean escape time in samples, inf beyond the range of floats."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_mean))

    @property
    def final_sides(self) -> tuple[float, float]:
        """P(recovered at -η, at +η) when there is no budget."""
        inside = self._start[1:-1]
        up = min(1.0, float(self._start[-1] + inside.sum() * self._chain.share_up(inside)))
        return 1 - up, up

    @cached_property
    def cloud(self) -> Cloud:
        """What the not yet recovered look like after long, by inverse iteration from the start."""
        mass, (first, *_), (last, *_) = self._start[1:-1], *self._legs
        for _ in range(MAX_ITERATIONS):
            log_time = self._chain.log_occupation(mass)
            log_lifetime = np.logaddexp.reduce(log_time)
            previous, mass = mass, np.exp(log_time - log_lifetime)
            if np.abs(mass - previous).sum() < 1e-12:
                break
        alpha = self.interval.alpha[first : last + 1]
        with np.errstate(over="ignore"):
            return Cloud(alpha[1:-1], mass / (alpha[2:] - alpha[:-2]) * 2, float(np.exp(log_lifetime)))


def best_rate(field: Field, dim: float, threshold: float = 0.3) -> tuple[float, float]:
    """The learning rate that minimises the predicted median from a random start, and that median in samples.

    The first minimum of the mean above δ_crit/8, then of the median near it; at most the rate at which one step adds a tenth
    to |w|², as steps must be small and noise alone would cross any threshold. Raises InputError if nothing is driven.
    """
    interval = Interval(field, dim, threshold)
    critical = interval.critical_rate
    require(critical > 0, "lr", "auto", "a number, as no drift leads away from a random start")
    largest = float(np.sqrt(0.1 * dim / interval.coefficients[1, len(interval.alpha) // 2]))
    rates = np.geomspace(critical / 8, max(largest, critical), 60)
    means = np.array([FirstPassage(interval, rate).log_mean for rate in rates])
    rising = np.flatnonzero(np.diff(means) > 0)
    guess = rates[rising[0] if rising.size else -1]

    def log_median(log_rate: float) -> float:
        return float(np.log(min(FirstPassage(interval, np.exp(log_rate)).quantile(0.5), 1e300)))

    bounds = np.log([guess / 3, min(3 * guess, rates[-1])])
    best = minimize_scalar(log_median, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(best.x)), float(np.exp(best.fun))
