"""A task whose labels come from a network: y = Σ_m a*_m σ*(ξ_m) + noise, with orthonormal teacher rows.

Its Hermite moments are products of the one-dimensional coefficients of σ* and σ*².
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt
from types import SimpleNamespace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.activations import COEFFICIENTS, LARGEST, SMALLEST, Activation, ScalarFunction, Z
from theory.errors import require
from theory.hermite import MultiIndex, gauss_legendre_panels, gaussian_density, sqrt_factorials
from theory.laws import Law, Mixture, Parameters
from theory.tasks import MAX_DEGREE

NODES = {1: 128, 2: 64, 3: 28}  # of a teacher row, by the number of rows
REACH = {1: 9.0, 2: 9.0, 3: 7.0}
VISIBLE = 1e-12


@dataclass(frozen=True)
class TeacherNetwork:
    """ξ ~ N(0, I), y = Σ_m a*_m σ*(ξ_m) + noise; ``weights`` are the a*_m and ``noise`` is the noise's standard deviation.

    The spikes are the teacher's rows, by default named t1 … tM. Raises InputError for bad weights, noise or names.
    """

    activation: Activation
    weights: tuple[float, ...]
    noise: float = 0.0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(bool(self.weights), "teacher weights", "none", "at least one")
        for a in self.weights:
            require(isfinite(a) and SMALLEST <= abs(a) <= LARGEST, "teacher weight", a, COEFFICIENTS)
        require(0 <= self.noise <= LARGEST, "noise", self.noise, "a number >= 0 (at most 1e6)")
        n = len(self.weights)
        fits = not self.names or len(set(self.names)) == len(self.names) == n
        require(fits, "teacher names", self.names, f"{n} different names, or none for t1 … t{n}")

    @property
    def name(self) -> str:
        """``teacher-network``."""
        return "teacher-network"

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the teacher's rows."""
        return self.names or tuple(f"t{m + 1}" for m in range(len(self.weights)))

    @property
    def degree(self) -> int | None:
        """Degree of σ* if it is a polynomial."""
        return self.activation.function.degree

    @cached_property
    def _coefficients(self) -> tuple[list[float], list[float]]:
        """E[σ* He_k] and E[σ*² He_k], k = 0 … MAX_DEGREE."""
        square = ScalarFunction(self.activation.expression**2, self.activation.kinks)
        scale = sqrt_factorials(MAX_DEGREE)
        return (
            self.activation.coefficients(MAX_DEGREE).tolist(),
            (square.normalized_coefficients(MAX_DEGREE) * scale).tolist(),
        )

    def symbols(self) -> Parameters:
        """a*_m, noise, c*_k = E[σ* He_k] and q*_k = E[σ*² He_k] as symbols; coefficients that vanish are 0."""
        c, q = (
            [_symbol(letter, k) if value else sp.Integer(0) for k, value in enumerate(values)]
            for letter, values in zip("cq", self._coefficients, strict=True)
        )
        a = [_symbol("a", m + 1) for m in range(len(self.weights))]
        return SimpleNamespace(a=a, c=c, q=q, noise=sp.Symbol("noise", positive=True))

    def numbers(self, order: int) -> Parameters:  # noqa: ARG002 - every moment up to MAX_DEGREE is at hand
        """The same with floats."""
        c, q = self._coefficients
        return SimpleNamespace(a=list(self.weights), c=c, q=q, noise=self.noise)

    def definitions(self) -> dict[sp.Symbol, sp.Expr | float]:
        """Value of every symbol."""
        symbols, numbers = self.symbols(), self.numbers(MAX_DEGREE)
        pairs = [(symbols.noise, self.noise), *zip(symbols.a, self.weights, strict=True)]
        for letter in "cq":
            pairs += zip(getattr(symbols, letter), getattr(numbers, letter), strict=True)
        return {s: value for s, value in pairs if s.is_Symbol}

    def moment(self, index: MultiIndex, power: int, par: Parameters) -> sp.Expr | float:
        """E[y^power Π He_{i_m}(ξ_m)]; a sum over rows meets at most ``power`` of them, so most moments vanish.

        y²: Σ_m a_m² σ_m² + noise² + Σ_{m≠n} a_m a_n σ_m σ_n, and E[σ_m He_i(ξ_n)] = c_0 1{i=0} for m ≠ n.
        """
        seen = [m for m, i in enumerate(index) if i]
        if len(seen) > power:
            return 0
        if power == 0:
            return 1
        a, c = par.a, par.c
        if power == 1:
            return sum(a) * c[0] if not seen else a[seen[0]] * c[index[seen[0]]]
        if not seen:
            squares = sum(x**2 for x in a)
            return (sum(a) ** 2 - squares) * c[0] ** 2 + squares * par.q[0] + par.noise**2
        m, i = seen[0], index[seen[0]]
        if len(seen) == 1:
            return a[m] ** 2 * par.q[i] + 2 * a[m] * c[i] * c[0] * (sum(a) - a[m])
        n = seen[1]
        return 2 * a[m] * a[n] * c[i] * c[index[n]]

    def law(self) -> Law:
        """ξ = z, y = Σ_m a*_m σ*(z_m) + noise n_0."""
        raw = tuple(sp.Symbol(f"z_{s}", real=True) for s in self.spikes)
        n, noise = sp.Symbol("n_0", real=True), sp.Symbol("noise", real=True)
        a = [_symbol("a", m + 1) for m in range(len(raw))]
        teacher = sp.Add(*(x * self.activation.expression.xreplace({Z: z}) for x, z in zip(a, raw, strict=True)))
        parameters = ((noise, self.noise), *zip(a, self.weights, strict=True))
        return Law(teacher + noise * n, raw, raw, (n,), parameters)

    def mixture(self) -> Mixture:
        """Nodes in ξ itself, of zero variance: Gauss-Legendre between the kinks of σ*; Gauss-Hermite for three smooth rows.

        Moments to degree 4 are right to 1e-13 (tanh with two rows: 1e-6), with three rows to 1e-5 (tanh: 1e-3). The number
        of nodes is exponential in that of rows: InputError beyond three.
        """
        x, w = self._nodes
        rows = len(self.weights)
        grid = np.stack(np.meshgrid(*[x] * rows, indexing="ij"), axis=-1).reshape(-1, rows)
        weight = np.stack(np.meshgrid(*[w] * rows, indexing="ij"), axis=-1).reshape(grid.shape).prod(axis=1)
        label = self.activation.function.evaluate(grid) @ np.array(self.weights)
        powers = np.stack([np.ones_like(label), label, label**2 + self.noise**2], axis=1)
        return Mixture(weight, powers, grid, np.zeros_like(grid))

    @property
    def _nodes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nodes and weights of N(0, 1) for one row."""
        kinks, rows = self.activation.kinks, len(self.weights)
        require(rows in NODES, "teacher rows", rows, f"at most {max(NODES)} for quadrature over ξ", "sample instead")
        if rows > 2 and not kinks:
            x, w = np.polynomial.hermite_e.hermegauss(NODES[rows])
            return x, w / sqrt(2 * np.pi)
        reach, inner = REACH[rows], sorted(k for k in kinks if abs(k) < REACH[rows])
        x, w = gauss_legendre_panels([-reach, *inner, reach], 2 * reach, NODES[rows] // (len(inner) + 1))
        return x, w * gaussian_density(x)

    @property
    def signal_order(self) -> int:
        """Lowest degree of σ* but the constant, at least 2."""
        return max(2, min(self._degrees))

    def useful_degrees(self) -> dict[int, int]:
        """The two lowest degrees of σ*, with the sign of a*_m c*_k of the strongest row."""
        a = max(self.weights, key=abs)
        return {k: 1 if a * self._coefficients[0][k] > 0 else -1 for k in self._degrees[:2]}

    @property
    def _degrees(self) -> list[int]:
        return [k for k, c in enumerate(self._coefficients[0]) if k and abs(c) > VISIBLE]

    def likelihood_moment(self, index: MultiIndex, par: Parameters) -> float:
        """E[f* Π He]."""
        return float(self.moment(index, 1, par))

    def settings(self) -> dict[str, float | int | str | None]:
        """Teacher, noise and order; what belongs to other tasks is None."""
        others = dict.fromkeys(("corr", "coupling", "beta_m", "beta_u", "beta_v", "latent"))
        return {"task": self.name, "p": self.signal_order, **others, "teacher": self.formula(), "noise": self.noise}

    def alone(self, spike: str) -> "TeacherNetwork | None":
        """The teacher with this row only."""
        if spike not in self.spikes:
            return None
        return TeacherNetwork(self.activation, (self.weights[self.spikes.index(spike)],), self.noise, (spike,))

    def formula(self) -> str:
        """The teacher written out."""
        terms = (f"{a:g}·{self.activation.name}({s})" for a, s in zip(self.weights, self.spikes, strict=True))
        return " + ".join(terms).replace("+ -", "- ")

    def describe(self) -> str:
        """The teacher and the label noise."""
        return f"{self.name}: f* = {self.formula()}, label noise {self.noise:g}"


def _symbol(letter: str, k: int) -> sp.Symbol:
    return sp.Symbol(f"{letter}*_{k}" if letter != "a" else f"a_{k}", real=True)
