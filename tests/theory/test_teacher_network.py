"""The teacher network as a task: its product moments, its form as a polynomial teacher, and what it refuses.

The generic tests of tests/theory/test_tasks.py hold its moments to Monte Carlo and quadrature. No randomness here.
"""

import numpy as np
import pytest

from solvers.ode import PopulationODE
from tests.conftest import model_of
from theory.activations import erf, hermite_mixture, relu, softplus, tanh
from theory.errors import InputError
from theory.hermite import hermite_values, multi_indices, sqrt_factorials
from theory.learners import SquaredLoss
from theory.population import Population
from theory.quadrature import LatentQuadrature
from theory.tasks import TeacherStudent
from theory.teacher_network import TeacherNetwork

CUBIC = hermite_mixture({0: 0.4, 1: 0.5, 3: -0.6})


def test_polynomial_teacher_vs_multi_index_teacher():
    """The same f* written as Σ_m a_m Σ_k c_k/k! He_k(ξ_m), c_0 = 0: every moment, up to the sixth degree and beyond."""
    sigma, a = hermite_mixture({1: 0.5, 3: -0.6}), (1.0, -0.7, 2.0)
    network = TeacherNetwork(sigma, a, 0.3, ("x", "y", "z"))
    terms = tuple(
        (tuple(k if n == m else 0 for n in range(3)), x * c) for m, x in enumerate(a) for k, c in ((1, 0.5), (3, -0.1))
    )
    polynomial = TeacherStudent(("x", "y", "z"), terms, 0.3)
    assert network.spikes == polynomial.spikes
    assert network.degree == polynomial.degree == 3
    for power in (0, 1, 2):
        for degree in range(8):
            for index in multi_indices(3, degree):
                left, right = (t.moment(index, power, t.numbers(8)) for t in (network, polynomial))
                assert left == pytest.approx(right, abs=1e-12), (index, power)


@pytest.mark.parametrize("activation", [erf(), CUBIC, relu(0.3)])
def test_symbolic_moments_take_the_numeric_values(activation):
    task = TeacherNetwork(activation, (1.0, -0.7, 0.5), 0.3)
    symbols, numbers, values = task.symbols(), task.numbers(6), task.definitions()
    for power in (1, 2):
        for degree in range(5):
            for index in multi_indices(3, degree):
                exact = task.moment(index, power, symbols)
                value = float(exact.subs(values)) if hasattr(exact, "subs") else exact
                assert value == pytest.approx(task.moment(index, power, numbers), rel=1e-12, abs=1e-12), (index, power)


@pytest.mark.parametrize("activation", [erf(), tanh(), relu(), relu(-0.4)])
def test_second_moments_vs_a_grid(activation):
    """E[y²] and E[y² He_2(ξ_1)] by the trapezoidal rule on a fine grid of two rows."""
    task, x = TeacherNetwork(activation, (1.0, -0.7), 0.3), np.linspace(-9, 9, 6001)
    p = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    s = activation.function.evaluate(x)
    means = [p @ s, p @ s**2, p @ (s * (x**2 - 1)), p @ (s**2 * (x**2 - 1))]
    par = task.numbers(4)
    assert task.moment((0, 0), 2, par) == pytest.approx(1.49 * means[1] - 1.4 * means[0] ** 2 + 0.09, abs=1e-5)
    expected = means[3] - 1.4 * means[2] * means[0]
    assert task.moment((2, 0), 2, par) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("activation", "rows", "tolerance"), [
    (erf(), 1, 1e-12), (erf(), 2, 1e-11), (erf(), 3, 1e-5), (relu(0.3), 2, 1e-11), (relu(0.3), 3, 1e-4),
    (tanh(), 2, 2e-6), (tanh(), 3, 1e-3), (softplus(), 3, 1e-6),
])  # fmt: skip
def test_quadrature_nodes_vs_moments_at_the_stated_accuracy(activation, rows, tolerance):
    task = TeacherNetwork(activation, (1.0, -0.7, 0.5)[:rows], 0.3)
    law, par = task.mixture(), task.numbers(4)
    he = hermite_values(4, law.mean.T) * sqrt_factorials(4)[:, None, None]
    for power in (1, 2):
        for index in (i for degree in range(5) for i in multi_indices(rows, degree)):
            nodes = law.weight * law.label_powers[:, power] * np.prod([he[i, m] for m, i in enumerate(index)], axis=0)
            assert task.moment(index, power, par) == pytest.approx(nodes.sum(), abs=tolerance), index


def test_every_view_of_one_neuron_serves_it():
    """Series and quadrature of the flow agree; a neuron of the teacher's kind aligns with the only row."""
    model = model_of(TeacherNetwork(erf(), (1.0,)), erf(), SquaredLoss())
    population, exact = Population(model, 40), LatentQuadrature(model)
    for x in (-0.3, 0.2, 0.5):
        np.testing.assert_allclose(population.lowered(np.array([x]))[:-1], exact.flow(np.array([x])), atol=1e-9)
    run = PopulationODE(model, exact, 1000, 0.1).run(np.array([0.03]))
    assert run.end[0] > 0.95
    assert "delta" in population.drift_text("t1")
    assert population.latex()


def test_alone_keeps_the_name_of_the_row():
    task = TeacherNetwork(CUBIC, (1.0, -0.7), 0.3)
    assert task.alone("t2") == TeacherNetwork(CUBIC, (-0.7,), 0.3, ("t2",))
    assert task.alone("v") is None


def test_words():
    task = TeacherNetwork(erf(), (1.0, -0.7), 0.3)
    assert task.describe() == "teacher-network: f* = 1·erf(t1) - 0.7·erf(t2), label noise 0.3"
    assert task.settings()["teacher"] == task.formula()
    assert task.useful_degrees() == {1: 1, 3: -1}
    assert task.signal_order == 2


@pytest.mark.parametrize(("bad", "text"), [
    (lambda: TeacherNetwork(erf(), ()), "at least one"),
    (lambda: TeacherNetwork(erf(), (1.0, 0.0)), "1e-6"),
    (lambda: TeacherNetwork(erf(), (float("nan"),)), "1e-6"),
    (lambda: TeacherNetwork(erf(), (1.0,), -1.0), "noise"),
    (lambda: TeacherNetwork(erf(), (1.0, 2.0), 0.0, ("u",)), "2 different names"),
    (lambda: TeacherNetwork(erf(), (1.0,) * 4).mixture(), "at most 3"),
])  # fmt: skip
def test_impossible_teachers_are_refused(bad, text):
    with pytest.raises(InputError, match=text):
        bad()
