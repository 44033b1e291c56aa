"""A task whose latents are the variables of a hierarchy: spikes at several levels, with inherited correlations.

The law of the planted class is a finite mixture over the joint states of the hierarchy, so every moment is a finite sum.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import isfinite, prod, sqrt

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.special import ndtri

from theory.errors import require
from theory.hermite import MultiIndex, hermite_values, sqrt_factorials
from theory.hierarchy import Hierarchy, Variable, standardised
from theory.laws import Law, Mixture, Parameters

Array = NDArray[np.float64]
MAX_DEGREE = 64
MOST_SPIKES = 6
MOST_MOMENTS = 2 * 10**7
MOST_STATES = 8  # of a variable with a spike: powers of ν beyond are too ill-conditioned a basis
NEGLIGIBLE = 1e-12  # a moment of standardised latents below this is rounding
FAR = 40.0  # stands for an infinite quantile of a standard normal


@dataclass(frozen=True)
class Planted:
    """A spike along one variable ν of the hierarchy, visible √β ν + z, or whitened to variance 1: (√β ν + z)/√(1+β)."""

    variable: str
    beta: float
    hidden: bool = True

    @property
    def strength(self) -> float:
        """What multiplies ν in ξ: √β, or s = √(β/(1+β))."""
        return sqrt(self.beta / (1 + self.beta) if self.hidden else self.beta)

    @property
    def noise(self) -> float:
        """Variance of ξ given ν."""
        return 1 / (1 + self.beta) if self.hidden else 1.0

    @property
    def symbol(self) -> sp.Symbol:
        """s of a hidden spike, β of a visible one."""
        return sp.Symbol(f"{'s' if self.hidden else 'beta'}_{self.variable}", positive=True)


@dataclass(frozen=True)
class HierarchicalCumulant:
    """Mixed cumulant model with the variables of a hierarchy as latents (theory §1, Kong et al. 2024).

    Labels y = ±1 with probability ½ each; y = -1 is white noise, y = +1 has ξ_k = √β_k ν_k + z_k for a visible spike and
    ξ_k = (√β_k ν_k + z_k)/√(1+β_k) for a hidden one, ν_k the standardised states of a variable. Variables that are not
    in ``planted`` are latent only. Each hidden spike is white by itself; with a correlated one it shows in Cov(ξ).
    """

    hierarchy: Hierarchy
    planted: tuple[Planted, ...]

    def __post_init__(self) -> None:
        """Check names, strengths and sizes."""
        require(1 <= len(self.planted) <= MOST_SPIKES, "hierarchy", f"{len(self.planted)} spikes", f"1 … {MOST_SPIKES}",
                "leave more variables latent")  # fmt: skip
        require(len(set(self.spikes)) == len(self.spikes), "spikes", ", ".join(self.spikes), "each variable once")
        for p in self.planted:
            states = self.hierarchy.states(p.variable)
            require(states <= MOST_STATES, p.variable, f"{states} states", f"2 … {MOST_STATES} for a spike")
            strong = isfinite(p.beta) and 0 < p.beta <= 1e6
            require(strong, f"beta of {p.variable}", p.beta, "a finite number > 0, at most 1e6")
            standardised(self.hierarchy.marginal((p.variable,)))

    @property
    def name(self) -> str:
        """``hierarchical``."""
        return "hierarchical"

    @property
    def spikes(self) -> tuple[str, ...]:
        """The variables that are planted."""
        return tuple(p.variable for p in self.planted)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The spikes that are whitened."""
        return tuple(p.variable for p in self.planted if p.hidden)

    @property
    def degree(self) -> None:
        """Every order of moments is present."""
        return None

    @cached_property
    def values(self) -> tuple[Array, ...]:
        """ν of every spike by state, standardised."""
        return tuple(standardised(self.hierarchy.marginal((s,))) for s in self.spikes)

    @cached_property
    def joint(self) -> Array:
        """Probabilities of the joint states of the spikes' variables, one axis for each."""
        return self.hierarchy.marginal(self.spikes)

    @cached_property
    def correlations(self) -> Array:
        """E[ν_a ν_b], shape (r, r)."""
        one, r = np.eye(len(self.spikes), dtype=int), range(len(self.spikes))
        return np.array([[1.0 if a == b else self._moments[tuple(one[a] + one[b])] for b in r] for a in r])

    def cumulant(self, spike: str) -> tuple[int, float]:
        """Lowest k >= 3 with E[He_k(ν)] ≠ 0, and that moment: a law of S states differs from N(0, 1) at k <= 2S."""
        a = self.spikes.index(spike)
        order = 2 * len(self.values[a])
        moments = hermite_values(order, self.values[a]) @ self.hierarchy.marginal((spike,)) * sqrt_factorials(order)
        k = next(k for k in range(3, order + 1) if abs(moments[k]) > NEGLIGIBLE * 10**k)
        return k, float(moments[k])

    def _reduced(self, a: int, order: int) -> Array:
        """He_i(ν) of a hidden spike, ν^i of a visible one, as polynomials in ν of degree < S: shape (order + 1, S)."""
        nu = self.values[a]
        rows = hermite_values(order, nu) * sqrt_factorials(order)[:, None]
        if not self.planted[a].hidden:
            rows = nu ** np.arange(order + 1)[:, None]
        reduced = np.linalg.solve(np.vander(nu, increasing=True), rows.T).T
        size = np.abs(reduced).max(axis=1, keepdims=True)
        return np.where(np.abs(reduced) > NEGLIGIBLE * size, reduced, 0.0)

    @cached_property
    def _moments(self) -> Array:
        """E[Π ν_a^{k_a}], k_a < S_a, one axis for each spike: all that the joint law of the latents is."""
        bases = [np.vander(nu, increasing=True) for nu in self.values]
        moments = _contract(self.joint, [base.T for base in bases])
        largest = _contract(self.joint, [np.abs(base.T) for base in bases])
        return np.where(np.abs(moments) > NEGLIGIBLE * largest, moments, 0.0)

    def symbols(self) -> Parameters:
        """√β_k or s_k, and μ_K = E[Π ν_a^{k_a}], k_a < S_a, as symbols, without those that vanish."""
        strengths = tuple(p.symbol if p.hidden else sp.sqrt(p.symbol) for p in self.planted)
        reduced = [self._reduced(a, MAX_DEGREE).tolist() for a in range(len(self.spikes))]

        def latents(index: MultiIndex) -> sp.Expr:
            rows = [[(k, c) for k, c in enumerate(reduced[a][i]) if c] for a, i in enumerate(index)]
            return sp.Add(*(self._symbol(tuple(k for k, _ in term)) * _exact(prod(c for _, c in term))
                            for term in product(*rows)))  # fmt: skip

        return Parameters(strengths=strengths, latents=latents)

    def _symbol(self, powers: MultiIndex) -> sp.Expr:
        """μ_K; the variances are 1."""
        value = self._moments[powers]
        if sum(powers) == max(powers) <= 2 or value == 0:
            return _exact(round(value))
        return sp.Symbol("mu_" + "_".join(map(str, powers)), real=True)

    def numbers(self, order: int) -> Parameters:
        """The same with floats, moments of at most ``order`` in each spike. Raises InputError where these are too many."""
        entries = (order + 1) ** len(self.spikes)
        advice = f"lower --order, with {len(self.spikes)} spikes"
        require(entries <= MOST_MOMENTS, "order", order, f"at most {MOST_MOMENTS} moments", advice)
        table = _contract(self._moments, [self._reduced(a, order) for a in range(len(self.spikes))])
        return Parameters(strengths=tuple(p.strength for p in self.planted), latents=lambda index: float(table[index]))

    def definitions(self) -> dict[sp.Symbol, sp.Expr | float]:
        """β_k of visible and s_k of hidden spikes, and all μ_K."""
        symbols = (self._symbol(powers) for powers in np.ndindex(*self._moments.shape))
        moments = {s: float(v) for s, v in zip(symbols, self._moments.flat, strict=True) if s.is_Symbol}
        return {p.symbol: p.strength if p.hidden else p.beta for p in self.planted} | moments

    def planted_moment(self, index: MultiIndex, par: Parameters) -> sp.Expr | float:
        """C_I = E[Π He_{i_a}(ξ_a) | y = +1]: E[He_i(√β ν + z) | ν] = (√β ν)^i if visible, s^i He_i(ν) if hidden."""
        return prod(s**i for s, i in zip(par.strengths, index, strict=True)) * par.latents(index)

    def moment(self, index: MultiIndex, power: int, par: Parameters) -> sp.Expr | float:
        """½ (C_I + (-1)^power 1{I=0}), exact."""
        return (self.planted_moment(index, par) + (0 if any(index) else (-1) ** power)) / 2

    def likelihood_moment(self, index: MultiIndex, par: Parameters) -> float:
        """C_I on the planted class."""
        return float(self.planted_moment(index, par))

    def law(self) -> Law:
        """n_0 carries the label, n_k the k-th variable: its state counts the cuts Φ⁻¹(P(state <= c | parents)) below n_k."""
        raw = tuple(sp.Symbol(f"z_{s}", real=True) for s in self.spikes)
        n = sp.symbols(f"n_0:{len(self._ancestors) + 1}", real=True)
        numbers: dict[sp.Symbol, float] = {}
        above, is_planted, projections = self._cuts(n[1:], numbers), n[0] > 0, []
        for p, z, nu in zip(self.planted, raw, self.values, strict=True):
            mean = _named(numbers, f"value_{p.variable}", p.strength * nu[0])
            for c, (height, cut) in enumerate(zip(np.diff(nu), above[p.variable], strict=True)):
                mean += _named(numbers, f"step_{p.variable}_{c}", p.strength * height) * cut
            spread = _named(numbers, f"spread_{p.variable}", sqrt(p.noise)) if p.hidden else 1
            projections.append(sp.Piecewise((mean + spread * z, is_planted), (z, True)))
        label = sp.Piecewise((1.0, is_planted), (-1.0, True))
        return Law(label, tuple(projections), raw, n, tuple(numbers.items()))

    def _cuts(self, normals: tuple[sp.Symbol, ...], numbers: dict[sp.Symbol, float]) -> dict[str, list[sp.Expr]]:
        """1{state > c}, c = 0 … S-2, by variable: ½(1 + sign(n_k - edge)), the edge picked by the states of the parents.

        Arithmetic without branches, which the lanes of a simulator share.
        """
        above: dict[str, list[sp.Expr]] = {}
        for v, normal in zip(self._ancestors, normals, strict=True):
            rows = [sp.Mul(*row) for row in product(*(_indicators(above[p]) for p in v.parents))]
            cuts = []
            for c, column in enumerate(np.cumsum(v.table, axis=1)[:, :-1].T):
                edges = np.clip(ndtri(np.clip(column, 0.0, 1.0)), -FAR, FAR)
                named = [_named(numbers, f"edge_{v.name}_{c}_{j}", edge) for j, edge in enumerate(edges)]
                edge = sp.Add(*(value * row for value, row in zip(named, rows, strict=True)))
                cuts.append((1 + sp.sign(normal - edge)) / 2)
            above[v.name] = cuts
        return above

    @cached_property
    def _ancestors(self) -> tuple[Variable, ...]:
        """The variables with a spike and all above them."""
        needed = set(self.spikes)
        for v in reversed(self.hierarchy.variables):
            needed |= set(v.parents) if v.name in needed else set()
        return tuple(v for v in self.hierarchy.variables if v.name in needed)

    def mixture(self) -> Mixture:
        """One node for the null class, one for each joint state of the spikes' variables that occurs."""
        states, r = np.argwhere(self.joint > 0), len(self.spikes)
        means = [p.strength * nu[column] for p, nu, column in zip(self.planted, self.values, states.T, strict=True)]
        label = np.array([-1.0] + [1.0] * len(states))
        return Mixture(
            weight=np.concatenate([[0.5], 0.5 * self.joint[tuple(states.T)]]),
            label_powers=np.stack([label**0, label, label**2], axis=1),
            mean=np.vstack([np.zeros(r), np.stack(means, axis=1)]),
            variance=np.vstack([np.ones(r), np.tile([p.noise for p in self.planted], (len(states), 1))]),
        )

    @property
    def signal_order(self) -> int:
        """Highest order of a hidden spike's first cumulant, 2 if all are visible."""
        return max((self.cumulant(s)[0] for s in self.hidden), default=2)

    def useful_degrees(self) -> dict[int, int]:
        """Degree 2, and the order p of every hidden spike with the sign of E[He_p(ν)], of the first one that has this p."""
        found = {2: 1}
        for s in self.hidden:
            order, value = self.cumulant(s)
            found.setdefault(order, 1 if value > 0 else -1)
        return found

    def alone(self, spike: str) -> "HierarchicalCumulant | None":
        """The same spike along a variable of the same law that depends on nothing."""
        if spike not in self.spikes:
            return None
        single = Hierarchy((Variable(spike, (), (tuple(self.hierarchy.marginal((spike,)).tolist()),)),))
        return HierarchicalCumulant(single, tuple(p for p in self.planted if p.variable == spike))

    def settings(self) -> dict[str, float | int | str | None]:
        """The hierarchy as text and the strengths. What belongs to other tasks is None."""
        others = dict.fromkeys(("corr", "coupling", "beta_m", "beta_u", "beta_v", "latent"))
        strengths = ",".join(f"{p.variable}={p.beta:g}{'' if p.hidden else ' visible'}" for p in self.planted)
        return {
            "task": self.name,
            "p": self.signal_order,
            **others,
            "hierarchy": self.hierarchy.describe(),
            "spikes": strengths,
        }

    def describe(self) -> str:
        """The hierarchy, strengths, orders and correlations."""
        kinds = (f"order {self.cumulant(p.variable)[0]}" if p.hidden else "visible" for p in self.planted)
        spikes = ", ".join(f"β_{p.variable} = {p.beta:g} ({kind})" for p, kind in zip(self.planted, kinds, strict=True))
        pairs = [(a, b) for b in range(len(self.spikes)) for a in range(b)]
        matrix = ", ".join(f"{self.spikes[a]}{self.spikes[b]} {self.correlations[a, b]:.4g}" for a, b in pairs)
        return f"{self.name}: {self.hierarchy.describe()}, {spikes}" + (f"; correlations {matrix}" if pairs else "")


def _exact(value: float) -> sp.Expr:
    """A whole number stays one."""
    return sp.Integer(int(value)) if float(value).is_integer() else sp.Float(value)


def _contract(tensor: Array, matrices: list[Array]) -> Array:
    """Multiply each axis of the tensor by a matrix: sum_K T_K Π_a M_a[i_a, k_a], in that order of axes."""
    for matrix in matrices:  # the axis in front is used up, its image goes to the back
        tensor = np.tensordot(tensor, matrix, axes=(0, 1))
    return tensor


def _named(numbers: dict[sp.Symbol, float], name: str, value: float) -> sp.Symbol:
    """A run-time parameter of the law, entered with its value."""
    symbol = sp.Symbol(name, real=True)
    numbers[symbol] = float(value)
    return symbol


def _indicators(above: list[sp.Expr]) -> list[sp.Expr]:
    """1{state = k} from the 1{state > c}."""
    ladder = [sp.Integer(1), *above, sp.Integer(0)]
    return [a - b for a, b in zip(ladder, ladder[1:], strict=False)]
