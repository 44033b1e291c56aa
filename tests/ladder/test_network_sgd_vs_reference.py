"""Two-layer SGD in R^d against plain NumPy on the same inputs, and against the engine of the single neuron.

No statistics: the same numbers go in, so there are no false alarms. Would be falsified by: a block that reads stale weights,
a wrong algebra of inputs that are never formed, padding that leaks, states saved a batch off, a wrong learning rule (loss,
activation, biases, decay, projection), a replica that depends on threads or neighbours, a divergence that goes unnoticed.
"""

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sims import network_sgd
from sims._network_kernels import run_network
from sims.ensemble import run_ensemble
from sims.network_sgd import NetworkSGD
from sims.sgd import OnlineSGD
from tests import reference
from tests.conftest import ACTIVATIONS, TASKS, model_of
from theory.errors import InputError
from theory.learners import CorrelationLoss, LogisticLoss, SquaredLoss
from theory.networks import NetworkModel, NetworkState, Rates, TwoLayer
from theory.results import replica_seed

LOSSES = {"correlation": CorrelationLoss(), "squared": SquaredLoss(), "logistic": LogisticLoss()}
ALL = Rates(0.5, 0.1, 0.2, 0.3)
FIELDS = ("R", "Q", "a", "b", "output")


def engine_of(task, activation, loss, hidden, dim, batch=1, rates=ALL, start=None, **options):
    net = TwoLayer(ACTIVATIONS[activation], LOSSES[loss], hidden, **options)
    return NetworkSGD(NetworkModel(TASKS[task], net), dim, rates, batch, start)


def reference_states(engine, seed, samples):
    """R, Q, a, b, a_0 at the start and after every batch."""
    first, (X, y) = engine.begin(seed), engine.inputs(seed, samples)
    parameters = (first.W, first.a, first.b, first.output)
    net = engine.model.learner
    states = [parameters, *reference.network_sgd(net, engine.rates, X, y, engine.batch, *parameters)]
    return [np.array(x) for x in zip(*((W @ first.U.T, W @ W.T, a, b, a0) for W, a, b, a0 in states), strict=True)]


CASES = [  # task, activation, loss, K, d, batch, rates, options
    ("mcm_corr", "relu", "squared", 5, 40, 1, ALL, {}),
    ("mcm_corr", "relu", "logistic", 8, 29, 5, ALL, {"bias_scale": 0.3}),
    ("mcm_mean_p6", "erf", "logistic", 3, 77, 1, ALL, {"weight_decay": 0.3}),
    ("mcm_mean_p6", "erf", "squared", 4, 600, 5, Rates(1.0, 0.5), {"weight_decay": 0.1, "scaling": 1.0}),
    ("mcm_p3", "hermite", "squared", 4, 50, 1, Rates(0.4, 0.1, 0.3), {"scaling": 1.0, "bias_scale": 0.5}),
    ("teacher", "hermite", "correlation", 2, 33, 5, Rates(0.05), {"initial_scale": 0.5, "second_values": (1.0,)}),
    ("mcm_even", "tanh", "correlation", 6, 31, 1, Rates(0.5, 0.1, 0.1), {"spherical": True}),
    ("teacher", "sigmoid", "squared", 3, 20, 5, Rates(1.5), {"spherical": True}),
    ("spiked_p4_positive", "softplus", "logistic", 110, 17, 40, ALL, {}),
    ("spiked_p4_positive", "relu_bias", "correlation", 1, 2, 1, ALL, {}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "activation", "loss", "hidden", "dim", "batch", "rates", "options"), CASES)
def test_engine_vs_numpy_reference_batch_by_batch(task, activation, loss, hidden, dim, batch, rates, options):
    """Recorded at one time far on, so that whole blocks are run, and after every batch."""
    engine = engine_of(task, activation, loss, hidden, dim, batch, rates, **options)
    seed, samples = replica_seed(7, 2), 105 * batch
    expected = reference_states(engine, seed, samples)
    times = np.arange(0, samples + 1, batch)
    for shown in (slice(None), slice(-1, None), slice(50, None, 7)):
        found = engine.run([2], samples, 7, times=times[shown]).trajectory
        for name, value in zip(FIELDS, expected, strict=True):
            np.testing.assert_allclose(getattr(found, name)[0], value[shown], rtol=1e-11, atol=1e-11)
    assert np.abs(expected[0][-1] - expected[0][0]).max() > 1e-3


def test_blocks_change_nothing_but_rounding_and_threads_nothing_at_all():
    engine = engine_of("mcm_corr", "relu", "squared", 12, 300)
    times = np.array([0, 1, 100, 3000])
    alone, together = (engine.run(runs, 3000, 5, times=times, threads=n) for runs, n in ((4, 1), ([3, 1, 0, 2], 2)))
    assert alone.replicas == together.replicas == (0, 1, 2, 3)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(alone.trajectory, name), getattr(together.trajectory, name))
    np.testing.assert_array_equal(alone.escapes.times, together.escapes.times)
    for block in (1, 7, 128):
        other = engine_of("mcm_corr", "relu", "squared", 12, 300)
        other.__dict__["block"] = block
        found = other.run([2], 3000, 5, times=times).trajectory
        for name in FIELDS:
            np.testing.assert_allclose(
                getattr(found, name)[0], getattr(alone.trajectory, name)[2], rtol=1e-10, atol=1e-11
            )


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_is_held_to_one_thread_while_running(monkeypatch):
    engine, seen = engine_of("mcm_corr", "relu", "squared", 3, 20), []
    engine.run(1, 10)  # every BLAS is loaded now
    monkeypatch.setattr(network_sgd, "run_network", lambda *x: seen.extend(blas_threads()) or run_network(*x))
    with threadpool_limits(2, user_api="blas"):
        assert set(blas_threads()) == {2}
        engine.run(1, 10, times=np.array([10]))
        assert set(blas_threads()) == {2}
    assert len(seen) >= 1
    assert set(seen) == {1}


@pytest.mark.parametrize("batch", [1, 5])
def test_one_spherical_neuron_vs_the_single_neuron_engine(batch):
    """K = 1, a = 1, correlation loss, no bias: the same seed gives the same spikes, w and inputs to both engines."""
    samples, times = 6000, np.arange(0, 6001, 20 * batch)
    network = engine_of(
        "mcm_corr", "relu", "correlation", 1, 90, batch, Rates(1.0), spherical=True, scaling=0.0, second_values=(1.0,)
    )
    neuron = OnlineSGD(model_of(TASKS["mcm_corr"]), 90, 1.0, batch)
    found = network.run(3, samples, 11, times=times, threshold=0.3)
    expected = run_ensemble(neuron, 3, samples, 11, times=times, threshold=0.3)
    np.testing.assert_allclose(found.trajectory.R[:, :, 0], expected.trajectory.overlaps, atol=1e-12)
    np.testing.assert_allclose(found.trajectory.Q, 1, atol=1e-12)
    seen = np.isfinite(expected.escapes.times)
    late = found.escapes.times[seen] - expected.escapes.times[seen]
    assert len(late) >= 3
    assert np.all(late >= 0)  # seen at block ends only
    assert np.median(late) < network.block


def test_start_at_given_overlaps(rng):
    W = rng.standard_normal((4, 7))
    W[3] = W[0]  # a singular Q
    state = NetworkState(W[:, :2].copy(), W @ W.T, np.arange(4.0), np.full(4, 0.5), 0.25)
    engine = engine_of("mcm_corr", "relu", "squared", 4, 6, start=state)
    first = engine.begin(replica_seed(0, 0))
    np.testing.assert_allclose(first.U @ first.U.T, np.eye(2), atol=1e-13)
    found = engine.run(2, 8, times=np.array([0])).trajectory
    for run in range(2):
        for name in FIELDS:
            np.testing.assert_allclose(getattr(found, name)[run, 0], getattr(state, name), atol=1e-12)


def test_random_start_has_the_law_of_the_learner():
    """Weight scale: the mean of 16 × 4000 squares, each of relative spread √2, within 4 standard deviations (1 in 16 000)."""
    engine = engine_of("mcm_corr", "relu", "squared", 16, 4000, initial_scale=2.0, second_values=(-3.0, 1.0))
    first = engine.begin(replica_seed(3, 0))
    assert np.mean(first.W**2) * 4000 / 4 == pytest.approx(1, abs=4 * np.sqrt(2 / first.W.size))
    assert set(first.a) == {-3.0, 1.0}


def test_escape_is_the_first_block_end_over_the_threshold_and_stops_the_run():
    engine = engine_of("mcm_mean_p6", "relu", "squared", 4, 60, rates=Rates(2.0, 0.1))
    ends = np.arange(0, 4001, engine.block)
    full = engine.run(3, 4000, 1, threshold=0.5, times=ends)
    over = np.abs(full.trajectory.cosines).max(axis=2) >= 0.5
    first = np.where(over.any(axis=1), ends[over.argmax(axis=1)], np.inf)
    np.testing.assert_array_equal(full.escapes.times, first)
    stopped = engine.run(3, 4000, 1, threshold=0.5, stop_spikes=("m",), times=np.array([0, 4000]))
    mean = engine.model.spikes.index("m")
    assert np.all(np.isfinite(first[:, mean]) & (first[:, mean] > 0))
    np.testing.assert_array_equal(stopped.escapes.times[:, mean], first[:, mean])
    assert stopped.samples == first[:, mean].sum()
    assert np.all(np.isnan(stopped.trajectory.output[:, 1]))


def test_divergence_is_named_and_earlier_records_are_kept():
    engine = engine_of("mcm_corr", "hermite", "squared", 3, 30, rates=Rates(40.0, 10.0))
    result = engine.run(3, 5000, times=np.array([0, 5000]))
    assert [d.replica for d in result.diverged] == [0, 1, 2]
    for d in result.diverged:
        assert d.name.startswith(("R[w", "Q[w", "a[w"))
        assert 0 < d.samples < 5000
        assert d.samples % engine.block == 0
    assert np.all(np.isfinite(result.trajectory.R[:, 0]))
    assert np.all(np.isnan(result.trajectory.R[:, 1]))
    calm = replace(engine, rates=Rates(0.1)).run(1, 100, times=np.array([100]))
    assert calm.diverged == ()
    assert np.all(np.isfinite(calm.trajectory.R))


def test_times_beyond_the_budget_and_between_batches():
    engine = engine_of("mcm_corr", "relu", "squared", 2, 20, batch=6)
    result = engine.run(1, 100, times=np.array([0, 1, 5, 7, 90, 101, 500]))
    np.testing.assert_array_equal(result.trajectory.times, [0, 6, 12, 90, 102])
    assert result.samples == result.escapes.budget == 102
    assert np.all(np.isfinite(result.trajectory.Q))
    assert engine.run(1, 100, times=np.array([], dtype=int)).trajectory.R.shape == (1, 0, 2, 2)


def bad(message, **changes):
    options = {"task": "mcm_corr", "activation": "relu", "loss": "squared", "hidden": 3, "dim": 20} | changes
    with pytest.raises(InputError, match=message):
        engine_of(**options)


def test_bad_input():
    state = NetworkState(np.zeros((3, 2)), np.eye(3) * 2, np.ones(3), np.zeros(3))
    bad("dim", dim=2)
    bad("dim: got 4; allowed: 5", dim=4, start=state)
    bad("start", dim=20, hidden=4, start=state)
    bad("Q_kk = 1", start=state, spherical=True)
    bad("batch", batch=0)
    bad("batch", dim=10**6, batch=1000)
    bad("batch", batch=5000, spherical=True)
    bad("dim", dim=10**6, hidden=1000)
    engine = engine_of("mcm_corr", "relu", "squared", 3, 20)
    for argument, call in {
        "samples": {"samples": 0}, "runs": {"runs": 0}, "threshold": {"threshold": 0.0}, "threads": {"threads": 0},
        "times": {"times": np.array([5, 5])}, "stop_spikes": {"stop_spikes": ("w",)},
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=f"^{argument}: got"):
            engine.run(**({"runs": 1, "samples": 10} | call))
