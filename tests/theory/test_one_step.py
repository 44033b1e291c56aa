"""Drift and diffusion against one step of the real d-dimensional update, by Monte Carlo over inputs in R^d.

Would be falsified by: a missing normalisation term, a wrong projection, a wrong sign, D without its cross terms.
"""

import numpy as np
import pytest

from tests.conftest import ACTIVATIONS, LOSSES, TASKS, Z_ALARM, draw, model_of
from theory.lower import PolynomialMap
from theory.population import Population

DIM, STEPS = 60, 400_000


def one_step(model, alpha, lr, rng):
    """Δα for ``STEPS`` independent inputs in R^d, shape (STEPS, r); the first r axes are the spikes."""
    r = len(alpha)
    w = np.zeros(DIM)
    w[:r], w[r] = alpha, np.sqrt(1 - alpha @ alpha)
    y, xi = draw(model.task, STEPS, rng)
    x = rng.standard_normal((STEPS, DIM))
    x[:, :r] = xi
    s = x @ w
    g = np.zeros(STEPS)
    for n, f in model.learner.slope.items():
        g += y**n * f.evaluate(s)
    c = lr / DIM * g
    moved = w + c[:, None] * (x - s[:, None] * w)
    return moved[:, :r] / np.linalg.norm(moved, axis=1)[:, None] - alpha


@pytest.mark.parametrize(
    ("task", "activation", "loss"),
    [("mcm_corr", "relu", "correlation"), ("mcm_corr", "tanh", "squared"), ("mcm_p3", "hermite", "correlation"),
     ("mcm_mean_p6", "erf", "correlation"), ("mcm_even", "softplus", "squared"), ("teacher", "relu_bias", "squared"),
     ("spiked_p4_positive", "sigmoid", "correlation")],
)  # fmt: skip
def test_drift_and_diffusion_vs_one_step_montecarlo(task, activation, loss, rng):
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    population = Population(model, 24 if len(model.spikes) < 3 else 10)
    alpha, lr = np.array([0.4, 0.3, 0.2])[: len(model.spikes)], 0.05
    delta = one_step(model, alpha, lr, rng)
    flow = PolynomialMap.from_polys(population.spherical_gradient)(alpha)
    variance = PolynomialMap.from_polys([population.variance])(alpha)[0]
    drift = lr / DIM * flow - lr**2 / (2 * DIM) * variance * alpha
    standard_error = delta.std(axis=0) / np.sqrt(STEPS)
    # What the second-order drift leaves out: O(δ²/d²), here E[g² (‖x‖² - s² - d)] and higher moments of g.
    left_out = 10 * (lr / DIM) ** 2 * (1 + variance)
    assert np.all(np.abs(delta.mean(axis=0) - drift) < Z_ALARM * standard_error + left_out)
    expected = np.array([[float(entry(*alpha)) for entry in row] for row in population.diffusion])
    centred = delta - delta.mean(axis=0)
    for a in range(len(alpha)):
        for b in range(len(alpha)):
            products = centred[:, a] * centred[:, b]
            error = Z_ALARM * products.std() / np.sqrt(STEPS) + 20 * (lr / DIM) ** 3 * (1 + variance) * DIM
            assert abs(products.mean() - (lr / DIM) ** 2 * expected[a, b]) < error


def test_normalisation_term_vs_one_step_montecarlo(rng):
    """At a large rate the -δ²V/2d term is what is measured: without it the check fails by far."""
    model = model_of(TASKS["mcm_corr"])
    population, alpha, lr = Population(model, 24), np.array([0.5, 0.4]), 4.0
    delta = one_step(model, alpha, lr, rng)
    flow = PolynomialMap.from_polys(population.spherical_gradient)(alpha)
    variance = PolynomialMap.from_polys([population.variance])(alpha)[0]
    price = lr**2 / (2 * DIM) * variance * alpha
    error = Z_ALARM * delta.std(axis=0) / np.sqrt(STEPS)
    measured_price = lr / DIM * flow - delta.mean(axis=0)
    # Next order in δ is a correction of relative size δ² V/d to the price itself.
    assert np.all(np.abs(measured_price - price) < error + price * lr**2 * 3 / DIM)
    assert np.all(price > 4 * error)


def test_diffusion_is_positive_semidefinite():
    for task in ("mcm_corr", "teacher"):
        population = Population(model_of(TASKS[task]), 20)
        for alpha in (np.array([0.3, 0.3]), np.array([-0.5, 0.2])):
            matrix = np.array([[float(entry(*alpha)) for entry in row] for row in population.diffusion])
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
            assert np.linalg.eigvalsh(matrix).min() > 0
