"""The loss averaged over a sphere: formulas against brute force in R^d, quadrature and SciPy.

Would be falsified by: a gradient at fixed ρ instead of fixed ‖x‖, wrong moments of the sphere, a table of ReLU that is off
in its tails or at small d, a population objective that is not the mean of the samples'. Nothing here is random but inputs.
"""

import numpy as np
import pytest
from numba import njit
from scipy import integrate, special

from tests.conftest import TASKS, teacher
from theory.activations import hermite_mixture, relu, tanh
from theory.errors import InputError
from theory.latents import gauss
from theory.learners import CorrelationLoss, Neuron, SmoothedNeuron
from theory.lower import PolynomialMap, compile_gradient_lanes
from theory.population import Model, Population
from theory.smoothed_population import SmoothedPopulation, chi_square_rule
from theory.smoothing import relu_slope, sphere_moment, spherical_average
from theory.tasks import spiked_cumulant

MIXTURE = hermite_mixture({1: 0.3, 2: -0.5, 3: 0.7, 4: 1.0, 5: -0.4})
FOURTH = hermite_mixture({4: -1.0})
ALONE = spiked_cumulant(gauss(4))
PLAIN = Neuron(MIXTURE, CorrelationLoss())


def sphere_nodes(dim):
    """Nodes (n, dim - 1) and weights on S^{dim-2}, exact to degree 15, for dim = 3 (a circle) and 4."""
    angle = np.arange(16) * np.pi / 8
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if dim == 3:
        return circle, np.full(16, 1 / 16)
    height, w = np.polynomial.legendre.leggauss(8)
    rings = [np.column_stack([np.full(16, h), np.sqrt(1 - h * h) * circle]) for h in height]
    return np.concatenate(rings), np.repeat(w / 2, 16) / 16


def averaged_loss(activation, w, x, radius):
    """E_z σ((w + λz)·x/√(1+λ²)), z on the unit sphere orthogonal to w / |w|, by summing over nodes in R^d."""
    w = w / np.linalg.norm(w)
    across = np.linalg.svd(w[None])[2][1:]  # orthonormal rows orthogonal to w
    z, weight = sphere_nodes(len(w))
    s = (w + radius * z @ across) @ x / np.sqrt(1 + radius**2)
    return weight @ activation.function.evaluate(s)


def sphere_gradient(activation, w, x, radius, h=1e-3):
    """∇_sph of ``averaged_loss`` by central differences of order 4 along orthonormal tangents: no formula of the theory."""
    gradient = np.zeros(len(w))
    for tangent in np.linalg.svd(w[None])[2][1:]:
        f = [averaged_loss(activation, np.cos(t) * w + np.sin(t) * tangent, x, radius) for t in (h, -h, 2 * h, -2 * h)]
        gradient += (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h) * tangent
    return gradient


@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize("power", [0.25, 1.0])
def test_step_vs_differences_of_the_averaged_loss(dim, power, rng):
    """The gradient of the averaged loss is G (x - s w), G the slope at fixed ‖x‖: nothing else, no other direction."""
    learner = SmoothedNeuron(MIXTURE, power)
    for _ in range(5):
        w, x = rng.standard_normal((2, dim))
        w /= np.linalg.norm(w)
        s = w @ x
        expected = learner.slope_at(dim)(s, x @ x) * (x - s * w)
        np.testing.assert_allclose(sphere_gradient(MIXTURE, w, x, learner.radius(dim)), expected, atol=1e-8)


@pytest.mark.parametrize("dim", [3, 4, 5, 30, 1000])
def test_relu_slope_vs_quadrature_over_the_sphere(dim):
    """dF/ds at fixed ‖x‖ by integrating σ' and z_1 σ' over the angle of z, where the density is smooth."""
    radius = dim**0.25
    for s, rest in ((0.3, dim - 1.0), (-1.2, 0.7 * dim), (2.0, 1.5 * dim), (3.0, 0.1)):
        rho = np.sqrt(rest)
        kink = np.arccos(np.clip(-s / (radius * rho), -1, 1))
        norm = integrate.quad(lambda t: np.sin(t) ** (dim - 3), 0, np.pi, points=[np.pi / 2], epsabs=1e-13)[0]
        parts = [
            integrate.quad(
                lambda t, n=n: np.cos(t) ** n * np.sin(t) ** (dim - 3), 0, kink,
                points=[min(kink, np.pi / 2)], epsabs=1e-13,
            )[0] / norm
            for n in (0, 1)
        ]  # fmt: skip
        expected = (parts[0] - s / rho * radius * parts[1]) / np.sqrt(1 + radius**2)
        assert abs(relu_slope(radius, dim)(np.array(s), np.array(s * s + rest)) - expected) < 1e-10


@njit
def call(g, y, s, squares, theta, out):
    g(y, s, squares, theta, out)


def compiled_slope(learner, dim, s, squares):
    """y G from the compiled lanes, y = -2."""
    g, theta = compile_gradient_lanes(learner, dim)
    blocks = np.stack([s, squares]).reshape(2, -1, 16)
    out = np.empty(blocks.shape[1:])
    for k in range(len(out)):
        call(g, np.full(16, -2.0), blocks[0, k], blocks[1, k], theta, out[k])
    return out.ravel()


@pytest.mark.parametrize("dim", [3, 4, 7, 64, 1000, 10**6])
@pytest.mark.parametrize("activation", [relu(), MIXTURE], ids=["relu", "mixture"])
def test_compiled_vs_scipy(dim, activation, rng):
    """The ReLU table against scipy.special.betainc, over its whole range; polynomials against NumPy. 1e-10."""
    learner = SmoothedNeuron(activation)
    s = np.concatenate([rng.standard_normal(1600), np.linspace(-8, 8, 1600) * learner.radius(dim)])
    s[:2] = 0.0, 1e-300
    squares = s**2 + np.concatenate([rng.chisquare(dim - 1, 3184), np.zeros(16)])
    expected = -2 * learner.slope_at(dim)(s, squares)
    np.testing.assert_allclose(compiled_slope(learner, dim, s, squares), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", [relu(), MIXTURE], ids=["relu", "mixture"])
def test_a_vanishing_radius_vs_no_smoothing(activation, rng):
    """λ → 0 is the plain neuron: the gap closes as λ²."""
    s = rng.standard_normal(200)
    s = s[np.abs(s) > 0.05]
    slopes = [SmoothedNeuron(activation, p).slope_at(100)(s, s**2 + 80.0) for p in (-2.0, -2.5)]
    plain = np.heaviside(s, 0) if activation is not MIXTURE else np.polynomial.hermite_e.hermeval(
        s, np.polynomial.hermite_e.hermeder([0, 0.3, -0.25, 0.7 / 6, 1 / 24, -0.4 / 120])
    )  # fmt: skip
    gaps = [np.abs(g - plain).max() for g in slopes]
    assert np.log10(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("dim", [3, 10])
def test_sphere_moments_vs_the_beta_law(dim):
    """z_1² is Beta(1/2, (d-2)/2)."""
    for m in range(6):
        expected = special.beta(m + 0.5, (dim - 2) / 2) / special.beta(0.5, (dim - 2) / 2)
        assert float(sphere_moment(m, dim)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("dim", [4, 9])
def test_spherical_average_vs_quadrature(dim):
    """Two spikes, Uᵀz = C^{1/2} (first two coordinates of z), by Gauss rules in radius² (Beta) and angle."""
    poly = Population(Model(TASKS["teacher"], PLAIN), 6).objective
    alpha, radius = np.array([0.5, -0.3]), 1.4
    root = np.linalg.cholesky(np.eye(2) - np.outer(alpha, alpha))
    x, w = special.roots_jacobi(12, (dim - 3) / 2 - 1, 0)  # (1-x)^a: density of 1 - |z|² in R^{d-1}
    angle = np.arange(24) * np.pi / 12
    z = np.sqrt((1 + x) / 2)[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    values = PolynomialMap.from_polys([poly]).many((alpha + radius * z @ root.T) / np.sqrt(1 + radius**2))[..., 0]
    found = PolynomialMap.from_polys([spherical_average(poly, radius, dim)])(alpha)[0]
    assert found == pytest.approx(w / w.sum() @ values.mean(axis=1), rel=1e-12)


MODELS = [(TASKS["spiked_p4_positive"], 5), (TASKS["mcm_p3"], 30), (teacher("v", ("3", 1.0), ("4", -0.5)), 100)]


@pytest.mark.parametrize(("task", "dim"), MODELS, ids=["v", "uv", "teacher"])
def test_population_gradient_vs_quadrature_of_the_step(task, dim):
    """∇_sph Φ_λ from the series of Φ and moments of the sphere; E[y G (ξ - sα)] from the samples' G. To rounding."""
    population = SmoothedPopulation(Model(task, SmoothedNeuron(MIXTURE)), dim, 12)
    alpha = np.array([0.5, -0.3])[: len(population.model.spikes)]
    np.testing.assert_allclose(population.step_moments(alpha)[0], population.lowered(alpha), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dim", [12, 100])
def test_population_gradient_vs_quadrature_for_relu(dim):
    """ReLU: a truncated series against a rule for a function with narrow bends. To one per cent."""
    population = SmoothedPopulation(Model(ALONE, SmoothedNeuron(relu())), dim)
    alpha = np.array([0.4])
    np.testing.assert_allclose(population.step_moments(alpha)[0], population.lowered(alpha), rtol=1e-2)


@pytest.mark.parametrize(
    ("activation", "noise", "samples"), [(FOURTH, -2.0, 2.0), (relu(), -0.5, 3.5)], ids=["He4", "relu"]
)
def test_smoothing_lowers_the_exponent_at_the_predicted_powers(activation, noise, samples):
    """Φ_λ = C α² + …, C ∝ λ^{-2} d^{-1} = d^{-3/2}; samples ∝ d V/C²: V ∝ d^{-2} for pure He_4, hence d² instead of d³; for
    ReLU V ∝ λ^{-2} only, its first coefficients do not vanish: d^{3.5}, no gain.
    """
    dims = np.array([1e4, 1e5, 1e6])
    populations = [SmoothedPopulation(Model(ALONE, SmoothedNeuron(activation)), int(d), 4) for d in dims]
    plain = populations[0].plain.objective
    assert plain.monoms() == [(4,)]
    quadratic = np.array([float(p.objective.coeff_monomial((2,))) for p in populations])
    square = np.sqrt(dims)  # λ²
    expected = 6 * square / ((1 + square) ** 2 * (dims - 1)) * (1 - square / (dims + 1))
    np.testing.assert_allclose(quadratic, float(plain.LC()) * expected, rtol=1e-10)
    variance = np.array([p.step_moments(np.zeros(1))[1] for p in populations])
    for values, power in ((quadratic, -1.5), (variance, noise), (dims * variance / quadratic**2, samples)):
        assert np.polyfit(np.log(dims), np.log(values), 1)[0] == pytest.approx(power, abs=0.02)
    rates = np.array([p.critical_rate() for p in populations])
    np.testing.assert_allclose(rates, 4 * quadratic / variance, rtol=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 30, 10**6])
def test_chi_square_rule_vs_moments(degrees):
    x, w = chi_square_rule(degrees, 8)
    for m in range(6):
        expected = np.prod([degrees + 2.0 * i for i in range(m)])
        assert w @ x**m == pytest.approx(expected, rel=1e-9)


def test_bad_input():
    with pytest.raises(InputError, match="activation: got tanh; allowed: hermite"):
        SmoothedNeuron(tanh())
    with pytest.raises(InputError, match="activation"):
        SmoothedNeuron(relu(0.5))
    with pytest.raises(InputError, match="radius_power"):
        SmoothedNeuron(relu(), 3.0)
    with pytest.raises(InputError, match="use OverlapChain and SmoothedPopulation"):
        Population(Model(ALONE, SmoothedNeuron(relu()))).objective  # noqa: B018
    with pytest.raises(InputError, match="learner: got Neuron"):
        SmoothedPopulation(Model(ALONE, PLAIN), 10)
    with pytest.raises(InputError, match="dim"):
        SmoothedPopulation(Model(ALONE, SmoothedNeuron(FOURTH)), 2)
    with pytest.raises(InputError, match="driven"):
        SmoothedPopulation(Model(ALONE, SmoothedNeuron(hermite_mixture({4: 1.0}))), 50).critical_rate()
