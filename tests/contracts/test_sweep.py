"""``python -m sims.sweep`` and ``sweep``: any view, runs that depend on hash and replica alone, commands, bad input.

Falsified here: that a run of a sweep is the run of its engine with the seed (hash, replica); that batches, their order and
workers change a bit of it; that a command loses or rewrites what is there. Deterministic: no false alarms.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from sims.batches import Unit
from sims.grid import read_grid
from sims.network_sgd import NetworkSGD
from sims.points import record_times, run_batch
from sims.sgd import OnlineSGD
from sims.sweep import main, sweep
from sims.sweep_table import overlaps_of
from solvers.chain import OverlapChain
from solvers.fokker_planck import FirstPassage
from solvers.ode import run_converged
from solvers.random_start import field_of, step_of
from solvers.sde import OverlapSDE
from tests.conftest import model_of
from theory.activations import relu
from theory.errors import InputError
from theory.latents import standard_latent
from theory.learners import SquaredLoss
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.population import Population
from theory.provenance import environment
from theory.results import replica_seed
from theory.store import Store
from theory.tasks import MixedCumulant, spiked_cumulant

NEURON = {"model": {"corr": 0.5}, "run": {"dim": 40, "lr": 0.3, "runs": 20, "samples": 4000}}
ALONE = {
    "model": {"task": "spiked-cumulant", "activation": "relu"},
    "run": {"dim": 40, "lr": 0.01, "runs": 5, "samples": 1e12},
}
NETWORK = {
    "model": {"corr": 0.5, "beta_m": 1, "beta_u": 5}, "network": {"hidden": 3},
    "run": {"dim": 30, "lr": 0.5, "runs": 4, "samples": 3000},
}  # fmt: skip
VIEWS = {
    **{view: {**NEURON, "run": {**NEURON["run"], "view": view}} for view in ("ode", "sde", "chain", "highd")},
    "chain recorded": {**NEURON, "run": {**NEURON["run"], "records": 12}},
    "chain recorded in batches": {**NEURON, "run": {**NEURON["run"], "records": 12, "batch": 7, "samples": 4003}},
    "chain from a start": {**NEURON, "run": {**NEURON["run"], "init": "u=0.2,v=0.1", "batch": 5}},
    "first-passage": {**ALONE, "run": {**ALONE["run"], "view": "first-passage"}},
    "network chain": {**NETWORK, "run": {**NETWORK["run"], "records": 6}},
    "network highd": {**NETWORK, "run": {**NETWORK["run"], "view": "highd"}},
}


def point_of(tables):
    (point,) = read_grid(tables).points()
    return point


def rows_of(point, *parts):
    """Runs by replica, without their wall time."""
    rows = [row for part in parts for row in run_batch([Unit(point.config, tuple(part))])[1]]
    assert all(row.error is None for row in rows), rows[0].error
    return {row.replica: row._replace(seconds=0.0) for row in rows}


@pytest.mark.parametrize("name", VIEWS)
def test_runs_do_not_depend_on_batch_or_order(name):
    point = point_of(VIEWS[name])
    together = rows_of(point, range(point.runs))
    assert len(together) == point.runs
    assert rows_of(point, *([i] for i in reversed(range(point.runs)))) == together
    assert rows_of(point, range(0, point.runs, 2), range(1, point.runs, 2)) == together


def test_sweep_vs_engine():
    """Every view called by hand with the seed that the hash stands for."""
    model, r = model_of(MixedCumulant(corr=0.5)), range(20)
    population = Population(model)

    def seen(name):
        point = point_of(VIEWS[name])
        rows = rows_of(point, range(point.runs))
        times = [[np.inf if t is None else t for t in json.loads(rows[i].result)] for i in sorted(rows)]
        return int(point.hash, 16), np.array(times)

    seed, times = seen("chain")
    chain = OverlapChain(model, 40, 0.3)
    np.testing.assert_array_equal(times, chain.run(20, 4000, seed, stop_spikes=("v",)).escapes.times)
    seed, times = seen("sde")
    engine = OverlapSDE(model.spikes, step_of(population, True), 40, 0.3)
    np.testing.assert_array_equal(times, engine.run(20, 4000, seed, stop_spikes=("v",)).escapes.times)
    seed, times = seen("highd")
    sgd = OnlineSGD(model, 40, 0.3)
    alone = [sgd.run(replica_seed(seed, i), 4000, stop_spikes=("v",)).escapes for i in r]
    np.testing.assert_array_equal(times, np.where(np.array(alone) < 0, np.inf, alone))
    seed, times = seen("ode")
    starts = [chain.first_state(replica_seed(seed, i))[:-1] for i in r]
    flows = np.array([run_converged(population, 40, 0.3, a, 0.3, True)[1].escape_samples for a in starts])
    np.testing.assert_allclose(times, np.where(flows <= 4000, flows, np.inf), rtol=1e-12)


def test_first_passage_times_have_their_law():
    """Shares of the law below the drawn times are the uniform numbers that drew them."""
    point = point_of(VIEWS["first-passage"])
    law = FirstPassage.of(field_of(Population(model_of(spiked_cumulant(standard_latent(4), 10.0))), True), 40, 0.01)
    drawn = [json.loads(row.result)[0] for row in rows_of(point, range(5)).values()]
    shares = [law.recovered(t).sum() for t in drawn]
    assert len(set(shares)) == 5
    np.testing.assert_allclose([law.quantile(u) for u in shares], drawn, rtol=1e-5)


def test_network_runs_are_those_of_the_engine():
    point = point_of(VIEWS["network highd"])
    learner = TwoLayer(relu(), SquaredLoss(), 3)
    engine = NetworkSGD(
        NetworkModel(MixedCumulant(corr=0.5, beta_m=1.0, beta_u=5.0), learner), 30, Rates(0.5, 0.05, 0.0, 0.15)
    )
    found = engine.run(4, 3000, int(point.hash, 16), 0.5, ("v",), np.empty(0, dtype=np.int64))
    rows = rows_of(point, range(4))
    times = [[np.inf if t is None else t for t in json.loads(rows[i].result)] for i in range(4)]
    np.testing.assert_array_equal(times, found.escapes.times)


def test_no_escape_lies_beyond_the_budget():
    """Networks look at escapes after blocks of samples, and the budget is a whole number of them."""
    tables = {"network": {"hidden": 4}, "run": {"dim": 60, "lr": 0.5, "samples": 25, "threshold": 0.35, "runs": 200}}
    point = point_of(tables)
    times = [t for row in rows_of(point, range(200)).values() for t in json.loads(row.result) if t is not None]
    assert 0 < max(times) <= point.values["samples"]


def test_what_is_recorded_in_batches_is_read(tmp_path):
    results = sweep(VIEWS["chain recorded in batches"], tmp_path / "store", workers=1)
    (point,) = results.points()
    path = results.trajectory(point.hash)
    assert path.overlaps.shape == (20, len(path.times), 2)
    assert np.isfinite(path.overlaps).all()


def test_records_are_overlaps_at_the_recorded_times():
    point = point_of(VIEWS["chain recorded"])
    times = record_times(point.values)
    row = rows_of(point, [3])[3]
    path = overlaps_of(Path("x"), row.trajectory, point.values)
    whole = OverlapChain(model_of(MixedCumulant(corr=0.5)), 40, 0.3).run([3], 4000, int(point.hash, 16), times=times)
    np.testing.assert_array_equal(path, whole.trajectory.overlaps[0].astype(np.float32))
    assert row.samples == 4000


def test_a_replica_that_diverges_is_alone_in_it():
    tables = {
        "model": {"corr": 0.5, "loss": "squared"},
        "network": {"hidden": 2, "lr_second": 1e6},
        "run": {"dim": 20, "lr": 1e6},
    }
    point = point_of({**tables, "run": {**tables["run"], "runs": 2, "samples": 5000}})
    rows = run_batch([Unit(point.config, (0, 1)), Unit(point_of(VIEWS["chain"]).config, (0,))])[1]
    assert [row.status for row in rows] == ["diverged", "diverged", "finished"]
    assert "not finite" in rows[0].error


def test_a_failing_replica_does_not_take_the_others_with_it(monkeypatch):
    run = OverlapChain.run

    def fragile(self, runs, *args, **kwargs):
        if 3 in runs:
            raise RuntimeError("of three")
        return run(self, runs, *args, **kwargs)

    monkeypatch.setattr(OverlapChain, "run", fragile)
    rows = run_batch([Unit(point_of(VIEWS["chain"]).config, tuple(range(5)))])[1]
    assert [row.status for row in rows] == ["finished"] * 3 + ["failed", "finished"]
    assert rows[3].error == "RuntimeError: of three"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "grid.toml"
    path.write_text("[model]\ncorr = [0.3, 0.5]\n[run]\ndim = [30, 40]\nlr = 0.3\nsamples = 2000\nruns = 6\n")
    return path


@pytest.fixture(scope="module")
def finished(grid, tmp_path_factory):
    """A store in which the grid has been run."""
    folder = tmp_path_factory.mktemp("finished") / "store"
    assert main(["run", str(grid), "--store", str(folder), "--workers", "1", "--quiet"]) == 0
    return folder


def checksum(folder):
    with Store.read(folder / "runs.db") as store:
        return store.checksum()


def test_library_gives_what_the_command_gives(grid, finished, tmp_path):
    results = sweep(grid, tmp_path / "store", workers=2)
    assert checksum(tmp_path / "store") == checksum(finished)
    table = results.to_pandas()
    assert len(table) == 24
    assert set(table["corr"]) == {0.3, 0.5}


def test_library_takes_any_executor_and_tables(finished, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    tables = {"model": {"corr": [0.3, 0.5]}, "run": {"dim": [30, 40], "lr": 0.3, "samples": 2000, "runs": 6}}
    with ThreadPoolExecutor(2) as pool:
        sweep(tables, tmp_path / "store", executor=pool)
    assert checksum(tmp_path / "store") == checksum(finished)


def test_shards_merged_are_the_whole(grid, finished, tmp_path, capsys):
    folder = str(tmp_path / "store")
    for i in range(3):
        assert main(["run", str(grid), "--store", folder, "--shard", f"{i}/3", "--workers", "1", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["status", "--store", folder]) == 0
    assert capsys.readouterr().out.count("left       0 runs") == 3
    assert main(["merge", "--store", folder]) == 0
    assert "3 files joined: 24 runs are new, 0 were known, 0 contradict" in capsys.readouterr().out
    assert checksum(tmp_path / "store") == checksum(finished)
    assert main(["merge", "--store", folder]) == 0
    assert "0 runs are new, 24 were known, 0 contradict" in capsys.readouterr().out


def test_a_larger_grid_runs_only_what_is_new(grid, tmp_path, capsys):
    folder, larger = str(tmp_path / "store"), tmp_path / "larger.toml"
    assert main(["run", str(grid), "--store", folder, "--workers", "1", "--quiet"]) == 0
    larger.write_text(grid.read_text().replace("runs = 6", "runs = 8").replace("[30, 40]", "[30, 40, 50]"))
    capsys.readouterr()
    assert main(["run", str(larger), "--store", folder, "--workers", "1", "--quiet"]) == 0
    assert f"{2 * 2 * 2 + 2 * 8} runs finished" in capsys.readouterr().out


def test_dry_run_counts_prices_and_writes_nothing(grid, tmp_path, capsys):
    assert main(["run", str(grid), "--store", str(tmp_path / "store"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 points, 24 runs" in out
    assert "escape time × cost of a sample" in out
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["run", "resume"])
def test_one_replica_alone(command, grid, finished, capsys):
    with Store.read(finished / "runs.db") as store:
        point = next(store.points())
        row = store.runs(point.hash)[4]
    words = [command, *([str(grid)] if command == "run" else []), "--store", str(finished), "--only", f"{point.hash}:4"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["escape_samples"] == json.loads(row.result)
    assert record["same_as_in_store"] is True
    assert record["spikes"] == point.values["spikes"]


def test_a_run_that_differs_from_the_store_is_told(finished, capsys, monkeypatch):
    with Store.read(finished / "runs.db") as store:
        point = next(store.points())
    monkeypatch.setattr("sims.points.seed_of", lambda _: 1)
    assert main(["resume", "--store", str(finished), "--only", f"{point.hash}:4"]) == 1
    assert json.loads(capsys.readouterr().out)["same_as_in_store"] is False


def test_rows_say_where_they_come_from(finished):
    with Store.read(finished / "runs.db") as store:
        (described,) = {row[0] for row in store.connection.execute(
            "SELECT description FROM environments WHERE id IN (SELECT environment FROM runs)"
        )}  # fmt: skip
        commands = [row[0] for row in store.connection.execute("SELECT command FROM commands")]
    assert json.loads(described) == json.loads(environment())
    assert {"numpy", "numba", "python", "commit", "platform", "host"} <= set(json.loads(described))
    assert commands[0].startswith("python -m sims.sweep run ")


def test_status_export_and_plot_read_what_is_there(finished, tmp_path, capsys):
    before = (finished / "runs.db").read_bytes()
    assert main(["status", "--store", str(finished), "--checksum"]) == 0
    assert "24 of 24" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "runs.csv"), "--store", str(finished)]) == 0
    assert main(["plot", str(tmp_path / "runs.png"), "--store", str(finished)]) == 0
    assert main(["plot", str(tmp_path / "one.png"), "--store", str(finished), "--where", "corr=0.5", "--x", "dim"]) == 0
    assert (finished / "runs.db").read_bytes() == before


def test_bad_words_are_one_line_and_exit_code_2(grid, finished, tmp_path, capsys):
    store = ["--store", str(finished)]
    cases = {
        ("run", str(tmp_path / "no.toml"), "--store", str(tmp_path / "s")): "no.toml",
        ("run", str(grid)): "--store: got nothing",
        ("run", str(grid), "--store", str(tmp_path / "a" / "b")): "create",
        ("run", str(grid), "--store", str(grid)): "--store: got",
        ("run", str(grid), *store, "--shard", "3/3"): "--shard: got '3/3'",
        ("run", str(grid), *store, "--shard", "1"): "--shard: got '1'",
        ("run", str(grid), *store, "--workers", "0"): "workers: got 0",
        ("run", str(grid), *store, "--scheduler", "tcp://127.0.0.1:1"): "--scheduler: got",
        ("run", str(grid), *store, "--only", "xyz"): "--only: got 'xyz'",
        ("run", str(grid), *store, "--only", "0123456789abcde:1"): "a point of this grid",
        ("resume", *store, "--only", "xyz:1"): "point: got 'xyz'",
        ("resume", *store, "--only", "0123456789abcde:-1"): "REPLICA with 0 <= REPLICA",
        ("run", str(grid), "--store", str(tmp_path / "s"), "--workers", "0"): "workers: got 0",
        ("merge", str(grid), "--store", str(tmp_path / "s")): "grid.toml",
        ("status", "--store", ""): "a folder",
        ("resume", "--store", str(tmp_path / "none")): "--store: got",
        ("resume", "--store", str(tmp_path)): "a store that is there",
        ("status", "--store", str(tmp_path)): "runs.db",
        ("merge", *store): "runs-*-of-*.db",
        ("export", str(tmp_path / "x.xls"), *store): ".nc",
        ("plot", str(tmp_path / "x.jpg"), *store): ".png",
        ("plot", str(tmp_path / "x.png"), *store, "--x", "colour"): "dim",
        ("plot", str(tmp_path / "x.png"), *store, "--where", "corr"): "KEY=VALUE",
        ("plot", str(tmp_path / "x.png"), *store, "--where", "corr=7"): "7",
        (): "COMMAND",
        ("fly",): "fly",
    }  # fmt: skip
    for words, message in cases.items():
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        error = capsys.readouterr().err
        assert stop.value.code == 2, words
        assert message in error, (words, error)
        assert error.count("\n") == 1, (words, error)
    assert not list(tmp_path.iterdir())


def test_errors_cross_processes():
    error = InputError("dim", 3, "10 … 10^7", "take more").at("grid.toml line 4")
    assert (
        str(pickle.loads(pickle.dumps(error)))
        == str(error)
        == "grid.toml line 4, dim: got 3; allowed: 10 … 10^7; take more"
    )


def test_help_is_fast_enough_to_need_no_numba(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "grid.toml" in capsys.readouterr().out
    assert sys.version_info >= (3, 11)
