"""Inputs that once crashed, hung, or got a false "never", and the invariants of a prediction on random models."""

import sys
from importlib import import_module

import numpy as np
import pytest

from solvers.build import build_model
from solvers.predict import make_parser
from solvers.prediction import predict
from tests.conftest import ACTIVATIONS, LOSSES, TASKS, model_of
from theory.errors import InputError
from theory.exponents import ThresholdLaw


def prediction(*words):
    options = make_parser().parse_args(list(words))
    return predict(build_model(options), int(float(options.dim[0])), None, options.threshold, options.order)


def check(result):
    """Recovered means a finite time, a law and a reason; never means infinity."""
    for d in result.directions:
        assert (d.status == "recovered") == np.isfinite(d.escape_samples), d
        assert d.status != "recovered" or isinstance(d.law, ThresholdLaw), d
        assert d.reason
        assert abs(d.fixed_point) <= 1 + 1e-6


@pytest.mark.parametrize("words", [
    ("--activation", "relu:1"), ("--activation", "relu:-1"), ("--beta-m", "1", "--p", "5", "--activation", "relu"),
    ("--task", "teacher-student", "--teacher", "h1(u)+h1(u)*h3(v)", "--activation", "hermite:1=1,4=1"),
    ("--task", "teacher-student", "--teacher", "h2(u)+h2(u)*h3(v)"),
    ("--task", "teacher-student", "--teacher", "h1(a)*h1(b)*h1(c)*h1(d)"),
    ("--task", "teacher-student", "--teacher", "h3(a)+h3(b)+h3(c)+h3(d)"),
    ("--task", "spiked-cumulant", "--p", "4", "--dim", "20"), ("--p", "8", "--corr", "0.5", "--dim", "1e6"),
    ("--task", "teacher-student", "--teacher", "2*h1(v)+0.5*h3(u)+1*h2(u)", "--dim", "100", "--threshold", "0.5"),
])  # fmt: skip
def test_once_a_crash_or_a_contradiction(words):
    check(prediction(*words))


@pytest.mark.parametrize(("p", "dim"), [(5, "1e12"), (6, "1e12"), (8, "1e5"), (8, "1e8"), (8, "1e12")])
def test_slow_drifts_are_drifts(p, dim):
    """v alone of order p at huge d: recovered after c d^(p-1) samples, the same c as at d = 1000 (within 2 %)."""
    far, near = (prediction("--task", "spiked-cumulant", "--p", str(p), "--dim", d).target for d in (dim, "1000"))
    assert far.status == near.status == "recovered"
    growth = np.log(far.escape_samples / near.escape_samples) / np.log(float(dim) / 1000)
    assert growth == pytest.approx(p - 1, abs=0.01)


def test_only_the_branch_that_escapes_counts():
    """Two maxima of the order-3 form: half the critical rate of one is above that of the other."""
    result = prediction("--p", "3", "--corr", "0.5", "--activation", "hermite:3=1")
    assert result.target.status == "recovered"
    assert str(result.target.law) == "d^2"


@pytest.mark.parametrize("beta_m", ["1e-8", "1e-4"])
def test_a_weak_mean_does_not_set_the_learning_rate(beta_m):
    usual = prediction("--corr", "0.5").target.escape_samples
    assert prediction("--corr", "0.5", "--beta-m", beta_m).target.escape_samples == pytest.approx(usual, rel=0.01)


def test_a_start_above_the_threshold_is_refused():
    with pytest.raises(InputError, match="above d"):
        prediction("--dim", "10")


def test_invariants_on_random_models(rng):
    for _ in range(12):
        task = TASKS[rng.choice(list(TASKS))]
        model = model_of(task, ACTIVATIONS[rng.choice(list(ACTIVATIONS))], LOSSES[rng.choice(list(LOSSES))])
        if len(model.spikes) < 3:
            dim, lr = int(10 ** rng.uniform(1.5, 7)), [None, 10 ** rng.uniform(-3, 1)][rng.integers(2)]
            check(predict(model, dim, lr, rng.uniform(0.2, 0.6)))


@pytest.mark.parametrize(("command", "words", "said"), [
    ("sims.smoothing", ("--dims", "20", "--runs", "2", "--samples", "3000", "--seed", "-1"), "seed: got -1"),
    ("sims.compare", ("--dim", "20", "--runs", "1e30", "--samples", "100"), "runs: got 1"),
    ("sims.levels", ("--threads", "-1"), "threads: got -1"),
    ("solvers.phase", ("--x", ""), "range: got ''"), ("solvers.phase", ("--plane", "corr,beta-u", "--dim", ""), "dim: got"),
    ("solvers.detection", ("--degrees", ""), "degrees: got ''"), ("sims.scaling", ("--target", ""), "target: got"),
])  # fmt: skip
def test_once_a_traceback_or_taken_for_the_default(command, words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        sys.exit(import_module(command).main(list(words)))
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
