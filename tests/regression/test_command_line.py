"""Defects of the command line that were found once, each reproduced: wrong words, tracebacks, silently ignored options.

Falsifies: every refusal is one line and code 2, no output device or encoding brings a traceback, and what is printed is true.
"""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

import sims.compare
import solvers.predict
from solvers.ode import best_signs
from solvers.prediction import predict
from solvers.report import prediction_table, warnings_of
from tests.conftest import ACTIVATIONS, model_of, teacher
from theory.activations import activation_from_text, hermite_mixture
from theory.board import leading_terms
from theory.exponents import first_form
from theory.latents import gauss, radau
from theory.numerals import number, whole_number
from theory.population import Model, Population
from theory.quadrature import LatentQuadrature, tail_bound
from theory.tasks import MixedCumulant, TeacherStudent, spiked_cumulant

TEACHER = ("--task", "teacher-student", "--teacher")
TYPICAL = ("--init", "typical")


def answer(capsys, *words, main=solvers.predict.main):
    assert main([*words, *TYPICAL]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refusal(capsys, *words, main=solvers.predict.main):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def shell(command, **environment):
    """The command with ``predict`` for its long name, run by bash."""
    line = command.replace("predict", f"{sys.executable} -m solvers.predict --init typical")
    env = os.environ | environment
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, env=env, check=False)


@pytest.mark.parametrize("names", [("lambda_", "u_1_2"), ("a__", "zz")])
def test_every_spike_name_can_be_drawn(capsys, tmp_path, names):
    words = (*TEACHER, f"h2({names[0]})+2*h2({names[1]})", "--plot", str(tmp_path / "a.svg"))
    answer(capsys, *words)
    fast = ("--dim", "30", "--runs", "2", "--samples", "50", "--quiet")
    answer(capsys, *words[:-1], str(tmp_path / "b.svg"), *fast, main=sims.compare.main)
    assert {p.name for p in tmp_path.iterdir()} == {"a.svg", "b.svg"}


@pytest.mark.parametrize("samples", ["999", "auto"])
def test_a_run_makes_at_least_one_step(capsys, samples):
    words = ("--batch", "1000000" if samples == "auto" else "1000", "--dim", "100", *TYPICAL, "--samples", samples)
    assert "at least one batch" in refusal(capsys, *words, main=sims.compare.main)


@pytest.mark.parametrize(("words", "message"), [
    (("--teacher", ""), "--teacher"), ((*TEACHER, ""), "hK(NAME)"), (("--activation", ""), "relu, erf"),
    ((*TEACHER, "h2(u)", "--p", "7"), "nothing with --teacher"),
    ((*TEACHER, "1e-200*h2(u)"), "1e-6 … 1e6"), ((*TEACHER, "1e200*h2(u)"), "1e-6 … 1e6"),
    (("--activation", "hermite:2=1e-300"), "1e-6 … 1e6"), (("--activation", "hermite:2=-1e300"), "1e-6 … 1e6"),
    (("--latex", "--json"), "nothing with --latex"), (("--latex", "--lr", "-1"), "nothing with --latex"),
    (("--latex", "--order", "8"), "nothing with --latex"), (("--latex", "--threshold", "2"), "nothing with --latex"),
    (("--dim", "12.7e0"), "whole numbers"), (("--dim", "1000.5"), "whole numbers"), (("--dim", "1_000"), "whole numbers"),
    (("--dim", "١٠٠"), "whole numbers"), (("--p", "1_0"), "--p"), (("--corr", "0.1_0"), "--corr"),
    (("--lr", "1_0"), "a number > 0, or auto"), (("--init", "u=0.1_0,v=0"), "typical"), (("--latent", "radau:2_0"), "latent"),
    (("--activation", "hermite:2=1_0"), "hermite:K=C"), (("--activation", "relu:0_1"), "relu:BIAS"),
    ((*TEACHER, "1_0*h2(u)"), "hK(NAME)"), ((*TEACHER, "h٢(u)"), "hK(NAME)"), (("--budget", "1_0"), "budget"),
])  # fmt: skip
def test_nothing_is_ignored_or_guessed(capsys, words, message):
    assert message in refusal(capsys, *words)


def test_samples_are_whole(capsys):
    assert "whole number" in refusal(capsys, "--samples", "1.5", main=sims.compare.main)


def test_numerals():
    assert (whole_number("1e4"), whole_number("+12345678901234567"), number("1E-3")) == (
        10_000,
        12345678901234567,
        1e-3,
    )
    for bad in ("1.5", "1e400", "nan", "", "1_0", "٣"):
        with pytest.raises(ValueError, match=r"number|convert"):
            whole_number(bad)


def test_spellings_that_people_use(capsys):
    with_spaces = answer(capsys, *TEACHER, "1E-3 * h1(u) + h2(u)")
    assert with_spaces == answer(capsys, *TEACHER, "0.001*h1(u)+h2(u)")
    assert solvers.predict.main(["--init", "u=0.05, v=0.02"]) == 0
    assert "start α_u = 0.05, α_v = 0.02" in capsys.readouterr().out


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_a_scaled_mixture_only_scales_the_learning_rate(size):
    """σ -> c σ multiplies Φ by c and V by c²: the critical rate by 1/c, and samples stay. Both ends of what is allowed."""
    usual, scaled = (
        predict(Model(MixedCumulant(), replace(model_of(MixedCumulant()).learner, activation=hermite_mixture({2: c}))))
        for c in (1.0, size)
    )
    assert scaled.lr * size == pytest.approx(usual.lr, rel=1e-6)
    assert scaled.directions[0].escape_samples == pytest.approx(usual.directions[0].escape_samples, rel=1e-5)
    assert TeacherStudent(("u",), (((2,), size),)).terms[0][1] == size


@pytest.mark.parametrize("command", ["predict > /dev/full", "predict --json > /dev/full", "predict >&-",
                                     "predict --plot /proc/x.png"])  # fmt: skip
def test_output_that_cannot_be_written_is_one_line(command):
    run = shell(command)
    assert run.returncode == 2
    assert run.stderr.startswith(b"solvers.predict: error: ")
    assert run.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", ["predict | head -1", "predict --help | head -1", "predict --version > /dev/null"])
def test_a_reader_that_leaves_is_no_error(command):
    assert shell(command).stderr == b""


@pytest.mark.parametrize("environment", [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"},
])  # fmt: skip
def test_terminals_without_greek(environment):
    for words in ("predict", "predict --help", "predict --json"):
        run = shell(words, **environment)
        assert (run.returncode, run.stderr) == (0, b"")
    assert "β_u = 1" in json.loads(run.stdout.decode("ascii"))["model"]["description"]


def test_plot_without_matplotlib(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install matplotlib" in refusal(capsys, "--plot", str(tmp_path / "a.png"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_is_one_line():
    command = [sys.executable, "-m", "solvers.predict", "--dim", *map(str, range(100, 400))]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30) == ("", "solvers.predict: interrupted\n")
    assert run.returncode == 130


@pytest.mark.parametrize("dim", [30, 100, 1000, 10**9])
def test_equal_signs_of_the_start_are_positive(dim):
    size = dim**-0.5
    for model in (
        model_of(MixedCumulant()),
        model_of(teacher("abcd", *((k, 1) for k in ("4000", "0400", "0040", "0004")))),
    ):
        np.testing.assert_array_equal(best_signs(Population(model, 20), size), size)


def test_signs_that_matter_are_kept_however_small_their_term():
    """-He_7(v) beside He_2(u) at d = 10^9: relative size 10^-22, lost in the sum, and still the sign of the start."""
    mixture = hermite_mixture({2: 1.0, 7: 1.0})
    signs = best_signs(Population(model_of(teacher("uv", ("20", 1), ("07", -1)), mixture), 8), 1e-4)
    np.testing.assert_array_equal(signs, [1e-4, -1e-4])
    opposed = Population(model_of(MixedCumulant(corr=-0.5)), 20)
    np.testing.assert_array_equal(best_signs(opposed, 0.1), [0.1, -0.1])


@pytest.mark.parametrize("name", ["relu", "softplus", "hermite"])
@pytest.mark.parametrize(
    "task", [spiked_cumulant(gauss(4)), spiked_cumulant(radau(3)), teacher("v", ("3", 0.5))], ids=str
)
def test_what_the_board_leaves_out_has_the_order_it_says_vs_quadrature(name, task):
    """Slope of |Φ - shown terms| against |α| is the n of O(|α|^n), or above where a parity kills that term."""
    population = Population(model_of(task, ACTIVATIONS[name]), task.signal_order)
    exact = LatentQuadrature(population.model)
    terms, order = leading_terms(
        population.objective, population.first_missing_degree(population.model.learner.objective)
    )
    shown = sum(c * m for c, m in terms)
    sizes = np.array([0.1, 0.05])
    gaps = [exact.objective(np.array([a])) - exact.objective(np.zeros(1)) - float(shown.subs(population.overlaps[0], a))
            for a in sizes]  # fmt: skip
    if order is None:
        assert np.abs(gaps).max() < 1e-14
    else:
        assert np.log(gaps[0] / gaps[1]) / np.log(2) > order - 0.3


def test_latex_of_relu_is_no_false_equality(capsys):
    text = answer_latex(capsys, "--task", "spiked-cumulant")
    assert r"\alpha_{v}^{4} + O(|\alpha|^{5})" in text
    assert r"\alpha_{v}^{3} + O(|\alpha|^{4})" in text
    assert "% series of order 4" in text
    exact = answer_latex(capsys, *TEACHER, "h2(u)", "--activation", "hermite:2=1")
    assert r"O(|\alpha|" not in exact
    assert r"\alpha_{u_1" not in answer_latex(capsys, *TEACHER, "h2(u_1_2)")  # no double subscript


def answer_latex(capsys, *words):
    assert solvers.predict.main([*words, "--latex"]) == 0
    return capsys.readouterr().out


def test_words_of_slower_and_of_zero():
    result = predict(model_of(MixedCumulant(corr=0.5)), 100)
    slow = replace(result, lr_gain=0.139, baseline=replace(result.baseline, escape_samples=0.5))
    slow = replace(slow, directions=tuple(replace(d, fixed_point=-2e-5) for d in slow.directions))
    table = prediction_table([slow], Namespace(activation="relu", lr="auto"))
    assert "slower than v alone" in table
    assert "7.19 times slower than the usual half critical" in table
    assert "-0.000" not in table


@pytest.mark.parametrize(("task", "activation"), [("20", "hermite:1=1"), ("10", "hermite:2=1")])
def test_the_activation_that_is_advised_exists_and_sees(task, activation):
    model = model_of(teacher("uv", (task, 1), ("02", 1)), activation_from_text(activation))
    reasons = [d.reason for d in predict(model, 100).directions if d.status == "blind"]
    assert reasons
    for reason in reasons:
        advised = activation_from_text(reason.split("; ")[-1].split()[0])
        assert first_form(Population(model_of(model.task, advised), 20)) is not None


def test_several_dimensions_are_rows(capsys):
    text = answer(capsys, "--corr", "0.5", "--dim", "100,1000,10000")
    assert text.count("baseline") == 1
    rows = text.splitlines()[-3:]
    assert [row.split()[0] for row in rows] == ["100", "1000", "10000"]
    one = answer(capsys, "--corr", "0.5", "--dim", "10000")
    assert all(cell in one for cell in rows[-1].split())
    assert "d = 100: threshold" in answer(capsys, "--corr", "0.5", "--dim", "1000", "100")


def test_beyond_the_budget_is_not_never(capsys):
    words = ("--task", "spiked-cumulant", "--p", "3", "--lr", "0.006", "--budget", "10", "--dim", "100", "200")
    assert solvers.predict.main(list(words)) == 0
    out = capsys.readouterr().out
    assert "beyond (median" in out
    assert [row.split()[-2:] for row in out.splitlines() if row.startswith(("100 ", "200 "))] == [["beyond", "-"]] * 2


def test_an_escape_below_a_sample_is_said_and_overflow_is_not_finite():
    model = model_of(MixedCumulant(beta_m=1e6))
    result = predict(model)
    assert any("fewer than the theory of small steps" in line for line in warnings_of(result))
    assert tail_bound(result.population, np.array([0.6, 0.0, 0.0])) == np.inf
    assert not any("small steps" in line for line in warnings_of(predict(model_of(MixedCumulant()))))
