"""Population objective of the smoothed loss, at finite d: what averaging over a sphere does to the information exponent.

    Φ_λ(α) = E_z Φ((α + λ Uᵀz) / √(1+λ²))

is a polynomial of the same degree. Averaging α⁴ leaves 6λ²/((d-1)(1+λ²)²) α² ~ 6/(λ² d) α²: the order falls from any even p
to 2, at the price of a small coefficient, of order λ^{-2} d^{-(p-2)/2}; the noise of a pure He_p falls with it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy as sp

from theory.errors import InputError, require
from theory.learners import CorrelationLoss, Neuron, SmoothedNeuron
from theory.lower import PolynomialMap
from theory.population import Model, Population
from theory.smoothing import Array, spherical_average


@dataclass(frozen=True)
class SmoothedPopulation:
    """The series of a model with a ``SmoothedNeuron``, in dimension d, to total degree ``order`` (exact for polynomial σ)."""

    model: Model
    dim: int
    order: int = 20

    def __post_init__(self) -> None:
        """Check learner and dimension."""
        given = self.model.learner
        require(isinstance(given, SmoothedNeuron), "learner", type(given).__name__, "SmoothedNeuron")
        least = len(self.model.spikes) + 2
        require(self.dim >= least, "dim", self.dim, f">= {least} (spikes + 2)")

    @property
    def learner(self) -> SmoothedNeuron:
        """The model's learner."""
        assert isinstance(self.model.learner, SmoothedNeuron)
        return self.model.learner

    @cached_property
    def plain(self) -> Population:
        """The same model without smoothing."""
        return Population(Model(self.model.task, Neuron(self.learner.activation, CorrelationLoss())), self.order)

    @cached_property
    def objective(self) -> sp.Poly:
        """Φ_λ(α) without its constant."""
        averaged = spherical_average(self.plain.objective, self.learner.radius(self.dim), self.dim)
        return averaged - averaged.coeff_monomial(1)

    @cached_property
    def spherical_gradient(self) -> tuple[sp.Poly, ...]:
        """∇Φ_λ - α (α·∇Φ_λ) = E[y G (ξ - s α)]."""
        alphas = [sp.Poly(a, *self.objective.gens, domain=self.objective.domain) for a in self.objective.gens]
        gradient = [self.objective.diff(a) for a in self.objective.gens]
        radial = sum((a * g for a, g in zip(alphas, gradient, strict=True)), self.objective.zero)
        return tuple(g - a * radial for a, g in zip(alphas, gradient, strict=True))

    @cached_property
    def lowered(self) -> PolynomialMap:
        """The spherical gradient as a numeric map α (r,) -> (r,)."""
        return PolynomialMap.from_polys(self.spherical_gradient)

    def step_moments(self, alpha: Array) -> tuple[Array, float]:
        """(E[g (ξ - sα)] (r,), V = E[g²]) at α, by quadrature over latents, ξ, a and χ²: no series, no Φ."""
        law, r = self.model.task.mixture(), len(alpha)
        nodes = 20 if r == 1 else 10  # of each Gauss rule: exact for g² of degree 39 or 19
        x, w = np.polynomial.hermite_e.hermegauss(nodes)
        w = w / w.sum()
        chi, v = chi_square_rule(self.dim - r - 1, nodes)
        grid = np.stack(np.meshgrid(*[x] * (r + 1), chi, indexing="ij"), axis=-1).reshape(-1, r + 2)
        weight = np.stack(np.meshgrid(*[w] * (r + 1), v, indexing="ij"), axis=-1).reshape(-1, r + 2).prod(axis=1)
        slope = self.learner.slope_at(self.dim)
        mean, square = np.zeros(r), 0.0
        for q, (_, label, label_square), centre, spread in zip(
            law.weight, law.label_powers, law.mean, law.variance, strict=True
        ):
            xi, a = centre + np.sqrt(spread) * grid[:, :r], grid[:, r]
            s = xi @ alpha + np.sqrt(max(1 - float(alpha @ alpha), 0.0)) * a
            g = slope(s, np.sum(xi**2, axis=1) + a**2 + grid[:, r + 1])
            mean += q * label * ((weight * g) @ (xi - s[:, None] * alpha))
            square += q * label_square * float(weight @ g**2)
        return mean, square

    def critical_rate(self) -> float:
        """δ_crit = 2 λ_max(Hessian of Φ_λ at 0)/V(0): above it there is only a stationary cloud, as for order 2."""
        zero = np.zeros(len(self.model.spikes))
        hessian = sp.hessian(self.objective.as_expr(), self.objective.gens).subs(dict.fromkeys(self.objective.gens, 0))
        largest = float(np.linalg.eigvalsh(np.array(hessian, dtype=float)).max())
        if largest <= 0:
            allowed, advice = "one that is driven from a random start", "change the sign of its even coefficients"
            raise InputError("activation", self.learner.activation.name, allowed, advice)
        return 2 * largest / self.step_moments(zero)[1]


def chi_square_rule(degrees: int, nodes: int) -> tuple[Array, Array]:
    """Gauss rule for χ² with ``degrees`` degrees of freedom: nodes and weights of sum 1 (Golub & Welsch, Laguerre)."""
    shape, i = degrees / 2 - 1, np.arange(nodes)
    off = np.sqrt(i[1:] * (i[1:] + shape))
    points, vectors = np.linalg.eigh(np.diag(2 * i + 1 + shape) + np.diag(off, 1) + np.diag(off, -1))
    return 2 * points, vectors[0] ** 2
