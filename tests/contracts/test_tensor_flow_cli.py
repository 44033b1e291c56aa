"""``python -m sims.tensor_flow``: table, JSON contract, figure, interruption, one line for bad input.

Would be falsified by: JSON that does not say what was run, an infinity in it, a bad option that starts work, an interruption
that is a traceback. No statistics here: tests/ladder/test_tensor_flow.py.
"""

import json

import pytest

from sims import tensor_flow_study
from sims.tensor_flow import flow_json, flow_table, main
from sims.tensor_flow_plots import plot_flow
from sims.tensor_flow_study import FlowStudy, run_study
from theory.tensor_pca import SpikedTensor

WORDS = ["--dims", "19,22", "--runs", "4", "--seed", "3", "--threads", "1", "--quiet"]
STUDY = FlowStudy(SpikedTensor(3, (1.0, 0.5)), (19, 22), 4, seed=3)


@pytest.fixture(scope="module")
def result():
    return run_study(STUDY, threads=1)


def test_json_contract(result):
    record = json.loads(flow_json(result))
    assert set(record) == {"schema", "model", "runs", "seed", "points", "growth", "interrupted"}
    assert record["model"] == {"p": 3, "snr": [1.0, 0.5], "threshold": 0.7}
    assert (record["schema"], record["runs"], record["seed"], record["interrupted"]) == (1, 4, 3, False)
    assert [p["dim"] for p in record["points"]] == [19, 22]
    for point in record["points"]:
        assert point["counts"][0] == 0.5
        assert point["counts"][-1] >= 8 * point["dim"] / 0.25
        assert point["runs"] == 4
        for goal in ("first", "all"):
            assert len(point[goal]["share"]) == len(point["counts"])
            assert len(point[goal]["ci95"]) == 2
    assert set(record["growth"]) == {"first", "all"}


def test_command_prints_the_same_as_python(result, capsys, tmp_path):
    assert main([*WORDS, "--plot", str(tmp_path / "a.png")]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (flow_table(result), "")
    assert (tmp_path / "a.png").stat().st_size > 20_000


def test_what_was_not_reached_is_null_and_drawn(result):
    """A ladder that ends too early: no n_half, no slope, no infinity in the JSON, and a figure all the same."""
    short = [
        tensor_flow_study.FlowPoint(
            p.dim, p.counts[:2], {g: r[:, :2] & False for g, r in p.reached.items()}, 1.0, 3, 0.0
        )
        for p in result.points
    ]
    unseen = tensor_flow_study.FlowResult(STUDY, tuple(short), True)
    record = json.loads(flow_json(unseen))
    assert record["growth"] == {"first": None, "all": None}
    assert record["points"][0]["all"]["n_half"] is None
    table = flow_table(unseen)
    assert "fewer than two N" in table
    assert "6 flows were given up" in table
    assert "INTERRUPTED" in table
    assert plot_flow(unseen).axes


def test_interrupted_before_anything_is_one_line(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_flow_study.FixedSampleFlow, "run", interrupt)
    assert main(WORDS) == 130
    assert capsys.readouterr() == ("", "sims.tensor_flow: interrupted before the first run was finished\n")


@pytest.mark.parametrize(("words", "message"), [
    ("--p 2", "p: got 2"), ("--p 9", "p: got 9"), ("--snr 1,x", "snr: got '1,x'"), ("--snr 0.5,1", "decreasing"),
    ("--snr 0", "snr"), ("--dims 20", "two or more"), ("--dims 20,20", "different"), ("--dims 20,x", "dims: got '20,x'"),
    ("--dims 10,20", "at least 19 at threshold 0.7"), ("--dims 20,5000", "memory"), ("--runs 3", "runs: got 3"),
    ("--threshold 1", "threshold"), ("--threshold nan", "threshold"), ("--seed -1", "seed"), ("--threads 0", "threads"),
    ("--plot a.bmp", "--plot"), ("--plot /no/x.png", "directory"), ("--dims 1e400,20", "dims"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
