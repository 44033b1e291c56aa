"""Times of a network's best neuron: exact chain against SGD in R^d, the law of the start against starts, controls, scaling.

Would be falsified by: arms whose engines disagree, a noise level that starts exceed more often than stated, a control whose
data still carry the target, correlated latents that are not faster than independent ones or that need d^2 samples.
Two-sample comparisons are Kolmogorov-Smirnov tests at FALSE_ALARM; counts lie within Z_ALARM binomial errors, exponents
within Z_ALARM of their bootstrap errors.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from sims.escape_runs import run_study
from sims.network_scaling import Arm, start_quantile
from sims.network_sgd import NetworkSGD
from solvers.gram_chain import GramChain
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM, draw
from theory.activations import relu
from theory.equivalents import class_moments
from theory.learners import SquaredLoss
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.results import replica_seed
from theory.tasks import MixedCumulant

RATES = Rates(0.5, 0.05, 0.0, 0.15)
LARGEST = np.sqrt(2 / np.pi)  # corr of ν = sign λ


def arm(corr=LARGEST, hidden=8, **settings):
    task = MixedCumulant(corr=corr, beta_m=1.0, beta_u=5.0)
    model = NetworkModel(task, TwoLayer(relu(), SquaredLoss(), hidden))
    return Arm(
        **{"model": model, "target": "v", "rates": RATES, "dims": (32, 64), "samples": 1e5, "seed": SEED} | settings
    )


def test_chain_vs_highd():
    """The same law of escape times; the seeds are independent."""
    times = [
        study.measure(study.jobs[0][0]).of("v")
        for study in (arm(hidden=4, runs=100, dims=(16, 32), samples=2e4, engine=e) for e in ("chain", "highd"))
    ]
    assert np.isfinite(np.median(times[0]))
    assert ks_2samp(*times).pvalue > FALSE_ALARM


@pytest.mark.parametrize("spherical", [False, True])
def test_start_quantile_vs_starts(spherical):
    """The best of K random directions exceeds the level in a share ``chance`` of the starts of both engines."""
    hidden, dim, chance, n = 6, 20, 0.2, 1500
    model = NetworkModel(MixedCumulant(corr=0.5), TwoLayer(relu(), SquaredLoss(), hidden, spherical=spherical))
    level = start_quantile(hidden, dim, chance)
    chain, sgd = GramChain(model, dim, RATES), NetworkSGD(model, dim, RATES)
    shares = []
    for i in range(n):
        state, start = chain.first_state(replica_seed(SEED, i)), sgd.begin(replica_seed(SEED + 1, i))
        cosines = state.R[:, 1] / np.sqrt(np.diag(state.Q)), start.W @ start.U[1] / np.linalg.norm(start.W, axis=1)
        shares.append([np.abs(c).max() >= level for c in cosines])
    assert np.all(np.abs(np.mean(shares, axis=0) - chance) < Z_ALARM * np.sqrt(chance * (1 - chance) / n))


def test_one_neuron_starts_like_a_normal():
    """K = 1 at large d: |cos| √d is a standard normal, 3.2905 at one in a thousand; K neurons share the chance."""
    assert start_quantile(1, 10**8, 1e-3) * 1e4 == pytest.approx(3.2905, abs=1e-3)
    assert start_quantile(50, 64, 1e-3) == pytest.approx(start_quantile(1, 64, 1 - (1 - 1e-3) ** (1 / 50)), rel=1e-12)


def test_control_data_vs_the_gaussian_equivalent(rng, monkeypatch):
    """Without v the task is its own Gaussian equivalent of order 2 on independent latents: ξ_v is normal in both classes."""
    seen = []
    study = arm()
    monkeypatch.setattr(Arm, "_run", lambda _, model, job: seen.append(model.task) or job)
    ((kind, activation, _),) = study.measure_controls(study.jobs[0][0])
    assert (kind, activation) == ("no v", "relu")
    for found, kept in zip(
        vars(class_moments(seen[0])).values(), vars(class_moments(arm(corr=0.0).model.task)).values(), strict=True
    ):
        np.testing.assert_allclose(found, kept, atol=1e-8)
    y, xi = draw(seen[0], 40_000, rng)
    for values in (xi[y > 0, 2], xi[y < 0, 2]):
        assert abs(np.mean(values**4) - 3) < Z_ALARM * np.sqrt(96 / len(values))
    _, visible = draw(arm(corr=0.0).model.task, 40_000, rng)
    assert np.mean(visible[:, 2] ** 4) < 2.5


def test_controls_see_a_threshold_that_is_too_low():
    """Without v the best of 8 neurons crosses 0.35 at d = 24 in most runs, by noise alone, and never 0.9."""
    crossed = []
    for threshold in (0.35, 0.9):
        study = arm(dims=(24, 48), threshold=threshold, samples=2e4)
        escapes = study.measure_controls(study.jobs[0][0])[0][2]
        crossed.append(study.runs - escapes.n_censored("v"))
    assert crossed[0] > 12
    assert crossed[1] == 0
    assert not arm(dims=(24, 48), threshold=0.35).fits(24)


def test_correlated_is_faster_than_independent():
    """d = 32, K = 8, threshold 0.8: with ν = sign λ all runs recover v before most of the independent ones do."""
    fast, slow = (arm(corr, threshold=0.8, stream=i) for i, corr in enumerate((LARGEST, 0.0)))
    times = [study.measure(study.jobs[0][0]).of("v") for study in (fast, slow)]
    assert np.isfinite(times[0]).all()
    assert ks_2samp(*(np.minimum(t, 1e5) for t in times), alternative="greater").pvalue < FALSE_ALARM


def test_correlated_exponent_is_below_two():
    """K = 8, d = 32 … 256: 1.35, 1.20 and 1.24 at seeds 0, 1, 2, with a bootstrap error of 0.1."""
    fit = run_study(arm(dims=(32, 128, 256), threshold=0.8, samples=5e5, runs=12, controls=False)).fit
    error = (fit.interval[1] - fit.interval[0]) / (2 * 1.96)
    assert fit.exponent - Z_ALARM * error > 0.6
    assert fit.exponent + Z_ALARM * error < 2


def test_points_can_be_run_alone():
    """A point depends on (seed, d, B, stream) alone; other streams are other noise."""
    short = {"dims": (32, 48), "samples": 3e4, "runs": 4, "controls": False}
    both = run_study(arm(**short))
    alone = arm(**short | {"dims": (48, 64)})
    np.testing.assert_array_equal(alone.measure(alone.jobs[0][0]).of("v"), both.points[1].times)
    other = replace(alone, stream=1)
    assert np.any(other.measure(other.jobs[0][0]).of("v") != both.points[1].times)
