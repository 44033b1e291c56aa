"""Ridge on random features against least squares, its inputs against the task's moments, and against a trained network.

Would be falsified by: a ridge path that is not the minimiser, sums that depend on how the samples are cut into blocks,
inputs in R^d with another law than (y, ξ) and white noise around it, features that see the cumulant where a network has
only just learnt it, and features that see nothing because the code is broken. False alarms: comparisons of moments and
accuracies at FALSE_ALARM each; at chance: a t-interval of level 99.99 %, so 10^-4, and a network that fails, seen in
none of 20 seeds.
"""

from itertools import product
from math import erf, sqrt

import numpy as np
import pytest

from sims.feature_ridge import Moments, RandomFeatures, _Data, choose, ridge_path
from sims.features_study import CUMULANT, TASKS, FeaturesStudy, _train, mean_interval
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM
from theory.activations import hermite_mixture, relu
from theory.errors import InputError
from theory.latents import radau
from theory.networks import NetworkModel
from theory.tasks import MixedCumulant, TeacherStudent

IDENTITY = hermite_mixture({1: 1.0})


def moments_of(features, y, blocks=1):
    moments = Moments(features.shape[1])
    for piece, labels in zip(np.array_split(features, blocks), np.array_split(y, blocks), strict=True):
        moments.add(piece, labels)
    return moments


@pytest.mark.parametrize(("n", "width"), [(300, 20), (15, 40)])
def test_ridge_path_vs_lstsq(n, width, rng):
    """Least squares on rows √(nλ) I below the centred features; as λ → 0 the solution of least norm."""
    features, y = rng.standard_normal((n, width)) + 0.4, np.sign(rng.standard_normal(n))
    centred, labels = features - features.mean(axis=0), y - y.mean()
    strengths = np.array([1e-3, 0.1, 10.0])
    path = ridge_path(moments_of(features, y, blocks=3), strengths)
    for a, strength in zip(path.T, strengths, strict=True):
        ridge = strength * np.mean(centred.var(axis=0))
        rows = np.vstack([centred, np.sqrt(n * ridge) * np.eye(width)])
        expected = np.linalg.lstsq(rows, np.append(labels, np.zeros(width)))[0]
        np.testing.assert_allclose(a, expected, rtol=1e-8, atol=1e-10)


def test_choice_vs_squared_errors_on_the_held_out_data(rng):
    features, y = rng.standard_normal((200, 30)), np.sign(rng.standard_normal(200))
    y[:100] = np.sign(features[:100, 0] + rng.standard_normal(100))
    path = ridge_path(moments_of(features[:100], y[:100]), np.logspace(-4, 4, 9))
    errors = np.var(y[100:, None] - features[100:] @ path, axis=0)
    assert choose(path, moments_of(features[100:], y[100:])) == np.argmin(errors)


@pytest.mark.parametrize(
    "task", [TASKS[CUMULANT], MixedCumulant(radau(3), corr=0.4, beta_m=0.5, beta_u=0.7, beta_v=3.0)]
)
def test_inputs_vs_moments_of_the_task(task, rng):
    """A first layer whose columns are the spikes and two directions orthogonal to them reads (ξ, noise) off the inputs."""
    n, r, dim = 200_000, len(task.spikes), 12
    frame = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
    data = _Data(RandomFeatures(task, IDENTITY, dim, r + 2), frame[:, :r].astype(float), frame[:, : r + 2], rng)
    fields, y = data.draw(n)
    values = [np.polynomial.hermite_e.hermeval(fields.T.astype(float), [0] * k + [1]) for k in range(5)]
    for index in product(range(5), repeat=r + 2):
        if not 0 < sum(index) <= 4:
            continue
        for power in (0, 1):
            terms = y**power * np.prod([values[k][a] for a, k in enumerate(index)], axis=0)
            exact = 0.0 if any(index[r:]) else float(task.moment(index[:r], power, task.numbers(4)))
            assert abs(terms.mean() - exact) < Z_ALARM * terms.std() / sqrt(n), (index, power)


def test_accuracy_on_the_mean_spike_vs_bayes():
    """Linear features, mean spike alone: the best classifier is linear and right with probability Φ(√β_m/2)."""
    task, tests, runs = MixedCumulant(beta_m=1.0, beta_u=0, beta_v=0), 100_000, 4
    scores = RandomFeatures(task, IDENTITY, 16, 32).run(runs, np.array([1000, 40_000]), SEED, tests)
    bayes = (1 + erf(0.5 / sqrt(2))) / 2
    error = Z_ALARM * sqrt(bayes * (1 - bayes) / (runs * tests))
    first, last = scores.accuracy.mean(axis=0)
    # Of n samples the direction has an angle of about √(d/n)/β_m, which costs the square of it.
    assert bayes - 16 / 40_000 * 4 - error < last < bayes + error
    assert first < last
    np.testing.assert_array_equal(scores.gain, 0)


def test_replicas_do_not_depend_on_threads_or_company():
    features, times = RandomFeatures(TASKS[CUMULANT], relu(), 20, 30), np.array([50, 5000])
    three = features.run(3, times, SEED, 4096, threads=3)
    alone = features.run([2], times, SEED, 4096, threads=1)
    np.testing.assert_array_equal(three.accuracy[2], alone.accuracy[0])
    assert len(np.unique(three.accuracy[:, 1])) == 3


def test_random_features_at_chance_where_network_succeeds():
    """d = 16, where the features have their best chance; as many samples teach the same code the covariance spike."""
    dim = 16
    study = FeaturesStudy((dim,), hidden=64, runs=8, samples_factor=400, seed=SEED)
    network = _train(study, NetworkModel(TASKS[CUMULANT], study.learner), dim, quiet=True)
    found = network.found(0.1)
    assert found is not None
    times = network.times[[found]]
    gain = RandomFeatures(TASKS[CUMULANT], relu(), dim, 8 * dim).run(24, times, SEED).gain[:, 0]
    assert mean_interval(gain, 1 - FALSE_ALARM)[1] < 0.02
    covariance = MixedCumulant(beta_m=0, beta_u=5.0, beta_v=0)
    assert RandomFeatures(covariance, relu(), dim, 8 * dim).run(4, times, SEED).accuracy.mean() > 0.65


def test_bad_input():
    task = TASKS[CUMULANT]
    for dim, width in ((1, 10), (20, 0), (20, 10**5)):
        with pytest.raises(InputError):
            RandomFeatures(task, relu(), dim, width)
    with pytest.raises(InputError, match="labels"):
        RandomFeatures(TeacherStudent(("v",), (((4,), 1.0),)), relu(), 20, 10)
    with pytest.raises(InputError, match="times"):
        RandomFeatures(task, relu(), 20, 10).run(2, np.array([100, 50]))
