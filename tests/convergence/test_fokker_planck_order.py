"""Orders of convergence of the first-passage law: two in the mesh, five in the time step.

Would falsify: that exponential fitting keeps second order with drift and with noise that varies, for the mean (direct solve)
and for the survival curve (time steps); that a step has order five and damps what it does not resolve.
"""

import numpy as np
import pytest
from scipy.linalg import expm

from solvers.birth_death import Chain
from solvers.fokker_planck import FirstPassage, Interval
from tests.ladder.test_fokker_planck import BROWNIAN, Power, mean_by_double_integral

CELLS = np.array([16, 32, 64])


def slope(errors, cells=CELLS):
    return -np.polyfit(np.log(cells), np.log(np.abs(errors)), 1)[0]


@pytest.mark.parametrize(
    ("field", "lr"), [(Power(2, tilt=2.0), 1.0), (Power(3, tilt=-2.0), 0.3), (Power(4, tilt=2.0), 0.1)]
)
def test_mean_is_second_order_in_the_mesh(field, lr):
    exact = mean_by_double_integral(field, 100, lr)
    errors = [FirstPassage.of(field, 100, lr, start=0.0, cells=int(n)).mean / exact - 1 for n in CELLS]
    assert slope(errors) == pytest.approx(2, abs=0.15)


def test_survival_of_brownian_motion_is_second_order_in_the_mesh():
    a, n = (0.5 / 100) ** 2 / 2, np.arange(1, 200, 2)
    time = 0.3 * 0.09 / a
    exact = (4 / (n * np.pi) * np.sin(n * np.pi / 2) * np.exp(-a * (n * np.pi / 0.6) ** 2 * time)).sum()
    errors = [FirstPassage.of(BROWNIAN, 100, 0.5, start=0.0, cells=int(n)).survival(time)[0] - exact for n in CELLS]
    assert slope(errors) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("order", "lr"), [(2, 1.0), (3, 0.3), (4, 0.1)])
def test_median_from_a_random_start_is_second_order_in_the_mesh(order, lr):
    medians = [FirstPassage.of(Power(order, tilt=1.0), 100, lr, cells=int(n)).quantile(0.5) for n in (*CELLS, 128)]
    assert slope(np.diff(medians)) == pytest.approx(2, abs=0.25)


def test_step_is_fifth_order_in_time_and_damps():
    alpha = np.sinh(np.linspace(-2, 2, 41)) / 10
    chain = Chain.of(alpha, *Power(3, tilt=-2.0).velocity(alpha, 100, 0.3))
    generator = np.diag(chain.up[:-1], -1) + np.diag(chain.down[1:], 1) - np.diag(chain.up + chain.down)
    mass, steps = np.eye(41)[20], np.array([8, 16, 32])
    total = 40 / np.abs(generator).max()
    exact, errors = expm(generator * total) @ mass, []
    for n in steps:
        state = mass
        for _ in range(n):
            state = chain.step(state, total / n)
        errors.append(np.abs(state - exact).sum())
    assert slope(errors, steps) == pytest.approx(5, abs=0.3)
    assert np.abs(chain.step(mass, 1e12 * total)[1:-1]).sum() < 1e-9


def test_coarse_samples_of_the_field_vs_the_field_at_every_node():
    """Quintic splines over 8 samples per unit of ξ: relative error of the flow where it matters, at any d."""
    for dim in (100, 1e4, 1e8):
        interval = Interval(Power(4, cubic=-3.0, tilt=1.0), dim)
        outside = np.abs(interval.alpha) > 0.5 * dim**-0.5
        expected = interval.field.flow(interval.alpha[outside])
        np.testing.assert_allclose(interval.coefficients[0][outside], expected, rtol=1e-4)
