"""Results as objects: what they say of themselves, draw, convert to and keep in files is what they hold.

Would be falsified by: a number that changes on its way through a file, a damaged or foreign file that is read, a half-written
file, a figure that differs from its baseline, quantiles of a picture or a table that are not the results' own.

After a wanted change of a figure: python -m tests.contracts.test_result_objects draws the baselines again.
"""

import json
import struct
import sys
import zipfile
from dataclasses import fields, is_dataclass, replace
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from matplotlib.text import Text
from scipy import stats

import theory.result_files
from solvers.prediction import predict
from solvers.random_start import EscapeLaw, RandomStart
from tests.conftest import model_of
from theory.errors import InputError
from theory.learners import CorrelationLoss
from theory.network_results import Divergence, NetworkEnsemble, NetworkTrajectory
from theory.networks import NetworkModel, TwoLayer
from theory.result_files import load
from theory.results import Ensemble, EscapeTimes, Result, Trajectory, wilson_interval
from theory.tasks import MixedCumulant

BASELINES = Path(__file__).parents[1] / "baselines"
TOLERANCE = (
    0.5  # root mean square of 0 … 255. Matplotlib 3.9.4 and 3.11.2: 0.00; a missing threshold line: 0.72 or more
)
SPIKES = ("u", "v")


def curves(middles, times, height=0.7):
    """Runs that rise at ``middles``, shape (n_runs, n_times): no random numbers, the same on every machine."""
    return 0.03 + height / (1 + np.exp(-(times - middles[:, None]) / (0.15 * middles[:, None])))


def example_ensemble(runs=20):
    times = np.unique(np.concatenate([np.zeros(1), np.geomspace(1, 2e5, 80), np.linspace(0, 2e5, 81)]))
    spread = np.exp(stats.norm.ppf((np.arange(runs) + 0.5) / runs) * 0.5)
    middles = 4e4 * spread, 1.2e5 * spread[::-1]
    overlaps = np.stack([curves(m, times) * (-1) ** np.arange(runs)[:, None] for m in middles], axis=-1)
    escapes = np.stack([np.where(m < 2e5, m, np.inf) for m in middles], axis=-1)
    return Ensemble(
        Trajectory(SPIKES, times, overlaps),
        EscapeTimes(SPIKES, escapes, 0.3, 2e5),
        tuple(range(runs)),
        False,
        12.5,
        10**7,
    )


def example_network():
    ensemble = example_ensemble(8)
    t = ensemble.trajectory
    runs, times, _ = t.overlaps.shape
    R = np.stack([0.4 * t.overlaps, t.overlaps], axis=2)
    Q = np.broadcast_to(np.eye(2), (runs, times, 2, 2)).copy()
    a, b, output = np.ones((runs, times, 2)), np.zeros((runs, times, 2)), np.zeros((runs, times))
    for x in (R, Q, a, b, output):
        x[3, 100:] = np.nan
    trajectory = NetworkTrajectory(SPIKES, t.times, R, Q, a, b, output)
    gone = (Divergence(7, int(t.times[100]), "R[w2, v]"),)
    return NetworkEnsemble(trajectory, ensemble.escapes, (0, 1, 2, 7, *range(8, 12)), True, 3.25, 10**6, gone)


def example_prediction():
    laws = tuple(
        EscapeLaw(s, {0.1: 0.7 * t, 0.5: t, 0.9: 1.6 * t}, {0.5: (0.9 * t, 1.1 * t)}, 0.975, (0.96, 0.98))
        for s, t in (("u", 6e4), ("v", 1e5))
    )
    result = predict(model_of(MixedCumulant(corr=0.5)), dim=1000, lr=0.3)
    return replace(result, random=RandomStart(laws, "diffusion (SDE)", 1000, 1e9))


def parts(value):
    """Everything a result holds, to the last bit, types with it."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()
    if is_dataclass(value):
        return type(value), {f.name: parts(getattr(value, f.name)) for f in fields(value) if f.name != "provenance"}
    if isinstance(value, tuple):
        return [parts(v) for v in value]
    if isinstance(value, float):
        return "nan" if np.isnan(value) else struct.pack("<d", value)
    return type(value), value


# Round trip ---------------------------------------------------------------------------------------------------------

WILD = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
OVERLAPS, TIMES = st.floats(-1, 1) | st.just(np.nan), st.floats(0, 1e12) | st.just(np.inf)
whole = st.integers(0, 2**70)


@st.composite
def results(draw, overlaps=WILD, times=WILD, squares=WILD, letters=None, dtypes=(np.float64, np.float32)):
    """Any result: by default of any floats and names there are."""

    def array(elements, *shape, dtype=np.float64):
        return draw(hnp.arrays(np.float64, shape, elements=elements)).astype(dtype)

    words = st.text(max_size=4) if letters is None else st.text(letters, min_size=1, max_size=3)
    spikes = tuple(draw(st.lists(words, min_size=1, max_size=3, unique=True)))
    runs, n, r, hidden = draw(st.integers(0, 3)), draw(st.integers(0, 3)), len(spikes), draw(st.integers(1, 2))
    escapes = EscapeTimes(spikes, array(times, runs, r), draw(overlaps), draw(times | whole))
    clock = array(times, n)
    path = Trajectory(spikes, clock, array(overlaps, runs, n, r, dtype=draw(st.sampled_from(dtypes))))
    R, Q = array(overlaps, runs, n, hidden, r), array(squares, runs, n, hidden, hidden)
    network = NetworkTrajectory(
        spikes, clock, R, Q, *(array(overlaps, runs, n, *s) for s in ((hidden,), (hidden,), ()))
    )
    facts = tuple(range(5, 5 + runs)), draw(st.booleans()), draw(times), draw(whole)
    gone = tuple(draw(st.lists(st.builds(Divergence, whole, whole, words), max_size=2)))
    return draw(st.sampled_from([
        path, escapes, network, Ensemble(path, escapes, *facts), NetworkEnsemble(network, escapes, *facts, gone),
    ]))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(result=results())
@pytest.mark.filterwarnings("ignore:overflow")  # of float32
def test_what_is_loaded_vs_what_was_saved(tmp_path_factory, result):
    path = tmp_path_factory.getbasetemp() / "round trip"
    result.save(path)
    again = load(path)
    assert parts(again) == parts(result)
    again.save(path.with_name("second"))
    assert path.read_bytes() == path.with_name("second").read_bytes()


@settings(max_examples=25, deadline=None)
@given(result=results(OVERLAPS, TIMES, st.floats(0.1, 10), "uvw_1"), log=st.booleans())
def test_whatever_there_is_can_be_shown(result, log):
    assert len(repr(result).splitlines()) < 10
    assert result._repr_html_().count("<tr>") in (1 + len(result.summary().rows), 0)
    assert result.plot(Figure().subplots(), log=log).get_xlabel()


@pytest.mark.parametrize("value", [np.float64(0.3), np.float32(0.5), np.int64(3), float("inf"), -0.0, 10**30])
def test_scalars_of_numpy_come_back_as_pythons(tmp_path, value):
    EscapeTimes(SPIKES, np.ones((1, 2)), 0.3, value).save(tmp_path / "x")
    budget = load(tmp_path / "x").budget
    assert type(budget) in (int, float)
    assert struct.pack("<d", budget) == struct.pack("<d", float(value))


def test_layout_in_memory_is_no_matter(tmp_path):
    path = Trajectory(SPIKES, np.arange(8.0)[::2], np.asfortranarray(np.arange(24.0).reshape(3, 4, 2)))
    path.save(tmp_path / "x")
    assert parts(load(tmp_path / "x")) == parts(path)


def test_numpy_reads_the_arrays(tmp_path):
    ensemble = example_ensemble()
    ensemble.save(str(tmp_path / "ensemble.npz"))
    with np.load(tmp_path / "ensemble.npz") as arrays_of:
        np.testing.assert_array_equal(arrays_of["trajectory.overlaps"], ensemble.trajectory.overlaps)


# Provenance ---------------------------------------------------------------------------------------------------------


def test_provenance(tmp_path):
    first, model = tmp_path / "first", model_of(MixedCumulant(corr=0.5))
    example_ensemble().save(first, model=model, command="python -m sims.compare --corr 0.5")
    known = load(first).provenance
    assert known["command"] == "python -m sims.compare --corr 0.5"
    assert known["model"] == model.describe()
    assert known["environment"]["numpy"] == np.__version__
    other = model_of(MixedCumulant(corr=0.5 + 1e-12))  # prints alike
    load(first).save(tmp_path / "second", model=other)
    changed = load(tmp_path / "second").provenance
    assert changed["hash"] != known["hash"]
    assert changed["command"] == known["command"]
    load(first).escapes.save(tmp_path / "part")
    assert load(tmp_path / "part").provenance == known
    network = NetworkModel(MixedCumulant(), TwoLayer(model.learner.activation, CorrelationLoss(), 3))
    example_network().save(tmp_path / "network", network)
    assert "3 neurons" in load(tmp_path / "network").provenance["model"]


def test_a_result_that_was_not_loaded_says_python(tmp_path):
    result = example_ensemble()
    assert result.provenance is None
    result.save(tmp_path / "x")
    assert load(tmp_path / "x").provenance["command"] == "python"


# Refusals -----------------------------------------------------------------------------------------------------------


def refused(path, *words):
    with pytest.raises(InputError) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def rewrite(path, change, **extra):
    """The file with another header, and members added or replaced."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["header.json"])
    change(header)
    members["header.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | extra).items():
            archive.writestr(name, data)


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "kept"
    example_ensemble(3).save(path)
    return path


@pytest.mark.parametrize("schema", [0, 2, 10**30])
def test_another_version_is_refused(kept, schema):
    rewrite(kept, lambda header: header.update(schema=schema))
    refused(kept, f"schema: got {schema}; allowed: 1", "newer version" if schema else "allowed")


@pytest.mark.parametrize("shape", [(10**13,), (10**30,), (5,)])
def test_an_array_that_claims_another_size_is_refused(kept, shape):
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    rewrite(kept, lambda _: None, **{"trajectory.times.npy": file.getvalue()})
    refused(kept, "path")


def test_a_provenance_that_is_none_is_refused(kept):
    rewrite(kept, lambda header: header.update(provenance=3))
    refused(kept)


@pytest.mark.parametrize("change", [
    lambda header: header.update(schema=True), lambda header: header.update(schema="1"), lambda header: header.pop("schema"),
    lambda header: header.update(format="another"), lambda header: header.pop("result"), lambda header: header.pop("format"),
    lambda header: header["result"].update(kind="dict"), lambda header: header["result"].pop("seconds"),
    lambda header: header["result"].update(more=1), lambda header: header.update(result={"float": "inf"}),
    lambda header: header["result"]["trajectory"].update(times={"array": "absent"}), lambda header: header.pop("provenance"),
])  # fmt: skip
def test_another_header_is_refused(kept, change):
    rewrite(kept, change)
    refused(kept)


@pytest.mark.parametrize("kind", [
    "theory.results.Ensemble", "Ensemble", "subprocess.Popen", "os.path.join", "theory.store.Store", "solvers.absent.X", 3,
    "solvers.__main__.main", "theory.result_files.Any", "theory.exponents.ThresholdLaw", "theory.results.Path", "", None,
])  # fmt: skip
def test_nothing_but_results_is_made(kept, kind):
    """Other classes, whole results without their fields, and values that are no results."""
    rewrite(kept, lambda header: header.update(result={"kind": kind, "leap": 2}))
    refused(kept)


def test_pickled_arrays_are_refused(kept, tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    rewrite(kept, lambda _: None, **{"trajectory.times.npy": (tmp_path / "evil.npy").read_bytes()})
    refused(kept, "path")


def test_other_files_are_refused(tmp_path):
    refused(tmp_path / "absent", "an existing file")
    refused(tmp_path, "an existing file")
    (tmp_path / "text").write_text("α")
    (tmp_path / "empty").write_bytes(b"")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.save(tmp_path / "other.npy", np.ones(3))
    for name in ("text", "empty", "other.npz", "other.npy"):
        refused(tmp_path / name, "save() wrote")


def test_no_damage_goes_unseen(kept):
    """A byte changed or the end cut off anywhere: refused, or read as it was (a zip says some things twice)."""
    whole_file, wanted = kept.read_bytes(), parts(load(kept))
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole_file), 300, replace=False):
        broken = bytearray(whole_file)
        broken[place] ^= 1 << int(rng.integers(8))
        for data in (bytes(broken), whole_file[:place]):
            kept.write_bytes(data)
            try:
                found = parts(load(kept))
            except InputError:
                continue
            assert found == wanted


def test_a_failed_save_leaves_what_was_there(kept, monkeypatch):
    before = kept.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(theory.result_files.np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="No space"):
        example_ensemble().save(kept)
    assert kept.read_bytes() == before
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]


def test_places_that_are_none(tmp_path):
    for place in (tmp_path / "absent" / "x", tmp_path):
        with pytest.raises(InputError, match="path: got"):
            example_ensemble().save(place)
    with pytest.raises(InputError, match="allowed: arrays of numbers"):
        Trajectory(SPIKES, np.array(["a"]), np.ones((1, 1, 2))).save(tmp_path / "x")
    assert not list(tmp_path.iterdir())


# Words --------------------------------------------------------------------------------------------------------------


def test_repr_says_what_there_is():
    ensemble = example_ensemble()
    text = repr(ensemble)
    assert "20 runs, 1e+07 samples in 12.5 s" in text
    assert "budget 2e+05 samples" in text
    assert "array" not in text
    escapes = ensemble.escapes
    row = next(line.split() for line in repr(escapes).splitlines() if line.split()[0] == "v")
    ends = escapes.quantile_interval("v", 0.5)
    median, low = escapes.quantile("v", 0.5), escapes.quantile("v", 0.1)
    numbers = [f"{median:.4g}", f"{ends[0]:.4g}", "…", f"{ends[1]:.4g}", f"{low:.4g}"]
    assert row == ["v", *numbers, "beyond", str(escapes.n_censored("v")), "of", "20"]
    sizes = np.abs(ensemble.trajectory.of("u")[:, -1])
    assert "{1:.3f} ({0:.3f} … {2:.3f})".format(*np.quantile(sizes, [0.1, 0.5, 0.9])) in text
    assert "replica 7 diverged after" in repr(example_network())
    assert "(interrupted)" in repr(example_network())


@pytest.mark.parametrize(("escapes", "words"), [
    (EscapeTimes(SPIKES, np.empty((0, 2)), 0.3, 1e4), ["0 runs", "  u      -"]),
    (EscapeTimes(SPIKES, np.array([[12345.0, np.inf]]), 0.3, 1e6), ["1 run,", "1.234e+04", "beyond"]),
    (EscapeTimes(SPIKES, np.array([[np.inf, 3.0]]), 0.3, np.inf), ["no budget", "never"]),
    (EscapeTimes(("u",), np.array([[1.0], [2.0]]), 0.3, 9.0), ["1.5     -  ", "0 of 2"]),
])  # fmt: skip
def test_few_runs(escapes, words):
    assert all(word in repr(escapes) for word in words), repr(escapes)


def test_a_last_overlap_is_the_last_recorded_one():
    """Two runs of which one ended early: its last number counts, not nan."""
    paths = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.8, np.nan, np.nan]])[..., None]
    row = repr(Trajectory(("u",), np.arange(4.0), paths)).splitlines()[-1]
    assert row.split() == ["u", "0.100", "(0.100", "…", "0.100)", "0.600", "(0.440", "…", "0.760)"]


@pytest.mark.parametrize("make", [example_ensemble, example_network, example_prediction])
def test_html_has_the_same_cells_and_no_style(make):
    result = make()
    summary, html = result.summary(), result._repr_html_()
    for text in (summary.title, *summary.head, *summary.notes, *(cell for row in summary.rows for cell in row)):
        assert text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#x27;") in html
        assert text in repr(result)
    assert not any(word in html for word in ("style", "color", "class=", "bgcolor", "<script"))


def test_html_is_escaped():
    html = EscapeTimes(("<b>&",), np.ones((1, 1)), 0.3, 1.0)._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;" in html


def test_predictions_introduce_themselves():
    result = example_prediction()
    text = repr(result)
    for d in result.directions:
        assert f"{d.escape_samples:.4g}" in text
        assert d.status in text
    assert "6e+04" in text
    assert "0.975" in text
    assert f"{result.flow.escape_samples[1]:.4g}" in repr(result.flow)
    assert len(text.splitlines()) < 10


# Tables -------------------------------------------------------------------------------------------------------------


def test_tables_vs_arrays():
    ensemble = example_ensemble()
    t, e = ensemble.trajectory, ensemble.escapes
    assert float(t.to_xarray()["overlap"].sel(run=2, spike="v")[5]) == t.overlaps[2, 5, 1]
    assert t.to_dataframe().loc[(2, t.times[5]), "overlap_v"] == t.overlaps[2, 5, 1]
    assert float(e.to_xarray()["escape"].sel(run=3, spike="u")) == e.times[3, 0]
    assert e.to_xarray().attrs == {"threshold": 0.3, "budget": 2e5}
    np.testing.assert_array_equal(e.to_dataframe()["escape_v"], e.times[:, 1])
    frame = replace(ensemble, replicas=tuple(range(100, 120))).to_dataframe()
    assert frame.loc[104, "escape_u"] == e.times[4, 0]
    assert frame.loc[104, "overlap_u"] == t.overlaps[4, -1, 0]


def test_last_overlaps_of_runs_that_ended_early():
    """Where the record ends in nan the table has the last number, as the summary does."""
    ensemble = example_ensemble(4)
    paths = ensemble.trajectory.overlaps.copy()
    paths[1, 50:] = np.nan
    cut = replace(ensemble, trajectory=replace(ensemble.trajectory, overlaps=paths))
    np.testing.assert_array_equal(
        cut.to_dataframe()["overlap_u"], [*paths[:1, -1, 0], paths[1, 49, 0], *paths[2:, -1, 0]]
    )


def test_ensembles_as_data_sets(tmp_path):
    from xarray import load_dataset

    for ensemble in (example_ensemble(), example_network()):
        data = ensemble.to_xarray()
        assert data["time"].attrs["units"] == data["escape"].attrs["units"] == "samples"
        assert tuple(data["replica"].values) == ensemble.replicas
        data.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
        np.testing.assert_array_equal(load_dataset(tmp_path / "x.nc")["escape"], ensemble.escapes.times)
    network = example_network()
    assert network.to_dataframe().loc[7, "diverged"] == "R[w2, v]"
    assert network.to_dataframe().loc[8, "diverged"] == ""
    assert list(network.to_xarray()["diverged"].values[2:5]) == ["", "R[w2, v]", ""]


@pytest.mark.parametrize("result", [
    EscapeTimes(SPIKES, np.empty((0, 2)), 0.3, 1e4), Trajectory(SPIKES, np.empty(0), np.empty((2, 0, 2))),
    Trajectory(SPIKES, np.zeros(1), np.zeros((1, 1, 2))), Trajectory(SPIKES, np.array([np.inf, 0.0]), np.zeros((1, 2, 2))),
    Ensemble(
        Trajectory(SPIKES, np.empty(0), np.empty((2, 0, 2))), EscapeTimes(SPIKES, np.ones((2, 2)), 0.3, 1e4),
        (0, 1), False, 1.0, 9,
    ),
])  # fmt: skip
def test_nothing_is_no_trouble(result):
    result.to_dataframe()
    result.to_xarray()
    for log in (False, True):
        assert result.plot(Figure().subplots(), log=log).get_xlabel()


@pytest.mark.parametrize(("name", "method"), [("pandas", "to_dataframe"), ("xarray", "to_xarray")])
@pytest.mark.parametrize("make", [example_ensemble, example_network])
def test_a_missing_library_is_one_line(monkeypatch, name, method, make):
    monkeypatch.setitem(sys.modules, name, None)
    for result in (make(), make().trajectory, make().escapes):
        with pytest.raises(ImportError, match=rf"^{name} is not installed: pip install 'downstairs\[data\]'$"):
            getattr(result, method)()


# Pictures -----------------------------------------------------------------------------------------------------------


def test_bands_vs_quantiles():
    t = example_ensemble().trajectory
    axes = Figure().subplots()
    assert t.plot(axes) is axes
    for k in range(2):
        low, middle, high = np.quantile(np.abs(t.overlaps[..., k]), [0.1, 0.5, 0.9], axis=0)
        np.testing.assert_allclose(axes.lines[k].get_ydata(), middle)
        edge = axes.collections[k].get_paths()[0].vertices[:, 1]
        assert edge.min() == pytest.approx(low.min())
        assert edge.max() == pytest.approx(high.max())


def test_share_recovered_vs_kaplan_meier():
    """The step function and its end against SciPy's estimator for censored times; the band is Wilson's."""
    e = example_ensemble().escapes
    axes = e.plot(Figure().subplots())
    times = e.of("v")
    seen = np.isfinite(times)
    oracle = stats.ecdf(stats.CensoredData.right_censored(np.where(seen, times, e.budget), ~seen)).cdf
    x, y = axes.lines[1].get_data() if len(axes.lines[1].get_xdata()) > 2 else axes.lines[2].get_data()
    np.testing.assert_allclose(y, oracle.evaluate(x), atol=1e-12)
    assert len(x) == seen.sum() + 2
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(wilson_interval(int(seen.sum()), len(times))[1])
    assert f"v: {(~seen).sum()} of 20 not within the budget" in [t.get_text() for t in axes.get_legend().get_texts()]


def test_new_axes_are_pyplots():
    try:
        axes = example_ensemble().plot()
        assert axes.figure.number in pyplot.get_fignums()
    finally:
        pyplot.close("all")


def test_medians_stand_on_the_threshold():
    ensemble = example_ensemble()
    axes = ensemble.plot(Figure().subplots())
    dots = {line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert dots == {ensemble.escapes.quantile(s, 0.5) for s in SPIKES}


MEDIAN, BUDGET = "median escape, 95 % interval", "v: 3 of 20 not within the budget"
OVERLAPS_OF_20 = r"overlap $|\alpha_k|$: median and 10–90 % of 20 runs"
ALPHA_U, ALPHA_V = r"$|\alpha_{u}|$", r"$|\alpha_{v}|$"
FIGURES = {  # how each is drawn, its two labels, what its legend says
    "trajectory": (
        lambda ax: example_ensemble().trajectory.plot(ax), ("samples", OVERLAPS_OF_20), [ALPHA_U, ALPHA_V],
    ),
    "escapes": (
        lambda ax: example_ensemble().escapes.plot(ax, log=True),
        ("escape time [samples]", "share of 20 runs over 0.3 by then, 95 % band"), ["u", BUDGET],
    ),
    "ensemble": (
        lambda ax: example_ensemble().plot(ax, log=True), ("samples", OVERLAPS_OF_20), [ALPHA_U, ALPHA_V, MEDIAN],
    ),
    "network": (
        lambda ax: example_network().plot(ax), ("samples", "overlap of the best neuron: median and 10–90 % of 8 runs"),
        [r"$\max_k\,|\cos(w_k, u)|$", r"$\max_k\,|\cos(w_k, v)|$", MEDIAN],
    ),
    "prediction": (
        lambda ax: example_prediction().plot(ax, log=True), ("samples", r"overlap $|\alpha_k|$"),
        [ALPHA_U, ALPHA_V, "ODE", "random start: median, 10–90 %"],
    ),
}  # fmt: skip


def drawn(name):
    """Axes, and the figure's pixels without its words, which Matplotlib's versions set a pixel higher or lower."""
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(figsize=(6.4, 4.8), dpi=50)
        axes = FIGURES[name][0](figure.add_axes((0.12, 0.1, 0.84, 0.86)))
        words = axes.get_xlabel(), axes.get_ylabel(), [t.get_text() for t in axes.get_legend().get_texts()]
        axes.get_legend().set_visible(False)
        for text in figure.findobj(Text):
            text.set_visible(False)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return words, np.asarray(canvas.buffer_rgba())[..., :3].copy()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_vs_baselines(name, tmp_path):
    words, pixels = drawn(name)
    assert words == (*FIGURES[name][1], FIGURES[name][2])
    file = BASELINES / f"{name}.png"
    assert file.stat().st_size < 30_000
    error = np.sqrt(np.mean((pixels - 255.0 * imread(file)[..., :3]) ** 2))
    imsave(tmp_path / "now.png", pixels)
    assert error < TOLERANCE, f"{file} and {tmp_path / 'now.png'} differ by {error:.2f}"


def test_every_result_has_all_of_it():
    for kind in (Trajectory, EscapeTimes, Ensemble, NetworkTrajectory, NetworkEnsemble):
        assert issubclass(kind, Result)
        assert kind.__repr__ is Result.__repr__
        assert all(callable(getattr(kind, m)) for m in ("plot", "to_dataframe", "to_xarray", "save"))


if __name__ == "__main__":
    BASELINES.mkdir(exist_ok=True)
    for figure_name in FIGURES:
        imsave(BASELINES / f"{figure_name}.png", drawn(figure_name)[1])
