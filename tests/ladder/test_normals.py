"""The generator of both engines: normal in law, far into the tails, independent across lanes and calls; χ² exact in law.

Would be falsified by: a biased tail, lanes that share numbers, a lane that depends on its neighbours, a χ² that is only
asymptotically right. Each comparison raises a false alarm once in ten thousand.
"""

import numpy as np
import pytest
from numpy.random import SeedSequence
from scipy import stats

from solvers import _chain_kernels
from solvers._chain_kernels import draw_chi_squares
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM
from theory import lower
from theory.normals import BLOCK, LANES, fill_normals, make_generator, seed_lane


def draws(n, seed=SEED):
    work, out = make_generator(SeedSequence(seed)), np.empty(n - n % BLOCK)
    fill_normals(work, out)
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
    with pytest.raises(ValueError, match="multiple"):
        fill_normals(make_generator(SeedSequence(0)), np.empty(BLOCK + 1))


def test_a_lane_is_a_stream_of_its_own():
    """The same seed in other lanes, among other neighbours: the same numbers, bit for bit."""
    streams = []
    for lane, neighbours in ((3, 1), (11, 2)):
        work, out = make_generator(SeedSequence(neighbours)), np.empty(40 * LANES)
        seed_lane(work, lane, SeedSequence(8))
        fill_normals(work, out)
        streams.append(out.reshape(-1, LANES)[:, lane])
    np.testing.assert_array_equal(*streams)


def test_kernels_agree_on_the_number_of_lanes():
    """Written out in three files: a compiled function would not see it change in another."""
    assert _chain_kernels.LANES == lower.LANES == LANES


def chi_squares(dof, n, seed=SEED):
    work, normals, out = make_generator(SeedSequence(seed)), np.empty(2 * LANES), np.empty((n // LANES, LANES))
    for row in out:
        fill_normals(work, normals)
        draw_chi_squares(fill_normals, work, normals.reshape(2, LANES), dof, row)
    return out


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 7, 30, 997, 10**9])
def test_chi_squares_vs_scipy(dof):
    x = chi_squares(dof, 160_000)
    assert stats.kstest(x.ravel(), stats.chi2(dof).cdf).pvalue > FALSE_ALARM
    z = (x.ravel() - dof) / np.sqrt(2 * dof)  # E[z³] = √(8/dof), Var[z²] = 2 + 12/dof
    assert abs(z.mean()) < Z_ALARM / np.sqrt(z.size)
    assert abs(np.mean(z**2) - 1) < Z_ALARM * np.sqrt((2 + 12 / dof) / z.size)
    across = np.corrcoef(x.T)[np.triu_indices(LANES, 1)]
    assert np.abs(across).max() < 5.0 / np.sqrt(len(x))  # 120 pairs, each at 6e-7


def test_the_bounds_that_spare_logarithms_are_bounds():
    """1 - 0.0221 x⁴/a <= e^L(x) wherever v > 0, a = dof/2 - 1/3; and 0.68 min(x, 1) <= erf(x/√2)."""
    x = np.linspace(0, 6, 6001)
    assert np.all(0.68 * np.minimum(x, 1) <= 2 * stats.norm.cdf(x) - 1 + 1e-15)
    for a in np.array([2, 3, 4, 5, 7, 10, 30, 100, 1000]) / 2 - 1 / 3:
        root = np.sqrt(9 * a)
        x = np.linspace(-root, 8, 400_000)[1:]
        v = (1 + x / root) ** 3
        exact = np.exp(x**2 / 2 + a * (1 - v + np.log(v)))
        assert np.all(1 - 0.0221 * x**4 / a <= exact + 1e-12)
