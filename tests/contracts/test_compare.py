"""``python -m sims.compare`` and the ensemble behind it: contract, reproducibility, interruption, bad input."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.random import SeedSequence

from sims.compare import main
from sims.ensemble import run_ensemble
from sims.sgd import DivergedError, OnlineSGD
from tests.conftest import model_of
from theory.errors import InputError
from theory.results import EscapeTimes, censored_quantile, replica_seed, time_grid
from theory.tasks import MixedCumulant

FAST = ("--p", "4", "--corr", "0.5", "--dim", "100", "--runs", "8", "--seed", "0", "--quiet")


def engine(**settings):
    return OnlineSGD(model_of(MixedCumulant(corr=0.5)), 80, 0.5, **settings)


def test_results_do_not_depend_on_the_number_of_threads():
    one, three = (run_ensemble(engine(), 7, 3000, seed=5, threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one.trajectory.overlaps, three.trajectory.overlaps)
    np.testing.assert_array_equal(one.escapes.times, three.escapes.times)


def test_a_replica_alone_equals_itself_among_others():
    ensemble = run_ensemble(engine(), 5, 2000, seed=5)
    alone = engine().run(replica_seed(5, 3), 2000, times=time_grid(2000))
    np.testing.assert_array_equal(alone.overlaps, ensemble.trajectory.overlaps[3])


def test_replicas_differ_and_seeds_differ():
    ensemble = run_ensemble(engine(), 3, 500, seed=5)
    ends = ensemble.trajectory.overlaps[:, -1, 0]
    assert len(set(ends)) == 3
    assert run_ensemble(engine(), 1, 500, seed=6).trajectory.overlaps[0, -1, 0] not in ends


def test_blocks_do_not_change_the_run(monkeypatch):
    whole = engine().run(SeedSequence(1), 3000, times=time_grid(3000))
    monkeypatch.setattr("sims.sgd.BLOCK_WORK", 80 * 37)
    cut = engine().run(SeedSequence(1), 3000, times=time_grid(3000))
    np.testing.assert_array_equal(whole.overlaps, cut.overlaps)
    np.testing.assert_array_equal(whole.escapes, cut.escapes)


def test_memory_grows_with_d_only():
    """A run of 10^4 samples in d = 10^5 allocates a few vectors of length d: no d × d, nothing of the run's length."""
    import tracemalloc

    big = OnlineSGD(model_of(MixedCumulant(corr=0.5)), 100_000, 0.5).warm_up()
    tracemalloc.start()
    big.run(SeedSequence(0), 50, times=np.array([0, 50]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 8 * big.dim


def test_stop_when_escaped_and_step_back_when_asked():
    run = engine(start=np.array([0.2, 0.1])).run(SeedSequence(2), 10**7, stop_spikes=("u", "v"))
    assert run.samples == run.escapes.max() < 10**7
    assert engine().run(SeedSequence(2), 10**6, on_block=lambda _: False) is None


def test_divergence_is_reported():
    from theory.activations import hermite_mixture

    wild = OnlineSGD(model_of(MixedCumulant(corr=0.5), hermite_mixture({4: 1.0})), 20, 1e200)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        wild.run(SeedSequence(0), 2000)


def test_quantiles_respect_censoring():
    inf = np.inf
    assert censored_quantile(np.array([3.0, inf, 1.0, inf]), 0.0) == 1
    assert censored_quantile(np.array([3.0, inf, 1.0]), 0.5) == 3
    assert censored_quantile(np.array([3.0, inf, 1.0, inf]), 0.5) == inf
    escapes = EscapeTimes(("v",), np.array([[1.0], [2.0], [3.0], [inf]]), 0.3, 10.0)
    assert escapes.n_censored("v") == 1
    assert escapes.quantile("v", 0.5) == 2.5
    assert escapes.median_interval("v")[1] == inf


def test_bootstrap_interval_covers_the_median(rng):
    """Exponential times censored at 2: the 95 % interval covers the true median log 2 in 95 % of trials (± 4 errors)."""
    trials, hits = 200, 0
    for k in range(trials):
        times = rng.exponential(size=(40, 1))
        times[times > 2] = np.inf
        low, high = EscapeTimes(("v",), times, 0.3, 2.0).median_interval("v", seed=k)
        hits += low <= np.log(2) <= high
    assert abs(hits / trials - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


def test_json_contract(capsys):
    assert main([*FAST, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1
    assert result["prediction"]["directions"]["v"]["escape_samples"] > 0
    simulation = result["simulation"]
    assert simulation["runs"] == 8
    assert not simulation["interrupted"]
    for spike in ("u", "v"):
        d = simulation["directions"][spike]
        assert d["median_ci95"][0] <= d["median"] <= (d["median_ci95"][1] or np.inf)
        assert d["quantiles"]["0.1"] <= d["quantiles"]["0.5"]
    assert main([*FAST, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["simulation"]
    assert again["directions"] == simulation["directions"]


def test_table_and_figure(capsys, tmp_path):
    assert main([*FAST, "--plot", str(tmp_path / "a.png")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "median/predicted" in out
    assert "below 5/sqrt(d)" in out
    assert (tmp_path / "a.png").stat().st_size > 20_000


def test_censored_runs_are_said(capsys):
    assert main(["--dim", "100", "--runs", "4", "--samples", "200", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "> budget" in out
    assert "4/4" in out


@pytest.mark.parametrize(("words", "message"), [
    (("--runs", "0"), "runs"), (("--seed", "-1"), "seed"), (("--dim", "5"), "dim"), (("--dim", "100,200"), "one dimension"),
    (("--batch", "0"), "batch"), (("--samples", "0"), "samples"), (("--samples", "many"), "samples"),
    (("--threads", "0"), "threads"), (("--corr", "0.9"), "0.797885"), (("--plot", "/nowhere/x.png"), "directory"),
    (("--dim", "1e8"), "10^7"), (("--samples", "nan"), "samples"), (("--samples", "inf"), "samples"),
    (("--task", "spiked-cumulant", "--dim", "1000"), "give --samples"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_bad_engine_arguments():
    for bad in ({"batch": 0}, {"start": None, "batch": -1}):
        with pytest.raises(InputError):
            engine(**bad)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_gives_the_finished_runs():
    command = [sys.executable, "-m", "sims.compare", "--corr", "0.5", "--dim", "200", "--runs", "100000", "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(15)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    result = json.loads(out)["simulation"]
    assert result["interrupted"]
    assert 0 < result["runs"] < 100_000
    assert run.returncode == 0
    assert err == ""  # not a terminal: no progress bar


def test_beside(capsys, tmp_path):
    """Two correlations at one learning rate: the second half of the JSON is a comparison of its own."""
    words = ["--p", "4", "--corr", "0.7", "--beside", "0", "--dim", "30", "--runs", "3", "--lr", "0.3", "--quiet"]
    assert main([*words, "--samples", "2000", "--json", "--plot", str(tmp_path / "c.png")]) == 0
    answer = json.loads(capsys.readouterr().out)
    beside = answer["beside"]
    assert (answer["prediction"]["model"]["corr"], beside["prediction"]["model"]["corr"]) == (0.7, 0.0)
    assert beside["prediction"]["run"]["lr"] == answer["prediction"]["run"]["lr"] == 0.3
    assert beside["simulation"]["samples"] == answer["simulation"]["samples"] == 2000
    assert (tmp_path / "c.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "words", [["--beside", "0"], ["--beside", "2"], ["--task", "spiked-cumulant", "--beside", "0"], ["--beside", "nan"]]
)
def test_bad_beside(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
