"""The compiled simulator against fifteen lines of NumPy on the same random numbers, for every task × activation family.

Would be falsified by: a state saved one step late, a wrong projection, a padding that leaks, an update at the wrong w.
"""

import numpy as np
import pytest
from numpy.random import SeedSequence

from sims.sgd import OnlineSGD
from tests import reference
from tests.conftest import ACTIVATIONS, LOSSES, TASKS, model_of
from theory.lower import compile_gradient, compile_law
from theory.normals import fill_normals


def stream(engine, seed, samples):
    normals, work = np.empty((samples, engine.n_normals)), engine.noise(seed)
    for row in normals:
        fill_normals(work, row)
    return normals


CASES = [
    ("mcm_corr", "relu", "correlation", 13, 1), ("mcm_corr", "tanh", "squared", 127, 7),
    ("mcm_mean_p6", "hermite", "correlation", 64, 1), ("mcm_even", "erf", "squared", 31, 5),
    ("mcm_p3", "relu_bias", "correlation", 200, 4), ("spiked_p4_positive", "softplus", "squared", 40, 1),
    ("teacher", "sigmoid", "squared", 1000, 1), ("teacher", "hermite", "correlation", 50, 3),
]  # fmt: skip


@pytest.mark.parametrize(("task", "activation", "loss", "dim", "batch"), CASES)
def test_engine_vs_numpy_reference_sample_by_sample(task, activation, loss, dim, batch):
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    engine, seed, samples = OnlineSGD(model, dim, 0.3, batch), SeedSequence(7), 140 * batch
    times = np.arange(0, samples + 1, batch)
    replica = engine.run(seed, samples, threshold=0.9, times=times)
    spikes, w = engine.geometry(seed)
    normals, n_extra = stream(engine, seed, samples), len(model.task.law().normals)
    law, theta = compile_law(model.task.law())
    gradient = compile_gradient(model.learner)
    expected = reference.sgd(law, gradient, theta, spikes, w, normals, 0.3 / dim, batch, n_extra)
    np.testing.assert_allclose(replica.overlaps[0], spikes @ w, atol=1e-14)
    np.testing.assert_allclose(replica.overlaps[1:], expected, atol=1e-12)


def test_escape_is_the_first_sample_over_the_threshold():
    engine = OnlineSGD(model_of(TASKS["mcm_corr"]), 60, 1.0, start=np.array([0.25, 0.1]))
    times = np.arange(0, 4001)
    replica = engine.run(SeedSequence(3), 4000, threshold=0.3, times=times)
    for k in range(2):
        over = np.flatnonzero(np.abs(replica.overlaps[:, k]) >= 0.3)
        assert replica.escapes[k] == (over[0] if over.size else -1)
    assert replica.escapes[0] > 0


def test_start_at_given_overlaps_and_orthonormal_spikes():
    start = np.array([0.2, -0.1])
    engine = OnlineSGD(model_of(TASKS["mcm_corr"]), 100, 0.1, start=start)
    spikes, w = engine.geometry(SeedSequence(1))
    np.testing.assert_allclose(spikes @ spikes.T, np.eye(2), atol=1e-14)
    np.testing.assert_allclose(spikes @ w, start, atol=1e-14)
    assert w @ w == pytest.approx(1)


def test_whitening_as_a_rank_one_map_vs_the_square_root_of_the_covariance(rng):
    """S = 1 - β/(1+β+√(1+β)) vvᵀ is (1 + β vvᵀ)^{-1/2}: the d × d whitening that the engine never forms."""
    beta, d = 10.0, 12
    v = rng.standard_normal(d)
    v /= np.linalg.norm(v)
    values, vectors = np.linalg.eigh(np.eye(d) + beta * np.outer(v, v))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(np.eye(d) - beta / (1 + beta + np.sqrt(1 + beta)) * np.outer(v, v), root, atol=1e-12)
    # What the law of ξ_v applies along v: (√β ν + z_v)/√(1+β); across v nothing changes.
    z, nu = rng.standard_normal(d), 1.0
    x = root @ (np.sqrt(beta) * nu * v + z)
    assert v @ x == pytest.approx((np.sqrt(beta) * nu + v @ z) / np.sqrt(1 + beta))
    np.testing.assert_allclose(x - (v @ x) * v, z - (v @ z) * v, atol=1e-12)
