"""The overlap chain against high-dimensional SGD: the same trajectory on the same data, the same law on random data.

Would be falsified by: a chain that is only asymptotically right in d, a wrong number of degrees of freedom, a state or an
escape saved a batch off, a clock that does not count samples, replicas that depend on their lane, thread or neighbours.

False alarms: every comparison of distributions is a two-sample Kolmogorov-Smirnov test; the level FALSE_ALARM (one in ten
thousand) of a test is divided by the number of its comparisons. The last tests show that errors of a few degrees of freedom
are seen. Three contenders: the chain, sims.sgd (compiled, d >= 10), and twenty lines of NumPy here for smaller d.
"""

from time import sleep

import numpy as np
import pytest
import sympy as sp
from scipy import stats

from sims.ensemble import run_ensemble
from sims.sgd import OnlineSGD
from solvers.chain import OverlapChain
from tests.conftest import ACTIVATIONS, FALSE_ALARM, LOSSES, SEED, TASKS, Z_ALARM, draw, model_of
from theory.activations import Z
from theory.errors import DivergedError, InputError
from theory.learners import Y
from theory.results import replica_seed


def gradient_of(model):
    return sp.lambdify([Y, Z], model.learner.gradient, ["scipy", "numpy"])


def numpy_sgd(model, dim, lr, batch, n_batches, runs, start=None, rng=None):
    """SGD in R^d, spikes u_k = e_k: everything the chain must reproduce or be told, for all runs at once.

    Returns overlaps and q = |w_⊥| (runs, n + 1, r + 1), and the inputs ξ, y, a and χ² that the chain needs.
    """
    r, g = len(model.spikes), gradient_of(model)
    labels, xis = draw(model.task, runs * n_batches * batch, rng)
    labels, xis = labels.reshape(runs, n_batches, batch), xis.reshape(runs, n_batches, batch, r)
    w = rng.standard_normal((runs, dim))
    if start is not None:
        w[:, r:] *= np.sqrt(max(1 - start @ start, 0)) / np.linalg.norm(w[:, r:], axis=1, keepdims=True)
        w[:, :r] = start
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    states, across, chis = [w[:, : r + 1].copy()], [], []
    states[0][:, r] = np.linalg.norm(w[:, r:], axis=1)
    for y, xi in zip(labels.swapaxes(0, 1), xis.swapaxes(0, 1), strict=True):
        x = np.concatenate([xi, rng.standard_normal((runs, batch, dim - r))], axis=2)
        s = np.einsum("nbd,nd->nb", x, w)
        h = lr / dim * g(y, s)
        rest = w[:, r:] / np.maximum(np.linalg.norm(w[:, r:], axis=1, keepdims=True), 1e-300)
        a = np.einsum("nbd,nd->nb", x[:, :, r:], rest)
        total = np.einsum("nb,nbd->nd", h, x)
        beyond = total[:, r:] - rest * np.sum(h * a, axis=1, keepdims=True)
        across.append(a)
        chis.append(np.sum(beyond**2, axis=1) / np.maximum(np.sum(h**2, axis=1), 1e-300))
        w = w * (1 - np.sum(h * s, axis=1, keepdims=True)) + total
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        states.append(np.concatenate([w[:, :r], np.linalg.norm(w[:, r:], axis=1, keepdims=True)], axis=1))
    return np.stack(states, axis=1), (xis, labels, np.stack(across, axis=1), np.stack(chis, axis=1))


GRAM = [
    ("mcm_corr", "relu", "correlation", 12, 1, [0.3, -0.2]), ("mcm_corr", "tanh", "squared", 60, 4, [0.1, 0.2]),
    ("mcm_mean_p6", "hermite", "correlation", 200, 1, [0.3, 0.4, 0.5]), ("mcm_p3", "erf", "squared", 30, 4, [0.7, 0.7]),
    ("mcm_even", "softplus", "correlation", 5, 1, [0.5, 0.5]), ("teacher", "sigmoid", "squared", 20, 4, [0.9, -0.3]),
    ("spiked_p4_positive", "relu_bias", "squared", 3, 1, [0.6]),
]  # fmt: skip


@pytest.mark.parametrize(("task", "activation", "loss", "dim", "batch", "start"), GRAM)
def test_chain_vs_sgd_on_the_same_data(task, activation, loss, dim, batch, start, rng):
    """Fed with ξ, y, a and χ² of a d-dimensional run, the chain is that run, to rounding, batch by batch."""
    model, start = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss]), np.array(start)
    states, (xi, y, a, chi) = numpy_sgd(model, dim, 0.4, batch, 300, 1, start, rng)
    followed = OverlapChain(model, dim, 0.4, batch, start).follow(xi[0], y[0], a[0], chi[0])
    np.testing.assert_allclose(followed, states[0, 1:], atol=1e-12)
    assert np.abs(states[0, -1] - states[0, 0]).max() > 0.02


def assert_same_law(pairs, level=FALSE_ALARM):
    pairs = list(pairs)
    pvalues = [stats.ks_2samp(a, b, method="asymp").pvalue for a, b in pairs]
    assert min(pvalues) > level / len(pairs), f"smallest p-value {min(pvalues):.2g} of {len(pairs)}"


def distributions(ensemble, at):
    """Overlaps, |α| and escape times (a censored one is later than all others) as a list of samples."""
    overlaps = ensemble.trajectory.overlaps[:, at]
    escapes = np.minimum(ensemble.escapes.times, 2.0 * ensemble.escapes.budget)
    radius = np.linalg.norm(overlaps, axis=2)
    return [*overlaps.reshape(len(overlaps), -1).T, *radius.T, *escapes.T]


LAWS = [  # task, activation, loss, d, lr, B, samples
    ("mcm_corr", "relu", "correlation", 10, 1.0, 1, 300), ("mcm_corr", "erf", "squared", 100, 1.0, 5, 1500),
    ("mcm_mean_p6", "relu", "squared", 30, 0.7, 1, 500), ("mcm_mean_p6", "hermite", "correlation", 12, 0.3, 5, 200),
    ("mcm_even", "softplus", "squared", 10, 1.5, 5, 300), ("mcm_even", "tanh", "correlation", 300, 1.0, 1, 2000),
    ("mcm_p3", "hermite", "squared", 40, 0.3, 1, 600), ("mcm_p3", "relu_bias", "correlation", 20, 1.0, 5, 400),
    ("spiked_p4_positive", "hermite", "correlation", 10, 1.0, 1, 300),
    ("spiked_p4_positive", "relu", "squared", 60, 2.0, 5, 1000),
    ("teacher", "sigmoid", "squared", 10, 1.0, 1, 300), ("teacher", "relu", "correlation", 150, 0.5, 5, 2000),
]  # fmt: skip


@pytest.mark.parametrize(("task", "activation", "loss", "dim", "lr", "batch", "samples"), LAWS)
def test_chain_vs_sgd_in_law_from_a_random_start(task, activation, loss, dim, lr, batch, samples):
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    threshold = max(0.35, 1.5 / np.sqrt(dim))
    truth = run_ensemble(OnlineSGD(model, dim, lr, batch), 1000, samples, SEED, threshold)
    times = truth.trajectory.times.astype(np.int64)
    chain = OverlapChain(model, dim, lr, batch).run(4000, samples, SEED + 1, threshold, times=times)
    np.testing.assert_array_equal(chain.trajectory.times, times)
    at = [0, len(times) // 3, 2 * len(times) // 3, -1]
    assert_same_law(zip(distributions(chain, at), distributions(truth, at), strict=True))


SMALL = [  # task, d (d - r - 1 degrees of freedom: 1 or 2), B, lr, start
    ("mcm_corr", 4, 1, 0.8, None), ("mcm_corr", 5, 5, 0.3, [0.6, 0.8]), ("spiked_p4_positive", 3, 1, 0.8, [1.0]),
    ("mcm_mean_p6", 5, 1, 0.5, [0.0, 0.0, -1.0]), ("teacher", 4, 3, 0.2, None),
]  # fmt: skip


@pytest.mark.parametrize(("task", "dim", "batch", "lr", "start"), SMALL)
def test_chain_vs_numpy_where_few_dimensions_are_left(task, dim, batch, lr, start, rng):
    """d from r + 2 on, and from |α| = 1 exactly, where w has no part outside the spikes."""
    model, start = model_of(TASKS[task]), None if start is None else np.array(start)
    runs, times = 2000, np.array([0, 1, 2, 10, 40]) * batch
    truth = numpy_sgd(model, dim, lr, batch, 40, runs, start, rng)[0]
    chain = OverlapChain(model, dim, lr, batch, start).run(runs, int(times[-1]), SEED, 0.5, times=times)
    escaped = np.abs(truth[:, :, :-1]) >= 0.5
    first = np.where(escaped.any(axis=1), escaped.argmax(axis=1) * float(batch), 80.0 * batch)
    expected = [*truth[:, times // batch, :-1].reshape(runs, -1).T, *first.T]
    found = distributions(chain, slice(None))
    radii = [np.linalg.norm(truth[:, t, :-1], axis=1) for t in times // batch]
    r = len(model.spikes)
    expected = [*expected[: len(times) * r], *radii, *expected[len(times) * r :]]
    tied = [np.ptp(np.concatenate(pair)) < 1e-9 for pair in zip(found, expected, strict=True)]
    assert_same_law((f, e) for f, e, same in zip(found, expected, tied, strict=True) if not same)
    if start is not None:
        np.testing.assert_allclose(chain.trajectory.overlaps[:, 0], np.tile(start, (runs, 1)), atol=1e-15)


def chain_at(dim=50, **options):
    return OverlapChain(model_of(TASKS["mcm_corr"]), dim, 1.0, **options)


def same(a, b, rows=slice(None)):
    np.testing.assert_array_equal(a.trajectory.overlaps, b.trajectory.overlaps[rows])
    np.testing.assert_array_equal(a.escapes.times, b.escapes.times[rows])


def test_replicas_do_not_depend_on_threads_order_or_company():
    """Bit for bit: 37 replicas in two threads, in one, in reverse, and three of them alone."""
    chain = chain_at()
    options = {"samples": 4000, "seed": SEED, "stop_spikes": ("u", "v")}  # ends at random: lanes are refilled at random
    full = chain.run(37, threads=2, **options)
    same(chain.run(37, threads=1, **options), full)
    same(chain.run(range(36, -1, -1), threads=2, **options), full, slice(None, None, -1))
    alone = chain.run([30, 3, 17], **options)
    same(alone, full, [30, 3, 17])
    assert alone.replicas == (30, 3, 17)
    with pytest.raises(AssertionError):
        same(chain.run([30, 3, 18], **options), full, [30, 3, 17])


@pytest.mark.parametrize("batch", [1, 7])
def test_cutting_a_run_into_blocks_changes_nothing(batch, monkeypatch):
    chain = chain_at(batch=batch)
    whole = chain.run(5, 3000, SEED)
    monkeypatch.setattr("solvers.chain.BLOCK_SAMPLES", 23)
    same(chain.run(5, 3000, SEED), whole)


@pytest.mark.parametrize("batch", [1, 3])
def test_escape_is_the_first_batch_over_the_threshold(batch):
    chain = chain_at(batch=batch, start=np.array([0.25, 0.1]))
    ensemble = chain.run(20, 2000, SEED, times=np.arange(0, 2001))
    times = ensemble.trajectory.times
    assert times[-1] == 2000 // batch * batch
    for overlaps, escapes in zip(ensemble.trajectory.overlaps, ensemble.escapes.times, strict=True):
        for k in range(2):
            over = times[np.abs(overlaps[:, k]) >= 0.3]
            assert escapes[k] == (np.ceil(over[0] / batch) * batch if over.size else np.inf)
    assert np.isfinite(ensemble.escapes.times).any()


def test_early_end_leaves_the_rest_unrecorded():
    chain, times = chain_at(), np.arange(0, 3001, 10)
    full = chain.run(20, 3000, SEED, times=times)
    short = chain.run(20, 3000, SEED, times=times, stop_spikes=["u"])
    np.testing.assert_array_equal(short.escapes.of("u"), full.escapes.of("u"))
    for before, overlaps, end in zip(
        full.trajectory.overlaps, short.trajectory.overlaps, short.escapes.of("u"), strict=True
    ):
        np.testing.assert_array_equal(overlaps[times <= end], before[times <= end])
        assert np.all(np.isnan(overlaps[times > end]))
    assert short.samples == np.minimum(short.escapes.of("u"), 3000).sum()
    assert chain.run(20, 3000, SEED, times=np.array([], int)).trajectory.overlaps.shape == (20, 0, 2)


def test_huge_dimension_and_huge_budget():
    """d = 10^12: α_0 √d is standard normal, and 10^15 samples are a budget like any other."""
    chain = chain_at(10**12)
    start = chain.run(4000, 1, SEED, times=np.array([0])).trajectory.overlaps[:, 0]
    assert all(stats.kstest(a * 1e6, "norm").pvalue > FALSE_ALARM for a in start.T)
    ensemble = chain_at(60).run(2, 10**15, SEED, 0.3, stop_spikes=("u", "v"))
    assert np.isfinite(ensemble.escapes.times).all()


def test_an_interrupted_run_keeps_what_is_finished(monkeypatch):
    def interrupt(_):
        sleep(0.3)
        raise KeyboardInterrupt

    chain, options = chain_at(), {"samples": 20_000, "seed": SEED, "times": np.array([20_000])}
    monkeypatch.setattr("solvers.lanes.as_completed", interrupt)
    part = chain.run(100_000, **options)
    monkeypatch.undo()
    assert part.interrupted
    assert 0 < len(part.replicas) < 100_000
    kept = slice(0, 3)
    np.testing.assert_array_equal(chain.run(part.replicas[kept], **options).escapes.times, part.escapes.times[kept])


def test_divergence_is_reported():
    chain = OverlapChain(model_of(TASKS["teacher"], ACTIVATIONS["hermite"]), 50, 1e300)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        chain.run(3, 1000)


@pytest.mark.parametrize(
    ("arguments", "run", "text"),
    [
        ((3, 1.0), {}, "dim: got 3; allowed: 4"),
        ((50, 0.0), {}, "lr"),
        ((50, 1.0, 0), {}, "batch"),
        ((50, 1.0, 1, np.array([0.9, 0.9])), {}, "start"),
        ((50, 1.0), {"runs": 0}, "runs"),
        ((50, 1.0), {"runs": [1, 1]}, "runs"),
        ((50, 1.0), {"samples": 0}, "samples"),
        ((50, 1.0), {"threshold": -1.0}, "threshold"),
        ((50, 1.0), {"stop_spikes": ["w"]}, "stop_spikes: got w; allowed: u, v"),
        ((50, 1.0), {"times": np.array([5, 3])}, "times"),
    ],
)
def test_bad_input(arguments, run, text):
    with pytest.raises(InputError, match=text):
        OverlapChain(model_of(TASKS["mcm_corr"]), *arguments).run(**{"runs": 2, "samples": 10, **run})


@pytest.mark.parametrize(("dim", "wrong"), [(10, 6), (30, 20)])
def test_a_wrong_number_of_degrees_of_freedom_is_seen(dim, wrong):
    """The same step δ/d with χ² of another dimension: the tests above would have raised the alarm."""
    model, start = model_of(TASKS["mcm_corr"]), np.array([0.5, 0.3])
    truth = run_ensemble(OnlineSGD(model, dim, 4.0, start=start), 500, 600, SEED, 0.6)
    times = truth.trajectory.times.astype(np.int64)
    at = [len(times) // 3, -1]
    chains = [
        OverlapChain(model, d, 4.0 * d / dim, start=start).run(3000, 600, SEED, 0.6, times=times) for d in (dim, wrong)
    ]
    right, false = (list(zip(distributions(c, at), distributions(truth, at), strict=True)) for c in chains)
    assert_same_law(right)
    with pytest.raises(AssertionError, match="p-value"):
        assert_same_law(false, 1e-8)


@pytest.mark.parametrize("dim", [4, 10, 1000])
def test_random_start_vs_the_law_of_the_sphere(dim):
    """α_k² is Beta(1/2, (d-1)/2) and |α|² Beta(r/2, (d-r)/2); the replicas differ."""
    chain = chain_at(dim)
    start = np.array([chain.first_state(replica_seed(SEED, i)) for i in range(3000)])
    np.testing.assert_allclose(np.linalg.norm(start, axis=1), 1, atol=1e-15)
    for squares, k in ((start[:, 0] ** 2, 1), (start[:, 1] ** 2, 1), ((start[:, :2] ** 2).sum(axis=1), 2)):
        assert stats.kstest(squares, stats.beta(k / 2, (dim - k) / 2).cdf).pvalue > FALSE_ALARM
    assert abs(np.corrcoef(start[:, 0], start[:, 1])[0, 1]) < Z_ALARM / np.sqrt(3000)
