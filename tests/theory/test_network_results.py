"""A network's trajectory under its names: what it converts to and draws is what it holds.

Would be falsified by: axes exchanged in the xarray or pandas forms, an assignment or a cosine that forgets the row's length,
a state taken at another time. Nothing here is random but the numbers themselves.
"""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.conftest import SEED
from theory.errors import InputError
from theory.network_results import NetworkTrajectory, first_not_finite


@pytest.fixture
def trajectory(rng):
    W = rng.standard_normal((2, 4, 3, 7))  # runs, times, neurons, d; spikes e_1, e_2
    W[1, 3] = np.nan
    a, b, output = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4))
    for x in (a, b, output):
        x[1, 3] = np.nan
    return NetworkTrajectory(
        ("u", "v"), np.array([0.0, 10, 100, 1000]), W[..., :2], W @ W.swapaxes(-1, -2), a, b, output
    )


def test_cosines_and_best_neuron(trajectory):
    t, run, time = trajectory, 0, 2
    lengths = np.sqrt(np.diag(t.Q[run, time]))
    np.testing.assert_allclose(t.cosines[run, time], t.R[run, time] / lengths[:, None])
    assert t.of("v")[run, time] == pytest.approx(np.max(np.abs(t.R[run, time, :, 1]) / lengths))
    sizes = np.abs(t.cosines[run, time])
    expected = np.where(sizes.max(axis=1) >= 0.4, sizes.argmax(axis=1), -1)
    np.testing.assert_array_equal(t.assignment(0.4)[run, time], expected)


def test_xarray_and_pandas_vs_arrays(trajectory):
    data, frame = trajectory.to_xarray(), trajectory.to_dataframe()
    assert float(data["R"].sel(run=1, time=10, neuron="w3", spike="v")) == trajectory.R[1, 1, 2, 1]
    assert float(data["Q"].sel(run=0, time=100, neuron="w1", neuron2="w2")) == trajectory.Q[0, 2, 0, 1]
    row = frame.loc[(1, 100.0, "w2")]
    assert row["overlap_u"] == trajectory.R[1, 2, 1, 0]
    assert row["cosine_v"] == trajectory.cosines[1, 2, 1, 1]
    assert row["a"] == trajectory.a[1, 2, 1]
    assert row["norm_squared"] == trajectory.Q[1, 2, 1, 1]
    assert len(frame) == 2 * 4 * 3


def test_plot_draws_the_median_onto_given_axes(trajectory):
    axes = Figure().subplots()
    trajectory.plot(axes, "v", color="k")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.nanmedian(trajectory.of("v"), axis=0))
    assert axes.get_xlabel() == "samples"


def test_states_and_bad_names(trajectory):
    state = trajectory.state(1, 2)
    np.testing.assert_array_equal(state.Q, trajectory.Q[1, 2])
    with pytest.raises(InputError, match="time: got 3"):
        trajectory.state(1, 3)
    with pytest.raises(InputError, match="spike: got w; allowed: u, v"):
        trajectory.of("w")


def test_first_not_finite_names_the_number():
    rng = np.random.default_rng(SEED)
    R, P, a = rng.standard_normal((3, 2)), rng.standard_normal((3, 3)), rng.standard_normal(3)
    assert first_not_finite(("u", "v"), R, P, a, a, 0.0) == ""
    for name, change in {"R[w3, v]": (R, (2, 1)), "Q[w1, w2]": (P, (0, 1)), "a[w2]": (a, 1)}.items():
        array, index = change
        array = array.copy()
        array[index] = np.inf
        parts = [array if x is change[0] else x for x in (R, P, a)]
        assert first_not_finite(("u", "v"), *parts, np.zeros(3), 0.0) == name
    assert first_not_finite(("u", "v"), R, P, a, a, np.nan) == "a_0"
