"""``--store``: commands compute once what they show twice, and figures say where they come from.

Falsified here: that ``sims.compare``, ``sims.scaling`` and ``solvers.phase`` print with a store what they print without, and
compute nothing that a store has. Deterministic: no false alarms.
"""

import json
import re
import zlib

import pytest

from sims import compare, kept_ensemble, scaling, scaling_engines
from sims.network_scaling import Arm
from solvers import phase, phase_diagram
from tests.conftest import model_of
from theory.activations import hermite_mixture, relu
from theory.archive import completed, fingerprint
from theory.latents import lobatto
from theory.learners import SquaredLoss
from theory.networks import NetworkModel, TwoLayer
from theory.store import FINISHED, Point, Run, Store
from theory.tasks import MixedCumulant

COMMANDS = {
    "compare": (compare.main, ["--dim", "60", "--corr", "0.5", "--runs", "5", "--samples", "3000", "--quiet"]),
    "compare from a start": (
        compare.main, ["--dim", "60", "--corr", "0.5", "--runs", "2", "--init", "u=0.2,v=0.1", "--samples", "900", "--quiet"],
    ),
    "scaling": (scaling.main, ["--corr", "0.5", "--dims", "100,200", "--runs", "35", "--quiet"]),
    "scaling ode": (
        scaling.main, ["--engine", "ode", "--corr", "0.5", "--dims", "100,200", "--lr-scaling", "constant", "--quiet"],
    ),
    "scaling sde": (
        scaling.main,
        ["--task", "spiked-cumulant", "--p", "3", "--engine", "sde", "--dims", "300,500", "--runs", "5", "--quiet"],
    ),
    "scaling network": (
        scaling.main,
        ["--hidden", "2", "--dims", "20,30", "--corr", "0.5", "--runs", "3", "--samples", "2e4", "--keep-small", "--quiet"],
    ),
    "phase": (phase.main, ["--x", "0,0.6,3", "--y", "100,1e4,3", "--quiet"]),
    "phase rates": (phase.main, ["--plane", "lr,dim", "--x", "1e-3,1,3", "--y", "100,1e4,3", "--quiet"]),
}  # fmt: skip


def printed(capsys, name, *words):
    main, options = COMMANDS[name]
    assert main([*options, "--json", *words]) == 0
    out = json.loads(capsys.readouterr().out)
    if "simulation" in out:
        out["simulation"].pop("seconds")
    return out


@pytest.mark.parametrize("name", COMMANDS)
def test_store_changes_no_number_and_is_asked_first(name, tmp_path, capsys, monkeypatch):
    plain = printed(capsys, name)
    store = ("--store", str(tmp_path / "store"))
    assert printed(capsys, name, *store) == plain

    def forbidden(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(kept_ensemble, "run_ensemble", forbidden)
    for engine in scaling_engines.ENGINES.values():
        monkeypatch.setitem(engine.__dict__, "measure", forbidden)
    monkeypatch.setattr(Arm, "_run", forbidden)
    monkeypatch.setattr(phase_diagram, "_answer", forbidden)
    assert printed(capsys, name, *store) == plain


@pytest.mark.parametrize("name", ["scaling", "scaling network"])
def test_controls_left_out_are_not_taken_for_controls(name, tmp_path, capsys):
    store = ("--store", str(tmp_path / "store"))
    without = printed(capsys, name, *store, "--no-controls")
    assert printed(capsys, name, *store) == printed(capsys, name) != without
    assert printed(capsys, name, *store, "--no-controls") == without


def test_more_runs_reuse_those_that_are_there(tmp_path, capsys, monkeypatch):
    store = ("--store", str(tmp_path / "store"))
    printed(capsys, "compare", *store)
    asked = []
    run = kept_ensemble.run_ensemble
    monkeypatch.setattr(kept_ensemble, "run_ensemble", lambda e, r, *a: (asked.extend(r), run(e, r, *a))[1])
    more = printed(capsys, "compare", *store, "--runs", "8")
    assert asked == [5, 6, 7]
    assert more == printed(capsys, "compare", "--runs", "8")


def test_models_are_told_apart_to_the_last_digit():
    """What tables print of an activation or a latent is rounded; what tells points apart is not."""

    def models(c, node):
        activation, task = hermite_mixture({2: 0.7, 4: c}), MixedCumulant(lobatto(4, node), corr=0.3)
        network = TwoLayer(activation, SquaredLoss(), 3)
        return model_of(task, activation), NetworkModel(task, network)

    for model, again, *others in zip(
        models(0.3, 2), models(0.3, 2), models(0.3 + 1e-12, 2), models(0.3, 2 + 1e-12), strict=True
    ):
        assert fingerprint(model) == fingerprint(again)
        for other in others:
            assert model.learner.activation.name == other.learner.activation.name
            assert model.task.settings() == other.task.settings()
            assert fingerprint(model) != fingerprint(other)
    assert fingerprint(models(0.3, 2)[1]) != fingerprint(NetworkModel(model.task, TwoLayer(relu(), SquaredLoss(), 3)))


def test_what_was_computed_before_an_interruption_is_kept(tmp_path):
    point = Point.of("test", {"a": 1}, 7, 0.0)

    def compute(replicas):
        if 4 in replicas:
            raise KeyboardInterrupt
        return [Run(point.hash, i, FINISHED, f"[{i}.0]", False, 1.0, 0.0) for i in replicas]

    with Store.write(tmp_path / "runs.db") as store:
        rows, interrupted = completed(store, point, compute, 2)
        assert interrupted
        assert [row.replica for row in rows] == [0, 1, 2, 3]
    asked = []

    def again(replicas):
        asked.extend(replicas)
        return [Run(point.hash, i, FINISHED, f"[{i}.0]", False, 1.0, 0.0) for i in replicas]

    with Store.write(tmp_path / "runs.db") as store:
        rows, interrupted = completed(store, point, again, 2)
    assert not interrupted
    assert asked == [4, 5, 6]
    assert [row.result for row in rows] == [f"[{i}.0]" for i in range(7)]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_say_where_they_come_from(suffix, tmp_path):
    def words(*more):
        path = tmp_path / f"figure{suffix}"
        assert phase.main(["--x", "0,0.6,2", "--y", "100,1e3,2", "--quiet", "--plot", str(path), *more]) == 0
        data = path.read_bytes()
        streams = b"".join(_inflated(part) for part in re.findall(rb"stream\r?\n(.*?)endstream", data, re.S))
        text = (data + streams).decode("latin-1")
        assert "python -m solvers.phase" in text
        return re.search(r"configuration ([0-9a-f]{15})", text)[1]

    assert words() == words("--workers", "1") != words("--threshold", "0.25")


def _inflated(data):
    try:
        return zlib.decompress(data)
    except zlib.error:
        return b""
