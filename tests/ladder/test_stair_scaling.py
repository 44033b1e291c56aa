"""Stair times against d: the same whatever the length of the attempts, and nearly linear in d for correlated latents.

Would be falsified by: a longer attempt that is another run, records that move with the budget, a stair taken at a record that
the next one does not confirm, the correlated cumulant stair waiting for d^(p-1) or d² samples.

False alarms: the first test is exact. In the second the exponent's bound, 1.5, lies about five standard errors above 1.09
(pairs of medians of five runs).
"""

import numpy as np
import pytest

import sims.stair_scaling as stair_scaling
from sims.escape_runs import run_study
from sims.stair_scaling import StairArm
from tests.conftest import SEED, TASKS
from theory.activations import relu
from theory.errors import InputError
from theory.learners import SquaredLoss
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.tasks import MixedCumulant

STAIRS = NetworkModel(MixedCumulant(corr=0.79, beta_m=1.0, beta_u=5.0), TwoLayer(relu(), SquaredLoss(), 16))
RATES = Rates(0.5, 0.05, 0.0, 0.15)


def test_stairs_do_not_depend_on_the_attempts(monkeypatch):
    arm = StairArm(STAIRS, "cumulant", RATES, (32, 48), 1.2e4, runs=2, seed=SEED)
    job, _ = arm.jobs[0]
    several = arm.measure(job)
    monkeypatch.setattr(stair_scaling, "FIRST", 40)  # samples per d: many attempts
    many = arm.measure(job)
    np.testing.assert_array_equal(several.times, many.times)


def test_correlated_cumulant_stair_is_nearly_linear_in_d():
    result = run_study(StairArm(STAIRS, "cumulant", RATES, (48, 384), 1e7, runs=5, seed=SEED))
    assert all(np.isfinite(p.times).all() for p in result.points)
    assert 0.7 < result.fit.exponent < 1.5


def test_stairs_need_two_classes():
    with pytest.raises(InputError, match="target: got cumulant"):
        StairArm(NetworkModel(TASKS["teacher"], STAIRS.learner), "cumulant", RATES, (32, 64), 1e4)
