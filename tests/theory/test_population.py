"""The Hermite series of the population objective against quadrature over the latents, and its symmetries."""

import numpy as np
import pytest
import sympy as sp

from solvers.fields import SeriesField
from tests.conftest import ACTIVATIONS, LOSSES, TASKS, model_of
from theory.activations import erf, relu, tanh
from theory.errors import InputError
from theory.latents import gauss
from theory.learners import SquaredLoss
from theory.lower import PolynomialMap
from theory.population import Population
from theory.quadrature import LatentQuadrature, tail_bound
from theory.tasks import MixedCumulant, spiked_cumulant


def points(task, size):
    r = len(task.spikes)
    return size * np.array([np.ones(r), np.where(np.arange(r) % 2, 1, -1), np.linspace(1, 0.2, r)]) / np.sqrt(r)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("task", TASKS)
def test_series_vs_quadrature(task, activation, loss):
    """Order 40 to 1e-8: Φ, spherical gradient and V at |α| = 0.5 (three spikes, 12 341 monomials: order 18 at 0.3)."""
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    order, size = (40, 0.5) if len(model.spikes) < 3 else (18, 0.3)
    population, exact = Population(model, order), LatentQuadrature(model)
    phi = PolynomialMap.from_polys([population.objective])
    flow = PolynomialMap.from_polys(population.spherical_gradient)
    variance = PolynomialMap.from_polys([population.variance])
    zero = exact.objective(np.zeros(len(model.spikes)))
    for alpha in points(model.task, size):
        assert phi(alpha)[0] == pytest.approx(exact.objective(alpha) - zero, abs=1e-8)
        np.testing.assert_allclose(flow(alpha), exact.flow(alpha), atol=1e-8)
        assert variance(alpha)[0] == pytest.approx(exact.variance(alpha), abs=1e-8)


@pytest.mark.parametrize(
    ("task", "activation", "loss"),
    [("mcm_corr", "relu", "correlation"), ("mcm_corr", "tanh", "squared"), ("mcm_p3", "hermite", "squared"),
     ("mcm_even", "softplus", "correlation"), ("teacher", "relu_bias", "squared"), ("mcm_mean_p6", "erf", "correlation")],
)  # fmt: skip
def test_diffusion_series_vs_quadrature(task, activation, loss):
    """D(α) by the two ways, to 1e-7 at order 40 and |α| = 0.4 (three spikes: order 14 at 0.2)."""
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    order, size = (40, 0.4) if len(model.spikes) < 3 else (14, 0.2)
    series, exact = SeriesField(Population(model, order)), LatentQuadrature(model)
    for alpha in points(model.task, size):
        np.testing.assert_allclose(series.diffusion(alpha), exact.diffusion(alpha), atol=1e-7)


def test_drift_of_the_hand_calculation():
    """p = 4, Rademacher, ReLU, β_v = 10, v alone: Φ' = 0.05495 α³ + O(α⁵), and the exact form of its coefficient."""
    population = Population(model_of(spiked_cumulant(gauss(4))), 6)
    (a,) = population.overlaps
    coefficient = float(population.euclidean_gradient[0].coeff_monomial(a**3))
    exact = sp.Rational(1, 2) * (-1 / sp.sqrt(2 * sp.pi)) / 6 * sp.Rational(10, 11) ** 2 * -2
    assert coefficient == pytest.approx(float(exact), rel=1e-12)
    assert coefficient == pytest.approx(0.05495, abs=5e-6)
    assert float(population.euclidean_gradient[0].coeff_monomial(a)) == 0


def test_projected_gradient_is_not_the_projection_of_the_euclidean_one_of_ambient_space():
    """§10.8: E[g ξ] ≠ ∇Φ; E[g (ξ - sα)] = ∇Φ - α(α·∇Φ) is what both views must use."""
    model = model_of(MixedCumulant(corr=0.5))
    population, alpha = Population(model, 30), np.array([0.6, 0.5])
    euclidean = np.array([float(g(*alpha)) for g in population.euclidean_gradient])
    projected = euclidean - alpha * (alpha @ euclidean)
    np.testing.assert_allclose(projected, LatentQuadrature(model).flow(alpha), atol=1e-7)
    assert np.abs(euclidean - projected).max() > 0.01


@pytest.mark.parametrize("activation", ["relu", "hermite"])
@pytest.mark.parametrize("task", ["mcm_corr", "mcm_mean_p6", "mcm_p3", "teacher"])
def test_symbolic_population_takes_the_numeric_values(task, activation):
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES["squared"] if task == "teacher" else None)
    symbolic, numeric = Population(model, 4, symbolic=True), Population(model, 4)
    values, alpha = symbolic.values(), points(model.task, 0.6)[0]
    at = dict(zip(symbolic.overlaps, alpha, strict=True))
    assert not symbolic.objective.free_symbols_in_domain & set(symbolic.overlaps)
    for left, right in ((symbolic.objective, numeric.objective), (symbolic.variance, numeric.variance)):
        assert float(left.as_expr().subs(values).subs(at)) == pytest.approx(float(right(*alpha)), abs=1e-12)
    for left, right in zip(symbolic.drift, numeric.drift, strict=True):
        run = {sp.Symbol("delta", positive=True): 0.3, sp.Symbol("d", positive=True): 100}
        assert float(left.subs(values).subs(at).subs(run)) == pytest.approx(float(right.subs(at).subs(run)), abs=1e-14)


def test_symmetry_flipping_the_correlation_flips_v():
    a, b = (Population(model_of(MixedCumulant(corr=c)), 12) for c in (0.4, -0.4))
    for alpha in points(MixedCumulant(), 0.7):
        assert float(a.objective(*alpha)) == pytest.approx(float(b.objective(alpha[0], -alpha[1])), abs=1e-14)


def test_symmetry_rademacher_is_even_in_all_overlaps():
    population = Population(model_of(MixedCumulant(corr=0.4)), 12)
    assert all(sum(index) % 2 == 0 for index in population.objective.as_dict())


def test_permuting_the_spikes_of_a_teacher_permutes_the_flow():
    from tests.conftest import teacher

    a = Population(model_of(teacher("uv", ("20", 1), ("12", 0.5)), erf(), SquaredLoss()), 10)
    b = Population(model_of(teacher("uv", ("02", 1), ("21", 0.5)), erf(), SquaredLoss()), 10)
    for x, y in ((0.3, 0.5), (-0.2, 0.6)):
        left = [float(f(x, y)) for f in a.spherical_gradient]
        right = [float(f(y, x)) for f in b.spherical_gradient]
        np.testing.assert_allclose(left, right[::-1], atol=1e-14)


def test_tail_bound_holds_and_shrinks_geometrically():
    for activation in (relu(), tanh()):
        model = model_of(MixedCumulant(corr=0.5, beta_u=0.8), activation)
        alpha, exact = np.array([0.65, 0.3]), LatentQuadrature(model)
        zero = exact.objective(0 * alpha)
        bounds = []
        for order in (4, 8, 12, 16):
            population = Population(model, order)
            gap = abs(exact.objective(alpha) - zero - float(population.objective(*alpha)))
            bounds.append(tail_bound(population, alpha))
            assert gap <= bounds[-1]
        slopes = np.diff(np.log(bounds)) / 4
        # Per order the terms shrink at least like sqrt(β_u) α_u plus a bit from v.
        assert np.all(slopes < np.log(0.85))


def test_tail_bound_is_infinite_where_the_series_diverges_and_zero_for_polynomials():
    wide = model_of(MixedCumulant(corr=0.5, beta_u=5.0))
    assert tail_bound(Population(wide, 20), np.array([0.8, 0.2])) == np.inf
    polynomial = model_of(MixedCumulant(corr=0.5), ACTIVATIONS["hermite"])
    assert tail_bound(Population(polynomial, 20), np.array([0.9, 0.3])) == 0


def test_truncated_series_converges_along_the_order():
    """Slope of log error against order: linear, i.e. geometric convergence, at |α| well inside the disc."""
    model = model_of(MixedCumulant(corr=0.5))
    alpha, orders = np.array([0.5, 0.3]), np.arange(4, 17, 4)
    exact = LatentQuadrature(model).flow(alpha)
    errors = [
        np.abs(PolynomialMap.from_polys(Population(model, int(k)).spherical_gradient)(alpha) - exact).max()
        for k in orders
    ]
    slope = np.polyfit(orders, np.log(errors), 1)[0]
    assert slope < np.log(0.7)


def test_latex_puts_leading_orders_first():
    text = Population(model_of(spiked_cumulant(gauss(4))), 8, symbolic=True).latex()
    assert text.startswith(r"\begin{aligned}")
    drift = text.split("\n")[2]
    assert drift.index(r"\alpha_{v}^{3}") < drift.index(r"\alpha_{v}^{5}") < drift.index(r"O(|\alpha|")
    assert r"c_{4}" in text
    assert r"\kappa_{0 4}" in text
    numeric = Population(model_of(spiked_cumulant(gauss(4))), 8)
    assert "0.05495" in numeric.latex()
    assert numeric.drift_text("v").startswith("delta/d*(0.05495*alpha_v^3")


@pytest.mark.parametrize("order", [0, 1, 61, -3])
def test_order_out_of_range_is_refused(order):
    with pytest.raises(InputError, match="order"):
        Population(model_of(MixedCumulant()), order)
