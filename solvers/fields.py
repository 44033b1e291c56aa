"""Where drift and diffusion come from: the lowered Hermite series, or quadrature over the latents."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from theory.hermite import multi_indices
from theory.lower import PolynomialMap
from theory.population import Model, Population
from theory.quadrature import LatentQuadrature

Array = NDArray[np.float64]
RADII, AGREEMENT = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02), 1e-6


class Field(Protocol):
    """Drift and diffusion as functions of α, and the size below which a drift is only rounding."""

    @property
    def resolution(self) -> float:
        """Drifts smaller than this are rounding."""
        ...

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """(∇Φ - α (α·∇Φ), V(α)): shapes (r,) and ()."""
        ...

    def diffusion(self, alpha: Array) -> Array:
        """D(α), shape (r, r), with Cov(Δα) = (δ/d)² D a sample."""
        ...


@dataclass(frozen=True)
class SeriesField:
    """Drift from the truncated Hermite series: its SymPy polynomials, lowered once.

    Near α = 0 a polynomial without small terms keeps its relative accuracy: order 8 at d = 10^12 is still a drift.
    """

    population: Population
    resolution: float = 1e-100

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """(∇Φ - α (α·∇Φ), V(α))."""
        values = self.population.lowered(alpha)
        return values[:-1], float(values[-1])

    def diffusion(self, alpha: Array) -> Array:
        """D(α), shape (r, r)."""
        r, values = len(alpha), self.population.lowered_step(alpha)
        moment = np.zeros((r, r))
        moment[np.tril_indices(r)] = values[r + 1 :]
        return moment + np.tril(moment, -1).T - np.outer(values[:r], values[:r])


def exact_field(model: Model) -> Field:
    """Drift by quadrature over the latents, with nodes enough for 1e-7 at a quarter of the cost of its full accuracy."""
    return LatentQuadrature(model, n_nodes=64)


@dataclass(frozen=True)
class NearAndFar:
    """The series within ``radius`` of the origin, where it keeps the relative accuracy of a tiny drift; quadrature beyond."""

    near: SeriesField
    far: Field
    radius: float
    resolution: float = 1e-100

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """(∇Φ - α (α·∇Φ), V(α))."""
        return self._at(alpha)(alpha)

    def diffusion(self, alpha: Array) -> Array:
        """D(α), shape (r, r)."""
        return self._at(alpha).diffusion(alpha)

    def _at(self, alpha: Array) -> Field:
        return self.near if alpha @ alpha < self.radius**2 else self.far


@lru_cache(maxsize=32)
def accurate_field(population: Population) -> Field:
    """The series where it is complete; else the series as far out as it agrees with quadrature, and that beyond."""
    series = SeriesField(population)
    if population.complete:
        return series
    far = exact_field(population.model)
    directions = np.random.default_rng(0).standard_normal((6, len(population.model.spikes)))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for radius in RADII:
        flows = np.array([[far(radius * e)[0], series(radius * e)[0]] for e in directions])
        if np.abs(flows[:, 0] - flows[:, 1]).max() <= AGREEMENT * np.abs(flows[:, 0]).max() + far.resolution:
            return NearAndFar(series, far, radius)
    return far


def fitted_step(population: Population, degree: int | None = None) -> PolynomialMap:
    """The map ``population.lowered_step`` by least squares on quadrature, for models whose series diverges in the ball.

    Coefficients up to the degree of the task's signal are those of the series, which are exact: near α = 0 the drift must
    keep its relative accuracy. The others are fitted on Chebyshev radii times directions. For three spikes and more the
    degree that can be afforded is low: where the series errs less in the ball than the fit, it is the answer.
    """
    r, series = len(population.model.spikes), population.lowered_step
    degree = degree or {1: 40, 2: 28}.get(r, 12)
    known = {tuple(e): c for e, c in zip(series.exponents.tolist(), series.coefficients.T, strict=True)}
    exact = population.model.task.signal_order
    exponents = np.array([index for k in range(degree + 1) for index in multi_indices(r, k)])
    low = exponents.sum(axis=1) <= exact
    coefficients = np.zeros((len(exponents), len(series.coefficients)))
    coefficients[low] = [known.get(tuple(e), np.zeros(len(series.coefficients))) for e in exponents[low].tolist()]
    points = _ball_points(r, degree)
    monomials = np.prod(points[:, None, :] ** exponents, axis=2)
    targets = np.array([_step_values(accurate_field(population), alpha) for alpha in points])
    rest = np.linalg.lstsq(monomials[:, ~low], targets - monomials[:, low] @ coefficients[low], rcond=1e-12)[0]
    coefficients[~low] = rest
    fit = PolynomialMap(exponents, coefficients.T)
    return fit if r < 3 else min((fit, series), key=lambda step: _error_in_ball(step, population))


def _error_in_ball(step: PolynomialMap, population: Population) -> float:
    """Median distance of its flow from quadrature at 64 random points of the ball."""
    r, field, rng = len(population.model.spikes), accurate_field(population), np.random.default_rng(0)
    directions = rng.standard_normal((64, r))
    points = directions / np.linalg.norm(directions, axis=1)[:, None] * rng.random((64, 1)) ** (1 / r)
    flows = np.array([field(alpha)[0] for alpha in points])
    return float(np.median(np.linalg.norm(step.many(points)[:, :r] - flows, axis=1)))


def _step_values(field: Field, alpha: Array) -> Array:
    flow, variance = field(alpha)
    moment = field.diffusion(alpha) + np.outer(flow, flow)
    return np.concatenate([flow, [variance], moment[np.tril_indices(len(alpha))]])


def _ball_points(r: int, degree: int) -> Array:
    radii = np.cos(np.pi * (2 * np.arange(degree + 1) + 1) / (4 * degree + 4))
    if r == 1:
        return np.concatenate([radii, -radii])[:, None]
    if r == 2:
        angle = 2 * np.pi * np.arange(2 * degree + 3) / (2 * degree + 3)
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        directions = np.random.default_rng(0).standard_normal((12 * degree ** (r - 1) // degree, r))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
    return (radii[:, None, None] * directions).reshape(-1, r)
