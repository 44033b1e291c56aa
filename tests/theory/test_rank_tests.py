"""Rank tests: against Pearson, likelihood ratio and canonical correlations; their false alarms and their power."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binomtest, chi2_contingency, kstest

from solvers.rank_tests import covariance_rank_test, holm, table_rank_power, table_rank_tests
from tests.conftest import FALSE_ALARM, SEED
from theory.errors import InputError


def mixture(rows, columns, rank, rng, evenness=2.0):
    """A table of rank ``rank``, that many product laws mixed: of 50 the one farthest from a lower rank."""
    tables = []
    for _ in range(50):
        weight, left, right = (
            rng.dirichlet(np.full(n, evenness), m) for n, m in ((rank, 1), (rows, rank), (columns, rank))
        )
        right = 0.9 * right + 0.1 / columns
        tables.append(np.einsum("k,ki,kj->ij", weight[0], left, right))
    return max(tables, key=lambda t: np.linalg.svd(t, compute_uv=False)[rank - 1])


def draws(table, n, runs, rng):
    return rng.multinomial(n, table.ravel(), size=runs).reshape(runs, *table.shape).astype(float)


def test_rank_one_vs_pearson(rng):
    """Exactly the statistic, the degrees of freedom and the p-value of SciPy's independence test."""
    for shape in ((2, 2), (3, 5), (4, 4)):
        counts = rng.integers(1, 30, size=shape).astype(float)
        ours, pearson = table_rank_tests(counts[None], counts.sum(), 1), chi2_contingency(counts, correction=False)
        assert ours.statistic[0] == pytest.approx(pearson.statistic, rel=1e-9)
        assert (ours.dof[0], ours.p_value[0]) == (pearson.dof, pytest.approx(pearson.pvalue, rel=1e-7))


def test_states_never_seen_carry_no_freedom(rng):
    counts = draws(mixture(4, 4, 2, rng), 1000, 1, rng)[0]
    padded = np.insert(np.insert(counts, 1, 0.0, axis=0), 3, 0.0, axis=1)
    whole, part = table_rank_tests(padded[None], 1000, 2), table_rank_tests(counts[None], 1000, 2)
    assert whole.dof[0] == part.dof[0] == 4
    assert whole.statistic[0] == pytest.approx(part.statistic[0], rel=1e-9)


def deviance_of_rank(counts, rank, rng):
    """2 (log likelihood saturated − of the best mixture of ``rank`` product laws), by EM from several starts."""
    best = -np.inf
    for _ in range(5):
        left, right = rng.dirichlet(np.ones(len(counts)), rank).T, rng.dirichlet(np.ones(counts.shape[1]), rank)
        for _ in range(3000):
            fitted = left @ right
            left, right = left * ((counts / fitted) @ right.T) / right.sum(axis=1), right
            fitted = left @ right
            right = right * (left.T @ (counts / fitted)) / left.sum(axis=0)[:, None]
        best = max(best, float((counts * np.log(left @ right)).sum()))
    return 2 * (float((counts * np.log(counts)).sum()) - best)


def test_statistic_vs_likelihood_ratio(rng):
    """Two asymptotically equal statistics of rank <= 2, one by singular vectors, one by maximising a likelihood."""
    table, n = mixture(4, 3, 2, rng), 200_000
    for counts in draws(table, n, 4, rng):
        assert table_rank_tests(counts[None], n, 2).statistic[0] == pytest.approx(
            deviance_of_rank(counts, 2, rng), rel=0.05, abs=0.02
        )


@pytest.mark.parametrize(
    ("shape", "rank", "n"), [((2, 2), 1, 1000), ((4, 4), 2, 2000), ((4, 6), 3, 10_000), ((9, 9), 3, 30_000)]
)
def test_false_alarms_vs_level(shape, rank, n, rng):
    """At the border of the hypothesis: the binomial interval of the alarms holds the level, three levels."""
    table, runs = mixture(*shape, rank, rng), 4000 if shape == (9, 9) else 20_000
    p = np.concatenate(
        [table_rank_tests(part, n, rank).p_value for part in np.array_split(draws(table, n, runs, rng), 20)]
    )
    for level in (0.2, 0.05, 0.01):
        alarms = int((p <= level).sum())
        # The law of the statistic is a limit: a tenth more alarms than the level is allowed for.
        assert binomtest(alarms, runs, 1.1 * level, alternative="greater").pvalue > FALSE_ALARM
        assert binomtest(alarms, runs, 0.85 * level, alternative="less").pvalue > FALSE_ALARM


def test_rare_cells_do_not_inflate_the_far_tail(rng):
    """Holm looks at levels of 10⁻³ and below: there, with many cells rarer than one sample, no more alarms than that."""
    table, n, runs = mixture(9, 9, 3, rng, evenness=0.3), 600, 10_000
    assert np.mean(n * table < 1) > 0.2
    alarms = int((table_rank_tests(draws(table, n, runs, rng), n, 3).p_value <= 1e-3).sum())
    assert binomtest(alarms, runs, 1.5e-3, alternative="greater").pvalue > FALSE_ALARM


def test_rank_below_the_tested_one_alarms_less(rng):
    table = mixture(4, 4, 1, rng)
    p = table_rank_tests(draws(table, 2000, 20_000, rng), 2000, 2).p_value
    assert (p <= 0.05).mean() < 0.02


def test_power_vs_noncentral_law(rng):
    """Alarms against the noncentral chi-squared law, and they grow with n."""
    table = 0.98 * mixture(4, 4, 2, rng) + 0.02 * np.diag([0.4, 0.3, 0.2, 0.1])
    runs, powers = 4000, []
    for n in (4000, 16_000, 64_000):
        alarms = int((table_rank_tests(draws(table, n, runs, rng), n, 2).p_value <= 0.05).sum())
        powers.append(table_rank_power(table, n, 2, 0.05))
        assert alarms / runs == pytest.approx(powers[-1], abs=0.05)
    assert powers[0] + 0.1 < powers[1] < powers[2]


def test_exact_tables_answer_without_error(rng):
    tables = np.stack([mixture(5, 5, rank, rng) for rank in (1, 2, 3, 4)])
    assert table_rank_tests(tables, np.inf, 2).p_value.tolist() == [1, 1, 0, 0]


def test_covariance_rank_vs_correlation_and_calibration(rng):
    """k = 0, one column each: n r² up to fourth moments; k = 1 with one common factor: uniform p-values, no Gaussian."""
    x, y = rng.standard_normal((2, 50_000, 1))
    r = np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    assert covariance_rank_test(x, y, 0).statistic[0] == pytest.approx(50_000 * r**2, rel=0.05)
    p = []
    for _ in range(400):
        factor, noise = rng.choice([-1.0, 1.0], size=(3000, 1)), rng.uniform(-1, 1, size=(3000, 5))
        seen = factor * np.array([1.0, 0.7, 0.5, 0.8, 0.6]) + noise
        p.append(covariance_rank_test(seen[:, :3], seen[:, 3:], 1).p_value[0])
    assert kstest(p, "uniform").pvalue > FALSE_ALARM
    two = seen + rng.standard_normal((3000, 1)) * np.array([0.5, -0.5, 0.0, 0.5, -0.5])
    assert covariance_rank_test(two[:, :3], two[:, 3:], 1).p_value[0] < FALSE_ALARM


def test_holm_vs_definition(rng):
    """Step by step, and the chance of any false rejection among dependent tests."""
    p = rng.uniform(size=30) ** 3
    order, expected = np.argsort(p), np.zeros(30, dtype=bool)
    for step, k in enumerate(order):
        if p[k] > 0.1 / (30 - step):
            break
        expected[k] = True
    assert np.array_equal(holm(p, 0.1), expected)
    assert holm(p.reshape(5, 6), 0.1).shape == (5, 6)
    families = ndtr((rng.standard_normal((4000, 1)) + rng.standard_normal((4000, 20))) / np.sqrt(2))
    false = sum(bool(holm(f, 0.1).any()) for f in families)
    assert binomtest(false, 4000, 0.1, alternative="greater").pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("tables", "samples", "rank", "word"),
    [
        (np.ones((2, 2)), 4, 1, "tables"),
        (np.full((1, 2, 2), np.nan), 4, 1, "tables"),
        (np.zeros((1, 2, 2)), 4, 1, "tables"),
        (np.ones((1, 2, 2)), 0, 1, "samples"),
        (np.ones((1, 2, 2)), 4, 0, "rank"),
    ],
)
def test_bad_input(tables, samples, rank, word):
    with pytest.raises(InputError, match=word):
        table_rank_tests(tables, samples, rank)
    with pytest.raises(InputError, match="rank"):
        covariance_rank_test(np.random.default_rng(SEED).standard_normal((50, 2)), np.ones((50, 2)), 2)
