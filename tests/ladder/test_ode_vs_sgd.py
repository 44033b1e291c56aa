"""Population flow against high-dimensional SGD: the mean trajectory, and the spread that must shrink as d grows.

Would be falsified by: a wrong drift, a wrong clock, a learning-rate convention that differs between the two.
"""

import numpy as np
import pytest

from sims.ensemble import run_ensemble
from sims.sgd import OnlineSGD
from solvers.prediction import predict
from tests.conftest import ACTIVATIONS, LOSSES, SEED, TASKS, Z_ALARM, model_of
from theory.latents import gauss
from theory.tasks import MixedCumulant, spiked_cumulant

START = 0.3


@pytest.mark.parametrize(
    ("task", "activation", "loss"),
    [("mcm_corr", "relu", "correlation"), ("mcm_corr", "tanh", "squared"), ("mcm_p3", "hermite", "correlation"),
     ("mcm_mean_p6", "erf", "correlation"), ("mcm_even", "softplus", "squared"), ("teacher", "relu_bias", "squared"),
     ("spiked_p4_positive", "hermite", "correlation")],
)  # fmt: skip
def test_mean_overlaps_from_a_macroscopic_start(task, activation, loss):
    """From overlaps of order one the fluctuations are O(d^{-1/2}): the mean over runs follows the ODE up to O(1/d)."""
    model = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    dim, lr, runs = 1000, 0.5, 24
    start = START * np.array([1.0, 0.8, 0.6])[: len(model.spikes)]
    order = 12 if len(model.spikes) == 3 else 20
    flow = predict(model, dim, lr, 0.9, order, start).flow
    ensemble = run_ensemble(OnlineSGD(model, dim, lr, start=start), runs, 12_000, SEED, 0.9)
    times, overlaps = ensemble.trajectory.times, ensemble.trajectory.overlaps
    late = times >= 1000
    gap = overlaps.mean(axis=0) - flow.overlaps_at(times)
    error = overlaps.std(axis=0, ddof=1) / np.sqrt(runs)
    # 24 runs: a t-quantile, not a normal one; 3 chunks of time are what is independent.
    assert np.all(np.abs(gap[late]) < 5.5 * error[late] + 10 / dim)
    assert np.abs(overlaps[:, -1].mean(axis=0) - start).max() > 0.02  # something happened


def test_spread_shrinks_as_the_square_root_of_d():
    """Slope of log(standard deviation over runs) against log d at fixed t/d: -1/2 (± 0.15, 4 standard errors)."""
    model, dims, start = model_of(MixedCumulant(corr=0.5)), (50, 200, 800), np.array([0.3, 0.3])
    spreads = []
    for dim in dims:
        ensemble = run_ensemble(OnlineSGD(model, dim, 0.5, start=start), 160, 10 * dim, SEED)
        spreads.append(ensemble.trajectory.overlaps[:, -1].std(axis=0, ddof=1))
    slopes = np.polyfit(np.log(dims), np.log(spreads), 1)[0]
    np.testing.assert_allclose(slopes, -0.5, atol=0.15)


def test_gap_to_the_ode_shrinks_with_d():
    """Mean squared distance of single runs from the ODE: slope -1 in d at fixed t/d."""
    model, dims, start = model_of(MixedCumulant(corr=0.5)), (50, 200, 800), np.array([0.3, 0.3])
    gaps = []
    for dim in dims:
        flow = predict(model, dim, 0.5, 0.9, 20, start).flow
        ensemble = run_ensemble(OnlineSGD(model, dim, 0.5, start=start), 80, 10 * dim, SEED)
        expected = flow.overlaps_at(ensemble.trajectory.times[-1:])
        gaps.append(np.mean((ensemble.trajectory.overlaps[:, -1] - expected) ** 2))
    assert np.polyfit(np.log(dims), np.log(gaps), 1)[0] == pytest.approx(-1, abs=0.3)


def test_escape_times_from_above_the_noise():
    """Starting at 3 d^{-1/2}, medians agree with the ODE within their bootstrap interval plus 5 %."""
    model, dim, start = model_of(MixedCumulant(corr=0.5)), 400, np.array([0.15, 0.15])
    prediction = predict(model, dim, 0.1, 0.3, 20, start)
    last = max(d.escape_samples for d in prediction.directions)
    ensemble = run_ensemble(OnlineSGD(model, dim, 0.1, start=start), 60, int(2 * last), SEED)
    for d in prediction.directions:
        low, high = ensemble.escapes.median_interval(d.spike, level=0.999)
        assert low * 0.95 < d.escape_samples < high * 1.05


def test_plateaus_are_the_fixed_points():
    """The stationary mean of SGD is the ODE's fixed point, learning rate included (δV/2 moves it by a tenth here)."""
    model = model_of(MixedCumulant(corr=0.5))
    for lr in (0.1, 0.4):
        prediction = predict(model, 1000, lr, start=np.array([0.6, 0.3]))
        ensemble = run_ensemble(OnlineSGD(model, 1000, lr, start=prediction.flow.end), 16, int(30_000 / lr / 2), SEED)
        late = ensemble.trajectory.times > ensemble.escapes.budget / 2
        mean = ensemble.trajectory.overlaps[:, late].mean(axis=1)
        error = mean.std(axis=0, ddof=1) / np.sqrt(len(mean))
        assert np.all(np.abs(mean.mean(axis=0) - prediction.flow.end) < 5.5 * error + 0.004)


def test_batches_leave_the_clock_in_samples():
    """The sum convention: B = 8 follows the same flow in samples as B = 1."""
    model, start = model_of(MixedCumulant(corr=0.5)), np.array([0.3, 0.3])
    ends = []
    for batch in (1, 8):
        ensemble = run_ensemble(OnlineSGD(model, 500, 0.3, batch, start), 40, 8000, SEED)
        ends.append(ensemble.trajectory.overlaps[:, -1])
    error = np.sqrt(sum(e.var(axis=0, ddof=1) / len(e) for e in ends))
    assert np.all(np.abs(ends[0].mean(axis=0) - ends[1].mean(axis=0)) < Z_ALARM * error + 0.005)


def test_blind_and_wrong_sign_controls_stay_at_the_noise():
    """§10.5: what the theory calls never does not cross a threshold above the noise, η > 5/√d."""
    for model in (model_of(spiked_cumulant(gauss(4)), ACTIVATIONS["erf"]), model_of(spiked_cumulant(gauss(6)))):
        ensemble = run_ensemble(OnlineSGD(model, 300, 1.0, start=np.array([300**-0.5])), 16, 60_000, SEED, 0.3)
        assert ensemble.escapes.n_censored("v") == 16
