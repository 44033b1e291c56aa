"""Speed of the tensor chain against SGD that draws whole tensors in NumPy: time a sample, one thread each, in one run.

    pytest -m benchmark -n 0 -s tests/benchmarks/test_tensor_speed.py

The two take turns; the figure is the median over turns of the ratio within a turn. Compilation is not counted.
"""

from time import perf_counter

import numpy as np
import pytest

from solvers.tensor_chain import TensorChain
from tests.ladder.test_tensor_chain import sgd_step, stiefel
from theory.tensor_pca import SpikedTensor

pytestmark = pytest.mark.benchmark

TURNS = 5


def seconds(work):
    begin = perf_counter()
    work()
    return perf_counter() - begin


@pytest.mark.parametrize(
    ("snr", "least"), [((1.0,), 5000), ((2.0, 1.0), 5000), ((3.0, 2.0, 1.0), 3000), ((3.0, 2.0, 1.0, 1.0), 1000)]
)
def test_chain_vs_explicit_tensors_in_samples_a_second(snr, least):
    tensor, dim, samples = SpikedTensor(3, snr), 40, 200_000
    chain, rng, lr = TensorChain(tensor, dim, tensor.rate(0.3, dim)), np.random.default_rng(0), tensor.rate(0.3, dim)
    X, V = stiefel(rng, 1, dim, tensor.rank), np.eye(dim)[:, : tensor.rank]
    chain.run(16, 100, threads=1)
    costs = [
        (
            seconds(lambda: [sgd_step(tensor, V, X, lr, rng) for _ in range(20)]) / 20 * 1e9,
            seconds(lambda: chain.run(16, samples, threads=1)) / (16 * samples) * 1e9,
        )
        for _ in range(TURNS)
    ]
    ratio = np.median([a / b for a, b in costs])
    direct, fast = np.median(costs, axis=0)
    print(f"\nN = 40, r = {len(snr)}: tensors {direct:.3g} ns a sample, chain {fast:.1f} ns | ratio {ratio:.0f}")
    assert ratio >= least
