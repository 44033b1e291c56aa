"""Phase diagrams: every point against ``predict``, the JSON contract, one line for bad input.

Falsified here: that the diagram's short cuts (near and far drift, bisected rate, fixed points shared by all d, crossing
stopped early) change an answer. Deterministic: no false alarms.
"""

import json

import numpy as np
import pytest

from solvers import phase_diagram as diagrams
from solvers.build import build_model
from solvers.ode import best_signs, settle
from solvers.phase import axis_from_text, default_range, main, make_parser
from solvers.phase_diagram import PLANES, phase_diagram
from solvers.phase_reader import Reader
from solvers.prediction import automatic_rate, predict
from tests.conftest import model_of
from theory.population import Model, Population
from theory.tasks import MixedCumulant

ALONE = ("--task", "spiked-cumulant")
CASES = {
    "corr,dim": ("corr,dim", (), (0.0, 0.36, 0.7), (100, 1e5)),
    "corr,beta-u": ("corr,beta-u", (), (0.1, 0.75), (0.2, 4.0)),
    "lr,dim alone": ("lr,dim", ALONE, (1e-4, 1e-3, 1e-2), (100, 2000)),
    "lr,dim correlated": ("lr,dim", ("--corr", "0.5"), (0.1, 0.5, 2.0), (50, 1e4)),
    "lr,dim uncorrelated": ("lr,dim", ("--beta-u", "1"), (1e-3, 2.0), (50, 1e4)),
    "lr,dim blind": ("lr,dim", (*ALONE, "--p", "3", "--activation", "relu"), (0.01, 0.1), (50, 99)),
    "lr,dim wrong sign": ("lr,dim", (*ALONE, "--latent", "lobatto:2", "--activation", "relu"), (0.01, 0.1), (50, 99)),
}  # fmt: skip


def drawn(plane, options, x, y):
    words = make_parser().parse_args([*options])
    words.task = words.task or "mixed-cumulant"
    return words, phase_diagram(words, plane, np.array(x), np.array(y))


def points(words, diagram):
    """(model, dim, row, column) of every point, the model built anew from words."""
    for i, b in enumerate(diagram.y):
        for j, a in enumerate(diagram.x):
            values = dict(zip(PLANES[diagram.plane], (a, b), strict=True))
            options = {k.replace("-", "_"): float(v) for k, v in values.items() if k in ("corr", "beta-u")}
            yield build_model(type(words)(**vars(words) | options)), int(values.get("dim", 1000)), i, j


@pytest.mark.parametrize("case", CASES)
def test_phase_diagram_vs_predict(case):
    words, diagram = drawn(*CASES[case])
    for model, dim, i, j in points(words, diagram):
        fate = diagram.fates[i][j]
        v = predict(model, dim, fate.lr).target
        assert fate.status == v.status
        assert fate.overlap == pytest.approx(abs(v.fixed_point), abs=1e-3)
        assert fate.escape_samples == pytest.approx(v.escape_samples, rel=2e-3)
        if fate.status == "recovered":
            alone = diagram.alone[min(i, len(diagram.alone) - 1)]
            solo = predict(Model(model.task.alone("v"), model.learner), dim, alone.lr).target
            assert diagram.speedup[i, j] == pytest.approx(solo.escape_samples / v.escape_samples, rel=2e-3)
        else:
            assert np.isnan(diagram.speedup[i, j])


@pytest.mark.parametrize(("corr", "beta_u"), [(0.36, 1.0), (0.5, 1.0), (0.7, 3.0)])
def test_bisected_rate_vs_automatic_rate(corr, beta_u):
    model = model_of(MixedCumulant(corr=corr, beta_u=beta_u))
    population = Population(model)
    reader = Reader(population, 0.3)
    start = best_signs(population, 0.1)
    rate = automatic_rate(population, reader.critical(100), 100, start, 0.3)
    assert reader.fate(100).lr == pytest.approx(rate, rel=1e-12)


def test_fixed_points_shared_by_all_dimensions_vs_settled_anew():
    population = Population(model_of(MixedCumulant(corr=0.5)))
    reader = Reader(population, 0.3)
    for dim in (30, 1000, 10**8):
        start = best_signs(population, dim**-0.5)
        for lr in (0.2, 0.8):
            assert reader.rest(dim, lr, start) == pytest.approx(settle(population, dim, lr, start), abs=1e-5)


@pytest.mark.parametrize(("p", "slope"), [("3", -0.5), ("4", -1.0)])
def test_edge_of_the_noise_follows_the_critical_rate(p, slope):
    """Order p alone: from |α| = d^(-1/2) the flow climbs below δ_crit ∝ d^(-(p-2)/2) and falls back above it."""
    model = build_model(make_parser().parse_args([*ALONE, "--p", p]))
    reader = Reader(Population(model), 0.3)
    dims = (10**3, 10**5, 10**7)
    for dim in dims:
        assert reader.fate(dim, 0.9 * reader.critical(dim)).status == "recovered"
        assert reader.fate(dim, 1.1 * reader.critical(dim)).status == "noise_activated"
    rates = [reader.critical(dim) for dim in dims]
    assert np.polyfit(np.log(dims), np.log(rates), 1)[0] == pytest.approx(slope, abs=1e-9)


def test_workers_do_not_change_the_answer(monkeypatch):
    monkeypatch.setattr(diagrams, "POINTS_WORTH_A_POOL", 0)
    words = make_parser().parse_args(["--task", "spiked-cumulant"])
    x, y = np.array([1e-4, 1e-2]), np.array([50.0, 500.0])
    one, two = (phase_diagram(words, "lr,dim", x, y, workers=n) for n in (1, 2))
    assert one.fates == two.fates
    assert one.alone == two.alone


def answer(capsys, *words):
    assert main(list(words)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize(("words", "shape"), [
    (("--plane", "corr,dim", "--x", "0.2,0.7,2", "--y", "100,1000,3"), (3, 2)),
    (("--plane", "corr,beta-u", "--dim", "300", "--x", "0.2,0.7,2", "--y", "0.5,1,2"), (2, 2)),
    (("--plane", "lr,dim", "--x", "1e-4,1e-1,3", "--y", "30,300,2"), (2, 3)),
])  # fmt: skip
def test_json_contract(capsys, words, shape):
    result = json.loads(answer(capsys, *words, "--json"))
    assert set(result) == {
        "schema", "plane", "x", "y", "speedup", "status", "escape_samples", "fixed_point", "lr", "lr_critical", "threshold",
        "alone", "model",
    }  # fmt: skip
    assert (result["schema"], result["plane"]) == (1, words[1])
    assert (len(result["y"]), len(result["x"])) == shape
    for name in ("speedup", "status", "escape_samples", "fixed_point", "lr", "lr_critical"):
        assert np.shape(result[name]) == shape
    never = np.array(result["speedup"], dtype=object) == None  # noqa: E711 - elementwise
    assert (never == (np.array(result["status"]) != "recovered")).all()
    assert all(set(a) == {"dim", "status", "lr", "escape_samples"} for a in result["alone"])


def test_table_and_default_task(capsys):
    text = answer(capsys, "--plane", "lr,dim", "--x", "1e-4,1e-1,2", "--y", "30,300,2")
    assert text.startswith("model     spiked-cumulant: β_v = 10")
    assert "noise_activated" in text
    text = answer(capsys, "--plane", "lr,dim", "--corr", "0.5", "--x", "0.1,2,2", "--y", "30,300,2")
    assert "corr = 0.5" in text
    assert "lr_too_large 50%" in text


@pytest.mark.parametrize("options", [("--corr", "0.5"), ALONE, ("--task", "spiked-cumulant", "--p", "3")])
def test_default_rates_put_the_critical_one_between_two_columns(options):
    words, dims = make_parser().parse_args([*options, "--plane", "lr,dim"]), np.array([100.0, 1000.0, 10_000.0])
    words.task = words.task or "mixed-cumulant"
    x = axis_from_text("lr", default_range(words, "lr", dims))
    for dim in dims:
        critical = Reader(Population(build_model(words)), 0.3).critical(int(dim))
        assert np.abs(np.log(x / critical)).min() == pytest.approx(np.log(x[1] / x[0]) / 2, rel=1e-2)


@pytest.mark.parametrize(("words", "suffix"), [
    (("--x", "0.2,0.7,2", "--y", "100,1e4,2"), "png"), (("--x", "0,0.1,2", "--y", "100,1e4,2"), "png"),
    (("--plane", "corr,beta-u", "--x", "0.5,0.7,2", "--y", "0.5,1,2"), "svg"),
    (("--plane", "lr,dim", "--x", "1e-4,1e-1,3", "--y", "30,300,2"), "pdf"),
])  # fmt: skip
def test_plot_writes_a_figure(capsys, tmp_path, words, suffix):
    answer(capsys, *words, "--plot", str(tmp_path / f"a.{suffix}"))
    assert (tmp_path / f"a.{suffix}").stat().st_size > 5000


@pytest.mark.parametrize(("words", "message"), [
    (("--plane", "dim,corr"), "--plane"), (("--x", "0,1"), "LO,HI,N"), (("--x", "0,a,3"), "LO,HI,N"),
    (("--x", "0.5,0.2,3"), "LO < HI"), (("--x", "0,nan,3"), "LO < HI"), (("--x", "0,0.5,1"), "N = 2"),
    (("--x", "0,0.5,9999"), "1000"), (("--x", "0,0.9,3"), "0.797885"), (("--y", "1,100,3"), "10 <= LO"),
    (("--y", "100,1e13,3"), "HI <= 1e+12"), (("--plane", "lr,dim", "--x", "0,1,3"), "1e-12 <= LO"),
    (("--x", "0,0.5,300", "--y", "100,1e4,300"), "at most 40000"), (("--threshold", "2"), "between 0 and 1"),
    (("--workers", "0"), "workers"), (("--corr", "0.5"), "use --x or --y"), (("--dim", "100"), "use --y"),
    (("--plane", "corr,beta-u", "--beta-u", "2"), "use --x or --y"),
    (("--plane", "corr,beta-u", "--dim", "9"), "10 …"), (("--plane", "corr,beta-u", "--dim", "100,200"), "one dimension"),
    (("--task", "spiked-cumulant"), "leave it out"), (("--beta-v", "0"), "beta-v"),
    (("--task", "teacher-student", "--plane", "lr,dim", "--teacher", "h2(u)"), "spike v"),
    (("--latent", "lobatto:2", "--activation", "relu"), "v alone is never recovered"),
    (("--plot", "a.txt"), ".png"), (("--p", "2"), "3 … 8"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("solvers.phase: error: ")
    assert message in err


def test_axis_grammar():
    assert axis_from_text("corr", "0,0.6,4") == pytest.approx([0, 0.2, 0.4, 0.6])
    assert axis_from_text("lr", "0.01,1,3") == pytest.approx([0.01, 0.1, 1])
    assert axis_from_text("dim", "10,12,9").tolist() == [10, 11, 12]
