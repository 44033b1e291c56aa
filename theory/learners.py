"""Learners: a single neuron on the unit sphere, with its activation and loss.

A loss is given by the objective it maximises per sample, a polynomial in the label y whose coefficients are functions of
the pre-activation; the online gradient g = ∂objective/∂s and g² follow by differentiation, for theory and simulation.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import sympy as sp

from theory.activations import Activation, ScalarFunction, Z

Y = sp.Symbol("y", real=True)


class Loss(Protocol):
    """A loss L = const - E[objective]."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """{n: h_n} with objective = sum_n y^n h_n, as functions of σ."""
        ...


@dataclass(frozen=True)
class CorrelationLoss:
    """L = 1 - y σ(s)."""

    name: str = "correlation"

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """Y σ."""
        return {1: sigma}


@dataclass(frozen=True)
class SquaredLoss:
    """L = ½ (y - σ(s))²; up to ½ E[y²] its objective is y σ - σ²/2."""

    name: str = "squared"

    def objective(self, sigma: sp.Expr) -> dict[int, sp.Expr]:
        """Y σ - σ²/2."""
        return {1: sigma, 0: -(sigma**2) / 2}


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
