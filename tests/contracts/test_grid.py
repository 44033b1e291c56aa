"""The TOML grid of a sweep: what it means, what docs/sweeps.md says of it, one line with key and line number for bad ones.

Falsified here: that a grid's points are all combinations of its lists, that a point's hash depends on nothing but what is
run, and that a bad grid is refused whole. Deterministic: no false alarms.
"""

import json
import re
from pathlib import Path

import pytest

from sims.grid import KEYS, REQUIRED, TABLES, read_grid
from sims.sweep_plan import plan
from theory.errors import InputError
from theory.provenance import digest

DOCS = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
SMALL = {"model": {"corr": 0.5}, "run": {"dim": 50, "runs": 3}}


def points(**run):
    return list(read_grid({**SMALL, "run": {**SMALL["run"], **run}}).points())


def written(tmp_path, text):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return path


def test_points_are_all_combinations():
    grid = read_grid({"model": {"corr": [0.3, 0.5]}, "run": {"dim": [50, 80], "lr": [0.1, 0.2, 0.4], "runs": 2}})
    seen = [(p.values["corr"], p.values["dim"], p.values["lr"]) for p in grid.points()]
    assert seen == [(c, d, lr) for c in (0.3, 0.5) for d in (50, 80) for lr in (0.1, 0.2, 0.4)]
    assert grid.n_points == 12 == len({p.hash for p in grid.points()})


def test_hash_is_of_what_is_run_and_of_nothing_else():
    (base,) = points()
    assert points(runs=7)[0].hash == base.hash  # more runs of the same point
    assert points(lr=base.values["lr"])[0].hash == base.hash  # what auto chose, written out
    assert points(samples=base.values["samples"])[0].hash == base.hash
    assert points(dim=50.0)[0].hash == base.hash
    for change in ({"seed": 1}, {"dim": 51}, {"threshold": 0.31}, {"batch": 2}, {"view": "sde"}, {"records": 5}):
        assert points(**change)[0].hash != base.hash, change
    assert base.hash == digest(json.dumps(base.values, sort_keys=True, separators=(",", ":")))


def test_rates_and_budgets_of_the_theory_are_rounded_alike_everywhere():
    (point,) = points()
    assert point.values["lr"] == float(f"{point.values['lr']:.6g}")
    assert point.values["samples"] == float(f"{point.values['samples']:.3g}")


def test_what_the_words_left_open_is_written_out_to_the_last_digit():
    (open_, said) = points(), points()
    assert (open_[0].values["activation"], open_[0].values["beta_u"]) == ("relu", 1.0)
    tables = {"model": {"task": "spiked-cumulant", "p": 3}, "run": {"dim": 50, "runs": 1}}
    (point,) = read_grid(tables).points()
    assert point.values["activation"] == f"hermite:2={0.5**0.5!r},3=1.0"
    (said,) = read_grid({**tables, "model": {**tables["model"], "activation": point.values["activation"]}}).points()
    assert said.hash == point.hash


def test_budgets_are_whole_batches():
    assert points(batch=7, samples=1000)[0].values["samples"] == 994


def test_kappa_is_a_multiple_of_the_critical_rate():
    one, two = (p.values["lr"] for p in points(kappa=[0.5, 1.0]))
    assert two == pytest.approx(2 * one, rel=1e-5)


def test_one_flow_from_one_start_is_one_run():
    assert [p.runs for p in points(view=["ode", "chain"], init="typical", runs=5)] == [1, 5]
    assert points(view="ode", runs=5)[0].runs == 5  # from a random start each


def test_typical_start_is_written_out():
    (point,) = points(init="typical")
    overlaps = dict(word.split("=") for word in point.values["init"].split(","))
    assert {abs(float(x)) for x in overlaps.values()} == {50**-0.5}


BAD = {
    "p out of range": ("[model]\np = 9\n[run]\ndim = 50\nruns = 1", "line 2, p: got 9; allowed: 3 … 8"),
    "misspelt key": ("[model]\nbeta-u = 1\n[run]\ndim = 50\nruns = 1", "line 2, beta-u: .*did you mean beta_u"),
    "key of another table": ("[model]\ndim = 9\n[run]\nruns = 1", r"line 2, dim: .*did you mean dim in \[run\]"),
    "unknown table": ("[modl]\np = 4", "line 1, modl: .*did you mean model"),
    "no table": ("p = 4", "line 1, p: "),
    "word in a list of numbers": ("[run]\ndim = [50, 'x']\nruns = 1", "line 2, dim: got 'x'; allowed: a whole number"),
    "truth value": ("[run]\ndim = 50\nruns = true", "line 3, runs: got True"),
    "infinite": ("[model]\ncorr = inf\n[run]\ndim = 50\nruns = 1", "line 2, corr: got inf"),
    "fraction": ("[run]\ndim = 50.5\nruns = 1", "line 2, dim: got 50.5"),
    "twice the same": ("[run]\ndim = [50, 50.0]\nruns = 1", "line 2, dim: .*different values"),
    "empty axis": ("[run]\ndim = []\nruns = 1", "line 2, dim: got \\[\\]"),
    "list where there is no axis": ("[run]\ndim = 50\nruns = [1, 2]", "line 3, runs: .*cannot be an axis"),
    "no dim": ("[run]\nruns = 1", r"dim: got nothing; allowed: a whole number, in \[run\]"),
    "no runs": ("[run]\ndim = 50\nruns = 0", "line 3, runs: got 0"),
    "negative seed": ("[run]\ndim = 50\nruns = 1\nseed = -1", "line 4, seed: got -1"),
    "too correlated at one point": (
        "[model]\ncorr = [0.5, 0.99]\np = [3, 4]\n[run]\ndim = 50\nruns = 1", "line 2, corr: got 0.99.*at p = 3",
    ),
    "negative d": ("[run]\ndim = -3\nruns = 1", "line 2, dim: got -3"),
    "no d at all": ("[run]\ndim = 0\nruns = 1", "line 2, dim: got 0"),
    "endless d": ("[run]\ndim = 1e300\nruns = 1", "line 2, dim: got 1"),
    "number too long to read": (f"[run]\ndim = {'9' * 5000}\nruns = 1", "allowed: a TOML file"),
    "less than a batch": ("[run]\ndim = 50\nruns = 1\nbatch = 10\nsamples = 5", "line 5, samples: got 5"),
    "newline in a word": ('[run]\ndim = 50\nruns = 1\ntarget = "u\\nv"', "line 4, target: "),
    "small d": ("[run]\nview = 'highd'\ndim = 5\nruns = 1", "line 3, dim: got 5"),
    "threshold": ("[run]\ndim = 50\nruns = 1\nthreshold = 1.5", "line 4, threshold: got 1.5"),
    "view without the model": ("[run]\nview = 'first-passage'\ndim = 50\nruns = 1", "line 2, view: .*several spikes"),
    "lr and kappa": ("[run]\ndim = 50\nruns = 1\nlr = 0.1\nkappa = 2", "line 4, lr: got 0.1; allowed: nothing beside"),
    "batch of a view without": ("[run]\nview = 'sde'\nbatch = 2\ndim = 50\nruns = 1", "line 3, batch: got 2"),
    "records of a law": (
        "[model]\ntask = 'spiked-cumulant'\n[run]\nview = 'first-passage'\nrecords = 9\ndim = 50\nruns = 1",
        "line 5, records: got 9",
    ),
    "target": ("[run]\ndim = 50\nruns = 1\ntarget = 'w'", "line 4, target: got w; allowed: one of u, v"),
    "init": ("[run]\ndim = 50\nruns = 1\ninit = 'u=2'", "line 4, init: "),
    "teacher": (
        "[model]\ntask = 'teacher-student'\nteacher = '__import__(1)'\n[run]\ndim = 50\nruns = 1", "line 3, teacher: ",
    ),
    "network without samples": ("[network]\nhidden = 4\n[run]\ndim = 50\nruns = 1\nlr = 0.5", "samples: got auto"),
    "network without neurons": ("[network]\n[run]\ndim = 50\nruns = 1", "hidden: got nothing"),
    "network and a view of neurons": (
        "[network]\nhidden = 4\n[run]\nview = 'sde'\ndim = 50\nruns = 1\nlr = 0.5\nsamples = 100", "line 4, view: got sde",
    ),
    "not TOML": ("[run\ndim = 50", "allowed: a TOML file; .*line 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_grids_are_refused_in_one_line(case, tmp_path):
    text, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught, plan(read_grid(written(tmp_path, text))):
        pass
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "grid.toml") in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_bytes(b"\xff\xfe[run]")
    with pytest.raises(InputError, match="UTF-8"):
        read_grid(path)


def test_documentation_lists_every_key_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| `\[(\w+)\]` \| ([^|]*) \|", DOCS, re.M)
    assert {name: table for name, table, _ in rows} == {name: key.table for name, key in KEYS.items()}
    for name, _, default in rows:
        expected = KEYS[name].default
        if expected is REQUIRED:
            assert default == "none", name
        elif expected is not None:
            assert default.strip('`"') == str(expected).removesuffix(".0"), name
    assert {key.table for key in KEYS.values()} == set(TABLES)


def test_example_of_the_documentation_is_a_grid(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS, re.S)
    with plan(read_grid(written(tmp_path, example))) as planned:
        assert (planned.n_points, planned.n_runs) == (12, 1200)
