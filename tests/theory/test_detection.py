"""Detection of a cumulant spike against brute force, published numbers and the exponents of the theory (§9).

Falsified here: the closed form of the two-spike kernel, the norms built on it, γ_c, and the claims n ~ d (statistical) and
n ~ d^(p/2) (low-degree). Deterministic: no false alarms.
"""

from itertools import product
from math import comb, log

import numpy as np
import pytest
import sympy as sp
from numpy.polynomial.hermite_e import hermegauss

from theory.detection import Detection, RademacherSpike, UniformSphere, power_of_series
from theory.errors import InputError
from theory.latents import gauss, lobatto, radau

LATENTS = {"rademacher": gauss(4), "gauss6": gauss(6), "radau3": radau(3), "lobatto4": lobatto(4), "gauss8": gauss(8)}
PRIORS = {"sphere": UniformSphere(), "rademacher": RademacherSpike()}


def density_ratio(latent, beta, s):
    """Planted density over the Gaussian one along the spike, from its definition."""
    share = beta / (1 + beta)
    planted = sum(
        w * np.exp(-((s - np.sqrt(share) * x) ** 2) / (2 * (1 - share))) / np.sqrt(1 - share)
        for x, w in zip(latent.nodes, latent.weights, strict=True)
    )
    return planted / np.exp(-(s**2) / 2)


@pytest.mark.parametrize("name", LATENTS)
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_closed_kernel_vs_series(name, beta):
    detection = Detection(LATENTS[name], beta, UniformSphere())
    omega = np.linspace(-1, 1, 21)
    by_series = np.polynomial.polynomial.polyval(omega, detection.series(200))
    np.testing.assert_allclose(np.exp(detection.log_kernel(omega)), by_series, rtol=1e-11)


@pytest.mark.parametrize("name", LATENTS)
def test_closed_kernel_vs_quadrature_of_its_definition(name):
    """E over two Gaussians of correlation ω of the product of density ratios."""
    latent, beta, (z, w) = LATENTS[name], 0.5, hermegauss(80)
    w = w / w.sum()
    for omega in (-0.7, 0.2, 0.9):
        along = omega * z[:, None] + np.sqrt(1 - omega**2) * z
        direct = w @ (density_ratio(latent, beta, z)[:, None] * density_ratio(latent, beta, along)) @ w
        assert np.exp(Detection(latent, beta, UniformSphere()).log_kernel(np.array(omega))) == pytest.approx(
            direct, rel=1e-8
        )


def test_kernel_vs_published_form_for_rademacher():
    """(1-τ²)^(-½) e^(-τ²/(1-τ²)) cosh(τ/(1-τ²))."""
    omega = np.linspace(-1, 1, 11)
    tau = 3 / 4 * omega
    published = np.exp(-(tau**2) / (1 - tau**2)) * np.cosh(tau / (1 - tau**2)) / np.sqrt(1 - tau**2)
    np.testing.assert_allclose(
        np.exp(Detection(gauss(4), 3.0, UniformSphere()).log_kernel(omega)), published, rtol=1e-13
    )


@pytest.mark.parametrize("samples", [1, 2])
def test_norm_vs_second_moment_of_the_likelihood_ratio(samples):
    """d = 2, u ∈ {±1}²/√2: E[L²] under the null by quadrature over all 2n coordinates of the data."""
    latent, beta = radau(3), 0.4
    z, w = hermegauss(36)
    w = w / w.sum()
    spikes = np.array(list(product([1, -1], repeat=2))) / np.sqrt(2)
    plane = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    weight = np.outer(w, w).ravel()
    ratios = density_ratio(latent, beta, plane @ spikes.T)  # (points, spikes)
    if samples == 1:
        second = weight @ ratios.mean(axis=1) ** 2
    else:
        likelihood = ratios @ ratios.T / len(spikes)
        second = weight @ likelihood**2 @ weight
    assert Detection(latent, beta, RademacherSpike()).log_norm(samples, 2) == pytest.approx(log(second), rel=1e-7)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", ["rademacher", "radau3"])
def test_low_degree_norm_vs_the_whole(prior, name):
    """Every degree adds, and all of them together are the norm."""
    detection = Detection(LATENTS[name], 0.5, PRIORS[prior])
    parts = [detection.low_degree_norm(30, 12, degree) for degree in range(201)]
    assert np.all(np.diff(parts) >= -1e-12 * parts[-1])
    assert parts[-1] == pytest.approx(np.expm1(detection.log_norm(30, 12)), rel=1e-9)


def test_low_degree_norm_vs_expansion_by_sympy():
    x, detection = sp.Symbol("x"), Detection(radau(3), 1.0, UniformSphere())
    poly = sp.Poly(sum(sp.Float(float(a), 40) * x**k for k, a in enumerate(detection.series(9))), x) ** 5
    moments = UniformSphere().moments(7, 9)
    exact = sum(float(poly.coeff_monomial(x**m)) * moments[m] for m in range(1, 10))
    assert detection.low_degree_norm(5, 7, 9) == pytest.approx(exact, rel=1e-12)


def test_moments_vs_expectations():
    for dim in (2, 5, 30):
        signs = np.array([comb(dim, k) for k in range(dim + 1)]) / 2.0**dim
        omega = (2 * np.arange(dim + 1) - dim) / dim
        direct = [signs @ omega**m for m in range(9)]
        np.testing.assert_allclose(RademacherSpike().moments(dim, 8), direct, rtol=1e-12, atol=1e-15)
        omega, weight = UniformSphere().law(dim)
        direct = [np.exp(weight) @ omega**m for m in (0, 2, 4)]
        np.testing.assert_allclose(UniformSphere().moments(dim, 4)[::2], direct, rtol=1e-8)


def test_power_of_series_vs_numpy():
    a = np.array([1.0, 0.5, -0.3, 0.2])
    np.testing.assert_allclose(power_of_series(a, 3), np.polynomial.polynomial.polypow(a, 3)[:4], rtol=1e-14)


def test_critical_ratio_vs_the_published_strength():
    """Rademacher latent and spike: γ_c = 1 at β ≈ 10.78 (the paper's 10.7), decreasing in β; the sphere is never easier."""
    strengths = np.array([2.0, 5.0, 10.7, 10.85, 30.0])
    ratios = np.array([Detection(gauss(4), b, RademacherSpike()).critical_ratio for b in strengths])
    assert np.all(np.diff(ratios) < 0)
    assert ratios[2] > 1 > ratios[3]
    sphere = [Detection(gauss(4), b, UniformSphere()).critical_ratio for b in strengths]
    assert np.all(np.array(sphere) >= ratios)


@pytest.mark.parametrize("prior", PRIORS)
def test_norm_is_bounded_below_the_critical_ratio_alone(prior):
    """log ‖L_n‖² at n = γ d: vanishing as d grows below γ_c, growing in proportion to d above."""
    detection = Detection(gauss(4), 8.0, PRIORS[prior])
    dims = (1000, 2000, 4000)
    below, above = (
        [detection.log_norm(factor * detection.critical_ratio * d, d) for d in dims] for factor in (0.9, 1.1)
    )
    assert below[0] > below[1] > below[2] > 0
    assert above[2] > 1.9 * above[1] > 3 * above[0] > 0


@pytest.mark.parametrize("name", ["rademacher", "radau3", "gauss6"])
@pytest.mark.parametrize("prior", PRIORS)
def test_thresholds_scale_as_d_and_as_d_to_half_the_order(name, prior):
    detection, dims = Detection(LATENTS[name], 8.0, PRIORS[prior]), np.array([1000, 4000, 16000])
    order = LATENTS[name].order
    fixed = [detection.low_degree_threshold(int(d), 2 * order) for d in dims]
    assert np.polyfit(np.log(dims), np.log(fixed), 1)[0] == pytest.approx(order / 2, abs=0.02)
    free = [detection.statistical_threshold(int(d)) for d in dims]
    assert np.polyfit(np.log(dims), np.log(free), 1)[0] == pytest.approx(1, abs=0.02)


def test_bad_values_are_refused():
    for beta in (0.0, -1.0, np.inf, np.nan, 1e5):
        with pytest.raises(InputError, match="beta"):
            Detection(gauss(4), beta, UniformSphere())
    detection = Detection(gauss(4), 1.0, UniformSphere())
    with pytest.raises(InputError, match="degree: got 3; allowed: 4"):
        detection.low_degree_threshold(100, 3)
    for samples, dim in ((0, 10), (np.inf, 10), (1, 1), (1, 10.5)):
        with pytest.raises(InputError):
            detection.log_norm(samples, dim)


@pytest.mark.parametrize("beta", [1e-3, 3e-3, 0.05])
def test_weak_spikes_vs_leading_term(beta):
    """At small β log f is (s⁴ E[He_4])²/4! ω⁴ and γ_c its extremum, far below the rounding of the closed form."""
    detection = Detection(gauss(4), beta, RademacherSpike())
    omega = np.array([-1.0, 0.3, 1.0])
    leading = 4 / 24 * (detection.signal * omega) ** 4
    assert detection.log_kernel(omega) == pytest.approx(leading, rel=5 * detection.signal)
    assert detection.critical_ratio == pytest.approx(np.log(2) / detection.log_kernel(np.array([1.0]))[0], rel=0.05)
