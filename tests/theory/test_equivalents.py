"""Gaussian equivalents and the test errors on them: moments from two formulas and from samples, errors from R^d and by hand.

A red test here would say that a stair is not what it claims to be: that the equivalent keeps a wrong moment of the task, or
that the error read off the overlaps is not the error of the network. Statistical comparisons alarm falsely once in 10^4 each.
"""

from dataclasses import replace
from math import erf, log, sqrt

import numpy as np
import pytest

from tests.conftest import SEED, TASKS, Z_ALARM, draw
from theory import activations
from theory.activations import hermite_mixture, relu
from theory.equivalents import GaussianEquivalent, class_moments
from theory.errors import InputError
from theory.learners import CorrelationLoss, LogisticLoss, SquaredLoss
from theory.network_error import COVARIANCE, EQUIVALENTS, MEAN, NULL, TASK, ErrorMeter, NetworkErrors
from theory.network_results import NetworkTrajectory
from theory.networks import NetworkModel, NetworkState, TwoLayer, symmetric_root
from theory.tasks import MixedCumulant, spiked_cumulant

LABELLED = {name: task for name, task in TASKS.items() if isinstance(task, MixedCumulant)}
STAIRS_TASK = MixedCumulant(corr=0.5, beta_m=1.0, beta_u=5.0)
LOSSES = {"squared": SquaredLoss(), "correlation": CorrelationLoss(), "logistic": LogisticLoss()}


def network(task=STAIRS_TASK, activation=None, loss=None, hidden=6, **settings):
    return NetworkModel(task, TwoLayer(activation or relu(), loss or SquaredLoss(), hidden, **settings))


def some_state(rng, model, dim):
    """W (K, d) with strong overlaps, spikes along the first axes, and the state of it."""
    hidden, r = model.learner.hidden, len(model.spikes)
    W = rng.standard_normal((hidden, dim)) / np.sqrt(dim)
    W[:, :r] += 0.5 * rng.standard_normal((hidden, r))
    a, b = rng.standard_normal(hidden), 0.3 * rng.standard_normal(hidden)
    return W, NetworkState(W[:, :r].copy(), W @ W.T, a, b, 0.2)


@pytest.mark.parametrize("name", LABELLED)
def test_class_moments_by_mixture_vs_by_hermite_moments(name):
    """E[f | y = s] = (E[f] + s E[y f]) / 2 P(y = s), with E[y^n Π He] from the series' own formulas."""
    task = LABELLED[name]
    par, r = task.numbers(4), len(task.spikes)
    found = class_moments(task)

    def conditional(index, sign, p):
        return (task.moment(index, 0, par) + sign * task.moment(index, 1, par)) / (2 * p)

    units = np.eye(r, dtype=int)
    for c, sign in enumerate((-1, 1)):
        p = found.probability[c]
        mean = np.array([conditional(tuple(units[a]), sign, p) for a in range(r)])
        second = np.array([[conditional(tuple(units[a] + units[b]), sign, p) for a in range(r)] for b in range(r)])
        np.testing.assert_allclose(found.mean[c], mean, atol=1e-9)
        np.testing.assert_allclose(found.covariance[c], second + np.eye(r) - np.outer(mean, mean), atol=1e-9)
    np.testing.assert_allclose(found.probability, 0.5, atol=1e-9)


@pytest.mark.parametrize("name", LABELLED)
def test_class_moments_vs_samples(name, rng):
    task = LABELLED[name]
    y, xi = draw(task, 200_000, rng)
    found = class_moments(task)
    for c, sign in enumerate((-1, 1)):
        mine = xi[y == sign]
        products = np.einsum("na,nb->nab", mine - found.mean[c], mine - found.mean[c])
        for values, expected in ((mine, found.mean[c]), (products, found.covariance[c])):
            z = (values.mean(axis=0) - expected) / (values.std(axis=0) / np.sqrt(len(mine)))
            assert np.abs(z).max() < Z_ALARM


def test_what_each_order_keeps():
    orders = [GaussianEquivalent(STAIRS_TASK, k).moments for k in (0, 1, 2)]
    m, s_v = np.array([1.0, 0.0, 0.0]), sqrt(10 / 11)
    block = np.array([[1.0, 0, 0], [0, 6.0, sqrt(5) * s_v * 0.5], [0, sqrt(5) * s_v * 0.5, 1.0]])
    for law, mean, covariance in zip(orders, (0 * m, m, m), (np.eye(3), np.eye(3), block), strict=True):
        np.testing.assert_allclose(law.mean, [0 * m, mean], atol=1e-9)
        np.testing.assert_allclose(law.covariance, [np.eye(3), covariance], atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_projections_have_the_moments(order, rng):
    law, n = GaussianEquivalent(STAIRS_TASK, order), 100_000
    y = rng.choice([-1.0, 1.0], n)
    xi = law.projections(y, rng.standard_normal((n, 3)))
    for c, sign in enumerate((-1, 1)):
        mine = xi[y == sign]
        # Whitened by the moments they should have: white noise.
        white = (mine - law.moments.mean[c]) @ np.linalg.inv(symmetric_root(law.moments.covariance[c]))
        products = np.einsum("na,nb->nab", white, white)
        z = (products.mean(axis=0) - np.eye(3)) / (products.std(axis=0) / np.sqrt(len(mine)))
        assert np.abs(z).max() < Z_ALARM
        assert np.abs(white.mean(axis=0) * np.sqrt(len(mine))).max() < Z_ALARM


def test_symmetric_root_of_a_semidefinite_matrix(rng):
    half = rng.standard_normal((5, 3))
    root = symmetric_root(half @ half.T)
    np.testing.assert_allclose(root @ root, half @ half.T, atol=1e-12)
    np.testing.assert_allclose(root, root.T, atol=1e-14)


def test_a_task_without_classes_has_no_equivalents(rng):
    with pytest.raises(InputError, match="labels ±1"):
        GaussianEquivalent(TASKS["teacher"], 1)
    with pytest.raises(InputError, match="0, 1 or 2"):
        GaussianEquivalent(STAIRS_TASK, 3)
    model = network(TASKS["teacher"])
    found = ErrorMeter(model, 64).measure(some_state(rng, model, 20)[1])
    assert found.laws == (TASK,)
    assert np.isfinite(found.loss())
    assert np.isnan(found.error())
    with pytest.raises(InputError, match="law"):
        found.error(MEAN)


def in_high_dimension(model, W, state, law, n, rng):
    """Labels y and outputs f of the network W on n inputs x in R^d under one law: no overlaps, no formula of the meter."""
    learner, r = model.learner, len(model.spikes)
    if law == TASK:
        y, xi = draw(model.task, n, rng)
    else:
        y, moments = rng.choice([-1.0, 1.0], n), GaussianEquivalent(model.task, EQUIVALENTS[law]).moments
        roots = np.linalg.cholesky(moments.covariance)[(y > 0).astype(int)]
        xi = moments.mean[(y > 0).astype(int)] + np.einsum("nab,nb->na", roots, rng.standard_normal((n, r)))
    x = rng.standard_normal((n, W.shape[1]))
    x[:, :r] = xi
    sigma = learner.activation.function.evaluate(x @ W.T + state.b)
    return y, state.output + learner.hidden**-learner.scaling * sigma @ state.a


@pytest.mark.parametrize("settings", [
    {}, {"activation": activations.tanh(), "loss": LogisticLoss()},
    {"activation": activations.erf(), "loss": CorrelationLoss(), "scaling": 1.0, "task": TASKS["mcm_p3"]},
], ids=["relu", "tanh", "erf"])  # fmt: skip
def test_errors_from_overlaps_vs_inputs_in_high_dimension(settings, rng):
    model, n = network(**settings), 40_000
    W, state = some_state(rng, model, 30)
    found = ErrorMeter(model, 1024, 32, SEED).measure(state)
    plain = {"squared": lambda y, f: (y - f) ** 2 / 2, "correlation": lambda y, f: 1 - y * f,
             "logistic": lambda y, f: np.log(1 + np.exp(-y * f))}[model.learner.loss.name]  # fmt: skip
    for law in found.laws:
        y, f = in_high_dimension(model, W, state, law, n, rng)
        for values, mean, parts in (
            (plain(y, f), found.loss(law), found.losses[found.laws.index(law)]),
            (y * f < 0, found.error(law), found.errors[found.laws.index(law)]),
        ):
            error = np.hypot(values.std() / np.sqrt(n), parts.std(ddof=1) / np.sqrt(len(parts)))
            assert abs(values.mean() - mean) < Z_ALARM * error


@pytest.mark.parametrize(("name", "loss"), [("squared", 0.5), ("correlation", 1.0), ("logistic", log(2))])
def test_a_network_of_output_zero_knows_nothing(name, loss, rng):
    model = network(loss=LOSSES[name])
    state = replace(some_state(rng, model, 20)[1], a=np.zeros(6), output=0.0)
    found = ErrorMeter(model, 64).measure(state)
    for law in found.laws:
        assert found.error(law) == 0.5
        assert found.loss(law) == pytest.approx(loss, abs=1e-15)


def threshold_network(spike, activation, output):
    """One neuron along a spike, a = 1: f = output + σ(ξ_spike)."""
    model = network(replace(STAIRS_TASK, corr=0.0), activation, hidden=1)
    R = np.zeros((1, 3))
    R[0, "muv".index(spike)] = 1.0
    return model, NetworkState(R, R @ R.T, np.ones(1), np.zeros(1), output)


def tail(x):
    return (1 - erf(x / sqrt(2))) / 2


def test_linear_classifier_vs_closed_form():
    """f = ξ_m - √β_m/2 errs with probability P(z > √β_m/2) on every law that has the mean, and on half of the null."""
    model, state = threshold_network("m", hermite_mixture({1: 1.0}), -0.5)
    z = []
    for seed in range(20):
        found = ErrorMeter(model, 512, 8, SEED + seed).measure(state)
        z += [(found.error(law) - tail(0.5)) / found.noise(law) for law in (TASK, COVARIANCE, MEAN)]
        assert found.error(NULL) == 0.5
    # The standard error is honest: z follows Student's t with 7 degrees of freedom, variance 1.4 (60 correlated values).
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 2.0


def test_quadratic_classifier_vs_closed_form():
    """f = ξ_u² - c errs on |ξ_u| > √c in one class and on |ξ_u| < √c in the other; the mean alone cannot tell them apart."""
    c = 6 * log(6) / 5
    model, state = threshold_network("u", hermite_mixture({0: 1.0, 2: 2.0}), -c)
    found = ErrorMeter(model, 4096, 16, SEED).measure(state)
    exact = (2 * tail(sqrt(c)) + 1 - 2 * tail(sqrt(c / 6))) / 2
    for law in (TASK, COVARIANCE):
        assert abs(found.error(law) - exact) < Z_ALARM * max(found.noise(law), 1e-5) * 1.4  # Student's t
    assert abs(found.error(MEAN) - 0.5) < Z_ALARM * max(found.noise(MEAN), 1e-5) * 1.4
    assert abs(found.gap(MEAN, TASK) - (0.5 - exact)) < Z_ALARM * max(found.noise(MEAN, TASK), 1e-5) * 1.4
    assert found.accuracy() == 1 - found.error()


def test_sobol_points_converge_faster_than_random_ones(rng):
    """Standard error of the loss against n: random points fall as n^-½, scrambled Sobol points of a smooth network faster."""
    model = network(activation=activations.tanh(), hidden=3)
    state = some_state(rng, model, 20)[1]
    sizes = np.array([64, 512, 4096])
    errors = []
    for points in sizes:
        losses = ErrorMeter(model, int(points), 16, SEED).measure(state).losses[0]
        errors.append(losses.std(ddof=1))
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] < -0.65


def test_outputs_vs_numpy(rng):
    model = network(hidden=9)
    state = some_state(rng, model, 20)[1]
    meter = ErrorMeter(model, 64, 2)
    y, xi, g = meter._sample
    fields = xi @ state.R.T + g @ symmetric_root(state.rest) + state.b
    f = state.output + np.maximum(fields, 0) @ state.a / 3
    losses = ((y - f) ** 2 / 2).reshape(4, 2, 64).mean(axis=2)
    np.testing.assert_allclose(meter.measure(state).losses[:3], losses[:3], rtol=1e-12)


def test_trajectory_vs_single_states(rng):
    model = network()
    states = [some_state(rng, model, 20)[1] for _ in range(2)]
    R, Q, a, b = (np.stack([getattr(s, n) for s in states])[None] for n in ("R", "Q", "a", "b"))
    ended = [np.concatenate([x, np.full_like(x[:, :1], np.nan)], axis=1) for x in (R, Q, a, b)]
    run = NetworkTrajectory(model.spikes, np.arange(3.0), *ended, np.array([[0.2, 0.2, np.nan]]))
    meter = ErrorMeter(model, 128, 4)
    found = meter.measure_trajectory(run)
    for j, state in enumerate(states):
        np.testing.assert_array_equal(found.errors[0, j], meter.measure(state).errors)
        np.testing.assert_array_equal(found.losses[0, j], meter.measure(state).losses)
    assert np.isnan(found.errors[0, 2]).all()
    assert np.isinf(found.stairs(run.times, 2.0).of("cumulant")).all()


def curves(**errors):
    """Errors of two runs (2, times) by law, the same in two scramblings."""
    laws = (TASK, COVARIANCE, MEAN, NULL)
    values = np.stack([np.array(errors[law]) for law in laws], axis=-1)[..., None].repeat(2, axis=-1)
    return NetworkErrors(laws, values, values)


def test_stairs_are_the_first_of_two_gaps_in_a_row():
    half = [0.5] * 5
    found = curves(
        null=[half, half],
        mean=[[0.5, 0.44, 0.44, 0.40, 0.40], half],
        covariance=[[0.5, 0.44, 0.41, 0.35, 0.30], half],
        task=[[0.5, 0.40, 0.41, 0.35, 0.20], [0.5, 0.5, 0.5, np.nan, np.nan]],
    ).stairs(np.array([0.0, 10, 20, 30, 40]), 40.0)
    np.testing.assert_array_equal(found.of("mean"), [10, np.inf])
    np.testing.assert_array_equal(found.of("covariance"), [20, np.inf])
    np.testing.assert_array_equal(found.of("cumulant"), [np.inf, np.inf])  # a single gap at 10, one at the very end
    assert found.n_censored("cumulant") == 2


def test_without_a_mean_spike_the_mean_stair_is_never_climbed(rng):
    """A wild network: its error on the mean equivalent, here the null with sampled labels, stays at ½ within the margin."""
    model = network(spiked_cumulant(STAIRS_TASK.latent))
    for _ in range(20):
        found = ErrorMeter(model).measure(some_state(rng, model, 20)[1])
        assert abs(found.gap(NULL, MEAN)) < 0.03


@pytest.mark.parametrize("bad", [{"points": 1000}, {"points": 1}, {"scrambles": 1}])
def test_bad_sizes(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        ErrorMeter(network(), **bad)
