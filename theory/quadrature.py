"""The population objective by quadrature over the latents: independent of the Hermite series, and valid where it diverges.

Given the latents q, ξ ~ N(m_q, diag(c_q)), so s = w·x ~ N(μ, τ²) with μ = α·m_q, τ² = 1 - |α|² + sum_a α_a² c_{q,a}, and
E[ξ_a | s, q] = m_{q,a} + α_a c_{q,a} (s - μ)/τ². What remains are one-dimensional integrals over s, split at the kinks.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from theory.activations import ScalarFunction
from theory.hermite import gaussian_density
from theory.laws import Mixture
from theory.population import Model, Population

Array = NDArray[np.float64]
REACH = 9.0
MAX_EXPONENT = 600.0


@dataclass(frozen=True)
class LatentQuadrature:
    """Φ, its spherical gradient and V at numerical overlaps α, shape (r,), |α| <= 1.

    ``n_nodes`` in s are shared by the panels between kinks: 128 give 1e-12 even for tanh with its poles at ±iπ/2.
    Sums of numbers of order one: below ``resolution`` a flow is rounding.
    """

    model: Model
    n_nodes: int = 128
    resolution: float = 1e-14

    @cached_property
    def _mixture(self) -> Mixture:
        return self.model.task.mixture()

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """Flow and V together, on the same nodes."""
        law = self._given(alpha)
        return self._flow(law), self._variance(law)

    def _given(self, alpha: Array) -> "_Preactivation":
        return _Preactivation(self._mixture, np.asarray(alpha, dtype=float), self.n_nodes)

    def objective(self, alpha: Array) -> float:
        """Φ(α) = sum_n E[y^n h_n(s)], its constant included."""
        law = self._given(alpha)
        return sum(law.mean(h, n)[0] for n, h in self.model.learner.objective.items())

    def flow(self, alpha: Array) -> Array:
        """∇Φ - α (α·∇Φ) = E[g (ξ - s α)], shape (r,)."""
        return self._flow(self._given(alpha))

    def variance(self, alpha: Array) -> float:
        """V(α) = E[g²]."""
        return self._variance(self._given(alpha))

    def _flow(self, law: "_Preactivation") -> Array:
        parts = [law.mean_with_projections(h, n) for n, h in self.model.learner.slope.items()]
        return np.sum(parts, axis=0)

    def _variance(self, law: "_Preactivation") -> float:
        return sum(law.mean(f, n)[0] for n, f in self.model.learner.slope_squared.items())

    def diffusion(self, alpha: Array) -> Array:
        """D(α) = E[g² (ξ - s α)(ξ - s α)ᵀ] minus the squared mean, shape (r, r)."""
        law, mean = self._given(alpha), self.flow(alpha)
        parts = [law.mean_with_squares(f, n) for n, f in self.model.learner.slope_squared.items()]
        return np.sum(parts, axis=0) - np.outer(mean, mean)


def tail_bound(population: Population, alpha: Array) -> float:
    """Bound of |Φ(α) - Φ_K(α)| for the series cut at order K, by Cauchy-Schwarz over the orders k > K.

        |sum_{k>K} h_k p_k| <= (E[h²] - sum_{k<=K} h_k²)^½ (‖f/φ‖² - sum_{k<=K} p_k²)^½,

    with h_k the normalised Hermite coefficients of h, f the label-weighted density of s, p_k = E[y^n He_k(s)]/√k!. It is inf
    where ‖f/φ‖² = ∫ f²/φ diverges (variance of s near 2 and beyond: seen here as a value above 1e9), and never below
    the rounding of the two differences.
    """
    model, order = population.model, population.order
    law = LatentQuadrature(model)._given(alpha)
    total = 0.0
    for n, h in model.learner.objective.items():
        exact = h.degree is not None and h.degree <= order
        if exact or (n == 1 and model.task.degree is not None and model.task.degree <= order):
            continue
        squared = ScalarFunction(h.expression**2, h.kinks).normalized_coefficients(0)[0]
        left = squared - np.sum(h.normalized_coefficients(order) ** 2)
        density = law.chi_square(n)
        if density > 1e9:
            return np.inf
        right = density - np.sum(law.hermite_moments(n, order) ** 2)
        total += float(np.sqrt(max(left, 1e-16 * squared) * max(right, 1e-16 * abs(density))))
    return total


@lru_cache
def _legendre(n: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(n)


class _Preactivation:
    """Law of s given each node of the mixture, at fixed overlaps."""

    def __init__(self, mixture: Mixture, alpha: Array, n_nodes: int) -> None:
        self.mixture, self.alpha, self.n_nodes = mixture, alpha, n_nodes
        self.mean_s = mixture.mean @ alpha
        spread = 1 - alpha @ alpha + mixture.variance @ alpha**2
        self.std_s = np.sqrt(np.maximum(spread, 1e-18))
        self._grids: dict[tuple[float, ...], tuple[Array, Array]] = {}

    def _grid(self, kinks: tuple[float, ...]) -> tuple[Array, Array]:
        """Nodes z, shape (n_q, m), and weights including φ(z), with the kinks of h(μ + τ z) between panels."""
        if kinks not in self._grids:
            self._grids[kinks] = self._new_grid(kinks)
        return self._grids[kinks]

    def _new_grid(self, kinks: tuple[float, ...]) -> tuple[Array, Array]:
        x, w = _legendre(self.n_nodes // (len(kinks) + 1))
        cuts = [np.clip((k - self.mean_s) / self.std_s, -REACH, REACH) for k in sorted(kinks)]
        edges = np.stack([np.full_like(self.mean_s, -REACH), *cuts, np.full_like(self.mean_s, REACH)], axis=1)
        half = np.diff(edges, axis=1)[:, :, None] / 2
        z = (edges[:, :-1, None] + half * (1 + x)).reshape(len(edges), -1)
        return z, (half * w).reshape(z.shape) * gaussian_density(z)

    def mean(self, h: ScalarFunction, power: int) -> tuple[float, Array, Array]:
        """E[y^power h(s)], and node by node the E[h | q] and E[h z | q] of s = μ + τ z."""
        z, w = self._grid(h.kinks)
        values = w * h.evaluate(self.mean_s[:, None] + self.std_s[:, None] * z)
        plain, slope = values.sum(axis=1), (values * z).sum(axis=1)
        return float(self._label(power) @ plain), plain, slope

    def mean_with_projections(self, h: ScalarFunction, power: int) -> Array:
        """E[y^power h(s) (ξ - s α)], shape (r,)."""
        _, plain, slope = self.mean(h, power)
        m, c = self.mixture.mean, self.mixture.variance
        projection = m * plain[:, None] + self.alpha * c * (slope / self.std_s)[:, None]
        radial = self.mean_s * plain + self.std_s * slope
        return self._label(power) @ (projection - radial[:, None] * self.alpha)

    def mean_with_squares(self, h: ScalarFunction, power: int) -> Array:
        """E[y^power h(s) (ξ - s α)(ξ - s α)ᵀ], shape (r, r).

        Given q and s = μ + τ z the vector is Gaussian: mean a + b z with a = m - α μ, b = α (c - τ²)/τ, and covariance
        diag(c) - (α c)(α c)ᵀ/τ².
        """
        z, w = self._grid(h.kinks)
        values = w * h.evaluate(self.mean_s[:, None] + self.std_s[:, None] * z)
        plain, once, twice = (self._label(power) * (values * z**k).sum(axis=1) for k in range(3))
        m, c, tau = self.mixture.mean, self.mixture.variance, self.std_s[:, None]
        a, b, shared = m - self.alpha * self.mean_s[:, None], self.alpha * (c - tau**2) / tau, self.alpha * c / tau
        cross = (a.T * once) @ b
        squares = (a.T * plain) @ a + cross + cross.T + (b.T * twice) @ b
        return np.diag(plain @ c) - (shared.T * plain) @ shared + squares

    def hermite_moments(self, power: int, order: int) -> Array:
        """E[y^power He_k(s)]/√k!, k = 0 … order: given q, p_{k+1} = (μ p_k + √k (τ²-1) p_{k-1})/√(k+1)."""
        p = [np.ones_like(self.mean_s), self.mean_s]
        for k in range(1, order):
            p.append((self.mean_s * p[k] + np.sqrt(k) * (self.std_s**2 - 1) * p[k - 1]) / np.sqrt(k + 1))
        return np.array(p[: order + 1]) @ self._label(power)

    def chi_square(self, power: int) -> float:
        """∫ f(s)²/φ(s) ds for the label-weighted density f = sum_q w_q N(μ_q, τ_q²); inf if it diverges or overflows."""
        w, mu, var = self._label(power), self.mean_s, self.std_s**2
        precision = 1 / var[:, None] + 1 / var - 1
        if precision.min() <= 0:
            return np.inf
        lever = mu / var
        exponent = ((lever[:, None] + lever) ** 2 / precision - (mu * lever)[:, None] - mu * lever) / 2
        if exponent.max() > MAX_EXPONENT:
            return np.inf
        return float(w @ (np.exp(exponent) / np.sqrt(np.outer(var, var) * precision)) @ w)

    def _label(self, power: int) -> Array:
        return self.mixture.weight * self.mixture.label_powers[:, power]
