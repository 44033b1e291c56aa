"""``python -m solvers.identify``: table, JSON contract, figures, CSV of one's own, one line for bad input."""

import json
import sys

import networkx as nx
import numpy as np
import pytest

from solvers.identify import main
from tests.conftest import SEED
from theory.hierarchy import symmetric

FAST = ["--graphs", "3", "--leaves", "5", "--samples", "300,3000", "--seed", str(SEED), "--quiet"]


def written(folder, n=20_000):
    """Samples of two cherries, as people would write them."""
    hierarchy = symmetric({"u": None, "w": "u", "red": "u", "blue": "u", "cat": "w", "dog": "w"}, 0.8)
    states = hierarchy.sample(n, np.random.default_rng(SEED))[:, 2:]
    path = folder / "mine.csv"
    np.savetxt(path, states, fmt="%d", delimiter=",", header="red,blue,cat,dog", comments="")
    return path


def test_json_contract(capsys):
    assert main([*FAST, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["schema"], out["samples"], out["level"], out["interrupted"]) == (1, [300, 3000], 0.05, False)
    model = {"kind": "tree", "graphs": 3, "leaves": 5, "states": 2, "strength": 0.4, "seed": SEED}
    assert out["model"] == model
    assert list(out["methods"]) == ["rank tests", "average linkage", "neighbour joining"]
    for method in out["methods"].values():
        assert 0 <= method["f1"]["low"][0] <= method["f1"]["mean"][0] <= method["f1"]["high"][0] <= 1
        assert method["distance"]["mean"][0] >= 0
        assert set(method["exact"]) == set(method["false_latent"]) == {"share", "low", "high"}


def test_same_seed_same_numbers(capsys):
    outs = []
    for _ in range(2):
        assert main([*FAST, "--kind", "dag", "--json"]) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]
    assert list(json.loads(outs[0])["methods"]) == ["rank tests", "average linkage"]


def test_table_and_figure(tmp_path, capsys):
    for kind in ("tree", "dag"):
        path = tmp_path / f"{kind}.png"
        assert main([*FAST, "--kind", kind, "--plot", str(path)]) == 0
        assert "neighbour joining" in capsys.readouterr().out or kind == "dag"
        assert path.stat().st_size > 10_000


def test_own_data(tmp_path, capsys):
    path = written(tmp_path)
    assert main(["--data", str(path), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["samples"], out["leaves"], out["directed"]) == (20_000, ["red", "blue", "cat", "dog"], False)
    graph = nx.Graph(out["edges"])
    assert nx.shortest_path_length(graph, "red", "blue") == nx.shortest_path_length(graph, "cat", "dog") == 2
    assert nx.shortest_path_length(graph, "red", "cat") == 3
    assert main(["--data", str(path), "--plot", str(tmp_path / "mine.svg")]) == 0
    assert "blue, h2, red" in capsys.readouterr().out
    assert (tmp_path / "mine.svg").stat().st_size > 1000


def test_few_samples_say_what_is_assumed(tmp_path, capsys):
    assert main(["--data", str(written(tmp_path, 60)), "--level", "0.001"]) == 0
    assert "assumed a star" in capsys.readouterr().out


def test_digits(tmp_path, capsys):
    pytest.importorskip("sklearn")
    assert main(["--digits", "--json", "--plot", str(tmp_path / "digits.png")]) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["images"], out["quartets"], len(out["regions"])) == (1797, 1820, 14)
    assert out["refuted_quartets"] > 0
    assert out["checks"]["rank tests"]["contiguity"]["p_value"] < 0.05
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_without_scikit_learn(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SystemExit) as stop:
        main(["--digits"])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert "pip install 'downstairs[digits]'" in error
    assert error.count("\n") == 1


BAD = {
    ("--graphs", "1"): "graphs: got 1",
    ("--graphs", "two"): "two",
    ("--leaves", "3"): "leaves: got 3",
    ("--leaves", "40"): "leaves: got 40",
    ("--states", "1"): "states: got 1",
    ("--states", "3", "--leaves", "9"): "leaves: got 9; allowed: 4 … 7 with 3 states",
    ("--samples", "10"): "samples: got 10",
    ("--samples", "1000,1000"): "samples: got 1000,1000",
    ("--samples", "many"): "samples: got 'many'",
    ("--samples", "1e400"): "samples: got '1e400'",
    ("--level", "0"): "level: got 0.0",
    ("--level", "nan"): "level: got nan",
    ("--strength", "0.9"): "strength: got 0.9",
    ("--branches", "7"): "branches: got 7",
    ("--kind", "dag", "--branches", "2"): "--branches: got 2",
    ("--kind", "forest"): "forest",
    ("--seed", "-1"): "seed: got -1",
    ("--digits", "--leaves", "9"): "--leaves: got 9",
    ("--digits", "--data", "x.csv"): "not allowed with",
    ("--digits", "--level", "2"): "level: got 2.0",
    ("--data", "missing.csv"): "--data: got missing.csv",
    ("--plot", "found.bmp"): "--plot: got found.bmp",
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--quiet"])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert BAD[words] in error
    assert error.count("\n") == 1


FILES = {
    "": "line 1",
    "a,b,c,d\n": "samples below the names",
    "a,,c,d\n0,0,1,1\n": "line 1",
    "a,b,c,d\n0,0,1\n": "line 2",
    "a,b,c,d\n0,0,1,1\n0,x,1,1\n": "line 3",
    "a,b,c,d\n0,0.5,1,1\n": "line 2",
    "a,b,c,d\n0,-1,1,1\n": "line 2",
    "a,b,c,d\n0,1e99,1,1\n": "line 2",
    "a,b,c,d\n0,0,1,1\n1,0,0,0\n": "b is always 0",
    "a,a,c,d\n0,0,1,1\n1,1,0,0\n": "different names",
    "h1,b,c,d\n0,0,1,1\n1,1,0,0\n": "h1",
    "a,b,c\n0,0,1\n1,1,0\n": "leaves: got 3",
    "a,b,c,d\n0,0,1,9\n1,1,0,0\n": "0 … 5",
    'a,b,c,d\n"0,0,1,1\n': "CSV",
}  # fmt: skip


@pytest.mark.parametrize("text", FILES)
def test_bad_files_are_one_line(text, tmp_path, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(path), "--plot", str(tmp_path / "no.png")])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert FILES[text] in error
    assert error.count("\n") == 1
    assert not (tmp_path / "no.png").exists()
