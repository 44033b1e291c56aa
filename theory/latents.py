"""Latent variables ν of cumulant order p, and their coupling to the Gaussian latent λ of the covariance spike.

A latent of order p is a discrete law that matches N(0, 1) in the moments 1 … p-1 and differs at p. Gauss quadrature
rules for the Gaussian weight are such laws (theory of orthogonal polynomials; Golub, SIAM Review 15, 1973, for the
rules with prescribed nodes). A coupling makes ν a step function of a Gaussian η that is correlated with λ, so that
every mixed moment E[He_k(η) He_j(ν)] is a finite sum of φ and He at the interval edges.
"""

from dataclasses import dataclass
from math import factorial, inf, sqrt
from typing import Protocol

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from theory.errors import InputError, require
from theory.hermite import gaussian_density, hermite_values, sqrt_factorials

ORDERS = range(3, 9)
RADAU_NODE = {3: 2.0, 5: 3.0, 7: 3.0}
LOBATTO_NODE = {4: 2.0, 6: 3.0, 8: 3.0}


@dataclass(frozen=True)
class Latent:
    """Discrete law of ν: ``nodes`` (increasing), ``weights``, and the order p of its first cumulant unlike N(0, 1)."""

    name: str
    order: int
    nodes: tuple[float, ...]
    weights: tuple[float, ...]

    def hermite_moment(self, j: int) -> float:
        """E[He_j(ν)]: zero for 0 < j < order, by construction."""
        values = hermite_values(j, np.array(self.nodes))[j] * sqrt(factorial(j))
        return float(np.dot(self.weights, values))


def _monic(k: int, x: float) -> float:
    return float(hermite_values(k, np.array(x))[k] * sqrt(factorial(k)))


def _golub_welsch(name: str, order: int, diagonal: list[float], squared_off_diagonal: list[float]) -> Latent:
    """Nodes and weights of the quadrature rule with the given Jacobi matrix."""
    off = np.sqrt(squared_off_diagonal)
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    nodes[np.abs(nodes) < 1e-14] = 0.0
    weights = vectors[0] ** 2
    return Latent(name, order, tuple(map(float, nodes)), tuple(map(float, weights / weights.sum())))


def gauss(p: int) -> Latent:
    """Gauss rule with k = p/2 nodes, p even: E[He_p(ν)] = -k!. p = 4 is the Rademacher law ±1."""
    require(p in ORDERS and p % 2 == 0, "latent gauss", f"p = {p}", "p = 4, 6, 8", "for odd p use radau")
    k = p // 2
    return _golub_welsch("gauss", p, [0.0] * k, list(range(1, k)))


def radau(p: int, node: float | None = None) -> Latent:
    """Gauss-Radau rule with k = (p+1)/2 nodes, one of them prescribed, p odd.

    E[He_p(ν)] = (k-1)! He_k(a)/He_{k-1}(a) for the prescribed node a; a -> -a flips the sign.
    """
    require(p in ORDERS and p % 2 == 1, "latent radau", f"p = {p}", "p = 3, 5, 7", "for even p use gauss or lobatto")
    a = RADAU_NODE[p] if node is None else node
    k = (p + 1) // 2
    bad = abs(_monic(k - 1, a)) < 1e-9 or abs(_monic(k, a)) < 1e-9 or abs(a) > 6
    require(not bad, "latent radau node", a, f"|a| <= 6 and not a root of He_{k - 1} or He_{k}", f"try {RADAU_NODE[p]}")
    last = a - (k - 1) * _monic(k - 2, a) / _monic(k - 1, a)
    return _golub_welsch(f"radau:{a:g}", p, [0.0] * (k - 1) + [last], list(range(1, k)))


def lobatto(p: int, node: float | None = None) -> Latent:
    """Gauss-Lobatto rule with k = p/2 + 1 nodes, two of them prescribed at ±a, p even.

    E[He_p(ν)] = (k-2)! (b - (k-1)) with b = a He_{k-1}(a)/He_{k-2}(a), so a chooses the sign (p = 4: a² - 3).
    """
    require(p in ORDERS and p % 2 == 0, "latent lobatto", f"p = {p}", "p = 4, 6, 8", "for odd p use radau")
    a = LOBATTO_NODE[p] if node is None else node
    k = p // 2 + 1
    smallest = {4: 1.0, 6: sqrt(3.0), 8: sqrt(3 + sqrt(6))}[p]
    advice = f"try {LOBATTO_NODE[p]} for the positive sign"
    require(smallest < a <= 6, "latent lobatto node", a, f"{smallest:.4g} < a <= 6", advice)
    last = a * _monic(k - 1, a) / _monic(k - 2, a)
    require(abs(last - (k - 1)) > 1e-9, "latent lobatto node", a, f"not a root of He_{k}", advice)
    return _golub_welsch(f"lobatto:{a:g}", p, [0.0] * k, [*range(1, k - 1), last])


def standard_latent(p: int, sign: int = 0) -> Latent:
    """The default latent of order p (Gauss for even p, Radau for odd p), or the one with the given sign of E[He_p(ν)]."""
    require(p in ORDERS, "p", p, "3 … 8")
    if p % 2:
        return radau(p, -RADAU_NODE[p] if sign < 0 else None)
    return lobatto(p) if sign > 0 else gauss(p)


@dataclass(frozen=True)
class StepFunction:
    """ν as a function of a Gaussian η: ν = values[n] for edges[n] < η <= edges[n+1]; edges start at -inf, end at inf."""

    edges: tuple[float, ...]
    values: tuple[float, ...]

    def hermite_moments(self, order: int) -> NDArray[np.float64]:
        """E[He_k(η) He_j(ν)] for k, j = 0 … order, shape (order + 1, order + 1).

        Uses E[He_k(η) 1{a<η<b}] = φ(a) He_{k-1}(a) - φ(b) He_{k-1}(b) and, for k = 0, the interval's probability.
        """
        edges = np.array(self.edges)
        finite = np.where(np.isfinite(edges), edges, 0.0)
        scale = sqrt_factorials(order)
        density = np.where(np.isfinite(edges), gaussian_density(finite), 0.0)
        at_edges = density * hermite_values(max(order - 1, 0), finite) * scale[: max(order, 1), None]
        intervals = np.vstack([np.diff(ndtr(edges)), -np.diff(at_edges, axis=1)])[: order + 1]
        moments = intervals @ (hermite_values(order, np.array(self.values)) * scale[:, None]).T
        # Zero by matching moments or by symmetry: left as rounding, it would look like a visible direction.
        return np.where(np.abs(moments) < 1e-13 * np.outer(scale, scale), 0.0, moments)


class Coupling(Protocol):
    """How ν depends on λ: η = ρ̃ λ + sqrt(1-ρ̃²) g, ν a step function of η."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    def steps(self, latent: Latent) -> StepFunction:
        """ν as a step function of η."""
        ...

    def strength(self, latent: Latent, corr: float) -> float:
        """ρ̃ for which E[λν] = corr. Raises InputError if that cannot be reached."""
        ...

    def symbolic_strength(self, corr: sp.Symbol, slope: sp.Expr) -> sp.Expr:
        """ρ̃ in symbols, given corr and slope = E[η ν(η)]."""
        ...


@dataclass(frozen=True)
class GaussianCopula:
    """ν = F_ν^{-1}(Φ(η)), increasing in η: corr = ρ̃ E[η ν(η)], linear in ρ̃."""

    name: str = "copula"

    def steps(self, latent: Latent) -> StepFunction:
        """Monotone steps: the edges are the quantiles of η at the cumulated weights of ν."""
        inner = np.cumsum(latent.weights)[:-1]
        edges = [0.0 if abs(c - 0.5) < 1e-12 else float(ndtri(c)) for c in inner]
        return StepFunction((-inf, *edges, inf), latent.nodes)

    def max_corr(self, latent: Latent) -> float:
        """The largest attainable E[λν], at ρ̃ = 1."""
        return float(self.steps(latent).hermite_moments(1)[1, 1])

    def strength(self, latent: Latent, corr: float) -> float:
        """ρ̃ = corr / E[η ν(η)]."""
        largest = self.max_corr(latent)
        # A user who types the printed maximum must not be refused for its last digit.
        if not abs(corr) <= largest * (1 + 1e-6):
            raise InputError(
                "corr",
                corr,
                f"|corr| <= {largest:.6f} (the largest E[λν] for latent {latent.name}, p = {latent.order})",
            )
        return max(-1.0, min(1.0, corr / largest))

    def symbolic_strength(self, corr: sp.Symbol, slope: sp.Expr) -> sp.Expr:
        """ρ̃ = corr / E[η ν(η)]."""
        return corr / slope


@dataclass(frozen=True)
class EvenCoupling:
    """ν an increasing function of |λ|: dependent but uncorrelated, E[λν] = 0 and E[λ²ν] ≠ 0; here η = λ (ρ̃ = 1)."""

    name: str = "even"

    def steps(self, latent: Latent) -> StepFunction:
        """Steps in |η|, mirrored: |η| <= e_n iff P(|η| <= e_n) = the cumulated weight of ν."""
        inner = [float(ndtri((1 + c) / 2)) for c in np.cumsum(latent.weights)[:-1]]
        edges = (-inf, *(-e for e in reversed(inner)), *inner, inf)
        return StepFunction(edges, (*reversed(latent.nodes[1:]), *latent.nodes))

    def strength(self, latent: Latent, corr: float) -> float:  # noqa: ARG002 - the same for every latent
        """Always 1: the dependence has no free strength, and corr must be 0."""
        require(corr == 0, "corr", corr, "0 with coupling even (E[λν] = 0 by symmetry)", "use coupling copula")
        return 1.0

    def symbolic_strength(self, corr: sp.Symbol, slope: sp.Expr) -> sp.Expr:  # noqa: ARG002 - the same for all
        """ρ̃ = 1."""
        return sp.Integer(1)
