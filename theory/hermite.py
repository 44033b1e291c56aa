"""Probabilists' Hermite polynomials He_k: E[He_j(z) He_k(z)] = k! 1{j=k} for z ~ N(0, 1)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import comb, factorial, prod

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from sympy.polys.orthopolys import hermite_prob_poly

MultiIndex = tuple[int, ...]


def hermite(k: int, x: sp.Expr) -> sp.Expr:
    """He_k(x) as a SymPy polynomial."""
    return hermite_prob_poly(k, x)


def hermite_values(order: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal He_k(x)/sqrt(k!) for k = 0 … order, shape (order + 1, *x.shape), by the stable three-term recursion."""
    x = np.asarray(x, dtype=float)
    values = np.empty((order + 1, *x.shape))
    values[0] = 1.0
    if order:
        values[1] = x
    for k in range(1, order):
        values[k + 1] = (x * values[k] - np.sqrt(k) * values[k - 1]) / np.sqrt(k + 1)
    return values


def sqrt_factorials(order: int) -> NDArray[np.float64]:
    """sqrt(k!) for k = 0 … order."""
    return np.sqrt([float(factorial(k)) for k in range(order + 1)])


def monomial_in_hermite(n: int) -> dict[int, int]:
    """Coefficients of x^n in the Hermite basis: x^n = sum_m n!/(2^m m! (n-2m)!) He_{n-2m}(x)."""
    return {n - 2 * m: factorial(n) // (2**m * factorial(m) * factorial(n - 2 * m)) for m in range(n // 2 + 1)}


def product_in_hermite(i: int, j: int) -> dict[int, int]:
    """Linearisation He_i He_j = sum_m C(i,m) C(j,m) m! He_{i+j-2m}."""
    return {i + j - 2 * m: comb(i, m) * comb(j, m) * factorial(m) for m in range(min(i, j) + 1)}


def multi_indices(n_spikes: int, degree: int) -> Iterator[MultiIndex]:
    """All multi-indices I of ``n_spikes`` entries with |I| = degree."""
    if n_spikes == 1:
        yield (degree,)
        return
    for first in range(degree, -1, -1):
        for rest in multi_indices(n_spikes - 1, degree - first):
            yield (first, *rest)


def multi_factorial(index: MultiIndex) -> int:
    """I! = prod_a i_a!."""
    return prod(factorial(i) for i in index)


def addition_formula(k: int, overlaps: Sequence[sp.Expr], projections: Sequence[sp.Expr]) -> sp.Expr:
    """He_k(α·ξ) on the unit sphere |α| = 1: sum over |I| = k of k!/I! Π α_a^{i_a} He_{i_a}(ξ_a)."""
    return sp.Add(
        *(
            sp.Rational(factorial(k), multi_factorial(index))
            * sp.Mul(*(a**i * hermite(i, x) for a, x, i in zip(overlaps, projections, index, strict=True)))
            for index in multi_indices(len(overlaps), k)
        )
    )


def multiply_expansions(left: dict[MultiIndex, sp.Expr], right: dict[MultiIndex, sp.Expr]) -> dict[MultiIndex, sp.Expr]:
    """Product of two multivariate Hermite series {I: coefficient of Π He_{i_a}(ξ_a)}."""
    result: dict[MultiIndex, sp.Expr] = {}
    for (i, x), (j, y) in product(left.items(), right.items()):
        factors = [product_in_hermite(a, b) for a, b in zip(i, j, strict=True)]
        for term in product(*(f.items() for f in factors)):
            index = tuple(k for k, _ in term)
            result[index] = result.get(index, 0) + x * y * prod(c for _, c in term)
    return result


def gauss_legendre_panels(
    breakpoints: Sequence[float], width: float = 0.5, n_nodes: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Composite Gauss-Legendre nodes and weights on the intervals between sorted breakpoints."""
    x, w = np.polynomial.legendre.leggauss(n_nodes)
    edges = [
        np.linspace(a, b, max(int(np.ceil((b - a) / width)), 1) + 1)
        for a, b in zip(breakpoints, breakpoints[1:], strict=False)
        if b > a
    ]
    left = np.concatenate([e[:-1] for e in edges])[:, None]
    right = np.concatenate([e[1:] for e in edges])[:, None]
    half = (right - left) / 2
    return (left + half * (1 + x)).ravel(), (half * w).ravel()


def gaussian_density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal density φ(x); zero at ±infinity."""
    return np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)


def project_on_hermite(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    order: int,
    kinks: Sequence[float] = (),
    width: float = 0.5,
) -> NDArray[np.float64]:
    """E[f(z) He_k(z)]/sqrt(k!) for k = 0 … order by composite Gauss-Legendre panels split at the kinks of f.

    The panels cover |z| <= 12 + sqrt(4 order), beyond which φ He_k/sqrt(k!) is below 1e-16. Coefficients below 1e-14 of
    the largest are rounding and returned as exact zeros, so that a blind activation is seen to be blind.
    """
    reach = 12 + np.sqrt(4 * order)
    points = [-reach, *sorted(k for k in kinks if abs(k) < reach), reach]
    z, w = gauss_legendre_panels(points, width)
    coefficients = hermite_values(order, z) @ (w * gaussian_density(z) * function(z))
    return np.where(np.abs(coefficients) < 1e-14 * np.abs(coefficients).max(), 0.0, coefficients)
