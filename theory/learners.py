"""Learners: a single neuron on the unit sphere, with its activation and loss; the same with the loss averaged over a sphere.

A loss is given by the objective it maximises per sample, a polynomial in the label y whose coefficients are functions of
the pre-activation; the online gradient g = ∂objective/∂s and g² follow by differentiation, for theory and simulation.
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import NoReturn, Protocol

import numpy as np
import sympy as sp

from theory.activations import Activation, ScalarFunction, Z, relu
from theory.errors import InputError, require
from theory.smoothing import BEYOND, DIM, RADIUS, Array, Slope, polynomial_slope, relu_slope, relu_table

Y = sp.Symbol("y", real=True)
SQUARES = sp.Symbol("x_squared", real=True)  # ‖x‖²


class Loss(Protocol):
    """A loss L = E[constant(y) - objective]."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """{n: h_n} with objective = sum_n y^n h_n, as functions of σ."""
        ...

    def constant(self, y: sp.Expr) -> sp.Expr:
        """What no learner can change."""
        ...


@dataclass(frozen=True)
class CorrelationLoss:
    """L = 1 - y σ(s)."""

    name: str = "correlation"

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """Y σ."""
        return {1: sigma}

    def constant(self, y: sp.Expr) -> sp.Expr:  # noqa: ARG002 - the same for every label
        """1."""
        return sp.Integer(1)


@dataclass(frozen=True)
class SquaredLoss:
    """L = ½ (y - σ(s))²; up to ½ E[y²] its objective is y σ - σ²/2."""

    name: str = "squared"

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """Y σ - σ²/2."""
        return {1: sigma, 0: -(sigma**2) / 2}

    def constant(self, y: sp.Expr) -> sp.Expr:
        """½ y²."""
        return y**2 / 2


@dataclass(frozen=True)
class LogisticLoss:
    """L = log(1 + exp(-y σ(s))) for labels y = ±1; its objective y σ/2 - log(2 cosh(σ/2)) is the same function there."""

    name: str = "logistic"

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """Y σ/2 - log(2 cosh(σ/2)), the logarithm in a form that cannot overflow."""
        size = sp.Abs(sigma)
        return {1: sigma / 2, 0: -size / 2 - sp.log(1 + sp.exp(-size))}

    def constant(self, y: sp.Expr) -> sp.Expr:  # noqa: ARG002 - the same for every label
        """0."""
        return sp.Integer(0)


@dataclass(frozen=True)
class Neuron:
    """A single neuron w on the unit sphere of R^d, s = w·x, trained by online projected SGD.

    w <- normalise(w + (δ/d) g (x - s w)), g = ∂objective/∂s.
    """

    activation: Activation
    loss: Loss

    @cached_property
    def objective(self) -> dict[int, ScalarFunction]:
        """{n: h_n(z)} with Φ = sum_n E[y^n h_n(s)]."""
        return self._functions(self.loss.objective(self.activation.expression))

    @cached_property
    def slope(self) -> dict[int, ScalarFunction]:
        """{n: h_n'(z)} with g = sum_n y^n h_n'(s)."""
        return self._functions({n: sp.diff(h.expression, Z) for n, h in self.objective.items()})

    @cached_property
    def slope_squared(self) -> dict[int, ScalarFunction]:
        """{n: f_n(z)} with g² = sum_n y^n f_n(s)."""
        terms = sorted(self.slope.items())
        parts = {2 * n: f.expression**2 for n, f in terms}
        for k, (n, f) in enumerate(terms):
            for m, h in terms[k + 1 :]:
                cross = 2 * f.expression * h.expression
                parts[n + m] = parts[n + m] + cross if n + m in parts else cross
        return self._functions(parts)

    @property
    def gradient(self) -> sp.Expr:
        """g(y, z) as one expression in the symbols ``Y`` and ``Z``."""
        return sp.Add(*(Y**n * f.expression for n, f in self.slope.items()))

    def _functions(self, parts: dict[int, sp.Expr]) -> dict[int, ScalarFunction]:
        return {n: ScalarFunction(expression, self.activation.kinks) for n, expression in parts.items()}


@dataclass(frozen=True)
class SmoothedNeuron:
    """The same neuron trained on the correlation loss averaged over a sphere of radius λ = d^radius_power around w.

    w <- normalise(w + (δ/d) y G (x - s w)), G = dF/ds at fixed ‖x‖² (theory/smoothing.py): a function of (s, ‖x‖²), so that
    only views which know ‖x‖² serve it, ``OverlapChain`` with batch 1 and ``SmoothedPopulation``. d belongs to the run.
    σ is a Hermite mixture or ReLU without bias; InputError for others.
    """

    activation: Activation
    radius_power: float = 0.25

    def __post_init__(self) -> None:
        """Check activation and power."""
        known = self.activation.function.degree is not None or self.is_relu
        require(known, "activation", self.activation.name, "hermite:K=C,… or relu, for the smoothed loss")
        power = self.radius_power
        require(isfinite(power) and -10 <= power <= 1, "radius_power", power, "-10 … 1", "0.25 is the best for large d")

    @property
    def loss(self) -> CorrelationLoss:
        """The correlation loss, by a name that tells the radius."""
        return CorrelationLoss(f"correlation (averaged over radius d^{self.radius_power:g})")

    @property
    def is_relu(self) -> bool:
        """Whether σ = max(z, 0)."""
        return self.activation.expression == relu().expression

    def radius(self, dim: float) -> float:
        """λ = d^radius_power."""
        return float(dim**self.radius_power)

    def slope_at(self, dim: int) -> Slope:
        """G(s, ‖x‖²) in dimension d for NumPy arrays."""
        if self.is_relu:
            return relu_slope(self.radius(dim), dim)
        function = sp.lambdify([Z, SQUARES, RADIUS, DIM], self._slope.as_expr().subs(BEYOND, SQUARES - Z**2), "numpy")
        return lambda s, squares: np.asarray(function(s, squares, self.radius(dim), dim))

    def parameters(self, dim: int) -> Array:
        """The run-time array of the compiled gradient: coefficients of the polynomial G, or the table of ReLU."""
        if self.is_relu:
            return relu_table(self.radius(dim), dim)
        return np.array(sp.lambdify([RADIUS, DIM], self._slope.coeffs(), "math")(self.radius(dim), dim), dtype=float)

    @cached_property
    def polynomial_gradient(self) -> tuple[sp.Expr, tuple[sp.Symbol, ...]]:
        """Y G for a polynomial σ, in ``Y``, ``Z``, ``SQUARES`` and symbols that stand for ``parameters``, which it lists."""
        symbols = sp.symbols(f"k_:{len(self._slope.coeffs())}", real=True)
        terms = zip(symbols, self._slope.monoms(), strict=True)
        nested = sp.horner(sp.Add(*(c * Z**i * BEYOND**j for c, (i, j) in terms)), Z, BEYOND)
        return Y * nested.subs(BEYOND, SQUARES - Z**2), symbols

    @cached_property
    def _slope(self) -> sp.Poly:
        return polynomial_slope(self.activation.expression)

    @property
    def objective(self) -> NoReturn:
        """Not a function of s alone."""
        raise InputError("learner", "a smoothed neuron", "Neuron", "use OverlapChain and SmoothedPopulation for it")

    gradient = slope = slope_squared = objective
