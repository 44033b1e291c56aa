"""The Gram chain against SGD of the same two-layer network in R^d: the same run on the same data, the same law on others.

Would be falsified by: a chain that is only asymptotically right in d, a Wishart matrix with wrong degrees of freedom, a wrong
learning rule (loss, activation, bias, decay, batch, projection), an update of P that is not that of W_⊥, states saved a block
off, replicas that depend on threads or neighbours.

False alarms: two-sample Kolmogorov-Smirnov tests at FALSE_ALARM (one in ten thousand) divided by the number of comparisons of
a test. The contender is thirty lines of NumPy below, whose gradients come from SymPy's lambdify, for all runs at once.
"""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from scipy import stats

from sims.network_sgd import NetworkSGD
from solvers.chain import OverlapChain
from solvers.gram_chain import GramChain
from tests.conftest import ACTIVATIONS, FALSE_ALARM, SEED, TASKS, draw, model_of
from theory.activations import Z
from theory.errors import InputError
from theory.learners import CorrelationLoss, LogisticLoss, SquaredLoss, Y
from theory.networks import F, NetworkModel, NetworkState, Rates, TwoLayer
from theory.results import replica_seed
from theory.tasks import MixedCumulant

LOSSES = {"correlation": CorrelationLoss(), "squared": SquaredLoss(), "logistic": LogisticLoss()}


def network(task, activation, loss, hidden, **options):
    return NetworkModel(TASKS[task], TwoLayer(ACTIVATIONS[activation], LOSSES[loss], hidden, **options))


def numpy_network_sgd(model, dim, rates, batch, inputs, y, parameters):
    """Plain SGD in R^d for many runs, spikes e_1 … e_r: inputs (n, samples, d), y (n, samples), W (n, K, d), a, b (n, K)."""
    net = model.learner
    sigma, slope = (sp.lambdify(Z, e, ["scipy", "numpy"]) for e in (net.activation.expression, net.slope))
    residual = sp.lambdify([Y, F], net.residual, "numpy")
    W, a, b, a0 = parameters
    for t in range(0, y.shape[1], batch):
        x, label = inputs[:, t : t + batch], y[:, t : t + batch]
        h = np.einsum("nbd,nkd->nbk", x, W)
        s, ds = (np.broadcast_to(f(h + b[:, None]), h.shape) for f in (sigma, slope))
        r = residual(label, a0[:, None] + net.output_scale * np.einsum("nbk,nk->nb", s, a))
        g = net.output_scale * r[..., None] * a[:, None] * ds
        step = np.einsum("nbk,nbd->nkd", g, x)
        if net.spherical:
            step -= np.einsum("nbk,nbk->nk", g, h)[..., None] * W
        decay = batch * net.weight_decay
        W, a, b, a0 = (
            W + rates.first / dim * (step - decay * W),
            a + rates.second / dim * (net.output_scale * np.einsum("nb,nbk->nk", r, s) - decay * a),
            b + rates.bias / dim * g.sum(axis=1),
            a0 + rates.output / dim * r.sum(axis=1),
        )
        if net.spherical:
            W /= np.linalg.norm(W, axis=2, keepdims=True)
    return W, a, b, a0


def random_data(model, dim, runs, samples, rng):
    """Inputs (runs, samples, d), labels, and the parameters at the start."""
    r, net = len(model.spikes), model.learner
    y, xi = draw(model.task, runs * samples, rng)
    x = np.concatenate([xi, rng.standard_normal((runs * samples, dim - r))], axis=1).reshape(runs, samples, dim)
    W = rng.standard_normal((runs, net.hidden, dim))
    W *= 1 / np.linalg.norm(W, axis=2, keepdims=True) if net.spherical else net.initial_scale / np.sqrt(dim)
    a, b = (np.stack(part) for part in zip(*(net.draw_readout(rng) for _ in range(runs)), strict=True))
    return x, y.reshape(runs, samples), (W, a, b, np.zeros(runs))


def state_of(parameters, r):
    W, a, b, output = (x[0] for x in parameters)
    return NetworkState(W[:, :r], W @ W.T, a, b, float(output))


SAME = [  # task, activation, loss, K, d, batch, options, rates
    ("mcm_corr", "relu", "squared", 5, 40, 1, {}, Rates(0.5, 0.1, 0.2, 0.3)),
    ("mcm_mean_p6", "erf", "logistic", 3, 30, 4, {"weight_decay": 0.3}, Rates(1.0, 0.5, 0.0, 0.1)),
    ("mcm_p3", "hermite", "squared", 4, 50, 1, {"scaling": 1.0, "bias_scale": 0.5}, Rates(0.4, 0.1, 0.3)),
    ("mcm_even", "tanh", "correlation", 2, 20, 3, {"spherical": True}, Rates(2.0, 0.1, 0.1)),
    ("teacher", "sigmoid", "squared", 3, 20, 1, {"spherical": True}, Rates(1.5)),
    ("spiked_p4_positive", "softplus", "logistic", 6, 60, 12, {"initial_scale": 2.0}, Rates(1.0, 1.0, 1.0, 1.0)),
]  # fmt: skip


@pytest.mark.parametrize(("task", "activation", "loss", "hidden", "dim", "batch", "options", "rates"), SAME)
def test_gram_chain_vs_sgd_on_the_same_data(task, activation, loss, hidden, dim, batch, options, rates, rng):
    """Fed with the inner products of a run in R^d block by block, the chain is that run, to rounding."""
    model, block = network(task, activation, loss, hidden, **options), 12
    x, y, parameters = random_data(model, dim, 1, 20 * block, rng)
    r, chain = len(model.spikes), GramChain(model, dim, rates, batch)
    first = state = state_of(parameters, r)
    for t in range(0, y.shape[1], block):
        part, label = x[:, t : t + block], y[:, t : t + block]
        rest, W = part[0, :, r:], parameters[0][0]
        state = chain.follow(state, part[0, :, :r], rest @ W[:, r:].T, rest @ rest.T, label[0])
        parameters = numpy_network_sgd(model, dim, rates, batch, part, label, parameters)
    for name in ("R", "Q", "a", "b", "output"):
        np.testing.assert_allclose(getattr(state, name), getattr(state_of(parameters, r), name), atol=1e-12, rtol=1e-12)
    assert np.abs(state.R - first.R).max() > 0.01


LAWS = [  # task, activation, loss, K, d, batch, blocks, options, rates; d - r - K goes down to 1
    ("mcm_corr", "relu", "squared", 3, 6, 1, 1, {}, Rates(0.5, 0.2, 0.2, 0.2)),
    ("mcm_corr", "erf", "logistic", 2, 20, 1, 3, {"weight_decay": 0.2}, Rates(1.5, 0.5, 0.3, 0.1)),
    ("mcm_mean_p6", "relu", "squared", 4, 40, 5, 3, {}, Rates(0.7, 0.2)),
    ("spiked_p4_positive", "tanh", "correlation", 2, 8, 1, 2, {"spherical": True}, Rates(1.5, 0.1)),
    ("teacher", "relu", "squared", 3, 12, 30, 2, {"spherical": True}, Rates(0.5, 0.1)),
]  # fmt: skip


@pytest.mark.parametrize(("task", "activation", "loss", "hidden", "dim", "batch", "blocks", "options", "rates"), LAWS)
def test_gram_chain_vs_sgd_in_law(task, activation, loss, hidden, dim, batch, blocks, options, rates, rng):
    model, runs = network(task, activation, loss, hidden, **options), 3000
    chain, r = GramChain(model, dim, rates, batch), len(model.spikes)
    samples = blocks * chain.block
    x, y, parameters = random_data(model, dim, runs, samples, rng)
    W, a, b, output = numpy_network_sgd(model, dim, rates, batch, x, y, parameters)
    ours = chain.run(runs, samples, SEED, times=np.array([samples])).trajectory
    Q = np.einsum("nkd,njd->nkj", W, W)

    def scalars(R, Q, a, b, output):  # rounded: the diagonal of spherical rows is 1
        return [*R[:, 0].T, *np.round(Q[:, 0], 9).T, np.linalg.det(Q), a[:, 0], b[:, 1], output]

    parts = (ours.R, ours.Q, ours.a, ours.b, ours.output)
    assert_same_law(list(zip(scalars(*(x[:, 0] for x in parts)), scalars(W[:, :, :r], Q, a, b, output), strict=True)))


def assert_same_law(pairs):
    pvalues = [stats.ks_2samp(p, q, method="asymp").pvalue for p, q in pairs]
    assert min(pvalues) > FALSE_ALARM / len(pairs), f"smallest p-value {min(pvalues):.2g} of {len(pairs)}"


def test_wrong_degrees_of_freedom_are_seen(rng):
    """The power of the comparison above: one dimension more or less, of twelve, is told apart."""
    model, runs, rates = network("mcm_corr", "relu", "squared", 3), 3000, Rates(1.0)
    x, y, parameters = random_data(model, 12, runs, 24, rng)
    W = numpy_network_sgd(model, 12, rates, 1, x, y, parameters)[0]
    rates = Rates(1.0 * 13 / 12)  # the same step in d = 13
    ours = GramChain(model, 13, rates).run(runs, 24, SEED, times=np.array([24])).trajectory
    trace = np.trace(ours.Q[:, 0] * 13 / 12, axis1=1, axis2=2)
    with pytest.raises(AssertionError, match="smallest"):
        assert_same_law([(trace, np.sum(W**2, axis=(1, 2)))])


@pytest.mark.parametrize(("task", "activation", "batch"), [("mcm_corr", "relu", 1), ("mcm_p3", "hermite", 4)])
def test_one_spherical_neuron_vs_overlap_chain_on_the_same_data(task, activation, batch, rng):
    """K = 1, spherical row, a = 1, no bias: the single neuron's chain, fed with the same ξ, y, a and lengths."""
    model = network(task, activation, "correlation", 1, spherical=True, scaling=0.0, second_values=(1.0,))
    single, r, dim, n = model_of(TASKS[task], ACTIVATIONS[activation]), len(model.spikes), 50, 40
    start = np.full(r, 0.3)
    y, xi = draw(model.task, n * batch, rng)
    x = rng.standard_normal((n * batch, dim - r))
    w = rng.standard_normal(dim - r)
    w *= np.sqrt(1 - start @ start) / np.linalg.norm(w)
    state = NetworkState(start[None], np.ones((1, 1)), np.ones(1), np.zeros(1))
    gram, states, across, chi = GramChain(model, dim, Rates(0.5), batch), [], [], []
    slope = sp.lambdify([Y, Z], single.learner.gradient, ["scipy", "numpy"])
    for t in range(0, n * batch, batch):
        part, label, own = x[t : t + batch], y[t : t + batch], xi[t : t + batch]
        unit = w / np.linalg.norm(w)
        s = own @ state.R[0] + part @ w
        h = 0.5 / dim * slope(label, s)
        beyond = h @ (part - np.outer(part @ unit, unit))
        across.append(part @ unit)
        chi.append(beyond @ beyond / max(h @ h, 1e-300))
        state = gram.follow(state, own, (part @ w)[:, None], part @ part.T, label)
        w = w + h @ (part - np.outer(s, w))
        w *= np.sqrt(1 - state.R[0] @ state.R[0]) / np.linalg.norm(w)
        states.append(state.R[0])
    inputs = xi.reshape(n, batch, r), y.reshape(n, batch), np.stack(across), np.array(chi)
    followed = OverlapChain(single, dim, 0.5, batch, start).follow(*inputs)
    np.testing.assert_allclose(np.array(states), followed[:, :r], atol=1e-12)


def test_one_spherical_neuron_vs_overlap_chain_in_law():
    model = network("mcm_corr", "relu", "correlation", 1, spherical=True, scaling=0.0, second_values=(1.0,))
    gram = GramChain(model, 30, Rates(1.0))
    times = np.arange(0, 481, gram.block)
    ours = gram.run(2000, 480, SEED, times=times, threshold=0.4)
    chain = OverlapChain(model_of(TASKS["mcm_corr"]), 30, 1.0).run(2000, 480, SEED + 1, times=times)
    overlaps = chain.trajectory.overlaps
    pairs = [(ours.trajectory.R[:, i, 0, j], overlaps[:, i, j]) for i in (8, -1) for j in (0, 1)]
    # The Gram chain looks for an escape at block ends only.
    crossed = np.abs(overlaps[:, :, 0]) >= 0.4
    first = np.where(crossed.any(axis=1), times[crossed.argmax(axis=1)], 9999)
    assert_same_law([*pairs, (np.minimum(ours.escapes.of("u"), 9999), first)])


def test_threads_replicas_and_records_change_no_number():
    model = network("mcm_corr", "relu", "squared", 3)
    chain, times = GramChain(model, 30, Rates(0.5, 0.1)), np.array([0, 100, 960])
    whole = chain.run(5, 1000, SEED, times=times, threads=3)
    alone = chain.run([3], 1000, SEED, times=times[2:], threads=1)
    np.testing.assert_array_equal(whole.trajectory.times, [0, 120, 960])
    np.testing.assert_array_equal(whole.trajectory.R[3, 2], alone.trajectory.R[0, 0])
    np.testing.assert_array_equal(whole.escapes.times[3], alone.escapes.times[0])


def test_divergence_is_named_and_what_was_recorded_is_kept():
    model = network("mcm_corr", "relu", "squared", 3)
    run = GramChain(model, 30, Rates(100.0, 100.0)).run(2, 10**5, SEED, times=np.array([0, 10**5]))
    assert len(run.diverged) == 2
    assert run.diverged[0].samples < 10**5
    assert run.diverged[0].name.startswith(("R[w", "Q[w"))
    assert np.all(np.isfinite(run.trajectory.R[:, 0]))
    assert np.all(np.isnan(run.trajectory.R[:, 1]))


def test_bad_input_is_one_line():
    model, rates = network("mcm_corr", "relu", "squared", 3), Rates(0.5)
    state = GramChain(model, 30, rates).first_state(np.random.SeedSequence(0))
    wrong = NetworkState(state.R[:, :1], state.Q, state.a, state.b)
    cases = {
        "dim": lambda: GramChain(model, 5, rates), "batch": lambda: GramChain(model, 30, rates, 0),
        "hidden": lambda: replace(model.learner, hidden=0), "rate first": lambda: Rates(-1.0),
        "start": lambda: GramChain(model, 30, rates, start=wrong),
        "state output": lambda: replace(state, output=np.nan),
        "seed": lambda: GramChain(model, 30, rates).run(1, 9, seed=-1),
        "initial_scale": lambda: replace(model.learner, initial_scale=1e-200),
        "state Q": lambda: NetworkState(2 * state.R, state.Q * 0.01, state.a, state.b),
        "state a": lambda: NetworkState(state.R, state.Q, state.a * np.nan, state.b),
        "state b": lambda: NetworkState(state.R, state.Q, state.a, state.b[:2]),
        "loss": lambda: network("teacher", "relu", "logistic", 3),
        "weight_decay": lambda: GramChain(network("mcm_corr", "relu", "squared", 3, weight_decay=100.0), 30, rates),
        "samples": lambda: GramChain(model, 30, rates).run(1, 0),
        "times": lambda: GramChain(model, 30, rates).run(1, 9, times=[3, 2]),
        "stop_spikes": lambda: GramChain(model, 30, rates).run(1, 9, stop_spikes=("q",)),
    }  # fmt: skip
    for argument, case in cases.items():
        with pytest.raises(InputError, match=r"got .*allowed") as error:
            case()
        assert error.value.argument == argument
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch", [1, 4])
def test_gram_chain_vs_network_sgd_on_the_same_data(batch):
    """The compiled engine in R^d and the chain on the inner products of its inputs end in the same R, Q, a, b, a_0."""
    model, rates, samples = network("mcm_corr", "relu", "squared", 6), Rates(0.5, 0.1, 0.2, 0.3), 240
    truth, chain, seed = NetworkSGD(model, 60, rates, batch), GramChain(model, 60, rates, batch), replica_seed(SEED, 0)
    begin, (x, y) = truth.begin(seed), truth.inputs(seed, samples)
    xi = x @ begin.U.T
    across = x - xi @ begin.U
    W = begin.W.copy()
    state = NetworkState(W @ begin.U.T, W @ W.T, begin.a, begin.b, begin.output)
    steps = truth.run(1, samples, SEED, times=np.arange(0, samples + 1, 12)).trajectory
    parameters = (W[None], begin.a[None], begin.b[None], np.array([begin.output]))
    for i, t in enumerate(range(0, samples, 12)):
        part = slice(t, t + 12)
        rest = across[part]
        W = parameters[0][0]
        state = chain.follow(state, xi[part], rest @ (W - W @ begin.U.T @ begin.U).T, rest @ rest.T, y[part])
        parameters = numpy_network_sgd(model, 60, rates, batch, x[None, part], y[None, part], parameters)
        np.testing.assert_allclose(state.R, steps.R[0, i + 1], atol=1e-12)
        np.testing.assert_allclose(state.Q, steps.Q[0, i + 1], atol=1e-12)
    np.testing.assert_allclose(state.a, steps.a[0, -1], atol=1e-12)
    assert abs(state.output - steps.output[0, -1]) < 1e-12


def test_gram_chain_vs_network_sgd_in_law():
    """The stairs' own network at d = 64: overlaps, norms, second layer, and the best neuron after the first two stairs."""
    task = MixedCumulant(corr=0.75, beta_m=1.0, beta_u=5.0)
    model, rates = NetworkModel(task, TwoLayer(ACTIVATIONS["relu"], LOSSES["squared"], 8)), Rates(0.5, 0.05, 0.0, 0.15)
    times = np.array([0, 480, 4800])
    ours = GramChain(model, 64, rates).run(1500, 4800, SEED, times=times).trajectory
    truth = NetworkSGD(model, 64, rates).run(500, 4800, SEED, times=times).trajectory
    pairs = []
    for i in range(3):
        parts = [(t.R[:, i], t.Q[:, i], t.a[:, i], t.b[:, i], t.output[:, i]) for t in (ours, truth)]
        first, second = ([*R[:, 0].T, *Q[:, 0, :2].T, a[:, 0], output] for R, Q, a, b, output in parts)
        pairs += list(zip(first, second, strict=True))
        pairs += [(ours.of(s)[:, i], truth.of(s)[:, i]) for s in "muv"]
    assert_same_law(pairs)


@pytest.mark.parametrize("engine", [GramChain, NetworkSGD])
def test_bad_engines_and_starts_are_refused_alike(engine):
    """A row of length 0 has no direction, and once counted as escaped; a dimension is a whole number."""
    model = network("mcm_corr", "relu", "squared", 3)
    zero = NetworkState(np.zeros((3, 2)), np.zeros((3, 3)), np.ones(3), np.zeros(3))
    with pytest.raises(InputError, match="start: got a row that is 0"):
        engine(model, 30, Rates(0.5), start=zero)
    with pytest.raises(InputError, match=r"dim: got 30\.5"):
        engine(model, 30.5, Rates(0.5))
    with pytest.raises(InputError, match="seed: got -1"):
        engine(model, 30, Rates(0.5)).run(1, 24, seed=-1)
    with pytest.raises(InputError, match="weight_decay: got 60"):
        engine(network("mcm_corr", "relu", "squared", 3, weight_decay=60.0), 30, Rates(0.5))
