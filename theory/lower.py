"""From SymPy to numbers: polynomials in the overlaps become arrays, expressions become compiled scalar functions.

The only place where symbols become code. Parameters stay run-time arguments: one compilation serves a whole sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.activations import Activation, Z
from theory.laws import Law
from theory.learners import SQUARES, Neuron, SmoothedNeuron, Y
from theory.networks import F, TwoLayer
from theory.smoothing import relu_slope_lanes

Array = NDArray[np.float64]
Symbols = tuple[sp.Symbol, ...]
LANES = 16  # as in theory/normals.py, which would import Numba
_FIELDS = {Y: sp.Symbol("y"), Z: sp.Symbol("s"), SQUARES: sp.Symbol("x2")}


@dataclass(frozen=True)
class PolynomialMap:
    """m polynomials in r variables: values = coefficients (m, n) @ Π_a α_a^exponents (n, r)."""

    exponents: NDArray[np.int64]
    coefficients: Array

    @classmethod
    def from_polys(cls, polys: Sequence[sp.Poly]) -> "PolynomialMap":
        """Lower numeric SymPy polynomials over the same generators."""
        tables = [poly.as_dict() for poly in polys]
        exponents = sorted({e for table in tables for e in table} or {(0,) * len(polys[0].gens)})
        coefficients = [[float(table.get(e, 0)) for e in exponents] for table in tables]
        return cls(np.array(exponents, dtype=np.int64), np.array(coefficients))

    def __call__(self, alpha: Array) -> Array:
        """Values at α (r,), shape (m,)."""
        powers = np.power.outer(alpha, np.arange(self.exponents.max() + 1))
        monomials = np.ones(len(self.exponents))
        for a, column in enumerate(self.exponents.T):
            monomials *= powers[a, column]
        return self.coefficients @ monomials

    def many(self, alphas: Array) -> Array:
        """Values at many α (…, r), shape (…, m)."""
        powers = alphas[..., None] ** np.arange(self.exponents.max() + 1)
        monomials = np.prod([powers[..., a, column] for a, column in enumerate(self.exponents.T)], axis=0)
        return np.asarray(monomials @ self.coefficients.T)


def compile_gradient(learner: Neuron | SmoothedNeuron) -> Any:
    """g(y, s) = ∂objective/∂s as a Numba ``cfunc`` float64(float64, float64). InputError for a smoothed neuron."""
    from numba import cfunc, float64

    body = _assignments([learner.gradient], ["g"], _FIELDS)
    return cfunc(float64(float64, float64))(_function("gradient", ["y", "s"], [*body, "return g"]))


def compile_network(learner: TwoLayer) -> tuple[Any, Any]:
    """act(z (K,), sigma_out, slope_out), σ and σ' of all neurons, and the residual r(y, f) as Numba ``cfunc``."""
    return _activation(learner.activation.expression, learner.slope), _residual(learner.residual)


@lru_cache(maxsize=64)
def compile_activation(activation: Activation) -> Any:
    """σ(z) as a NumPy ufunc of single or double precision."""
    from numba import vectorize

    body = _assignments([activation.expression], ["sigma"], {Z: sp.Symbol("z")})
    return vectorize(["float32(float32)", "float64(float64)"])(_function("act", ["z"], [*body, "return sigma"]))


@lru_cache(maxsize=64)
def _activation(sigma: sp.Expr, slope: sp.Expr) -> Any:
    from numba import cfunc, float64, void

    body = _assignments([sigma, slope], ["sigma[k]", "slope[k]"], {Z: sp.Symbol("x")})
    lines = ["for k in range(z.size):", "    x = z[k]", *(f"    {line}" for line in body)]
    array = float64[::1]
    function = _function("act", ["z", "sigma", "slope"], lines)
    return cfunc(void(array, array, array), error_model="numpy")(function)


@lru_cache(maxsize=64)
def _residual(residual: sp.Expr) -> Any:
    from numba import cfunc, float64

    body = _assignments([residual], ["r"], {Y: sp.Symbol("y"), F: sp.Symbol("f")})
    return cfunc(float64(float64, float64), error_model="numpy")(_function("residual", ["y", "f"], [*body, "return r"]))


def compile_law(law: Law) -> tuple[Any, Array]:
    """The generative law as a Numba ``cfunc`` y = law(z (r,), n, theta, xi_out (r,)), and its parameters theta."""
    from numba import cfunc, float64

    symbols, theta = _parameters(law)
    arrays = {"z": law.raw, "n": law.normals, "theta": symbols}
    load = [f"{array}_{k} = {array}[{k}]" for array, entries in arrays.items() for k in range(len(entries))]
    targets = ["label", *(f"xi[{a}]" for a in range(len(law.projections)))]
    body = _assignments([law.label, *law.projections], targets, _names(arrays))
    function = _function("law", ["z", "n", "theta", "xi"], [*load, *body, "return label"])
    array = float64[::1]
    return cfunc(float64(array, array, array, array))(function), theta


def compile_gradient_lanes(learner: Neuron | SmoothedNeuron, dim: int) -> tuple[Any, Array]:
    """g on LANES lanes at once: a ``cfunc`` g(y, s, ‖x‖², theta, out), each but theta (LANES,); and theta.

    Only a smoothed neuron depends on ‖x‖² and, through theta, on d: an empty theta says that ‖x‖² is not read.
    """
    if isinstance(learner, Neuron):
        return _gradient_lanes(learner.gradient, ()), np.empty(0)
    theta = learner.parameters(dim)
    return (_relu_lanes() if learner.is_relu else _gradient_lanes(*learner.polynomial_gradient)), theta


def compile_law_lanes(law: Law) -> tuple[Any, Array]:
    """The law on LANES lanes at once: a ``cfunc`` law(normals, theta, xi_out, y_out (LANES,)); and theta.

    ``normals`` is z (r, LANES) with n (m, LANES) below it, and ``xi_out`` (r, LANES), both flat: constant offsets are what
    lets LLVM vectorise the loop over the lanes. Laws that differ in their parameters alone share one compilation.
    """
    symbols, theta = _parameters(law)
    return _law_lanes(law.label, law.projections, law.raw, law.normals, symbols), theta


@lru_cache(maxsize=256)
def _gradient_lanes(gradient: sp.Expr, symbols: Symbols) -> Any:
    names = _FIELDS | _names({"theta": symbols})
    load = ["y = labels[i]", "s = fields[i]", *(["x2 = squares[i]"] if symbols else [])]
    body = _over_lanes([*load, *_assignments([gradient], ["out[i]"], names)])
    hoisted = [f"theta_{k} = theta[{k}]" for k in range(len(symbols))]
    return _lane_function(_function("gradient", ["labels", "fields", "squares", "theta", "out"], [*hoisted, *body]))


@lru_cache(maxsize=1)
def _relu_lanes() -> Any:
    return _lane_function(relu_slope_lanes)


def _lane_function(function: Any) -> Any:
    from numba import cfunc, float64, void

    array = float64[::1]
    return cfunc(void(array, array, array, array, array), error_model="numpy")(function)


@lru_cache(maxsize=256)
def _law_lanes(
    label: sp.Expr, projections: tuple[sp.Expr, ...], raw: Symbols, normals: Symbols, symbols: Symbols
) -> Any:
    from numba import cfunc, float64, void

    hoisted = [f"theta_{k} = theta[{k}]" for k in range(len(symbols))]
    load = [f"z_{k} = normals[_U({LANES * k}) + i]" for k in range(len(raw) + len(normals))]
    targets = ["labels[i]", *(f"xi[_U({LANES * a}) + i]" for a in range(len(projections)))]
    names = _names({"z": (*raw, *normals), "theta": symbols})
    body = _over_lanes([*load, *_assignments([label, *projections], targets, names)])
    array = float64[::1]
    function = _function("law", ["normals", "theta", "xi", "labels"], [*hoisted, *body])
    return cfunc(void(array, array, array, array))(function)


def _parameters(law: Law) -> tuple[Symbols, Array]:
    return tuple(s for s, _ in law.parameters), np.array([value for _, value in law.parameters], dtype=float)


def _names(arrays: dict[str, Symbols]) -> dict[sp.Symbol, sp.Symbol]:
    """The local variable that holds each symbol: ``array_k`` for the k-th of its array."""
    return {s: sp.Symbol(f"{array}_{k}") for array, symbols in arrays.items() for k, s in enumerate(symbols)}


def _over_lanes(lines: list[str]) -> list[str]:
    return [f"for i in range(_U({LANES})):", *(f"    {line}" for line in lines)]


def _assignments(expressions: list[sp.Expr], targets: list[str], names: dict[sp.Symbol, sp.Symbol]) -> list[str]:
    """Python lines that assign the expressions, common subexpressions first. Only SymPy's printer writes them."""
    shared, reduced = sp.cse([e.xreplace(names) for e in expressions], symbols=sp.numbered_symbols("t"))
    return [
        *(f"{symbol} = {sp.pycode(value)}" for symbol, value in shared),
        *(f"{target} = {sp.pycode(value)}" for target, value in zip(targets, reduced, strict=True)),
    ]


def _function(name: str, arguments: list[str], lines: list[str]) -> Any:
    import math

    source = f"def {name}({', '.join(arguments)}):\n    " + "\n    ".join(lines)
    namespace: dict[str, Any] = {"math": math, "_U": np.uint64}
    exec(compile(source, f"<{name} lowered from SymPy>", "exec"), namespace)  # noqa: S102 - our own generated text
    return namespace[name]
