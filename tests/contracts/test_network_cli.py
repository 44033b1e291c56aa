"""``python -m sims.network``: contract, reproducibility, interruption, divergence, bad input.

What is at stake is that the numbers on the screen are those of the library; tests/theory/test_equivalents.py holds the stairs
themselves to inputs in R^d and to closed forms.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import sims.network_study
from sims.network import main
from sims.network_report import column_name, network_table
from sims.network_sgd import NetworkSGD
from sims.network_study import NetworkStudy, median_ratio, run_study
from solvers.gram_chain import GramChain
from solvers.network_ode import NetworkODE
from theory.activations import relu
from theory.learners import SquaredLoss
from theory.network_results import Divergence
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.results import EscapeTimes
from theory.tasks import MixedCumulant

FAST = ("--dim", "40", "--hidden", "6", "--samples", "4000", "--runs", "3", "--no-theory", "--quiet")


@pytest.fixture(autouse=True)
def few_records(monkeypatch):
    """Measuring a state takes 3 ms."""
    monkeypatch.setattr(sims.network_study, "RECORDS", 40)


def answer(capsys, *words):
    assert main([*FAST, *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def study(**settings):
    learner = TwoLayer(relu(), SquaredLoss(), 6)
    models = tuple(NetworkModel(MixedCumulant(corr=c, beta_m=1.0, beta_u=5.0), learner) for c in (0.0, 0.5))
    return NetworkStudy(models, GramChain, 40, Rates(0.5, 0.05, 0, 0.15), 2000, runs=3, theory=False, **settings)


def test_json_contract_and_reproducibility(capsys):
    result = json.loads(answer(capsys, "--corr", "0.5", "--json"))
    assert result["schema"] == 1
    assert [column["name"] for column in result["columns"]] == ["independent", "corr 0.5"]
    assert result["run"]["rates"] == {"first": 0.5, "second": 0.05, "bias": 0.0, "output": 0.15}
    assert (result["model"]["hidden"], result["model"]["beta_u"]) == (6, 5.0)
    for column in result["columns"]:
        assert (column["runs"], column["diverged"], column["theory"]) == (3, [], None)
        assert set(column["stairs"]) == {"mean", "covariance", "cumulant"}
        assert set(column["escapes"]) == {"m", "u", "v"}
        curves = column["curves"]
        assert set(curves["error"]) == set(curves["loss"]) == {"task", "covariance", "mean", "null"}
        for curve in (*curves["error"].values(), *curves["loss"].values(), *curves["overlap"].values()):
            assert len(curve["median"]) == len(curve["low"]) == len(curves["samples"])
            assert np.all(np.array(curve["low"]) <= curve["median"])
        np.testing.assert_allclose(curves["error"]["null"]["median"], 0.5, atol=1e-12)
        assert 0 < column["gap_noise"] < 0.02
    assert set(result["ratio"]) == {"mean", "covariance", "cumulant"}
    again = json.loads(answer(capsys, "--corr", "0.5", "--json"))
    other = json.loads(answer(capsys, "--corr", "0.5", "--seed", "1", "--json"))
    for key in ("curves", "stairs", "escapes"):
        assert again["columns"][1][key] == result["columns"][1][key]
        assert other["columns"][1][key] != result["columns"][1][key]


def test_table_and_figure_with_theory(capsys, tmp_path):
    words = ("--dim", "40", "--hidden", "4", "--samples", "1000", "--runs", "2", "--plot", str(tmp_path / "a.png"))
    assert main(list(words)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("corr 0.7979", "stair", "cumulant", "ratio", "censored", "below 5/sqrt(d)", "margin"):
        assert text in out
    assert (tmp_path / "a.png").stat().st_size > 40_000


def test_theory_starts_where_the_first_run_does():
    result = run_study(replace(study(), models=study().models[1:], samples=500, theory=True))
    column = result.columns[0]
    assert column.theory.trajectory.times[-1] <= column.ensemble.trajectory.times[-1]
    np.testing.assert_allclose(column.theory.trajectory.R[0, 0], column.ensemble.trajectory.R[0, 0], atol=1e-12)
    np.testing.assert_allclose(column.theory.errors.loss()[0, 0], column.errors.loss()[0, 0], rtol=1e-9)


@pytest.mark.parametrize(("words", "names"), [
    (("--corr", "0"), ["independent"]),
    (("--coupling", "even", "--p", "6"), ["independent", "coupling even"]),
    (("--task", "spiked-cumulant"), ["spiked-cumulant"]),
    (("--task", "teacher-student", "--teacher", "h2(u)+h1(v)"), ["He_2(u) + He_1(v)"]),
    (("--beta-m", "0", "--corr", "-0.3", "--loss", "logistic", "--spherical"), ["independent", "corr -0.3"]),
    (("--scaling", "mean-field", "--loss", "correlation", "--batch", "10", "--corr", "0"), ["independent"]),
    (("--engine", "highd", "--activation", "tanh", "--weight-decay", "0.01", "--corr", "0"), ["independent"]),
])  # fmt: skip
def test_every_kind_of_model_runs(capsys, words, names):
    result = json.loads(answer(capsys, *words, "--json", "--samples", "600"))
    assert [column["name"] for column in result["columns"]] == names
    stairs = result["columns"][0]["stairs"]
    assert (stairs is None) == ("teacher-student" in words)
    if "--beta-m" in words or "spiked-cumulant" in words:
        assert stairs["mean"]["censored"] == 3


def test_a_task_without_classes_shows_its_loss(capsys, tmp_path):
    figure = tmp_path / "a.svg"
    out = answer(capsys, "--task", "teacher-student", "--corr", "0.5", "--samples", "600", "--plot", str(figure))
    assert "loss" in out.splitlines()[-1]
    assert "stair" not in out
    assert figure.stat().st_size > 10_000


def test_defaults_of_other_commands_are_as_they_were():
    from sims.compare import make_parser

    words = make_parser().parse_args([])
    assert (words.beta_m, words.beta_u, words.corr, words.loss, words.activation) == (0, None, 0, "correlation", None)


@pytest.mark.parametrize(("words", "message"), [
    (("--hidden", "0"), "hidden"), (("--hidden", "1e9"), "hidden"), (("--hidden", "2.5"), "--hidden"),
    (("--hidden", "60"), "spikes + neurons + 1"), (("--hidden", "4000", "--dim", "1e4"), "GB of records"),
    (("--lr", "-1"), "rate first"), (("--lr-second", "nan"), "rate second"), (("--lr-bias", "inf"), "rate bias"),
    (("--lr-output", "-2"), "rate output"), (("--runs", "0"), "runs"), (("--seed", "-1"), "seed"), (("--dim", "3"), "dim"),
    (("--samples", "0"), "samples"), (("--samples", "5", "--batch", "10"), "samples"), (("--samples", "1.5"), "--samples"),
    (("--batch", "0"), "batch"), (("--threshold", "2"), "threshold"), (("--threshold", "nan"), "threshold"),
    (("--corr", "0.9"), "0.797885"), (("--corr", "nan"), "corr"), (("--initial-scale", "0"), "initial_scale"),
    (("--spherical", "--initial-scale", "2"), "initial_scale"), (("--weight-decay", "-1"), "weight_decay"),
    (("--weight-decay", "100"), "weight_decay"), (("--activation", "selu"), "activation"), (("--loss", "hinge"), "--loss"),
    (("--scaling", "odd"), "--scaling"), (("--engine", "ode"), "--engine"), (("--plot", "/nowhere/x.png"), "directory"),
    (("--task", "spiked-cumulant", "--beta-u", "5"), "nothing with --task spiked-cumulant"), (("--p", "9"), "p: got 9"),
    (("--task", "teacher-student", "--loss", "logistic"), "labels are not ±1"), (("--beta-v", "-1"), "beta-v"),
    (("--engine", "highd", "--dim", "1e9"), "dim"), (("--dim", "1_00"), "--dim"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main([*FAST, *words])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize("engine", ["chain", "highd"])
def test_a_rate_that_diverges_is_said(capsys, engine):
    with pytest.raises(SystemExit) as stop:
        main([*FAST, "--lr", "500", "--lr-second", "500", "--engine", engine, "--corr", "0"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "3 of 3 runs diverged" in err
    assert "lower --lr" in err


def test_some_diverged_runs_are_a_warning():
    class OneDiverges(GramChain):
        def run(self, *arguments, **options):
            return replace(super().run(*arguments, **options), diverged=(Divergence(1, 960, "a[w2]"),))

    result = run_study(replace(study(), engine=OneDiverges))
    assert (
        result.warnings[-1] == "1 of 3 runs diverged, a[w2] of run 1 after 960 samples; lower --lr-second to keep them"
    )
    assert result.warnings[-1] in network_table(result)


def test_interrupted_models_leave_the_finished_ones(monkeypatch):
    original, calls = sims.network_study._column, []

    def second_is_interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(sims.network_study, "_column", second_is_interrupted)
    result = run_study(study())
    assert result.interrupted
    assert [column_name(c.model) for c in result.columns] == ["independent"]
    assert "INTERRUPTED" in network_table(result)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_before_the_first_run_is_one_line():
    command = [sys.executable, "-m", "sims.network", "--samples", "1e12", "--runs", "2", "--no-theory"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(6)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (out, err) == ("", "sims.network: interrupted before the first run was finished\n")
    assert run.returncode == 130


def test_engines_agree_on_the_early_stairs():
    """Eight runs each: medians of the covariance stair within a factor 2 (a run's stair spreads by a factor 1.5)."""
    pair = [run_study(replace(study(), engine=e, runs=8, models=study().models[1:])) for e in (GramChain, NetworkSGD)]
    medians = [result.columns[0].stairs.quantile("covariance", 0.5) for result in pair]
    assert 0.5 < medians[0] / medians[1] < 2


def test_ratio_of_medians_respects_censoring():
    def times(*values):
        return EscapeTimes(("v",), np.array(values)[:, None], 0.02, 1000.0)

    inf = np.inf
    plain = median_ratio(times(400.0, 400.0, 400.0), times(100.0, 100.0, 100.0), "v")
    assert (plain.value, plain.low, plain.high) == (4, 4, 4)
    bound = median_ratio(times(inf, inf, 500.0), times(100.0, 100.0, 100.0), "v")
    assert (bound.value, bound.high) == (10, inf)
    assert 5 <= bound.low <= 10
    opposite = median_ratio(times(100.0, 100.0), times(inf, inf), "v")
    assert (opposite.value, opposite.low) == (0.1, 0)
    assert median_ratio(times(inf, inf), times(inf, inf), "v") is None
    assert median_ratio(times(400.0), times(100.0), "v") is None


def test_ratio_interval_covers_the_ratio(rng):
    """Exponential times of rates 1 and 3: the 95 % interval covers 3 in 95 % of 200 trials, within ± 4 standard errors."""
    hits = 0
    for k in range(200):
        pair = [EscapeTimes(("v",), scale * rng.exponential(size=(40, 1)), 0.02, 1e9) for scale in (3000.0, 1000.0)]
        ratio = median_ratio(*pair, "v", seed=k)
        hits += ratio.low <= 3 <= ratio.high
    assert abs(hits / 200 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_ctrl_c_in_the_theory_keeps_the_runs(monkeypatch):
    """Found by a review: the finished runs were lost with the ODE that was interrupted."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(NetworkODE, "run", interrupted)
    result = run_study(replace(study(), theory=True))
    assert result.interrupted
    assert len(result.columns) == 1
    assert len(result.columns[0].ensemble.replicas) == study().runs
    assert "no theory: interrupted" in result.warnings
