"""Tasks say their law three times: Hermite moments, generative expressions, Gaussian mixture. They must agree."""

import numpy as np
import pytest
import sympy as sp

from tests.conftest import TASKS, Z_ALARM, draw, teacher
from theory.errors import InputError
from theory.hermite import hermite, hermite_values, multi_indices, sqrt_factorials
from theory.latents import EvenCoupling, gauss
from theory.tasks import MixedCumulant, TeacherStudent, spiked_cumulant


@pytest.mark.parametrize("name", TASKS)
def test_moments_vs_montecarlo_of_the_generative_law(name, rng):
    task, n = TASKS[name], 1_000_000
    y, xi = draw(task, n, rng)
    par, scale = task.numbers(4), sqrt_factorials(4)
    he = hermite_values(4, xi.T) * scale[:, None, None]
    for power in (0, 1, 2):
        for degree in range(5):
            for index in multi_indices(len(task.spikes), degree):
                x = y**power * np.prod([he[i, a] for a, i in enumerate(index)], axis=0)
                error = x.std() / np.sqrt(n) + 1e-12
                assert abs(x.mean() - task.moment(index, power, par)) < Z_ALARM * error, (index, power)


@pytest.mark.parametrize("name", TASKS)
def test_moments_vs_mixture_nodes(name):
    """Given the latents ξ is Gaussian: E[He_i(ξ)] for ξ ~ N(m, c) by the recursion in m, c - 1, summed over the nodes."""
    task, order = TASKS[name], 8
    law, par = task.mixture(), task.numbers(8)
    he = [np.ones_like(law.mean), law.mean]
    for k in range(1, order):
        he.append(law.mean * he[k] + k * (law.variance - 1) * he[k - 1])
    for power in (0, 1, 2):
        for degree in range(order + 1):
            for index in multi_indices(len(task.spikes), degree):
                nodes = np.prod([he[i][:, a] for a, i in enumerate(index)], axis=0)
                expected = np.sum(law.weight * law.label_powers[:, power] * nodes)
                scale = np.prod(sqrt_factorials(order)[list(index)]) * 10
                assert task.moment(index, power, par) == pytest.approx(expected, abs=1e-9 * scale), (index, power)


def test_c_ij_vs_sympy_integration_rademacher():
    """C_ij with ν = sign λ (ρ̃ = 1): β^{i/2} s_v^j E[λ^i He_j(sign λ)] by SymPy's own integrals over λ."""
    task = MixedCumulant(corr=float(np.sqrt(2 / np.pi)), beta_u=0.7, beta_v=4.0)
    par, x = task.numbers(6), sp.Symbol("x", real=True)
    density = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)
    for i in range(5):
        for j in range(5):
            half = [sp.integrate(x**i * density, (x, *side)) * hermite(j, sp.Integer(sign))
                    for sign, side in ((-1, (-sp.oo, 0)), (1, (0, sp.oo)))]  # fmt: skip
            expected = 0.7 ** (i / 2) * (4 / 5) ** (j / 2) * float(sum(half))
            assert task.planted_moment((i, j), par) == pytest.approx(expected, abs=1e-12)


def test_first_mixed_moment_is_the_correlation():
    for corr in (0.5, -0.2):
        task = MixedCumulant(corr=corr, beta_u=2.0, beta_v=3.0)
        assert task.planted_moment((1, 1), task.numbers(2)) == pytest.approx(np.sqrt(2.0 * 0.75) * corr)


def test_even_coupling_is_uncorrelated_but_dependent():
    task = MixedCumulant(gauss(4), EvenCoupling())
    par = task.numbers(4)
    assert task.planted_moment((1, 1), par) == 0
    assert abs(task.planted_moment((2, 1), par)) > 0.5


def test_whitened_spike_is_invisible_to_covariances():
    task = spiked_cumulant(gauss(6))
    par = task.numbers(6)
    assert [task.planted_moment((k,), par) for k in range(1, 6)] == [0] * 5
    assert task.planted_moment((6,), par) == pytest.approx(-6 * (10 / 11) ** 3)


def test_symbolic_moments_take_the_numeric_values():
    for name in ("mcm_corr", "mcm_mean_p6", "mcm_p3", "teacher"):
        task = TASKS[name]
        symbols, numbers = task.symbols(), task.numbers(6)
        values = dict(task.definitions())
        if hasattr(symbols, "kappa"):
            values |= {symbols.kappa(k, j): numbers.kappa(k, j) for k in range(7) for j in range(1, 7)}
            values = {s: v for s, v in values.items() if s.is_Symbol}
        for index in multi_indices(len(task.spikes), 3):
            exact = sp.sympify(task.moment(index, 1, symbols)).subs(values)
            assert float(exact) == pytest.approx(float(task.moment(index, 1, numbers)), abs=1e-12)


def test_alone():
    assert MixedCumulant(corr=0.5).alone("v") == spiked_cumulant(gauss(4))
    assert MixedCumulant(corr=0.5).alone("m") is None
    task = teacher("uv", ("20", 1), ("11", 2), ("04", -1))
    assert task.alone("v") == TeacherStudent(("v",), (((4,), -1.0),))
    assert teacher("uv", ("10", 1), ("11", 1)).alone("v") is None


@pytest.mark.parametrize("bad", [
    lambda: MixedCumulant(corr=0.9), lambda: MixedCumulant(beta_u=-1), lambda: MixedCumulant(beta_v=float("nan")),
    lambda: MixedCumulant(beta_u=0, corr=0.1), lambda: MixedCumulant(corr=float("inf")),
    lambda: MixedCumulant(beta_u=0, beta_v=0), lambda: teacher("uv", ("20", 1)), lambda: teacher("u", ("0", 1)),
    lambda: teacher("u", ("2", float("nan"))), lambda: teacher("u", ("2", 1), noise=-1),
])  # fmt: skip
def test_impossible_tasks_are_refused(bad):
    with pytest.raises(InputError):
        bad()
