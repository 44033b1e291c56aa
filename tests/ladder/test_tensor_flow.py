"""Gradient flow on a fixed sample: its tensor against N^p entries, its integrator against SciPy, its fits against known laws.

Would be falsified by: a symmetric tensor with wrong variances or shared entries, a gradient that misses a position, an
integrator that converges to another flow or slower than its order, flows that depend on their neighbours, a P(n) or a slope
that the fit cannot find in data made to have it.
"""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.linalg import polar

from sims import fixed_sample_flow
from sims.fixed_sample_flow import (
    FixedSampleFlow,
    SymmetricNoise,
    Velocity,
    arrangements,
    ascend,
    chebyshev_weights,
    length,
    multisets,
    position,
    recovered,
    retracted,
    stride,
)
from sims.tensor_flow_study import FlowStudy, fit_growth, fit_half, run_study
from tests.conftest import FALSE_ALARM, SEED
from tests.ladder.test_tensor_sgd import alarm_of, contracted, covariance_scores, noise_covariance
from theory.errors import InputError
from theory.tensor_pca import SpikedTensor, TensorField

TENSOR = SpikedTensor(3, (1.0, 0.5))


def frames(rng, rank, dim, n=1):
    """Random orthonormal frames (N, n, r)."""
    return np.stack([np.linalg.qr(rng.standard_normal((dim, rank)))[0] for _ in range(n)], axis=1)


@pytest.mark.parametrize(("dim", "size"), [(5, 2), (4, 3), (3, 4), (6, 1)])
def test_multisets_are_counted_one_by_one(dim, size):
    sets = multisets(dim, size)
    assert sorted(position(sets)) == list(range(sets.shape[1]))
    assert np.all(np.diff(sets, axis=0) >= 0)
    different = [len(set(permutations(column))) for column in sets.T.tolist()]
    np.testing.assert_array_equal(arrangements(sets), different)
    assert arrangements(sets).sum() == dim**size


@pytest.mark.parametrize(("order", "dim"), [(3, 5), (4, 4), (5, 3)])
def test_gradient_vs_the_whole_tensor(order, dim, rng):
    """The same symmetric tensor, written out and contracted position by position."""
    noise = SymmetricNoise.draw(order, dim, rng)
    whole = np.empty((dim,) * order)
    for i in range(dim):
        for value, weight, J in zip(noise.matrix[i], arrangements(noise.sets), noise.sets.T.tolist(), strict=True):
            for P in set(permutations(J)):
                whole[(i, *P)] = value / (order * weight)
    np.testing.assert_allclose(whole, np.moveaxis(whole, 0, -1), atol=1e-14)
    np.testing.assert_allclose(whole, np.swapaxes(whole, 0, 1), atol=1e-14)
    X = rng.standard_normal((dim, 3))
    expected = np.stack([sum(contracted(whole, x, k) for k in range(order)) for x in X.T], axis=1)
    np.testing.assert_allclose(noise.gradient(X), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [3, 4])
def test_symmetric_tensor_vs_the_law_of_the_gradient(order, rng):
    """Covariance of the gradients at two unit vectors that are not orthogonal, against the formula of N^p normals."""
    tensor, dim, x = SpikedTensor(order, (1.0, 1.0)), 4, frames(rng, 2, 4)[:, 0]
    X = np.ascontiguousarray(np.stack([x[:, 0], 0.6 * x[:, 0] + 0.8 * x[:, 1]]))
    found = np.array([SymmetricNoise.draw(order, dim, rng).gradient(X.T).T.ravel() for _ in range(2000)])
    scores = covariance_scores(found, noise_covariance(tensor, X))
    assert np.abs(scores).max() < alarm_of(scores.size)
    assert np.abs(covariance_scores(found * 1.15, noise_covariance(tensor, X))).max() > alarm_of(scores.size)


def test_noise_free_flow_vs_population_flow(rng):
    """M along the flow of X in R^N without noise is the population flow that SymPy derives."""
    tensor, dim, until = SpikedTensor(3, (1.5, 1.0)), 12, 0.2
    V, X = frames(rng, 2, dim)[:, 0], frames(rng, 2, dim)
    velocity, silent, steps = Velocity(tensor, V, None), np.zeros(1), 300
    start = velocity.overlaps(X)[0]
    speed = velocity(X, silent)
    for _ in range(steps):
        X, speed, _ = stride(velocity, X, speed, silent, np.array([until / steps]))
    field = TensorField(tensor, dim, 1e-300)
    expected = solve_ivp(lambda _, m: field(m)[0], (0, until), start.ravel(), rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(velocity.overlaps(X)[0].ravel(), expected, atol=1e-5)
    assert np.abs(expected - start.ravel()).max() > 0.02


def test_the_integrator_has_order_two_vs_scipy(rng):
    """Error at a fixed time against DOP853 in R^{N r}, on a sample."""
    dim, until, loudness = 10, 0.4, np.array([0.5])
    velocity = Velocity(TENSOR, frames(rng, 2, dim)[:, 0], SymmetricNoise.draw(3, dim, rng))
    X0 = frames(rng, 2, dim)
    flat = lambda _, x: velocity(x.reshape(X0.shape), loudness).ravel()  # noqa: E731
    exact = solve_ivp(flat, (0, until), X0.ravel(), method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1].reshape(X0.shape)
    errors, numbers = [], (8, 16, 32, 64)
    for steps in numbers:
        X, speed = X0, velocity(X0, loudness)
        for _ in range(steps):
            X, speed, _ = stride(velocity, X, speed, loudness, np.array([until / steps]))
        np.testing.assert_allclose(X[:, 0].T @ X[:, 0], np.eye(2), atol=1e-13)
        errors.append(length(X - exact)[0])
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert 1.8 < slope < 2.3


@pytest.mark.parametrize("stages", [3, 8])
def test_weights_of_a_step_vs_the_exponential(stages):
    """On ẏ = -z y: second order at z = 0, and |y| < 1 up to z = 0.65 (s² - 1)."""

    def step(z):
        (_, _, push, _), *later = chebyshev_weights(stages)
        before, now = 1.0, 1.0 - push * z
        for a, b, pull, back in later:
            before, now = now, 1 - a - b + a * now + b * before - z * (pull * now + back)
        return now

    errors = [abs(step(z) - np.exp(-z)) for z in (0.1, 0.05)]
    assert 2.8 < np.log2(errors[0] / errors[1]) < 3.2
    assert max(abs(step(z)) for z in np.linspace(0.01, 0.65 * (stages**2 - 1), 500)) < 1
    assert abs(step(0.8 * stages**2)) > 1


def test_a_step_out_of_bounds_is_refused(rng):
    velocity = Velocity(TENSOR, frames(rng, 2, 8)[:, 0], None)
    X = np.repeat(frames(rng, 2, 8), 3, axis=1)
    speed = velocity(X, np.zeros(3))
    there, slope, error = stride(velocity, X, speed, np.zeros(3), np.array([1e-3, 1e200, 1e-3]))
    np.testing.assert_array_equal(np.isinf(error), [False, True, False])
    assert np.all(np.isfinite(there))
    assert np.all(np.isfinite(slope))
    np.testing.assert_allclose(there[:, 0], there[:, 2], atol=1e-14)


def test_flows_end_at_rest_or_with_all_spikes_and_do_not_see_each_other(rng):
    dim, counts = 12, np.array([0.5, 6.0, 1e6])
    velocity = Velocity(TENSOR, frames(rng, 2, dim)[:, 0], SymmetricNoise.draw(3, dim, rng))
    ends = []
    for X in frames(rng, 2, dim, 3).swapaxes(0, 1):
        together = ascend(velocity, X, 1 / np.sqrt(counts), 0.7)
        for k, n in enumerate(counts):
            alone = ascend(velocity, X, np.array([n**-0.5]), 0.7)
            found = alone.overlaps[0], together.overlaps[k]
            assert recovered(found[0], 0.7) == recovered(found[1], 0.7)
            if recovered(found[0], 0.7) < 2:  # at rest, not stopped on the way
                np.testing.assert_allclose(*found, atol=2e-2)
        ends.append(together)
        assert not together.unfinished.any()
        assert np.all(np.linalg.svd(together.overlaps, compute_uv=False) <= 1 + 1e-12)
    number = recovered(np.stack([end.overlaps for end in ends]), 0.7)
    assert 0 < (number == 2).mean() < 1


def test_a_flow_that_is_stuck_is_at_a_critical_point(monkeypatch, rng):
    """Where the flow gave no spike, the tangent gradient has vanished: 1e-3 of the first; and a flow cut short says so."""
    dim, loudness = 14, np.array([4.0])
    velocity = Velocity(TENSOR, frames(rng, 2, dim)[:, 0], SymmetricNoise.draw(3, dim, rng))
    seen = []
    real = fixed_sample_flow.stride

    def watched(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(fixed_sample_flow, "stride", watched)
    X = frames(rng, 2, dim)
    end = ascend(velocity, X[:, 0], loudness, 0.999)
    assert not end.unfinished[0]
    assert length(seen[-1][1])[0] < 1e-3 * length(velocity(X, loudness))[0]
    monkeypatch.setattr(fixed_sample_flow, "MOST_STEPS", 3)
    short = ascend(velocity, X[:, 0], loudness, 0.999)
    assert (short.unfinished[0], short.steps[0]) == (True, 3)


def test_retraction_vs_scipy(rng):
    A = rng.standard_normal((7, 4, 3))
    np.testing.assert_allclose(retracted(A), np.stack([polar(A[:, k])[0] for k in range(4)], axis=1), atol=1e-13)


def test_replicas_are_theirs_alone():
    flow = FixedSampleFlow(TENSOR, 10, (1.0, 30.0))
    full = flow.run(5, SEED, threads=2)
    part = flow.run([4, 1], SEED, threads=1)
    assert part.replicas == (1, 4)
    np.testing.assert_array_equal(part.overlaps, full.overlaps[[1, 4]])
    np.testing.assert_array_equal(part.starts, full.starts[[1, 4]])
    assert full.overlaps.shape == (5, 2, 2, 2)


def test_starts_are_those_that_the_flow_without_noise_can_use():
    """One spike: uniform given m > 0 for odd p, where half of the draws are refused; uniform for even p, none refused."""
    for order, dim, runs in ((3, 20, 60), (4, 3, 200)):
        flow = FixedSampleFlow(SpikedTensor(order, (1.0,)), dim, (1.0,))
        found = [flow.start(np.random.default_rng([SEED, k])) for k in range(runs)]
        m = np.array([(V.T @ X)[0, 0] for V, X, _ in found])
        tries = np.array([t for *_, t in found])
        assert stats.kstest(m**2, stats.beta(0.5, (dim - 1) / 2).cdf).pvalue > FALSE_ALARM
        if order == 3:
            assert np.all(m > 0)
            assert stats.binomtest(runs, int(tries.sum()), 0.5).pvalue > FALSE_ALARM
        else:
            np.testing.assert_array_equal(tries, 1)
            assert stats.binomtest(int((m > 0).sum()), runs, 0.5).pvalue > FALSE_ALARM


def test_spikes_out_of_reach_are_one_line(monkeypatch):
    monkeypatch.setattr(fixed_sample_flow, "MOST_STARTS", 0)
    with pytest.raises(InputError, match="snr: got"):
        FixedSampleFlow(TENSOR, 10, (1.0,)).start(np.random.default_rng(SEED))


def test_half_and_growth_are_found_in_runs_made_to_have_them(rng):
    """n_half = 0.3 N^1.5, s = 2, the replicas' own thresholds logistic: within the intervals at the level of the test."""
    dims, halves = np.array([20.0, 40.0, 80.0, 160.0]), []
    for dim in dims:
        counts = 0.5 * 2.0 ** np.arange(16)
        own = 0.3 * dim**1.5 * np.exp(rng.logistic(size=300) / 2)
        halves.append(fit_half(counts, counts >= own[:, None], SEED))
        error = halves[-1].resampled.std()
        assert abs(np.log(halves[-1].n / (0.3 * dim**1.5))) < 4 * error + 0.03
        assert 1.4 < halves[-1].slope < 2.8
        assert error == pytest.approx(np.pi / np.sqrt(3) / 2 / np.sqrt(300), rel=0.5)
    growth = fit_growth(dims, halves)
    width = (growth.interval[1] - growth.interval[0]) / 3.92
    assert abs(growth.exponent - 1.5) < 4 * width
    assert width < 0.06
    np.testing.assert_allclose(growth.at(dims), [h.n for h in halves], rtol=0.15)
    low, high = growth.band(dims)
    np.testing.assert_allclose([low, high], [growth.at(dims)] * 2, rtol=0.2)
    assert np.all((low < 0.3 * dims**1.5 * 1.05) & (0.3 * dims**1.5 < high * 1.05))


def test_half_beyond_the_ladder_is_not_a_number():
    counts, none, everything = np.array([1.0, 2.0, 4.0]), np.zeros((20, 3), bool), np.ones((20, 3), bool)
    assert fit_half(counts, none).n == np.inf
    assert fit_half(counts, everything).n == 0
    assert not fit_half(counts, none).seen
    assert fit_growth(np.array([10.0, 20.0]), [fit_half(counts, none)] * 2) is None


def test_more_tensors_recover_more():
    """A small study: shares rise from (nearly) none to (nearly) all, first before all."""
    study = FlowStudy(TENSOR, (19, 23), 8, seed=SEED)
    seen = []
    result = run_study(study, threads=1, each=seen.append)
    assert tuple(seen) == result.points
    for point in result.points:
        first, everything = (point.shares(goal)[0] for goal in ("first", "all"))
        assert first[0] < 0.5 < first[-1]
        assert everything[0] < 0.2 < 0.6 < everything[-1]
        assert np.all(everything <= first)
        assert 0.1 < point.accepted < 0.8
        assert point.unfinished == 0
    halves = [result.halves[goal][1].n for goal in ("first", "all")]
    assert halves[0] < halves[1]


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    study = FlowStudy(TENSOR, (19, 24), 4, seed=SEED)
    real = FixedSampleFlow.run
    calls = []

    def second_is_interrupted(flow, *arguments):
        calls.append(flow.dim)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(flow, *arguments)

    monkeypatch.setattr(FixedSampleFlow, "run", second_is_interrupted)
    result = run_study(study, threads=1)
    assert result.interrupted
    assert [p.dim for p in result.points] == [19]
    calls[:] = [0]
    with pytest.raises(KeyboardInterrupt):
        run_study(study, threads=1)
    monkeypatch.setattr(FixedSampleFlow, "run", lambda *a: replace(real(*a), interrupted=True))
    assert [p.dim for p in run_study(study, threads=1).points] == [19]


@pytest.mark.parametrize(
    ("tensor", "arguments", "text"),
    [
        (SpikedTensor(2, (1.0,)), (20, (1.0,)), "p: got 2"),
        (TENSOR, (3, (1.0,)), "dims: got 3; allowed: 4 … 511"),
        (TENSOR, (2000, (1.0,)), "dims: got 2000"),
        (TENSOR, (20, ()), "counts"),
        (TENSOR, (20, (0.0,)), "counts"),
        (TENSOR, (20, (1.0,), 1.0), "threshold"),
    ],
)
def test_bad_input(tensor, arguments, text):
    with pytest.raises(InputError, match=text):
        FixedSampleFlow(tensor, *arguments)
