"""Cost of the low-dimensional views, compilation apart: 1000 SDE trajectories of p = 4 alone at d = 10^6 in at most 5 s.

pytest -m benchmark -n 0 -s tests/benchmarks/test_sde_speed.py
"""

from statistics import median
from time import perf_counter

import pytest

from solvers.fields import SeriesField
from solvers.fokker_planck import FirstPassage
from solvers.sde import OverlapSDE
from tests.conftest import model_of
from theory.exponents import critical_rate, first_form
from theory.latents import gauss
from theory.population import Population
from theory.tasks import spiked_cumulant

pytestmark = pytest.mark.benchmark
POPULATION = Population(model_of(spiked_cumulant(gauss(4))), 20)


def seconds(work, repeats=5):
    work()
    taken = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken)


@pytest.mark.parametrize("dim", [10**3, 10**6])
def test_thousand_trajectories(dim):
    lr = critical_rate(POPULATION, *first_form(POPULATION), dim, 0.3)
    horizon = 10 * FirstPassage.of(SeriesField(POPULATION), dim, lr).quantile(0.5)
    sde = OverlapSDE(("v",), POPULATION.lowered_step, dim, lr)
    taken = seconds(lambda: sde.run(1000, horizon, stop_spikes=("v",)))
    law = seconds(lambda: FirstPassage.of(SeriesField(POPULATION), dim, lr).quantile(0.5))
    print(f"\nd = {dim:.0e}: 1000 SDE trajectories {taken:.3f} s, first-passage law {law * 1e3:.1f} ms")
    assert taken < 5
