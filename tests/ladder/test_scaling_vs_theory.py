"""Measured scaling against theory, and the engines of ``sims.scaling`` against each other.

Would be falsified by: an exponent other than p - 1 for v alone, a d log d that a pure power describes as well, engines that
disagree where all are valid, a threshold that noise alone crosses, samples that depend on a small mini-batch. Two-sample
comparisons are Kolmogorov-Smirnov tests at FALSE_ALARM for all together; intervals of exponents are at Z_ALARM.
"""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from sims.escape_runs import run_study
from sims.escape_study import Job
from sims.scaling_engines import ENGINES, Subject
from sims.threshold_scaling import Study, rates
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM, model_of
from theory.activations import hermite_mixture, relu
from theory.latents import gauss, lobatto, radau
from theory.scaling_laws import fit_scaling
from theory.tasks import MixedCumulant, spiked_cumulant

CUBIC = model_of(spiked_cumulant(radau(3)), hermite_mixture({3: np.sqrt(2)}))
ALONE = {
    3: CUBIC,
    4: model_of(spiked_cumulant(gauss(4))),
    5: model_of(spiked_cumulant(radau(5)), hermite_mixture({5: np.sqrt(24)})),
    6: model_of(spiked_cumulant(lobatto(6))),
}


def measure(model, dims, engine="sde", scaling="critical", kappa=None, threshold=0.3, **settings):
    subject = Subject(model, "v", threshold)
    return run_study(
        Study(subject, engine, dims, tuple(rates(subject, dims, scaling, None, kappa)), seed=SEED, **settings)
    )


@pytest.mark.parametrize("p", ALONE)
def test_scaling_sde_vs_first_passage(p):
    """v alone at κ = 2, d = 10³ … 10⁶: both exponents within 0.05 of p - 1, and within the interval of each other."""
    result = measure(ALONE[p], (10**3, 10**4, 10**5, 10**6), kappa=2.0, runs=600)
    exact = fit_scaling(
        np.array([float(x.job.dim) for x in result.points]), [np.array([x.predicted]) for x in result.points]
    )
    assert abs(result.fit.exponent - (p - 1)) < 0.05
    assert abs(exact.exponent - (p - 1)) < 0.01
    error = (result.fit.interval[1] - result.fit.interval[0]) / (2 * 1.96)
    assert abs(result.fit.exponent - exact.exponent) < Z_ALARM * error
    for point in result.points:
        low, high = point.escapes.quantile_interval("v", 0.5, Z_ALARM)
        assert 0.99 * low < point.predicted < 1.01 * high  # the SDE's own tolerance
    assert all(c.crossed == 0 for c in result.controls)


def test_correlated_latents_follow_d_log_d():
    """p = 4, corr 0.5, constant δ: the law d log d is at least 6 in AIC better than every pure power."""
    dims = (300, 1000, 3000, 10**4, 10**5, 10**6, 10**7)
    fit = measure(model_of(MixedCumulant(corr=0.5)), dims, scaling="constant", runs=600, controls=False).fit
    criteria = {f.law.name: f.aic for f in fit.laws}
    assert fit.laws[0].law.name == "A d (log d + b)"
    assert min(aic for name, aic in criteria.items() if "log" not in name) > criteria["A d (log d + b)"] + 6


def test_engines_agree_where_all_are_valid():
    """p = 3 alone, d = 100, κ = 2, threshold 5/√d = 0.5: the same law of escape times by chain, SGD and SDE."""
    subject = Subject(CUBIC, "v", 0.5)
    job = Job(100, 2 * subject.critical_rate(100), 1, 120, 2e6, SEED)
    times = {name: ENGINES[name].measure(subject, job).escapes.of("v") for name in ("chain", "highd", "sde")}
    for a, b in combinations(times.values(), 2):
        assert ks_2samp(a, b).pvalue > FALSE_ALARM / 3


def test_small_batches_need_the_same_samples():
    result = measure(CUBIC, (100, 150), "chain", kappa=2.0, threshold=0.5, runs=100, batches=(1, 16), controls=False)
    one, many = (np.concatenate([x.times / x.predicted for x in result.points if x.job.batch == b]) for b in (1, 16))
    assert ks_2samp(one, many).pvalue > FALSE_ALARM


def test_controls_see_a_threshold_that_is_too_low():
    """A blind neuron crosses 0.3 at d = 25 in most runs, by noise alone, and never crosses 5/√d = 1/√d five times over."""
    subject = Subject(model_of(spiked_cumulant(gauss(4)), relu()), "v")
    shares = []
    for dim in (25, 300):
        job = Job(dim, 4 * subject.critical_rate(dim), 1, 32, min(50 * dim**3, 2e7 / dim * 10), SEED)
        escapes = ENGINES["chain"].measure(subject.controls["blind"], job).escapes
        shares.append(1 - escapes.n_censored("v") / 32)
    assert shares[0] > 0.5
    assert shares[1] == 0
