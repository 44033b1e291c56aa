"""Speed of the overlap chain against the high-dimensional engine: samples a second, one thread each, in one run.

    pytest -m benchmark -n 0 -s tests/benchmarks/test_chain_speed.py

The two take turns; the figure is the median over turns of the ratio within a turn. Compilation is not counted.
"""

from statistics import median
from time import perf_counter

import numpy as np
import pytest

from sims.ensemble import run_ensemble
from sims.sgd import OnlineSGD
from solvers.chain import OverlapChain
from tests.conftest import TASKS, model_of

pytestmark = pytest.mark.benchmark

MODEL = model_of(TASKS["mcm_corr"])  # two spikes, correlated latents, ReLU
LR, TURNS = 0.1, 7


def seconds(work):
    begin = perf_counter()
    work()
    return perf_counter() - begin


@pytest.mark.parametrize(("dim", "samples", "least"), [(1000, 100_000, 50), (10_000, 10_000, 500)])
def test_chain_vs_sgd_in_samples_a_second(dim, samples, least):
    sgd, chain = OnlineSGD(MODEL, dim, LR), OverlapChain(MODEL, dim, LR)
    chain_samples, runs = 400_000, 16
    run_ensemble(sgd, 1, 100, threads=1)
    chain.run(runs, 100, threads=1)
    costs = [
        (
            seconds(lambda: run_ensemble(sgd, 1, samples, threads=1)) / samples * 1e9,
            seconds(lambda: chain.run(runs, chain_samples, threads=1)) / (runs * chain_samples) * 1e9,
        )
        for _ in range(TURNS)
    ]
    ratio = median(a / b for a, b in costs)
    sgd_cost, chain_cost = np.median(costs, axis=0)
    print(f"\nd = {dim}: SGD {sgd_cost:.0f} ns a sample, chain {chain_cost:.1f} ns | ratio {ratio:.0f}")
    assert ratio >= least


def test_batches_cost_the_chain_no_more_than_single_samples():
    costs = {}
    for batch in (1, 100):
        chain = OverlapChain(MODEL, 1000, LR, batch)
        chain.run(16, 1000, threads=1)
        costs[batch] = min(seconds(lambda: chain.run(16, 200_000, threads=1)) for _ in range(TURNS))  # noqa: B023
    print(f"\nbatch 100 / batch 1: {costs[100] / costs[1]:.2f}")
    assert costs[100] < 1.2 * costs[1]
