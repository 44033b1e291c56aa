"""Diffusion and first-passage law against the exact chain: what the diffusion limit is worth at finite d and δ.

Would be falsified by: a wrong diffusion matrix, a wrong start law, a learning rate that is not the best, a clock that
differs between views. False-alarm rate 1e-4 a comparison; with these numbers of runs a K–S test sees
differences of 0.15 in the distribution function (a shift of about 0.4 standard deviations), not less. Where the
limit fails is measured in docs/ladder.md.
"""

import numpy as np
import pytest
from scipy import stats

from solvers.chain import OverlapChain
from solvers.fields import SeriesField
from solvers.fokker_planck import FirstPassage
from solvers.prediction import predict_random
from solvers.sde import OverlapSDE
from tests.conftest import FALSE_ALARM, SEED, model_of, teacher
from theory.activations import hermite_mixture, relu
from theory.exponents import critical_rate, first_form
from theory.latents import EvenCoupling, radau
from theory.population import Population
from theory.tasks import MixedCumulant, spiked_cumulant

NOTHING = np.empty(0, dtype=np.int64)
THIRD = hermite_mixture({2: 1 / np.sqrt(2), 3: 1.0})


def escape_times(view, spike, runs, samples, threshold=0.3):
    kept = {"times": NOTHING} if isinstance(view, OverlapChain) else {}
    return view.run(runs, samples, SEED, threshold, stop_spikes=(spike,), **kept).escapes.of(spike)


@pytest.mark.parametrize(
    ("model", "dim", "lr", "spike", "samples"),
    [
        (model_of(MixedCumulant(corr=0.5)), 300, 0.1, "v", 600_000),
        (model_of(MixedCumulant(corr=0.5)), 1000, 0.3, "u", 400_000),
        (model_of(MixedCumulant(corr=0.5, beta_m=0.3), hermite_mixture({1: 0.2, 2: 1.0})), 300, 0.1, "u", 300_000),
        (model_of(MixedCumulant(coupling=EvenCoupling()), relu(0.5)), 300, 0.1, "u", 300_000),
        (model_of(spiked_cumulant(radau(3)), THIRD), 60, 0.03, "v", 2_000_000),
        (
            model_of(teacher("uv", ("20", 1), ("11", 0.5), noise=0.2), hermite_mixture({2: 1.0})),
            300,
            0.05,
            "u",
            60_000,
        ),
    ],
)
def test_sde_vs_chain_escape_times(model, dim, lr, spike, samples):
    """Two-sample K–S of escape times from a random start, censored ones as the largest."""
    sde = OverlapSDE(model.spikes, Population(model, 12).lowered_step, dim, lr)
    exact = escape_times(OverlapChain(model, dim, lr), spike, 320, samples)
    diffusion = escape_times(sde, spike, 640, float(samples))
    assert np.isfinite(exact).mean() > 0.5
    exact, diffusion = (np.minimum(t, samples) for t in (exact, diffusion))
    assert stats.ks_2samp(exact, diffusion).pvalue > FALSE_ALARM


@pytest.mark.parametrize("kappa", [0.5, 2.0, 5.0])
def test_first_passage_vs_chain(kappa):
    """p = 3 alone at d = 60, below and above the critical rate: K–S of the chain's times against the exact law."""
    model = model_of(spiked_cumulant(radau(3)), THIRD)
    population = Population(model, 8)
    critical = critical_rate(population, *first_form(population), 60, 0.6)
    law = FirstPassage.of(SeriesField(population), 60, kappa * critical, 0.6)
    samples = int(3 * law.quantile(0.5))
    times = escape_times(OverlapChain(model, 60, kappa * critical), "v", 256, samples, 0.6)
    seen = times[np.isfinite(times)]
    share = law.recovery_probability(samples)
    assert stats.binomtest(len(seen), len(times), share).pvalue > FALSE_ALARM
    assert stats.kstest(seen, lambda t: law.recovered(np.asarray(t)).sum(axis=1) / share).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("order", "kappa"), [(2, 0.5), (3, 0.5), (3, 1.0), (3, 3.0), (4, 0.5), (4, 1.0), (4, 3.0)])
def test_first_passage_vs_sde(order, kappa):
    """The same diffusion by two solvers, from a random start, below and above the critical rate."""
    model = model_of(teacher("u", (str(order), 1)), hermite_mixture({order: 1.0}))
    population, dim = Population(model, 2 * order), 10_000
    lr = kappa * critical_rate(population, *first_form(population), dim, 0.3)
    law = FirstPassage.of(SeriesField(population), dim, lr)
    samples = 3 * law.quantile(0.5)
    times = escape_times(OverlapSDE(("u",), population.lowered_step, dim, lr), "u", 600, samples)
    seen = times[np.isfinite(times)]
    share = law.recovery_probability(samples)
    assert stats.binomtest(len(seen), len(times), share).pvalue > FALSE_ALARM
    assert stats.kstest(seen, lambda t: law.recovered(np.asarray(t)).sum(axis=1) / share).pvalue > FALSE_ALARM


def test_best_rate_vs_chain():
    """p = 3 alone, d = 100: the chain's median at the chosen rate is smaller than at a third, at three times and at ½ δ_crit,
    there by the predicted gain (bootstrap intervals at 99.99 %)."""
    model, dim, threshold = model_of(spiked_cumulant(radau(3)), THIRD), 100, 0.5
    best = predict_random(model, dim, threshold=threshold)

    def measured(lr):
        times = OverlapChain(model, dim, lr).run(256, 1_000_000, SEED, threshold, ("v",), NOTHING).escapes
        return np.array([*times.median_interval("v", level=1 - FALSE_ALARM), times.quantile("v", 0.5)])

    here, usual = measured(best.lr), measured(best.lr_critical / 2)
    assert usual[0] / here[1] < best.lr_gain < usual[1] / here[0]
    for other in (best.lr / 3, 3 * best.lr, best.lr_critical / 2):
        assert measured(other)[2] > here[2]
    assert here[0] < best.random.of("v").median < here[1]
