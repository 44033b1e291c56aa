"""The generator of the simulator: normal in law, far into the tails, and independent across lanes and calls."""

import numpy as np
import pytest
from numpy.random import SeedSequence
from scipy import stats

from sims._kernels import BLOCK, LANES, fill_normals
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM


def draws(n, seed=SEED):
    state = SeedSequence(seed).generate_state(4 * LANES, np.uint64).reshape(4, LANES)
    out = np.empty(n - n % BLOCK)
    fill_normals(state, out)
    return out


def test_law_vs_scipy():
    x = draws(4_000_000)
    assert stats.kstest(x, "norm").pvalue > FALSE_ALARM
    for k, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert abs(np.mean(x**k) - moment) < Z_ALARM * np.sqrt(variance / x.size)


def test_tails():
    x = draws(16_000_000)
    for cut in (3.0, 4.0, 4.8):
        expected = x.size * stats.norm.sf(cut)
        for count in (np.sum(x > cut), np.sum(x < -cut)):
            assert stats.poisson.sf(count - 1, expected) > FALSE_ALARM
            assert stats.poisson.cdf(count, expected) > FALSE_ALARM


@pytest.mark.parametrize("lag", [1, 2, 8, LANES, BLOCK, 128, 256])
def test_no_correlation_at_the_lags_of_the_lanes(lag):
    x = draws(2_000_000)
    for a, b in ((x, x), (x**2 - 1, x**2 - 1)):
        product = a[:-lag] * b[lag:]
        assert abs(product.mean()) < Z_ALARM * product.std() / np.sqrt(product.size)


def test_children_of_one_seed_are_independent():
    a, b = (draws(400_000, child.generate_state(1)[0]) for child in SeedSequence(5).spawn(2))
    assert abs(np.mean(a * b)) < Z_ALARM / np.sqrt(a.size)


def test_length_must_fit_the_block():
    state = SeedSequence(0).generate_state(4 * LANES, np.uint64).reshape(4, LANES)
    with pytest.raises(ValueError, match="multiple"):
        fill_normals(state, np.empty(BLOCK + 1))
