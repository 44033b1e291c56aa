"""``python -m sims.complexities``: every curve under its own criterion, numbers twice, store, interruption, bad input.

Would be falsified by: a test that beats the bound for all tests, a curve under another one's criterion, a run beyond its
budget printed as a number, stored runs computed again, finished points lost.
"""

import json
from dataclasses import replace
from math import floor, inf

import numpy as np
import pytest
from scipy.stats import binom

from sims import complexities_curves
from sims.complexities import main
from sims.complexities_curves import run_complexities
from sims.complexities_plots import plot_complexities
from sims.complexities_report import complexities_json, complexities_table
from sims.complexities_study import (
    CRITERIA,
    DETECTION,
    FAR,
    LEVEL,
    SUBJECT,
    ComplexityStudy,
    Curve,
    Point,
    crossings,
    record_times,
)  # fmt: skip
from solvers.likelihood_ratio import likelihood_ratios
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM
from theory.archive import archive

STUDY = ComplexityStudy((6, 8, 40, 42), 2, SEED, 20.0, 2000, hidden=8, features=48)
CURVES = {
    "statistical": "bound", "D = 4": "low degree", "D = 8": "low degree", "likelihood ratio": "test", "neuron": "recovery",
    "network": "recovery", "network, accuracy": "accuracy", "random features": "accuracy",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def result(folder):
    with archive(folder, "first") as store:
        return run_complexities(STUDY, store=store)


def test_every_curve_under_its_own_criterion(result):
    record = json.loads(complexities_json(result))
    assert record["schema"] == 1
    assert {name: curve["criterion"] for name, curve in record["curves"].items()} == CURVES
    assert set(record["criteria"]) == set(CURVES.values())
    table = complexities_table(result)
    places = [table.index(line) for words in CRITERIA.values() for line in [f"criterion  {words}"]]
    assert places == sorted(places)
    for name, criterion in CURVES.items():
        above = table[: table.index(f"\n{name}: ")]
        assert above.rindex(f"criterion  {CRITERIA[criterion]}") == above.rindex("criterion  ")


def test_dims_of_each_curve(result):
    dims = {curve.name: [p.dim for p in curve.points] for curve in result.curves}
    assert dims["statistical"] == dims["D = 8"] == [6, 8, 40, 42, *FAR]
    assert dims["likelihood ratio"] == [6, 8]
    assert dims["neuron"] == [40, 42, *FAR]  # 0.8 >= 5/√d
    assert dims["random features"] == [6, 8, 40, 42]
    assert set(dims["network"]) <= set(dims["network, accuracy"]) == {40, 42}


def test_a_median_beyond_the_budget_is_no_number(result):
    points = json.loads(complexities_json(result))["curves"]["random features"]["points"]
    last = points[-1]
    assert (last["samples"], last["ci95"], last["censored"], last["budget"]) == (None, [None, None], 2, 2000)
    assert last["reached"]["accuracy"] == pytest.approx(0.5, abs=0.02)
    assert "42  > 2000  > 47.6  > 1.13  ridge  beyond         2/2" in complexities_table(result)
    assert result.of("random features").exponent is None


def test_degree_four_vs_closed_form(result):
    """One term is left of degree <= 4: n (s⁴ E[He_4(ν)])²/4! E[ω⁴] = 1, E[ω⁴] = (3d - 2)/d³ for entries ±1/√d."""
    for p in result.of("D = 4").points:
        assert p.samples == pytest.approx(6 * p.dim**3 / ((10 / 11) ** 4 * (3 * p.dim - 2)), rel=1e-8)


@pytest.mark.parametrize("dim", [4, 7])
def test_likelihood_ratio_vs_bound_of_all_tests(dim):
    """‖L_n‖² <= 2 gives total variation <= ½, so the best of all tests errs with probability >= 1/4 up to there."""
    n = floor(DETECTION.statistical_threshold(dim, LEVEL))
    assert DETECTION.log_norm(n, dim) <= np.log(2)
    found = likelihood_ratios(DETECTION, dim, n, 1000, SEED)
    assert binom.cdf(round(found.error[0] * 2000), 2000, 0.25) > FALSE_ALARM
    late = likelihood_ratios(DETECTION, dim, 3 * n, 1000, SEED)  # and what the bound forbids does happen beyond it
    assert binom.cdf(round(late.error[0] * 2000), 2000, 0.25) < FALSE_ALARM


def test_likelihood_ratio_point_vs_fresh_data(result):
    """At the n that is printed the test errs 1/4 of the time, to the error of 1000 data sets of each kind, twice."""
    for p in result.of("likelihood ratio").points:
        around = [floor(p.samples), floor(p.samples) + 1]
        errors = [likelihood_ratios(DETECTION, p.dim, n, 1000, SEED + 1).error[0] for n in around]
        found = np.interp(np.log(p.samples), np.log(around), errors)
        assert abs(found - 0.25) < Z_ALARM * (2 * 0.25 * 0.75 / 2000) ** 0.5
        assert p.interval[0] < p.samples < p.interval[1]
        assert p.interval[0] >= DETECTION.statistical_threshold(p.dim, LEVEL)


def test_neuron_vs_first_passage_law(result):
    """Medians of 8 runs lie about the exact law's: log n has a deviation of about 0.8 over runs, so 0.4 over medians of 8."""

    def law(dim):
        return SUBJECT.predicted(dim, 4 * SUBJECT.critical_rate(dim))

    curve = result.of("neuron")
    off = [np.log(p.samples / law(p.dim)) for p in curve.points]
    assert {p.view for p in curve.points if p.dim < 100} == {"chain"}
    assert abs(np.mean(off)) < Z_ALARM * 0.4 / len(off) ** 0.5
    x, y = np.log(np.array(curve.predicted)).T
    assert np.interp(np.log(256), x, y) == pytest.approx(np.log(law(256)), abs=0.02)
    assert (y[-1] - y[-2]) / (x[-1] - x[-2]) == pytest.approx(3, abs=0.01)


def test_crossings_vs_by_hand():
    times = np.array([10, 100, 1000])
    values = np.array([[0.5, 0.51, 0.53], [0.6, 0.4, 0.4], [0.5, 0.51, 0.519], [0.5, 0.53, 0.4]])
    found = crossings(times, values, 0.52)
    np.testing.assert_allclose(found, [100 * 10**0.5, 10, inf, 10 ** (1 + 2 / 3)])


def test_record_times():
    times = record_times(8, 10_000)
    assert (times[0], times[-1]) == (256, 10_000)
    assert np.all(times[1:] / times[:-1] < 2**0.5 + 0.01)
    np.testing.assert_array_equal(record_times(100, 2000), [2000])


def test_stored_runs_are_not_computed_again(result, folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(complexities_curves, "likelihood_ratios", never)
    for view in (complexities_curves.NetworkSGD, complexities_curves.GramChain, complexities_curves.RandomFeatures):
        monkeypatch.setattr(view, "run", never)
    monkeypatch.setattr("solvers.chain.OverlapChain.run", never)
    with archive(folder, "again") as store:
        assert run_complexities(STUDY, store=store) == result


def test_ctrl_c_keeps_the_finished_points(result, monkeypatch):
    run, seen = complexities_curves.RandomFeatures.run, []

    def interrupted(self, *words, **more):
        seen.append(self.dim)
        if self.dim == 8:
            raise KeyboardInterrupt
        return run(self, *words, **more)

    monkeypatch.setattr(complexities_curves.RandomFeatures, "run", interrupted)
    without = {"_likelihood_ratio", "_neuron", "_network", "_network_accuracy"}
    for name in without:
        monkeypatch.setattr(complexities_curves, name, lambda *_: (Curve("none", "test", "", ()), False))
    partial = run_complexities(STUDY)
    assert (seen, partial.interrupted) == ([6, 8], True)
    assert [c.name for c in partial.curves] == ["statistical", "D = 4", "D = 8", "random features"]
    assert partial.of("random features").points == result.of("random features").points[:1]
    assert "INTERRUPTED" in complexities_table(partial)
    plot_complexities(partial)


def test_table_and_figure(result, monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(complexities_curves, "run_complexities", lambda *words: asked.append(words) or result)
    words = "--dims 8,12,48,64 --runs 3 --seed 5 --samples-factor 30 --feature-samples 1e3 --quiet"
    assert main([*words.split(), "--plot", str(tmp_path / "all.png")]) == 0
    assert asked == [(ComplexityStudy((8, 12, 48, 64), 3, 5, 30.0, 1000), True, None)]
    assert capsys.readouterr().out == complexities_table(result)
    assert (tmp_path / "all.png").stat().st_size > 30_000
    labels = [text.get_text() for text in plot_complexities(result).legends[0].get_texts()]
    titles = [k for k, label in enumerate(labels) if label.isupper() or label.split()[0].strip(":").isupper()]
    assert len(titles) == len(CRITERIA) + 1


def test_an_open_interval_is_drawn_and_printed(result):
    points = (
        Point(40, 10.0, (5.0, inf), "online SGD", 4, 1, 20.0),
        Point(42, inf, (inf, inf), "online SGD", 4, 4, 20.0),
    )
    curve = Curve("network", "recovery", "", points, 2.0, (1.0, inf))
    changed = replace(result, curves=(result.of("statistical"), curve))
    assert "5 – > 20" in complexities_table(changed)
    labels = [text.get_text() for text in plot_complexities(changed).legends[0].get_texts()]
    assert any("[1.00, open]" in label for label in labels)


BAD = {
    ("--dims", "8,12"): "dims: got 8,12; allowed: two or more of them in 40 … 100",
    ("--dims", "48,48,64"): "dims: got 48,48,64",
    ("--dims", "48,x"): "dims: got '48,x'",
    ("--dims", "48,64,5000"): "dims: got 48,64,5000",
    ("--dims", "3,48,64"): "dims: got 3,48,64",
    ("--runs", "1"): "runs: got 1",
    ("--seed", "-1"): "seed: got -1",
    ("--samples-factor", "nan"): "samples-factor: got nan",
    ("--feature-samples", "10"): "feature-samples: got 10",
    ("--hours", "1e-3"): "hours of work",
    ("--plot", "figure.bmp"): "--plot: got figure.bmp",
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_line_and_start_nothing(words, capsys, monkeypatch):
    monkeypatch.setattr(complexities_curves, "run_complexities", None)
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert BAD[words] in error
    assert error.count("\n") == 1
