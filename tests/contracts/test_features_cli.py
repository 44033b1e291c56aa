"""``python -m sims.random_features``: the JSON contract, table and figure, interruption, bad input.

Would be falsified by: JSON that does not say what was run, an interruption that loses finished points, a bad option that
starts work. No statistics here: tests/ladder/test_random_features.py.
"""

import json

import numpy as np
import pytest

from sims import features_study
from sims.features_report import features_json, features_table
from sims.features_study import CUMULANT, MIXED, FeaturesStudy, NetworkCurve, run_study
from sims.random_features import main

STUDY = FeaturesStudy((16, 24), 8, (1, 2), 2, 4.0, 3)


@pytest.fixture(scope="module")
def result():
    return run_study(STUDY)


def test_json_contract(result):
    record = json.loads(features_json(result))
    assert set(record) == {
        "schema", "hidden", "runs", "samples_factor", "seed", "exponent", "ci95", "points", "controls", "interrupted",
    }  # fmt: skip
    assert (record["schema"], record["hidden"], record["runs"], record["seed"]) == (1, 8, 2, 3)
    assert [(p["task"], p["dim"]) for p in record["points"]] == [(CUMULANT, 16), (MIXED, 16), (CUMULANT, 24)]
    for point in record["points"]:
        assert (point["samples"], point["censored"], record["exponent"]) == (None, 2, None)
        assert [f["width"] for f in point["features"]] == [point["dim"], 2 * point["dim"]]
        assert point["features"][0]["times"][-1] == point["network"]["times"][-1]
        assert 0 <= point["network"]["times"][-1] - 4 * point["dim"] ** 2 < 24  # whole blocks
    assert [(c["dim"], c["width"]) for c in record["controls"]] == [(16, 32), (16, 32), (24, 48), (24, 48)]


def test_table_and_figure(result, capsys, tmp_path):
    words = "--dims 16 --hidden 8 --width 1 --runs 2 --samples-factor 4 --seed 3 --quiet --plot"
    assert main([*words.split(), str(tmp_path / "a.png")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert (tmp_path / "a.png").stat().st_size > 20_000
    rows = features_table(result).splitlines()
    assert rows[2].startswith(f"| {CUMULANT} | 16 | > 4")
    assert out.splitlines()[2] == rows[2][: rows[2].rindex("|", 0, -1) + 1]  # the same runs, without the second width


def test_success_is_that_of_the_median_run():
    gain = np.array([[0.0, 0.2, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.12, 0.0]])
    curve = NetworkCurve(np.array([1, 10, 100, 1000]), 0.5 + gain, gain, 0)
    assert curve.found(0.1) == 2
    np.testing.assert_array_equal(curve.successes(0.1).of("v"), [10, np.inf, 100])
    assert curve.found(0.15) is None


def test_ctrl_c_keeps_the_finished_points(result, monkeypatch):
    def interrupted_after(n):
        points = iter(result.points[:n])

        def point(*_):
            try:
                return next(points)
            except StopIteration:
                raise KeyboardInterrupt from None

        return point

    monkeypatch.setattr(features_study, "_fit_features", lambda *_: result.points[0].features[1])
    monkeypatch.setattr(features_study, "_point", interrupted_after(2))
    partial = run_study(STUDY)
    assert partial.interrupted
    assert partial.points == result.points[:2]
    assert "INTERRUPTED" in features_table(partial)
    monkeypatch.setattr(features_study, "_point", interrupted_after(0))
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY)


@pytest.mark.parametrize(("words", "message"), [
    ("--dims 8", "dims"), ("--dims 32,32", "different"), ("--dims x", "dims"), ("--width 0", "width"),
    ("--width 2,2", "width"), ("--width 1000", "8192"), ("--hidden 0", "hidden"), ("--runs 1", "runs"), ("--seed -1", "seed"),
    ("--samples-factor 0", "samples-factor"), ("--samples-factor nan", "samples-factor"), ("--plot /no/x.png", "directory"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
