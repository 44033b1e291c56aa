"""Predictions and flows as objects: files, tables, pictures, and the dense output that a file can keep.

Would be falsified by: a model of the package that a file gives back as another one, one of the user's own that is written
though nothing could read it, a dense output that is not SciPy's, a table's number that is not the prediction's.
"""

from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
import pytest
import sympy as sp
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

from solvers.gram_chain import GramChain
from solvers.network_ode import NetworkFlow, NetworkODE
from solvers.ode import FlowRun
from solvers.prediction import Prediction, predict, predict_random
from solvers.segments import Segment
from tests.conftest import ACTIVATIONS, LOSSES, TASKS, model_of
from theory.activations import Activation, Z, activation_from_text, exact_text, hermite_mixture, relu
from theory.errors import InputError
from theory.latents import radau
from theory.learners import Neuron, SmoothedNeuron, SquaredLoss
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.population import Model
from theory.result_files import load
from theory.results import Result
from theory.tasks import MixedCumulant, spiked_cumulant


@pytest.fixture(scope="module")
def prediction():
    return predict_random(model_of(spiked_cumulant(radau(3)), hermite_mixture({3: np.sqrt(2.0)})), 300)


@pytest.fixture(scope="module")
def two_spikes():
    return predict(model_of(MixedCumulant(corr=0.5)), 1000, 0.3)


@pytest.fixture(scope="module")
def network_flow():
    model = NetworkModel(MixedCumulant(corr=0.7, beta_u=5.0), TwoLayer(relu(), SquaredLoss(), 3))
    rates = Rates(first=0.5, second=0.05, bias=0.0, output=0.15)
    start = GramChain(model, 400, rates).run(1, 1, times=np.array([0])).trajectory.state(0, 0)
    return NetworkODE(model, 400, rates, points=256).run(start, 20_000, threshold=0.3)


def same(a, b):
    """Equal to the last bit, types with it."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        names = [f.name for f in fields(a) if f.compare]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and (a == b or (a != a and b != b))


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prediction", "two_spikes", "network_flow"])
def test_what_is_loaded_vs_what_was_saved(name, request, tmp_path):
    result = request.getfixturevalue(name)
    result.save(tmp_path / "kept")
    again = load(tmp_path / "kept")
    assert same(again, result)
    assert repr(again) == repr(result)
    assert again.provenance["command"] == "python"
    again.save(tmp_path / "second")
    assert (tmp_path / "kept").read_bytes() == (tmp_path / "second").read_bytes()
    if isinstance(result, Prediction):
        assert again.provenance["model"] == result.model.describe()
        assert same(again.flow.evolve(again.flow.grid()), result.flow.evolve(result.flow.grid()))
        assert again.population.drift_text("v") == result.population.drift_text("v")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("task", TASKS)
def test_every_model_of_the_package_round_trips(task, activation, loss, two_spikes, tmp_path):
    model = Model(TASKS[task], Neuron(ACTIVATIONS[activation], LOSSES[loss]))
    replace(two_spikes, model=model).save(tmp_path / "kept")
    again = load(tmp_path / "kept").model
    assert same(again, model)
    assert again == model
    np.testing.assert_array_equal(again.learner.activation.coefficients(8), model.learner.activation.coefficients(8))


def test_a_smoothed_neuron_round_trips(two_spikes, tmp_path):
    model = Model(MixedCumulant(corr=0.1 + 0.2), SmoothedNeuron(relu(), 0.2 + 0.1))
    replace(two_spikes, model=model).save(tmp_path / "kept")
    assert load(tmp_path / "kept").model == model


@pytest.mark.parametrize("activation", [
    *ACTIVATIONS.values(), relu(-0.1 - 0.2), relu(1 / 3), hermite_mixture({3: np.sqrt(2.0), 0: -1 / 3}),
    hermite_mixture({12: 1e-6, 1: 1e6 / 3}),
], ids=lambda a: a.name)  # fmt: skip
def test_exact_texts(activation):
    again = activation_from_text(exact_text(activation))
    assert again == activation
    np.testing.assert_array_equal(again.coefficients(12), activation.coefficients(12))


@dataclass(frozen=True)
class OwnTask(MixedCumulant):
    """A task of the user's own."""


@pytest.mark.parametrize(("model", "words"), [
    (Model(MixedCumulant(), Neuron(Activation("sine", sp.sin(Z)), SquaredLoss())), "activation: got sine"),
    (Model(MixedCumulant(), Neuron(Activation("relu", sp.sin(Z)), SquaredLoss())), "activation: got relu"),
    (model_of(OwnTask()), "OwnTask"),
])  # fmt: skip
def test_models_of_your_own_are_refused_and_nothing_is_written(model, words, two_spikes, tmp_path):
    result = replace(two_spikes, model=model)
    with pytest.raises(InputError, match=words):
        result.save(tmp_path / "kept")
    assert not list(tmp_path.iterdir())
    result.flow.save(tmp_path / "flow", model=model)  # numbers, and the model in words
    assert same(load(tmp_path / "flow"), result.flow)


# Dense output -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["LSODA", "Radau", "RK45"])
def test_segments_vs_scipy(method):
    """A flow over many scales: y' = y² blows up near t = 1, beside a damped oscillation."""

    def rate(_, y):
        return [y[0] ** 2, y[2], -y[1] - 0.1 * y[2]]

    solution = solve_ivp(rate, (0, 0.999), [1.0, 1.0, 0.0], method, rtol=1e-10, atol=1e-12, dense_output=True)
    segment = Segment.of(5.0, solution)
    assert segment.end == 5.0 + 0.999
    times = np.sort(np.concatenate([np.linspace(0, 0.999, 777), solution.t]))
    np.testing.assert_allclose(segment.at(times), solution.sol(times).T, rtol=1e-11, atol=1e-13)


def test_flow_vs_a_finer_integration(two_spikes):
    """Between its own steps the flow is the solution, as Radau's fifth-order method finds it."""
    from solvers.fields import accurate_field
    from solvers.ode import PopulationODE

    flow = two_spikes.flow
    ode = PopulationODE(two_spikes.model, accurate_field(two_spikes.population), 1000, 0.3)
    times = np.linspace(0, flow.horizon, 200)
    tau = times / flow.samples_per_unit
    oracle = solve_ivp(
        lambda _, a: ode.rate(a), (0, tau[-1]), two_spikes.start, "Radau", rtol=1e-9, atol=1e-12, t_eval=tau
    )
    np.testing.assert_allclose(flow.overlaps_at(times), oracle.y.T, atol=10 * max(two_spikes.series_gap, 1e-7))
    np.testing.assert_array_equal(flow.overlaps_at(np.array([1e3 * flow.duration])), flow.end[None])


# Tables and pictures ------------------------------------------------------------------------------------------------


def test_tables_vs_laws(prediction):
    law, direction = prediction.law_of("v"), prediction.target
    row = prediction.to_dataframe().loc["v"]
    assert (row["escape_0.5"], row["escape_ode"]) == (law.median, direction.escape_samples)
    assert (row["escape_0.9_low"], row["escape_0.9_high"]) == law.intervals[0.9]
    assert (row["information_exponent"], row["status"], row["law"]) == (3, direction.status, str(direction.law))
    assert (row["recovery_low"], row["recovery_high"]) == law.probability_interval
    data = prediction.to_xarray()
    assert float(data["escape_quantile"].sel(quantile=0.1, spike="v")) == law.quantiles[0.1]
    assert tuple(data["escape_interval"].sel(quantile=0.5, spike="v").values) == law.intervals[0.5]
    assert tuple(data["recovery_interval"].sel(spike="v").values) == law.probability_interval
    assert data["escape_quantile"].attrs["units"] == data["time"].attrs["units"] == "samples"


def test_tables_without_a_random_start(two_spikes, tmp_path):
    table, data = two_spikes.to_dataframe(), two_spikes.to_xarray()
    assert "escape_0.5" not in table
    assert "escape_quantile" not in data
    np.testing.assert_array_equal(table["escape_ode"], two_spikes.flow.escape_samples)
    np.testing.assert_array_equal(data["escape"][0], two_spikes.flow.escape_samples)
    np.testing.assert_array_equal(data["overlap"][0], two_spikes.flow.overlaps_at(two_spikes.flow.grid()))
    assert data.attrs["dim"] == 1000
    data.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")


def test_a_blind_spike_has_no_law_in_the_table():
    table = predict(model_of(MixedCumulant(corr=0.0)), 1000, 0.3).to_dataframe()
    assert np.isinf(table.loc["v", "escape_ode"])
    assert table.loc["v", "law"] is None or table.loc["v", "law"] != table.loc["v", "law"]


def test_network_flows(network_flow):
    text = repr(network_flow)
    assert f"{network_flow.escapes.of('u')[0]:.4g}" in text
    assert network_flow.closure in text
    assert f"{network_flow.closure_errors['R[u]']:.2g}" in text
    data = network_flow.to_xarray()
    np.testing.assert_array_equal(data["escape"].values, network_flow.escapes.times)
    assert len(network_flow.to_dataframe()) == len(network_flow.trajectory.times) * 3
    axes = network_flow.plot(Figure().subplots(), log=True)
    dots = {line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert dots == set(network_flow.escapes.times[np.isfinite(network_flow.escapes.times)])
    assert dots


def test_every_result_has_all_of_it():
    for kind in (FlowRun, Prediction, NetworkFlow):
        assert issubclass(kind, Result)
        assert kind.__repr__ is Result.__repr__
        assert all(callable(getattr(kind, m)) for m in ("plot", "to_dataframe", "to_xarray", "save"))
