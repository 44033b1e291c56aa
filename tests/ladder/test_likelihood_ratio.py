"""The likelihood-ratio test by Monte Carlo against the norms of ``theory.detection``.

Falsified here: that the mean of L under the null is 1, that of L² the likelihood-ratio norm, and the second-moment bound of
the best test's error. False-alarm rate 1e-4 a comparison (``FALSE_ALARM``).
"""

import numpy as np
import pytest

from solvers.likelihood_ratio import likelihood_ratios
from tests.conftest import SEED, Z_ALARM
from theory.detection import Detection, RademacherSpike
from theory.errors import InputError
from theory.latents import gauss, radau

CASES = {"rademacher": (gauss(4), 0.7, 3), "radau3": (radau(3), 0.4, 4)}


@pytest.mark.parametrize("name", CASES)
def test_likelihood_ratio_vs_norm(name):
    """E_null[L] = 1, E_null[L²] = E_planted[L] = ‖L_n‖²: the last two from independent data."""
    latent, beta, samples = CASES[name]
    detection = Detection(latent, beta, RademacherSpike())
    found, norm = likelihood_ratios(detection, 5, samples, 4000, SEED), np.exp(detection.log_norm(samples, 5))
    for values, expected in ((np.exp(found.null), 1), (np.exp(2 * found.null), norm), (np.exp(found.planted), norm)):
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - expected) < Z_ALARM * error
        assert error < 0.1 * expected


def test_density_ratio_is_that_of_the_samples():
    """Mean of ℓ(u·x) under the null is 1 and log ℓ favours planted data: its integral against the Gaussian, by quadrature."""
    z, w = np.polynomial.hermite_e.hermegauss(120)
    ratio = np.exp(Detection(radau(3), 0.4, RademacherSpike()).log_density_ratio(z))
    assert w @ ratio / w.sum() == pytest.approx(1, rel=1e-9)
    assert w @ (ratio * z**2) / w.sum() == pytest.approx(1, rel=1e-9)  # whitened


def test_error_of_the_best_test_falls_with_samples_and_respects_the_norm():
    """1 - 2 error is the total variation, at most ½ √(‖L_n‖² - 1) by Cauchy and Schwarz."""
    detection, errors = Detection(gauss(4), 8.0, RademacherSpike()), []
    for samples in (2, 20, 200):
        error, interval = likelihood_ratios(detection, 8, samples, 500, SEED).error
        norm = np.exp(detection.log_norm(samples, 8))
        assert 1 - 2 * interval[1] <= 0.5 * np.sqrt(norm - 1)
        errors.append(error)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_a_data_set_alone_equals_itself_among_others():
    detection = Detection(gauss(4), 2.0, RademacherSpike())
    few, many = (likelihood_ratios(detection, 4, 10, runs, SEED) for runs in (2, 5))
    np.testing.assert_array_equal(few.null, many.null[:2])
    np.testing.assert_array_equal(few.planted, many.planted[:2])


def test_large_dimensions_are_refused():
    with pytest.raises(InputError, match="dim: got 13"):
        likelihood_ratios(Detection(gauss(4), 2.0, RademacherSpike()), 13, 10, 10)
