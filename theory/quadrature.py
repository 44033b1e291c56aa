"""The population objective by quadrature over the latents: independent of the Hermite series, and valid where it diverges.

Given the latents q, ξ ~ N(m_q, diag(c_q)), so s = w·x ~ N(μ, τ²) with μ = α·m_q, τ² = 1 - |α|² + sum_a α_a² c_{q,a}, and
E[ξ_a | s, q] = m_{q,a} + α_a c_{q,a} (s - μ)/τ². What remains are one-dimensional integrals over s, split at the kinks.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from theory.activations import ScalarFunction
from theory.hermite import gaussian_density
from theory.population import Model
from theory.tasks import Mixture

Array = NDArray[np.float64]
REACH = 9.0


@dataclass(frozen=True)
class LatentQuadrature:
    """Φ, its spherical gradient and V at numerical overlaps α, shape (r,), |α| <= 1.

    ``n_nodes`` in s are shared by the panels between kinks: 128 give 1e-12 even for tanh with its poles at ±iπ/2.
    """

    model: Model
    n_nodes: int = 128

    @cached_property
    def _mixture(self) -> Mixture:
        return self.model.task.mixture()

    def _given(self, alpha: Array) -> "_Preactivation":
        return _Preactivation(self._mixture, np.asarray(alpha, dtype=float), self.n_nodes)

    def objective(self, alpha: Array) -> float:
        """Φ(α) = sum_n E[y^n h_n(s)], its constant included."""
        law = self._given(alpha)
        return sum(law.mean(h, n)[0] for n, h in self.model.learner.objective.items())

    def flow(self, alpha: Array) -> Array:
        """∇Φ - α (α·∇Φ) = E[g (ξ - s α)], shape (r,)."""
        law = self._given(alpha)
        parts = [law.mean_with_projections(h, n) for n, h in self.model.learner.slope.items()]
        return np.sum(parts, axis=0)

    def variance(self, alpha: Array) -> float:
        """V(α) = E[g²]."""
        law = self._given(alpha)
        return sum(law.mean(f, n)[0] for n, f in self.model.learner.slope_squared.items())


class _Preactivation:
    """Law of s given each node of the mixture, at fixed overlaps."""

    def __init__(self, mixture: Mixture, alpha: Array, n_nodes: int) -> None:
        self.mixture, self.alpha, self.n_nodes = mixture, alpha, n_nodes
        self.mean_s = mixture.mean @ alpha
        spread = 1 - alpha @ alpha + mixture.variance @ alpha**2
        self.std_s = np.sqrt(np.maximum(spread, 1e-18))

    def _grid(self, kinks: tuple[float, ...]) -> tuple[Array, Array]:
        """Nodes z, shape (n_q, m), and weights including φ(z), with the kinks of h(μ + τ z) between panels."""
        x, w = np.polynomial.legendre.leggauss(self.n_nodes // (len(kinks) + 1))
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

    def _label(self, power: int) -> Array:
        return self.mixture.weight * self.mixture.label_powers[:, power]
