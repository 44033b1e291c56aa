"""``python -m solvers.detection``: table, JSON contract, figure, one line for bad input. Deterministic: no false alarms."""

import json

import pytest

from solvers.detection import main

FAST = ["--latent", "rademacher", "--beta", "5", "--dims", "100,400", "--degrees", "4,8"]


def test_json_contract(capsys):
    assert main([*FAST, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["schema"] == 1
    assert out["model"] == {"latent": "gauss", "p": 4, "beta": 5.0, "prior": "sphere", "level": 2.0}
    assert out["dims"] == [100, 400]
    assert list(out["thresholds"]) == ["statistical", "D = 4", "D = 8"] == list(out["exponents"])
    assert out["exponents"]["statistical"] == pytest.approx([1], abs=0.02)
    assert out["exponents"]["D = 4"] == pytest.approx([2], abs=0.02)
    assert out["critical_strength"]["rademacher"] == pytest.approx(10.78, abs=0.01)
    assert out["critical_strength"]["sphere"] is None


def test_more_signal_needs_fewer_samples(capsys):
    def thresholds(beta):
        assert main(["--beta", beta, "--dims", "100,400", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["thresholds"]

    weak, strong = thresholds("1"), thresholds("10")
    assert all(s < w for name in weak for s, w in zip(strong[name], weak[name], strict=True))


def test_table_and_figure(tmp_path, capsys):
    assert main([*FAST, "--plot", str(tmp_path / "detection.png")]) == 0
    assert "exponent   D = 8: " in capsys.readouterr().out
    assert (tmp_path / "detection.png").stat().st_size > 10_000


BAD = {
    ("--beta", "0"): "beta: got 0.0",
    ("--beta", "inf"): "beta: got inf",
    ("--p", "9"): "p: got 9",
    ("--p", "3", "--latent", "rademacher"): "p = 4 with rademacher",
    ("--latent", "cauchy"): "latent: got 'cauchy'",
    ("--dims", "100"): "dims: got 100",
    ("--dims", "100,1e9"): "dims: got 1000000000",
    ("--degrees", "3"): "degree: got 3",
    ("--degrees", "4,4"): "degrees: got 4,4",
    ("--degrees", "4,x"): "degrees: got '4,x'",
    ("--level", "1"): "level: got 1.0",
    ("--prior", "cube"): "cube",
    ("--plot", "detection.bmp"): "--plot: got detection.bmp",
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert BAD[words] in error
    assert error.count("\n") == 1
