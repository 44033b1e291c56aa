"""Results of sweeps: what is read, exported, reported and drawn from a store equals what was put in.

Falsified by a red test: "every way out of a store (pandas, xarray, NetCDF, Parquet, CSV, status, figure) tells the same
numbers, censoring and failures included". Nothing here is a test of randomness, so there is no false-alarm rate: the seeded
numbers only fill the stores.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import CensoredData, ecdf

from sims.batches import Unit
from sims.grid import read_grid
from sims.points import engine_of, run_batch
from sims.sweep_export import READ_CSV
from sims.sweep_plots import plot_sweep
from sims.sweep_report import status_json, status_table
from sims.sweep_results import SweepResults
from sims.sweep_series import arrange, select_curves, survival
from sims.sweep_table import overlaps_of, times_of
from tests.conftest import SEED
from theory.errors import InputError
from theory.provenance import canonical
from theory.results import time_grid
from theory.store import Store
from theory.store_rows import Point, Run

CONFIG = {
    "format": 1, "task": "mixed-cumulant", "p": 4, "corr": 0.5, "beta_u": 1.0, "beta_v": 10.0, "teacher": None,
    "loss": "correlation", "activation": None, "view": "chain", "dim": 100, "lr": 0.1, "batch": 1, "threshold": 0.3,
    "init": "random", "target": "v", "samples": 1000.0, "records": 0, "seed": 0, "spikes": ["u", "v"],
}  # fmt: skip
ALONE = CONFIG | {"task": "spiked-cumulant", "spikes": ["v"], "beta_u": None, "corr": 0.0}
ENVIRONMENTS = [
    canonical({"commit": c, "platform": "Linux", "host": "here", "numpy": "2.4", "python": "3.11"})
    for c in ("aa", "bb+")
]
ERROR = 'ValueError: "dim", got 3;\nallowed: λ ≥ 1, … 10'


def point_of(config: dict[str, object], runs: int) -> Point:
    return Point.of("sims.sweep", config, runs, 0.5)


def row(point: Point, replica: int, *times: float | None, trajectory: np.ndarray | None = None) -> Run:
    """A finished run; without a trajectory it ends at its target, the last spike."""
    budget, packed = point.values["samples"], None
    if trajectory is not None:
        packed = zlib.compress(trajectory.astype("<f4").tobytes())
    end = budget if packed or times[-1] is None else times[-1]
    return Run(point.hash, replica, "finished", json.dumps(times), times[-1] is None, end, 0.25, None, packed)


def write(path: Path, rows: list[Run], points: list[Point], environment: str = ENVIRONMENTS[0]) -> SweepResults:
    with Store.write(path, "python -m sims.sweep run grid.toml", environment) as store:
        store.add_points(points)
        store.add(rows, environment)
    return SweepResults(path)


def drawn(point: Point, scale: float, rng: np.random.Generator) -> list[Run]:
    """Exponential times, those of u the earlier; censored by the budget and by the end of the run."""
    budget, n_spikes = point.values["samples"], len(point.values["spikes"])
    times = np.sort(rng.exponential(scale, (point.runs, n_spikes)), axis=1)
    return [row(point, i, *(t if t < budget else None for t in run)) for i, run in enumerate(times.tolist())]


@pytest.fixture
def mixed(tmp_path: Path, rng: np.random.Generator) -> SweepResults:
    """Points of two spikes and of one, recorded and not, finished, censored, diverged, failed and killed runs."""
    two, one = point_of(CONFIG, 4), point_of(ALONE | {"samples": 500.0, "dim": 50}, 3)
    traced = point_of(CONFIG | {"records": 9, "dim": 200}, 2)
    shape = len(time_grid(1000, 9, 0)), 2
    results = write(tmp_path / "runs.db", [
        row(two, 0, 10.0, 300.5), row(two, 1, None, None), row(two, 2, 0.1 + 0.2, None),
        Run(two.hash, 3, "failed", "[]", True, 0.0, 0.5, ERROR),
        row(one, 0, 1 / 3), row(one, 2, None),
        row(traced, 0, 5.0, None, trajectory=rng.normal(size=shape)),
        Run(traced.hash, 1, "diverged", "[7.0, null]", True, 8.0, 0.5, "w is not finite after 8 samples"),
    ], [two, one, traced])  # fmt: skip
    return write(results.path, [Run(one.hash, 1, "killed", "[]", True, 0.0, 0.0, "")], [], ENVIRONMENTS[1])


def test_escapes_vs_rows(mixed: SweepResults) -> None:
    (hash_two,) = mixed.select(dim=100)
    escapes = mixed.escapes(hash_two)
    np.testing.assert_array_equal(escapes.times, [[10.0, 300.5], [np.inf, np.inf], [0.1 + 0.2, np.inf]])
    assert (escapes.spikes, escapes.threshold, escapes.budget) == (("u", "v"), 0.3, 1000.0)
    assert mixed.escapes(mixed.select(spikes=["v"])[0]).of("v").tolist() == [1 / 3, np.inf]


def test_axes_are_the_keys_that_differ(mixed: SweepResults) -> None:
    assert mixed.axes == {
        "beta_u": [1.0, None], "corr": [0.0, 0.5], "dim": [50, 100, 200], "records": [0, 9], "samples": [500.0, 1000.0],
        "spikes": ["u,v", "v"], "task": ["mixed-cumulant", "spiked-cumulant"],
    }  # fmt: skip
    assert sorted(mixed.select(task="mixed-cumulant")) == sorted(p.hash for p in mixed.points() if p.values["corr"])


def test_frame_vs_rows(mixed: SweepResults) -> None:
    frame = mixed.to_pandas().set_index(["point", "replica"]).sort_index()
    assert len(frame) == 9
    for point in mixed.points():
        _, finished = mixed.finished(point.hash)
        for run in finished:
            found = frame.loc[(point.hash, run.replica)]
            for spike, time in zip(point.values["spikes"], json.loads(run.result), strict=True):
                assert found[f"escape_{spike}"] == (np.inf if time is None else time)
            assert (found["samples_run"], found["censored"], found["seconds"]) == (
                run.samples,
                run.censored,
                run.seconds,
            )
    frame = frame.reset_index()
    unfinished = frame["status"] != "finished"
    assert frame.loc[unfinished, ["escape_u", "escape_v"]].isna().all(axis=None)
    assert frame.loc[frame["dim"] == 50, ["escape_u", "beta_u"]].isna().all(axis=None)
    assert frame["p"].dtype == frame["dim"].dtype == frame["replica"].dtype == np.int64
    assert frame["censored"].dtype == bool
    assert set(frame["error"].dropna()) == {ERROR, "w is not finite after 8 samples", ""}
    assert set(frame["commit"]) == {"aa", "bb+"}
    assert set(frame["versions"]) == {"numpy 2.4, python 3.11"}


def test_parquet_vs_pandas(mixed: SweepResults, tmp_path: Path) -> None:
    mixed.export(tmp_path / "all.parquet")
    found = pd.read_parquet(tmp_path / "all.parquet")
    pd.testing.assert_frame_equal(found, mixed.to_pandas(), check_exact=True)
    with Store.read(mixed.path) as store:
        assert found.attrs["checksum"] == store.checksum()
    assert "sims.sweep run grid.toml" in found.attrs["commands"]
    assert [json.loads(e) for e in sorted(ENVIRONMENTS)] == sorted(json.loads(found.attrs["environments"]), key=str)


def test_csv_vs_pandas(mixed: SweepResults, tmp_path: Path) -> None:
    mixed.export(tmp_path / "all.csv")
    found, wanted = pd.read_csv(tmp_path / "all.csv", **READ_CSV), mixed.to_pandas()
    wanted["error"] = wanted["error"].replace("", None)  # CSV knows no empty text
    empty = ["teacher", "activation"]  # nor the kind of a column without values
    assert found[empty].isna().all(axis=None)
    pd.testing.assert_frame_equal(found.drop(columns=empty), wanted.drop(columns=empty), check_exact=True)


def kind(array: xr.DataArray) -> str:
    return array.dtype.kind.replace("U", "O")  # text


def test_netcdf_vs_xarray_vs_pandas(mixed: SweepResults, tmp_path: Path) -> None:
    mixed.export(tmp_path / "all.nc")
    wanted, frame = mixed.to_xarray(), mixed.to_pandas()
    with xr.open_dataset(tmp_path / "all.nc", engine="h5netcdf") as found:
        xr.testing.assert_equal(found.load(), wanted)
        assert {name: kind(found[name]) for name in found.variables} == {n: kind(wanted[n]) for n in wanted.variables}
        assert found["escape"].attrs["units"] == found["time"].attrs["units"] == "samples"
        assert "sims.sweep run grid.toml" in found.attrs["commands"]
    for spike in ("u", "v"):
        np.testing.assert_array_equal(wanted["escape"].sel(spike=spike), frame[f"escape_{spike}"])
    for name in ("dim", "corr", "censored", "samples_run", "replica"):
        np.testing.assert_array_equal(wanted[name], frame[name])
    assert wanted["p"].dims == ()  # the same for all runs
    assert wanted["error"].values.tolist() == frame["error"].fillna("").tolist()


def test_trajectory_vs_xarray(mixed: SweepResults) -> None:
    (traced,) = mixed.select(records=9)
    trajectory, data = mixed.trajectory(traced), mixed.to_xarray()
    run = int(np.flatnonzero((data["point"] == traced) & (data["replica"] == 0))[0])
    np.testing.assert_array_equal(data["overlap"][run], trajectory.overlaps[0].astype(np.float32))
    np.testing.assert_array_equal(data["time"], trajectory.times)
    assert trajectory.times.tolist() == time_grid(1000, 9, 0).tolist()
    assert int(np.isfinite(data["overlap"]).any(["record", "spike"]).sum()) == 1


def test_overlaps_of_different_points_and_spikes_are_padded(tmp_path: Path) -> None:
    points = [point_of(c | {"records": 5, "samples": s}, 1) for c, s in ((CONFIG, 100.0), (ALONE, 3.0))]
    paths = [np.ones((len(time_grid(int(p.values["samples"]), 5, 0)), len(p.values["spikes"]))) for p in points]
    rows = [row(p, 0, *[None] * a.shape[1], trajectory=a) for p, a in zip(points, paths, strict=True)]
    data = write(tmp_path / "runs.db", rows, points).to_xarray()
    short = data.isel(run=data["spikes"].values.tolist().index("v"))
    assert np.isnan(short["overlap"].sel(spike="u")).all()
    assert short["time"].dropna("record").values.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert int(np.isfinite(short["overlap"].sel(spike="v")).sum()) == 4
    assert int(np.isfinite(data["overlap"]).sum()) == sum(a.size for a in paths)


def test_times_of_networks_are_those_of_their_engine() -> None:
    """A network records at multiples of a block or batch, which its configuration names; one run of each view."""
    tables = {
        "network": {"hidden": 2},
        "run": {"dim": 20, "runs": 1, "lr": 0.5, "samples": 500, "records": 12, "view": ["chain", "highd"], "batch": 3},
    }
    for point in read_grid(tables).points():
        (run,) = run_batch([Unit(point.config, (0,))])[1]
        times, overlaps = times_of(point.values), overlaps_of(Path(), run.trajectory, point.values)
        found = engine_of(point.values).run(
            runs=1, samples=500, seed=0, threshold=0.5, stop_spikes=(), times=time_grid(500, 12, 0), threads=1
        )
        assert times.tolist() == found.trajectory.times.tolist()
        assert overlaps.shape == (len(times), 2)


def test_runs_of_other_programs_are_left_out(mixed: SweepResults) -> None:
    before = mixed.to_pandas(), mixed.to_xarray(), json.loads(status_json(mixed)), mixed.axes
    other = Point.of("sims.scaling", {"start": None, "part": "runs"}, 3, 1.0)
    write(mixed.path, [Run(other.hash, 0, "failed", '[{"kind": 1}]', True, 1.0, 1.0, "other", b"none")], [other])
    pd.testing.assert_frame_equal(mixed.to_pandas(), before[0])
    xr.testing.assert_identical(mixed.to_xarray(), before[1])
    assert json.loads(status_json(mixed)) == before[2]
    assert mixed.axes == before[3]
    with pytest.raises(InputError, match=r"allowed: a point of sims\.sweep"):
        mixed.escapes(other.hash)


def test_chunks_do_not_show(mixed: SweepResults, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mixed.to_pandas()
    monkeypatch.setattr("sims.sweep_table.CHUNK", 2)
    pd.testing.assert_frame_equal(mixed.to_pandas(), whole)


def test_failed_export_leaves_the_old_file(
    mixed: SweepResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.csv"
    path.write_text("old")
    monkeypatch.setattr("csv.writer", lambda *_, **__: pytest.fail("full disk"))
    with pytest.raises(pytest.fail.Exception):
        mixed.export(path)
    assert path.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"all.csv", "runs.db", "runs.db.lock"}


def test_results_are_read_while_a_driver_writes(mixed: SweepResults) -> None:
    with Store.write(mixed.path) as store:
        before = json.loads(status_json(mixed))
        point = next(p for p in store.points() if p.values["dim"] == 50)
        store.add([row(point, 5, 2.0)], ENVIRONMENTS[0])
        assert len(mixed.to_pandas()) == 10
        after = json.loads(status_json(mixed))
    assert (before["there"], after["there"]) == (9, 10)
    assert before["writer"].startswith("process ")
    assert json.loads(status_json(mixed))["writer"] is None


def test_status_vs_pandas(mixed: SweepResults) -> None:
    status, frame = json.loads(status_json(mixed, checksum=True)), mixed.to_pandas()
    finished = frame[frame["status"] == "finished"]
    assert status["runs"] == {
        s: int((frame["status"] == s).sum()) for s in ("finished", "diverged", "failed", "killed")
    }
    assert status["censored"]["count"] == int(np.isinf(finished["escape_v"]).sum()) == 4
    assert (status["seconds"], status["samples"]) == (frame["seconds"].sum(), frame["samples_run"].sum())
    assert (status["points"], status["wanted"], status["there"], status["left"]["runs"]) == (3, 9, 9, 0)
    with Store.read(mixed.path) as store:
        assert status["checksum"] == store.checksum()
        assert status["runs"] == {"diverged": 0} | store.tally().statuses
    for shown in status["shown"]:
        median = mixed.escapes(shown["point"]).quantile("v", 0.5)
        assert shown["median"] == (median if np.isfinite(median) else None)


def test_status_table_says_what_to_do(mixed: SweepResults) -> None:
    text = status_table(mixed)
    (two,) = mixed.select(dim=100)
    assert f"python -m sims.sweep resume --store {mixed.path.parent} --only {two}:3" in text
    assert "1 × ValueError" in text
    assert "4/6 finished runs" in text
    assert "> 1000" in text


def test_status_groups_errors_that_differ_in_numbers(tmp_path: Path) -> None:
    point = point_of(CONFIG, 40)
    rows = [
        Run(point.hash, i, "diverged", "[]", True, 0.0, 1.0, f"not finite after {i}.5e3 samples") for i in range(30)
    ]
    status = json.loads(status_json(write(tmp_path / "runs.db", rows, [point])))
    assert [(f["count"], f["example"]) for f in status["failures"]] == [(30, f"{point.hash}:0")]
    assert status["left"] == {"runs": 10, "seconds": 10.0}  # predicted at 0.5 s a run, measured at 1 s


def test_status_of_an_empty_store_and_of_many_points(tmp_path: Path) -> None:
    points = [point_of(CONFIG | {"dim": d}, 2) for d in range(100, 150)]
    results = write(tmp_path / "runs.db", [], points)
    text = status_table(results)
    assert "0 of 100 of 50 points" in text
    assert "… and 20 points more" in text
    assert [shown["axes"]["dim"] for shown in json.loads(status_json(results))["shown"]] == list(range(100, 130))
    assert "0 of 0 of 0 points" in status_table(write(tmp_path / "empty.db", [], []))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> SweepResults:
    """corr × d, the budget following d; and one deterministic run at each d."""
    rng = np.random.default_rng(SEED)
    shared = CONFIG | {"view": "chain"}
    points = [
        point_of(shared | {"corr": c, "dim": d, "samples": 40.0 * d, "lr": 1 / d}, 30)
        for c in (0.3, 0.5)
        for d in (50, 100, 200)
    ]
    ode = [
        point_of(shared | {"view": "ode", "init": f"v={d}", "dim": d, "samples": 40.0 * d, "lr": 1 / d}, 1)
        for d in (50, 100)
    ]
    rows = [run for p in points for run in drawn(p, 20 * p.values["dim"], rng)]
    rows += [row(p, 0, 1.0, 10.0 * p.values["dim"]) for p in ode]
    return write(tmp_path_factory.mktemp("grid") / "runs.db", rows, points + ode)


def test_figure_vs_escapes(grid: SweepResults) -> None:
    """The medians on the figure are those of the rows, one series for each combination of what does not follow from d."""
    figure = plot_sweep(grid, where={"view": "chain"})
    medians, curves = figure.axes
    lines = {line.get_label(): line for line in medians.lines if not line.get_label().startswith("_")}
    assert set(lines) == {r"$E[\lambda\nu]$ = 0.3", r"$E[\lambda\nu]$ = 0.5"}
    for corr, line in zip((0.3, 0.5), lines.values(), strict=True):
        escapes = [grid.escapes(grid.select(view="chain", corr=corr, dim=d)[0]) for d in (50, 100, 200)]
        assert line.get_ydata().tolist() == [e.quantile("v", 0.5) for e in escapes]
    assert (medians.get_xscale(), medians.get_yscale(), medians.get_xlabel()) == ("log", "log", "input dimension $d$")
    assert curves.get_title() == "at $d$ = 200"


def test_figure_of_deterministic_runs_is_a_line(grid: SweepResults) -> None:
    figure = plot_sweep(grid)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "chain, " + r"$E[\lambda\nu]$ = 0.3",
        "chain, " + r"$E[\lambda\nu]$ = 0.5",
        "ode, " + r"$E[\lambda\nu]$ = 0.5",
    ]
    line = next(line for line in figure.axes[0].lines if line.get_label().startswith("ode"))
    assert (line.get_linestyle(), line.get_ydata().tolist()) == ("--", [500.0, 1000.0])


def test_survival_vs_kaplan_meier(grid: SweepResults) -> None:
    for dot in arrange(grid, None, None, {"view": "chain"}).dots:
        times, share, interval = survival(dot)
        seen = np.isfinite(dot.times)
        known = CensoredData(dot.times[seen], right=np.full((~seen).sum(), dot.escapes.budget))
        estimate = ecdf(known).sf
        np.testing.assert_allclose(share, estimate.evaluate(times), rtol=1e-12, atol=1e-12)
        assert (interval[:, 0] <= share).all()
        assert (share <= interval[:, 1]).all()


def test_bootstrap_interval_vs_order_statistics(tmp_path: Path, rng: np.random.Generator) -> None:
    """Beyond ``RESAMPLED`` runs the figure takes the limit of the bootstrap: equal to a few ranks of 1000."""
    point = point_of(ALONE, 1000)
    (dot,) = arrange(write(tmp_path / "runs.db", drawn(point, 400.0, rng), [point]), None, None, {}).dots
    ranks = [
        np.searchsorted(np.sort(dot.times), ends) for ends in (dot.interval, dot.escapes.quantile_interval("v", 0.5))
    ]
    assert np.abs(np.subtract(*ranks)).max() <= 5  # the standard error of a bootstrap quantile's rank is 0.9


def test_figures_draw_every_kind_of_store(mixed: SweepResults, grid: SweepResults, tmp_path: Path) -> None:
    censored = [point_of(ALONE | {"dim": d}, 5) for d in (50, 100)]
    rows = [row(p, i, None) for p in censored for i in range(5)]
    never = write(tmp_path / "never.db", rows, censored)
    single = write(tmp_path / "single.db", rows[:1], censored[:1])
    for n, figure in enumerate([
        plot_sweep(mixed), plot_sweep(mixed, spike="u"), plot_sweep(mixed, x="task", where={"records": 0}), plot_sweep(never),
        plot_sweep(single), plot_sweep(grid, x="corr"), plot_sweep(grid, x="view", where={"dim": 50}),
        plot_sweep(grid, spike="u"),
    ]):  # fmt: skip
        figure.savefig(tmp_path / f"{n}.png", dpi=40)
    assert select_curves(arrange(single, None, None, {})) == []


@pytest.mark.parametrize(("call", "message"), [
    (lambda r: r.escapes("0" * 15), "point: got 0+; allowed: the hash of a point"),
    (lambda r: r.escapes("xyz"), "point: got 'xyz'; allowed: a hash of 15"),
    (lambda r: r.trajectory(r.select(dim=50)[0]), "without trajectories; allowed: a point with some"),
    (lambda r: r.select(dimm=3), "select: got dimm; allowed: a key"),
    (lambda r: r.select(dim=3), "dim: got 3; allowed: 50, 100, 200"),
    (lambda r: r.select(dim=50, records=9), "values that one point has together"),
    (lambda r: r.export(Path("all.hdf")), r"export: got all.hdf; allowed: a file name ending in .nc, .parquet, .csv"),
    (lambda r: r.export(Path("/nowhere/all.nc")), "create /nowhere first"),
    (lambda r: plot_sweep(r, spike="w"), "spike: got 'w'; allowed: "),
    (lambda r: plot_sweep(r, x="kappa"), "x: got 'kappa'; allowed: "),
])  # fmt: skip
def test_bad_input_is_one_line(mixed: SweepResults, call, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call(mixed)
    assert "\n" not in str(error.value)


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    points = [point_of(CONFIG | {"corr": c / 10, "dim": 50}, 2) for c in range(9)]
    empty = write(tmp_path / "runs.db", [], points)
    for call in (empty.to_pandas, empty.to_xarray, lambda: plot_sweep(empty), lambda: empty.export(tmp_path / "a.nc")):
        with pytest.raises(InputError, match=r"without (finished )?runs"):
            call()
    with pytest.raises(InputError, match="without finished runs; allowed: a point with some"):
        empty.escapes(points[0].hash)
    with pytest.raises(InputError, match="a store that is there"):
        SweepResults(tmp_path / "none.db").to_pandas()
    rows = [row(p, 0, 1.0, 2.0) for p in points]
    with pytest.raises(InputError, match="got 9 series, corr, along dim; allowed: at most 8; select some"):
        plot_sweep(write(empty.path, rows, []), x="dim")


def test_damage_is_one_line(mixed: SweepResults) -> None:
    with Store.write(mixed.path) as store:
        store.connection.execute("UPDATE trajectories SET data = x'00'")
    with pytest.raises(InputError, match="salvage keeps what is intact"):
        mixed.to_xarray()
    with Store.write(mixed.path) as store:
        store.connection.execute("UPDATE runs SET samples = 1 WHERE replica = 2")
    with pytest.raises(InputError, match="does not match its checksum"):
        mixed.to_pandas()


@pytest.mark.parametrize(("library", "suffix"), [("xarray", ".nc"), ("h5netcdf", ".nc"), ("pyarrow", ".parquet")])
def test_missing_library_names_the_extra(
    mixed: SweepResults, library: str, suffix: str, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"no {library}; .*downstairs\[data\]"):
        mixed.export(tmp_path / f"all{suffix}")
