"""Hermite basis: orthogonality, linearisation, addition formula, each against an independent computation."""

from math import factorial

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.hermite import (
    addition_formula,
    hermite,
    hermite_values,
    monomial_in_hermite,
    multi_indices,
    multiply_expansions,
    product_in_hermite,
)

x = sp.Symbol("x", real=True)


def test_orthogonality_vs_sympy_integration():
    density = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)
    for j in range(5):
        for k in range(5):
            moment = sp.integrate(hermite(j, x) * hermite(k, x) * density, (x, -sp.oo, sp.oo))
            assert moment == (factorial(k) if j == k else 0)


def test_values_vs_sympy():
    points = np.linspace(-6, 6, 13)
    values = hermite_values(12, points)
    for k in range(13):
        exact = [float(hermite(k, sp.Rational(p).limit_denominator(100))) / factorial(k) ** 0.5 for p in points]
        np.testing.assert_allclose(values[k], exact, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", range(9))
def test_monomial_expansion_is_exact(n):
    assert sp.expand(sum(c * hermite(k, x) for k, c in monomial_in_hermite(n).items()) - x**n) == 0


@given(st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_linearisation_is_exact(i, j):
    expansion = sum(c * hermite(k, x) for k, c in product_in_hermite(i, j).items())
    assert sp.expand(expansion - hermite(i, x) * hermite(j, x)) == 0


def test_addition_formula_on_the_unit_sphere():
    theta, phi, a, b, c = sp.symbols("theta phi a b c", real=True)
    alpha = (sp.cos(theta), sp.sin(theta) * sp.cos(phi), sp.sin(theta) * sp.sin(phi))
    xi = (a, b, c)
    s = sum(p * q for p, q in zip(alpha, xi, strict=True))
    for k in range(5):
        gap = sp.expand(hermite(k, s)) - sp.expand(addition_formula(k, alpha, xi))
        values = {theta: sp.Rational(7, 10), phi: sp.Rational(11, 10), a: 2, b: -1, c: sp.Rational(1, 3)}
        assert abs(sp.N(gap.subs(values), 30)) < 1e-25


def test_multivariate_product_vs_polynomials():
    y = sp.Symbol("y", real=True)
    left, right = {(2, 0): 1, (1, 1): 3}, {(0, 3): -2, (1, 0): 1}

    def polynomial(expansion):
        return sum(c * hermite(i, x) * hermite(j, y) for (i, j), c in expansion.items())

    assert sp.expand(polynomial(multiply_expansions(left, right)) - polynomial(left) * polynomial(right)) == 0


def test_multi_indices_count():
    for r in (1, 2, 3):
        for degree in range(6):
            indices = list(multi_indices(r, degree))
            assert len(indices) == len(set(indices)) == sp.binomial(degree + r - 1, r - 1)
