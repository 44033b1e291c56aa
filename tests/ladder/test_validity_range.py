"""Where the diffusion limit stops: medians of SDE over exact chain in the plane (d, δ). A report, not a default test.

    python -m pytest -m slow -n 0 -s tests/ladder/test_validity_range.py          (its output is docs/ladder.md)

Would be falsified by: a diffusion that is wrong where steps are small, δ² V(0)/d < 10^-3.
"""

import numpy as np
import pytest

from solvers.chain import OverlapChain
from solvers.sde import OverlapSDE
from tests.conftest import SEED, model_of, teacher
from theory.activations import hermite_mixture, relu
from theory.exponents import critical_rate, first_form
from theory.latents import radau
from theory.population import Population
from theory.tasks import MixedCumulant, spiked_cumulant

NOTHING = np.empty(0, dtype=np.int64)
RUNS = 400
CASES = {
    "correlated p = 4, ReLU: u": (model_of(MixedCumulant(corr=0.5)), "u", 0.3, (30, 100, 300, 1000), (0.05, 0.25, 0.5)),
    "He_2 teacher, ReLU": (model_of(teacher("u", ("2", 1)), relu()), "u", 0.3, (100, 300, 1000), (0.05, 0.25, 0.5)),
    "p = 3 alone, mixture": (
        model_of(spiked_cumulant(radau(3)), hermite_mixture({2: 2**-0.5, 3: 1.0})), "v", 0.6, (25, 50, 100), (0.5, 2.0, 5.0),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_sde_over_chain_in_the_plane(name):
    model, spike, threshold, dims, kappas = CASES[name]
    population = Population(model, 20)
    variance = float(population.variance.coeff_monomial(1))
    print(f"\n### {name}, threshold {threshold}\n\n| d | δ/δ_crit | δ | δ² V/d | chain median | SDE/chain [95 %] |")
    print("|---|---|---|---|---|---|")
    for dim in dims:
        for kappa in kappas:
            lr = kappa * critical_rate(population, *first_form(population), dim, threshold)
            step = lr**2 * variance / dim
            sde = OverlapSDE(model.spikes, population.lowered_step, dim, lr)
            pilot = sde.run(100, 1e9 * dim / lr / 1e3, SEED + 1, threshold, stop_spikes=(spike,)).escapes
            samples = int(6 * pilot.quantile(spike, 0.9)) + 10
            diffusion = sde.run(2000, float(samples), SEED, threshold, stop_spikes=(spike,)).escapes
            exact = OverlapChain(model, dim, lr).run(RUNS, samples, SEED, threshold, (spike,), NOTHING).escapes
            (a, b), (c, e) = diffusion.median_interval(spike), exact.median_interval(spike)
            ratio = diffusion.quantile(spike, 0.5) / exact.quantile(spike, 0.5)
            text = f"{exact.quantile(spike, 0.5):.3g} | {ratio:.3f} [{a / e:.3f}, {b / c:.3f}]"
            print(f"| {dim} | {kappa:g} | {lr:.3g} | {step:.1e} | {text} |", flush=True)
            if step < 1e-3:
                assert a / e < 1.05
                assert b / c > 0.95
