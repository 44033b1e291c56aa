"""Activations σ(z) as SymPy expressions: the single source for theory (Hermite coefficients) and simulation (jitted g).

To add an activation, write a function that returns an ``Activation`` and enter it in ``CATALOGUE``; nothing else changes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import factorial, isfinite

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.errors import InputError, require
from theory.hermite import hermite, project_on_hermite, sqrt_factorials
from theory.numerals import number, whole_number

Z = sp.Symbol("z", real=True)
HIGHEST = 12  # degree of a mixture
SMALLEST, LARGEST = 1e-6, 1e6  # of coefficients: beyond, squares and critical rates leave the range of doubles
COEFFICIENTS = "1e-6 … 1e6 in absolute value"


@dataclass(frozen=True)
class ScalarFunction:
    """A function h(z) of the pre-activation, with the points where it or a derivative jumps."""

    expression: sp.Expr
    kinks: tuple[float, ...] = ()

    @cached_property
    def degree(self) -> int | None:
        """Degree if h is a polynomial, otherwise None."""
        return sp.Poly(self.expression, Z).degree() if self.expression.is_polynomial(Z) else None

    def evaluate(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """h at an array of points."""
        # NumPy evaluates every branch of a Piecewise; overflow in the branch not taken means nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.broadcast_to(self._numeric(z), np.shape(z))

    @cached_property
    def _numeric(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        return sp.lambdify(Z, self.expression, ["scipy", "numpy"])

    def normalized_coefficients(self, order: int) -> NDArray[np.float64]:
        """E[h(z) He_k(z)]/sqrt(k!) for k = 0 … order, by quadrature, or the finite expansion if h is a polynomial."""
        if self.degree is None:
            return project_on_hermite(self.evaluate, order, self.kinks)
        coefficients = np.zeros(order + 1)
        exact = project_on_hermite(self.evaluate, self.degree)[: order + 1]
        coefficients[: len(exact)] = exact
        return coefficients

    def quadrature_error(self, order: int) -> float:
        """Largest change of the normalised coefficients when every quadrature panel is halved."""
        fine = project_on_hermite(self.evaluate, order, self.kinks, width=0.25)
        return float(np.abs(fine - project_on_hermite(self.evaluate, order, self.kinks)).max())


@dataclass(frozen=True)
class Activation:
    """σ(z) with an optional closed form of c_k = E[σ(z) He_k(z)]; ``name`` is how the command line spells it."""

    name: str
    expression: sp.Expr
    kinks: tuple[float, ...] = ()
    closed_form: Callable[[int], sp.Expr] | None = field(default=None, compare=False)

    @property
    def function(self) -> ScalarFunction:
        """σ as a scalar function."""
        return ScalarFunction(self.expression, self.kinks)

    @property
    def source(self) -> str:
        """Where the coefficients come from: a closed form, or quadrature with its error."""
        return "closed form" if self.closed_form else "quadrature to 1e-12"

    def normalized_coefficients(self, order: int) -> NDArray[np.float64]:
        """c_k/sqrt(k!) for k = 0 … order. Their squares sum to E[σ²]."""
        if self.closed_form:
            return np.array([float(self.closed_form(k)) for k in range(order + 1)]) / sqrt_factorials(order)
        return self.function.normalized_coefficients(order)

    def coefficients(self, order: int) -> NDArray[np.float64]:
        """c_k = E[σ(z) He_k(z)], k = 0 … order, so that σ = sum_k c_k/k! He_k."""
        return self.normalized_coefficients(order) * sqrt_factorials(order)


def _gauss(x: sp.Expr) -> sp.Expr:
    return sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


def relu(bias: float = 0.0) -> Activation:
    """max(z + b, 0). Integration by parts: c_1 = Φ(b), c_k = φ(b) He_{k-2}(-b) for k >= 2."""
    require(isfinite(bias) and abs(bias) <= 10, "relu bias", bias, "a number with |bias| <= 10")
    b = sp.nsimplify(bias, rational=True)

    def closed_form(k: int) -> sp.Expr:
        if k < 2:
            cdf = (1 + sp.erf(b / sp.sqrt(2))) / 2
            return cdf if k else _gauss(b) + b * cdf
        return _gauss(b) * hermite(k - 2, -b)

    name = "relu" if b == 0 else f"relu:{bias:g}"
    return Activation(name, sp.Piecewise((Z + b, Z + b > 0), (0, True)), (-float(bias),), closed_form)


def erf() -> Activation:
    """erf(z/√2). σ' = 2φ, so c_{2m+1} = (-1/2)^m (2m-1)!!/√π and the even coefficients vanish."""

    def closed_form(k: int) -> sp.Expr:
        m, odd = divmod(k, 2)
        return sp.Rational(-1, 2) ** m * sp.factorial2(2 * m - 1) / sp.sqrt(sp.pi) if odd else sp.Integer(0)

    return Activation("erf", sp.erf(Z / sp.sqrt(2)), (), closed_form)


def tanh() -> Activation:
    """Hyperbolic tangent."""
    return Activation("tanh", sp.tanh(Z))


def sigmoid() -> Activation:
    """Logistic function 1/(1 + exp(-z)), written through tanh, which cannot overflow."""
    return Activation("sigmoid", (1 + sp.tanh(Z / 2)) / 2)


def softplus() -> Activation:
    """log(1 + exp(z)), written as max(z, 0) + log(1 + exp(-|z|)), which cannot overflow."""
    positive = Z + sp.log(1 + sp.exp(-Z))
    return Activation("softplus", sp.Piecewise((positive, Z > 0), (sp.log(1 + sp.exp(Z)), True)))


def hermite_mixture(coefficients: dict[int, float]) -> Activation:
    """σ = sum_k c_k/k! He_k with the given c_k: a polynomial, for which every series here is exact."""
    require(bool(coefficients), "hermite mixture", "no term", "terms like 2=1,4=-0.5")
    for k, c in coefficients.items():
        require(0 <= k <= HIGHEST, "hermite mixture degree", k, f"0 … {HIGHEST}")
        require(SMALLEST <= abs(c) <= LARGEST, f"hermite mixture c_{k}", c, COEFFICIENTS)
    require(max(coefficients) > 0, "hermite mixture", "a constant", "at least one term of degree 1 or more")
    exact = {k: sp.Float(c) for k, c in coefficients.items()}
    name = "hermite:" + ",".join(f"{k}={c:.6g}" for k, c in sorted(coefficients.items()))
    expression = sp.Add(*(c / factorial(k) * hermite(k, Z) for k, c in exact.items()))
    return Activation(name, expression, (), lambda k: exact.get(k, sp.Integer(0)))


CATALOGUE: dict[str, Callable[..., Activation]] = {
    "relu": relu,
    "erf": erf,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
}


def activation_from_text(text: str) -> Activation:
    """Read ``relu``, ``relu:0.5`` (bias), ``erf``, …, or a Hermite mixture ``hermite:2=1,4=-0.5`` (the c_k).

    Raises InputError for anything else; the text is split and converted to numbers, never evaluated.
    """
    name, _, rest = text.strip().partition(":")
    known = ", ".join([*CATALOGUE, "relu:BIAS", "hermite:K=C,K=C,…"])
    if name == "hermite":
        try:
            pairs = [(whole_number(k), number(c)) for k, c in (term.split("=") for term in rest.split(","))]
        except ValueError:
            raise InputError("activation", repr(text), "hermite:K=C,K=C,… as in hermite:2=1,4=-0.5") from None
        require(len(dict(pairs)) == len(pairs), "activation", repr(text), "each degree K at most once")
        return hermite_mixture(dict(pairs))
    if name == "relu" and rest:
        try:
            return relu(number(rest))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError("activation", repr(text), "relu:BIAS with a number, as in relu:0.5") from None
    if name not in CATALOGUE or ":" in text:
        raise InputError("activation", repr(text), known)
    return CATALOGUE[name]()


def exact_text(activation: Activation) -> str:
    """What ``activation_from_text`` reads as this very activation: its name, numbers to the last digit.

    Raises InputError for an activation that is not of this module: its formula is code.
    """
    text = activation.name
    if text.startswith("relu:"):
        text = f"relu:{-activation.kinks[0]!r}"
    elif text.startswith("hermite:") and activation.closed_form:
        known = {k: float(activation.closed_form(k)) for k in range(HIGHEST + 1)}
        text = "hermite:" + ",".join(f"{k}={c!r}" for k, c in known.items() if c)
    try:
        known_one = activation_from_text(text) == activation
    except InputError:
        known_one = False
    require(known_one, "activation", activation.name, "one of theory.activations", "one of your own is code: keep that")
    return text
