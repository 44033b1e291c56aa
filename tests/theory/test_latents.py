"""Latents of order p and their couplings: moments, signs, correlation, each obtained twice."""

from math import factorial, sqrt

import numpy as np
import pytest
import sympy as sp
from scipy.special import ndtr

from tests.conftest import Z_ALARM
from theory.errors import InputError
from theory.hermite import hermite
from theory.latents import EvenCoupling, GaussianCopula, gauss, lobatto, radau, standard_latent


@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("p", range(3, 9))
def test_moments_match_a_gaussian_below_p_and_differ_at_p(p, sign):
    latent = standard_latent(p, sign)
    for j in range(p):
        moment = sum(w * float(hermite(j, sp.Float(x, 30))) for x, w in zip(latent.nodes, latent.weights, strict=True))
        assert moment == pytest.approx(float(j == 0), abs=1e-10)
    top = latent.hermite_moment(p)
    assert abs(top) > 0.5
    if sign:
        assert np.sign(top) == sign
    assert min(latent.weights) > 0


def test_formulas_for_the_first_discrepancy():
    for p in (4, 6, 8):
        assert gauss(p).hermite_moment(p) == pytest.approx(-factorial(p // 2))
    for p, a in ((3, 2.0), (3, -1.5), (5, 3.0), (7, 2.9)):
        k = (p + 1) // 2
        expected = factorial(k - 1) * float(hermite(k, sp.Float(a)) / hermite(k - 1, sp.Float(a)))
        assert radau(p, a).hermite_moment(p) == pytest.approx(expected)
        assert min(abs(np.array(radau(p, a).nodes) - a)) < 1e-12
    for a in (1.2, 1.6, 2.0):
        assert lobatto(4, a).hermite_moment(4) == pytest.approx(a**2 - 3)
    assert radau(3).nodes == pytest.approx((-0.5, 2.0))
    assert radau(3).hermite_moment(3) == pytest.approx(1.5)


def test_rademacher_is_gauss_4():
    assert gauss(4).nodes == pytest.approx((-1, 1))
    assert GaussianCopula().max_corr(gauss(4)) == pytest.approx(sqrt(2 / np.pi))


@pytest.mark.parametrize("coupling", [GaussianCopula(), EvenCoupling()], ids=["copula", "even"])
@pytest.mark.parametrize("p", [3, 4, 6, 7])
def test_mixed_moments_vs_sympy_integration(coupling, p):
    """E[He_k(η) He_j(ν)]: the edge formula against SymPy's integral of He_k φ over each interval."""
    steps = coupling.steps(standard_latent(p))
    moments = steps.hermite_moments(5)
    x = sp.Symbol("x", real=True)
    for k in range(6):
        primitive = sp.integrate(hermite(k, x) * sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi), x)
        parts = [
            float(sp.limit(primitive, x, b) if b == np.inf else primitive.subs(x, b))
            - float(sp.limit(primitive, x, a) if a == -np.inf else primitive.subs(x, a))
            for a, b in zip(steps.edges, steps.edges[1:], strict=False)
        ]
        for j in range(6):
            expected = sum(m * float(hermite(j, sp.Float(v))) for m, v in zip(parts, steps.values, strict=True))
            assert moments[k, j] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("p", [3, 4, 5, 8])
def test_coupling_vs_montecarlo(p, rng):
    """corr is E[λν]; ν keeps its law; even couplings are dependent but uncorrelated."""
    latent, n = standard_latent(p), 400_000
    lam, g = rng.standard_normal((2, n))
    for coupling, corr in ((GaussianCopula(), 0.45), (GaussianCopula(), -0.3), (EvenCoupling(), 0.0)):
        rho, steps = coupling.strength(latent, corr), coupling.steps(latent)
        eta = rho * lam + np.sqrt(1 - rho**2) * g
        nu = np.array(steps.values)[np.searchsorted(steps.edges[1:-1], eta)]
        for x, mean in ((lam * nu, corr), (nu, 0.0), (nu**2, 1.0)):
            assert abs(x.mean() - mean) < Z_ALARM * x.std() / np.sqrt(n) + 1e-12
        if isinstance(coupling, EvenCoupling):
            assert abs((lam**2 * nu).mean()) > 0.3


def test_probability_of_each_step():
    steps = EvenCoupling().steps(gauss(6))
    weights = np.diff(ndtr(np.array(steps.edges)))
    assert np.dot(weights, steps.values) == pytest.approx(0, abs=1e-12)
    assert np.dot(weights, np.square(steps.values)) == pytest.approx(1)


def test_too_large_a_correlation_states_the_maximum():
    with pytest.raises(InputError, match=r"0\.797885"):
        GaussianCopula().strength(gauss(4), 0.9)
    with pytest.raises(InputError, match="coupling even"):
        EvenCoupling().strength(gauss(4), 0.1)


@pytest.mark.parametrize("bad", [lambda: gauss(5), lambda: radau(4), lambda: lobatto(4, 0.9), lambda: radau(3, 0.0),
                                 lambda: radau(3, 1.0), lambda: standard_latent(2),
                                 lambda: lobatto(4, sqrt(3.0))])  # fmt: skip
def test_impossible_latents_are_refused(bad):
    with pytest.raises(InputError):
        bad()
