"""From SymPy to numbers: polynomials in the overlaps become arrays, expressions become compiled scalar functions.

The only module that knows Numba. Parameters stay run-time arguments, so that one compilation serves a whole sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.activations import Z
from theory.laws import Law
from theory.learners import Neuron, Y

Array = NDArray[np.float64]


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


def compile_gradient(learner: Neuron) -> Any:
    """g(y, s) = ∂objective/∂s as a Numba ``cfunc`` float64(float64, float64)."""
    from numba import cfunc, float64

    body = _assignments([learner.gradient], ["g"], {Y: sp.Symbol("y"), Z: sp.Symbol("s")})
    return cfunc(float64(float64, float64))(_function("gradient", ["y", "s"], [*body, "return g"]))


def compile_law(law: Law) -> tuple[Any, Array]:
    """The generative law as a Numba ``cfunc`` y = law(z (r,), n, theta, xi_out (r,)), and its parameters theta."""
    from numba import cfunc, float64

    arrays = {"z": law.raw, "n": law.normals, "theta": tuple(symbol for symbol, _ in law.parameters)}
    names = {s: sp.IndexedBase(name)[i] for name, symbols in arrays.items() for i, s in enumerate(symbols)}
    targets = ["label", *(f"xi[{a}]" for a in range(len(law.projections)))]
    body = _assignments([law.label, *law.projections], targets, names)
    function = _function("law", ["z", "n", "theta", "xi"], [*body, "return label"])
    array = float64[::1]
    theta = np.array([value for _, value in law.parameters], dtype=float)
    return cfunc(float64(array, array, array, array))(function), theta


def _assignments(expressions: list[sp.Expr], targets: list[str], names: dict[sp.Symbol, sp.Expr]) -> list[str]:
    """Python lines that assign the expressions, common subexpressions first. Only SymPy's printer writes them."""
    shared, reduced = sp.cse([e.xreplace(names) for e in expressions], symbols=sp.numbered_symbols("t"))
    return [
        *(f"{symbol} = {sp.pycode(value)}" for symbol, value in shared),
        *(f"{target} = {sp.pycode(value)}" for target, value in zip(targets, reduced, strict=True)),
    ]


def _function(name: str, arguments: list[str], lines: list[str]) -> Any:
    import math

    source = f"def {name}({', '.join(arguments)}):\n    " + "\n    ".join(lines)
    namespace: dict[str, Any] = {"math": math}
    exec(compile(source, f"<{name} lowered from SymPy>", "exec"), namespace)  # noqa: S102 - our own generated text
    return namespace[name]
