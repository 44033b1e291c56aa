"""Order of the diffusion's steps, and what is left of the error at the default tolerance.

Would be falsified by: a predictor that does not see the noise, a drift taken at the wrong end of a step, a crossing law
whose bias does not vanish with the step.
"""

import numpy as np
import pytest

from solvers.fokker_planck import FirstPassage
from solvers.sde import OverlapSDE
from tests.conftest import SEED, Z_ALARM
from tests.ladder.test_sde import power_law
from theory.lower import PolynomialMap


def test_order_two_in_the_drift():
    """F = -α, V = 0: E[α(τ)] = α_0 e^-τ. Slope of log error against log tolerance: 2 (± 0.2)."""
    relaxing = PolynomialMap(np.array([[1], [0], [2]]), np.array([[-1.0, 0, 0], [0, 0, 0], [0, 1.0, 1.0]]))
    dim, lr, tolerances = 1e14, 0.1, (0.4, 0.2, 0.1)
    errors = []
    for tolerance in tolerances:
        sde = OverlapSDE(("u",), relaxing, dim, lr, (0.5,), tolerance)
        ends = sde.run(64, 2 * dim / lr, SEED, times=[2 * dim / lr]).trajectory.overlaps[:, 0, 0]
        errors.append(abs(ends.mean() - 0.5 * np.exp(-2)))
    assert np.polyfit(np.log(tolerances), np.log(errors), 1)[0] == pytest.approx(2, abs=0.2)


class PowerLaw:
    """The field of ``power_law``: F = α^(k-1), V = D = 1."""

    resolution = 1e-100

    def __init__(self, k):
        self.k = k

    def __call__(self, alpha):
        return alpha ** (self.k - 1), 1.0

    def diffusion(self, _):
        return np.array([[1.0]])


@pytest.mark.parametrize(("k", "kappa"), [(3, 1.0), (4, 2.0)])
def test_weak_error_of_the_mean_escape_time_vs_first_passage(k, kappa):
    """Mean escape time over 10^4 runs against the exact mean: within the statistical error (1e-4) plus 1 % at the default
    tolerance, plus 3 % at the largest, where steps change an overlap by half of itself."""
    dim = 10**6
    lr = 2 * kappa * dim ** (-(k - 2) / 2)
    exact = FirstPassage.of(PowerLaw(k), dim, lr, cells=128).mean
    for tolerance, allowed in ((0.1, 0.01), (0.5, 0.03)):
        sde = OverlapSDE(("v",), power_law(k), dim, lr, tolerance=tolerance)
        times = sde.run(10_000, 60 * exact, SEED, stop_spikes=("v",)).escapes.of("v")
        assert np.all(np.isfinite(times))
        assert abs(times.mean() / exact - 1) < allowed + Z_ALARM * times.std() / exact / 100
