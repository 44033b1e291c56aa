"""``python -m solvers.tensor_pca`` and ``python -m sims.scaling --snr``."""

import json

import pytest

from sims.scaling import main as scaling
from solvers.tensor_pca import main

QUICK = ["--snr", "2,1", "--dim", "200", "--runs", "20", "--quiet"]


def test_table(capsys):
    assert main(QUICK) == 0
    out = capsys.readouterr().out
    assert "tensor PCA: order p = 3, spikes λ = 2, 1; N = 200" in out
    assert "foretold from the start" in out
    assert "by chance: first pair 0.25, whole sequence 0.25" in out


def test_json_and_figure(capsys, tmp_path):
    assert main([*QUICK, "--json", "--plot", str(tmp_path / "t.png")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert answer["model"] == {
        "task": "tensor-pca",
        "p": 3,
        "snr": [2.0, 1.0],
        "description": answer["model"]["description"],
    }
    assert set(answer["spikes"]) == {"1", "2", "first", "last"}
    assert sum(o["hits"] for o in answer["outcomes"].values()) == answer["run"]["runs"] == 20
    assert answer["spikes"]["first"]["quantiles"]["0.5"] <= answer["spikes"]["last"]["quantiles"]["0.5"]
    assert (tmp_path / "t.png").stat().st_size > 10_000


def test_a_censored_run_is_a_bound(capsys):
    assert main([*QUICK, "--samples", "3"]) == 0
    out = capsys.readouterr().out
    assert "> 3" in out
    assert "no run recovered every spike" in out
    assert main([*QUICK, "--samples", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spikes"]["last"]["quantiles"]["0.5"] is None


def test_latex(capsys):
    assert main(["--p", "3", "--snr", "2,1", "--latex"]) == 0
    assert r"\lambda_{1}^{2} m_{11}^{3}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--snr", "1,2"], "snr: got 1,2; allowed: decreasing numbers"),
        (["--snr", "a"], "snr: got 'a'; allowed: numbers"),
        (["--snr", "1_0"], "snr"),
        (["--p", "1"], "p: got 1; allowed: 2 … 8"),
        (["--dim", "8"], "dim: got 8; allowed: 9"),
        (["--lr", "0"], "lr"),
        (["--lr", "nan"], "lr"),
        (["--threshold", "1.5"], "threshold"),
        (["--runs", "0"], "runs"),
        (["--latex", "--json"], "--json: got True; allowed: nothing with --latex"),
        (["--latex", "--runs", "3"], "--runs"),
        (["--lr", "1e-30"], "samples: got auto"),
        (["--plot", "no/such/folder/x.png"], "--plot"),
    ],
)
def test_bad_words(words, line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert line in error


def test_scaling(capsys, tmp_path):
    words = ["--snr", "2,1", "--p", "3", "--dims", "100,300", "--runs", "20", "--lr", "0.3,0.5", "--quiet"]
    assert scaling([*words, "--json", "--store", str(tmp_path / "store"), "--plot", str(tmp_path / "t.png")]) == 0
    first = capsys.readouterr().out
    answer = json.loads(first)
    assert list(answer["arms"]) == ["first, δ_0 = 0.3", "last, δ_0 = 0.3", "first, δ_0 = 0.5", "last, δ_0 = 0.5"]
    assert answer["ratios"] == []
    assert answer["arms"]["last, δ_0 = 0.3"]["model"]["snr"] == [2.0, 1.0]
    assert (tmp_path / "t.png").stat().st_size > 10_000
    assert scaling([*words, "--json", "--store", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--corr", "0.5"], "--corr: got 0.5; allowed: nothing with --snr"),
        (["--hidden", "4"], "--hidden"),
        (["--engine", "sde"], "engine: got sde; allowed: chain, highd"),
        (["--target", "3"], "target: got 3; allowed: 1, 2, first, last"),
        (["--lr", "auto"], "lr"),
        (["--lr", "0"], "lr"),
        (["--lr", "0.3,0.3"], "lr: got 0.3,0.3; allowed: different values"),
        (["--dims", "100"], "dims"),
        (["--dims", "1e6,1e7", "--p", "6"], "hours"),
        (["--budget", "0"], "budget"),
    ],
)
def test_bad_scaling_words(words, line, capsys):
    with pytest.raises(SystemExit) as stop:
        scaling(["--snr", "2,1", "--dims", "100,200", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert line in error
