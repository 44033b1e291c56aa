"""``python -m solvers.predict``: every option, the JSON contract, honest words, and one line for bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest

from solvers.predict import main
from theory import __version__

STATUSES = {"recovered", "below_threshold", "repelled", "blind", "wrong_sign", "noise_activated", "lr_too_large"}


def answer(capsys, *words):
    """The answer of the ODE unless a start is asked for: laws from a random start are tested on their own below."""
    start = () if "--init" in words or "--latex" in words else ("--init", "typical")
    assert main([*words, *start]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def as_json(capsys, *words):
    return json.loads(answer(capsys, *words, "--json"))


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("solvers.predict: error: ")
    return err


def test_table_of_the_headline_case(capsys):
    text = answer(capsys, "--p", "4", "--corr", "0.5")
    for words in ("mixed-cumulant", "relu", "d log^2 d", "recovered", "v alone: d^3", "speed-up", "lr = 0.2375",
                  "critical 0.9502", "0.05495*alpha_v^3", "activation chosen"):  # fmt: skip
        assert words in text, words


def test_json_contract(capsys):
    result = as_json(capsys, "--p", "4", "--corr", "0.5")
    assert result["schema"] == 1
    assert {"task", "p", "corr", "coupling", "beta_m", "beta_u", "beta_v", "activation", "loss"} <= set(result["model"])
    assert {"dim", "lr", "lr_critical", "threshold", "init", "order", "tail_bound"} <= set(result["run"])
    assert len(result["activation_coefficients"]) == result["run"]["order"] + 1
    assert result["C"]["1,1"] == pytest.approx(0.5 * np.sqrt(10 / 11))
    assert result["C"]["0,4"] == pytest.approx(-2 * (10 / 11) ** 2)
    assert set(result["drift"]) == set(result["directions"]) == {"u", "v"}
    for direction in result["directions"].values():
        assert set(direction) == {
            "information_exponent", "order_reached", "waits_for", "threshold_law", "sample_exponent", "status", "reason",
            "fixed_point", "escape_samples", "escape_quantiles", "escape_quantiles_ci95", "recovery_probability",
            "recovery_probability_ci95",
        }  # fmt: skip
        assert direction["escape_quantiles"] is None
        assert direction["status"] in STATUSES
    assert result["directions"]["v"]["waits_for"] == ["u"]
    assert set(result["baseline"]) == {
        "threshold_law", "sample_exponent", "lr", "escape_samples", "random_lr", "escape_quantiles",
    }  # fmt: skip
    assert result["baseline"]["sample_exponent"] == 3
    ratio = result["baseline"]["escape_samples"] / result["directions"]["v"]["escape_samples"]
    assert result["speedup"] == pytest.approx(ratio)


def test_random_start_is_the_default_and_its_laws_are_complete(capsys):
    result = as_json(capsys, "--corr", "0.5", "--init", "random", "--dim", "200", "--lr", "0.2")
    assert main(["--corr", "0.5", "--dim", "200", "--lr", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result
    assert result["run"]["random_start"]["runs"] >= 100
    for direction in result["directions"].values():
        q, ci = direction["escape_quantiles"], direction["escape_quantiles_ci95"]
        assert q["0.1"] < q["0.5"] < q["0.9"]
        assert all(ci[k][0] <= q[k] <= ci[k][1] for k in q)
        assert 0.9 < direction["recovery_probability"] <= 1
    ratio = result["baseline"]["escape_quantiles"]["0.5"] / result["directions"]["v"]["escape_quantiles"]["0.5"]
    assert result["speedup"] == pytest.approx(ratio)


def test_automatic_rate_from_a_random_start_lies_above_critical_for_order_four(capsys):
    result = as_json(capsys, "--task", "spiked-cumulant", "--init", "random")
    assert result["run"]["lr"] > 3 * result["run"]["lr_critical"]
    assert result["run"]["lr_gain"] == pytest.approx(9.1, abs=0.3)
    assert result["directions"]["v"]["status"] == "noise_activated"
    assert result["directions"]["v"]["sample_exponent"] == 3
    assert result["directions"]["v"]["escape_samples"] is None
    assert result["run"]["random_start"]["method"].startswith("first-passage law")


def test_budget(capsys):
    words = ("--task", "spiked-cumulant", "--p", "3", "--init", "random", "--lr", "0.006")
    free = as_json(capsys, *words)["directions"]["v"]
    within = as_json(capsys, *words, "--budget", str(free["escape_quantiles"]["0.5"]))["directions"]["v"]
    assert free["recovery_probability"] == 1
    assert within["recovery_probability"] == pytest.approx(0.5, abs=1e-6)
    assert within["escape_quantiles"]["0.9"] is None
    for bad in ("0", "-1", "nan", "inf", "many"):
        assert "budget" in refusal(capsys, *words, "--budget", bad)
    assert "leave it out" in refusal(capsys, "--budget", "10", "--init", "typical")
    assert "seed" in refusal(capsys, "--seed", "-1")


def test_never_is_null(capsys):
    result = as_json(capsys, "--p", "4")
    assert result["directions"]["v"]["escape_samples"] is None
    assert result["directions"]["v"]["status"] == "repelled"
    assert result["speedup"] is None
    assert result["baseline"]["escape_samples"] > 1e10


def test_several_dimensions(capsys):
    result = as_json(capsys, "--corr", "0.5", "--dim", "100,1000", "1e4")
    assert [r["run"]["dim"] for r in result["results"]] == [100, 1000, 10_000]
    times = [r["baseline"]["escape_samples"] for r in result["results"]]
    slope = np.polyfit(np.log([100, 1000, 10_000]), np.log(times), 1)[0]
    assert slope == pytest.approx(3, abs=0.02)
    text = answer(capsys, "--corr", "0.5", "--dim", "100", "1000")
    assert text.count("baseline") == 1


@pytest.mark.parametrize(("p", "activation"), [(3, "hermite:2="), (4, "relu"), (5, "hermite:2="), (6, "hermite:2="),
                                               (7, "hermite:2="), (8, "relu")])  # fmt: skip
def test_default_activation_sees_every_order_with_the_attractive_sign(capsys, p, activation):
    result = as_json(capsys, "--task", "spiked-cumulant", "--p", str(p), "--dim", "100")
    assert result["model"]["activation"].startswith(activation)
    v = result["directions"]["v"]
    assert (v["status"], v["information_exponent"], v["threshold_law"]) == ("recovered", p, f"d^{p - 1}")
    assert result["speedup"] == 1


def test_default_mixture_has_unit_variance(capsys):
    c = as_json(capsys, "--p", "6")["activation_coefficients"]
    assert c[2] == pytest.approx(1 / np.sqrt(2))
    assert c[6] == pytest.approx(-np.sqrt(120) / np.sqrt(2))


@pytest.mark.parametrize("words", [
    ("--coupling", "even"), ("--latent", "lobatto:2"), ("--latent", "positive"), ("--beta-m", "0.5"), ("--beta-u", "2"),
    ("--beta-v", "3"), ("--activation", "erf"), ("--activation", "hermite:2=1,4=-0.5"), ("--loss", "squared"),
    ("--lr", "0.1"), ("--threshold", "0.4"), ("--order", "8"), ("--init", "u=0.1,v=-0.05"), ("--p", "5"),
    ("--task", "teacher-student"), ("--task", "teacher-student", "--corr", "0.5", "--noise", "0.2"),
    ("--task", "teacher-student", "--teacher", "h1(u) - 0.5*h1(u)*h1(v) + 1e-1*h2(w)"),
])  # fmt: skip
def test_every_option_changes_the_answer(capsys, words):
    changed, usual = as_json(capsys, *words), as_json(capsys)
    assert {d["status"] for d in changed["directions"].values()} <= STATUSES
    changed["model"].pop("description")
    assert (changed["model"], changed["run"], changed["C"]) != (usual["model"], usual["run"], usual["C"])


def test_latex(capsys):
    text = answer(capsys, "--corr", "0.5", "--latex")
    assert text.startswith(r"\begin{aligned}")
    assert r"% \beta_{u} = 1" in text


def test_version_and_help_in_a_fresh_process():
    run = [sys.executable, "-m", "solvers.predict"]
    assert (
        subprocess.run([*run, "--version"], capture_output=True, text=True, check=True).stdout.split()[1] == __version__
    )
    assert "--corr" in subprocess.run([*run, "--help"], capture_output=True, text=True, check=True).stdout


def test_predict_imports_only_what_it_uses():
    code = (
        "import sys; from solvers.predict import main; main(['--corr', '0.5', '--json', '--init', 'typical'])\n"
        "bad = {'numba', 'matplotlib', 'torch', 'scipy.stats', 'tqdm'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    code = "import sys; from solvers.predict import make_parser; make_parser(); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot_writes_a_figure(capsys, tmp_path, suffix):
    answer(capsys, "--corr", "0.5", "--plot", str(tmp_path / f"a.{suffix}"))
    assert (tmp_path / f"a.{suffix}").stat().st_size > 5000
    answer(capsys, "--corr", "0.5", "--dim", "100", "1000", "--plot", str(tmp_path / f"b.{suffix}"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


@pytest.mark.parametrize(("words", "message"), [
    (("--corr", "0.9"), "0.797885"), (("--corr", "nan"), "finite"), (("--corr", "inf"), "finite"),
    (("--p", "2"), "3 … 8"), (("--p", "9"), "3 … 8"), (("--p", "four"), "--p"),
    (("--dim", "9"), "10 …"), (("--dim", "1e3.5"), "whole numbers"), (("--dim", "nan"), "whole numbers"),
    (("--dim", "inf"), "whole numbers"), (("--lr", "0"), "> 0"), (("--lr", "-1"), "> 0"), (("--lr", "nan"), "> 0"),
    (("--lr", "fast"), "a number > 0, or auto"), (("--threshold", "0"), "between 0 and 1"),
    (("--threshold", "1.2"), "between 0 and 1"), (("--threshold", "nan"), "between 0 and 1"),
    (("--activation", "cube"), "relu, erf, tanh, sigmoid, softplus"), (("--activation", "relu:one"), "relu:BIAS"),
    (("--activation", "hermite:2=a"), "hermite:K=C"), (("--order", "3"), "--order 4"), (("--order", "1"), "order"),
    (("--order", "400"), "60"), (("--beta-u", "-1"), "beta-u"), (("--beta-v", "inf"), "beta-v"),
    (("--beta-u", "0", "--corr", "0.2"), "beta-u > 0"), (("--beta-u", "0", "--beta-v", "0"), "at least one"),
    (("--init", "u=0.1"), "each of u, v"), (("--init", "u=2,v=0"), "squares <= 1"), (("--init", "up"), "typical"),
    (("--init", "u=nan,v=0"), "finite"), (("--coupling", "even", "--corr", "0.3"), "coupling copula"),
    (("--coupling", "odd"), "--coupling"), (("--latent", "gauss", "--p", "3"), "use radau"),
    (("--latent", "radau"), "use gauss or lobatto"), (("--latent", "lobatto:0.5"), "1 < a"), (("--latent", "x"), "standard"),
    (("--task", "spiked-cumulant", "--corr", "0.5"), "leave it out"),
    (("--task", "spiked-cumulant", "--beta-u", "1"), "leave"),
    (("--task", "teacher-student", "--beta-v", "1"), "leave"), (("--teacher", "h1(u)"), "leave"),
    (("--task", "teacher-student", "--teacher", "u**2"), "hK(NAME)"), (("--noise", "1"), "leave"),
    (("--task", "teacher-student", "--teacher", "__import__('os').system('true')"), "hK(NAME)"),
    (("--task", "teacher-student", "--teacher", "h2(u)", "--noise", "-1"), ">= 0"),
    (("--task", "teacher-student", "--teacher", "h99(u)"), "1 … 12"), (("--plot", "/nowhere/a.png"), "existing directory"),
    (("--plot", "a.txt"), ".png"), (("--unknown",), "--unknown"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    assert message in refusal(capsys, *words)


def test_unwritable_plot_is_refused_before_any_work(capsys, tmp_path):
    target = tmp_path / "a.png"
    target.mkdir()
    assert "writable" in refusal(capsys, "--plot", str(target))


def test_warnings_in_words(capsys):
    assert "below 5/sqrt(d)" in answer(capsys, "--corr", "0.5", "--dim", "100")
    assert "above the critical" in answer(capsys, "--corr", "0.5", "--lr", "3")
    text = answer(capsys, "--task", "spiked-cumulant", "--p", "3", "--activation", "relu")
    assert "blind" in text
    assert "hermite:2=1,3=1" in text
    assert "quadrature over the latents" in answer(capsys, "--corr", "0.5", "--beta-u", "5")


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m solvers.predict --corr 0.5 --init typical --json | head -1"
    run = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr
