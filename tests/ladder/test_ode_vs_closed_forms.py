"""The integrator against closed forms, another integrator, and the power laws in d that the theory promises."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from solvers.fields import SeriesField
from solvers.ode import PopulationODE, run_converged
from solvers.prediction import predict
from tests.conftest import model_of, teacher
from theory.activations import hermite_mixture
from theory.errors import InputError
from theory.latents import gauss, lobatto, radau
from theory.population import Population
from theory.quadrature import LatentQuadrature
from theory.tasks import MixedCumulant, spiked_cumulant


def pure(k):
    """Teacher He_k(u), student He_k with c_k = 1: Φ = α^k, flow k α^(k-1) (1 - α²)."""
    return Population(model_of(teacher("u", (str(k), 1)), hermite_mixture({k: 1.0})), 12)


def test_order_two_vs_logistic_solution():
    """Dα/dτ = 2α(1-α²) - δ/2 V α is logistic in α²; V = V(0) + V_2 α² + … is small beside it at tiny δ."""
    population, dim, lr, start = pure(2), 1000, 1e-6, 0.03
    run = PopulationODE(population.model, SeriesField(population), dim, lr).run(np.array([start]), 0.3)
    tau = np.linspace(0, 4, 50)
    grown = start**2 / (1 - start**2) * np.exp(4 * tau)
    np.testing.assert_allclose(run.overlaps_at(tau * dim / lr)[:, 0], np.sqrt(grown / (1 + grown)), rtol=1e-4)
    expected = np.log(0.09 / 0.91 * (1 - start**2) / start**2) / 4 * dim / lr
    assert run.escape_samples[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_higher_orders_vs_integrated_inverse_drift(k):
    """Escape time = ∫ dα/(k α^(k-1) (1-α²)), by quadrature."""
    from scipy.integrate import quad

    population, start = pure(k), 0.05
    run = PopulationODE(population.model, SeriesField(population), 100, 1e-9).run(np.array([start]), 0.3)
    expected = quad(lambda a: 1 / (k * a ** (k - 1) * (1 - a**2)), start, 0.3, epsabs=0, epsrel=1e-12)[0]
    assert run.escape_samples[0] * 1e-9 / 100 == pytest.approx(expected, rel=1e-5)


def test_lsoda_vs_radau():
    population = Population(model_of(MixedCumulant(corr=0.5)), 20)
    ode = PopulationODE(population.model, SeriesField(population), 1000, 0.3)
    run = ode.run(np.array([0.03, 0.03]), 0.3)
    other = solve_ivp(
        lambda _, a: ode.rate(a), (0, 60), [0.03, 0.03], method="Radau", rtol=1e-10, atol=1e-13, dense_output=True
    )
    tau = np.linspace(0, 60, 40)
    np.testing.assert_allclose(run.overlaps_at(tau * 1000 / 0.3), other.sol(tau).T, atol=1e-6)


def test_series_vs_quadrature_flow():
    """The same escape times whether the drift comes from the series or from quadrature over the latents."""
    population = Population(model_of(MixedCumulant(corr=0.6, beta_u=0.7)), 24)
    times = [
        PopulationODE(population.model, field, 1000, 0.2).run(np.array([0.03, 0.03])).escape_samples
        for field in (SeriesField(population), LatentQuadrature(population.model))
    ]
    np.testing.assert_allclose(*times, rtol=1e-4)


@pytest.mark.parametrize(("p", "latent"), [(3, radau(3)), (4, gauss(4)), (5, radau(5)), (6, lobatto(6))])
def test_exponent_p_minus_1_of_the_cumulant_alone(p, latent):
    """Slope of log escape time against log d over d = 10^3 … 10^7: p - 1, within 0.01."""
    sign = np.sign(latent.hermite_moment(p))
    model = model_of(spiked_cumulant(latent), hermite_mixture({2: 1.0, p: float(sign)}))
    dims = np.geomspace(1e3, 1e7, 5)
    times = [predict(model, round(d)).target.escape_samples for d in dims]
    assert np.polyfit(np.log(dims), np.log(times), 1)[0] == pytest.approx(p - 1, abs=0.01)


def test_accelerated_law_is_d_log_d_at_constant_rate():
    """T/d is affine in log d (correlation 1 to 1e-5); with δ ~ 1/log d it becomes d log² d."""
    model, dims = model_of(MixedCumulant(corr=0.5)), np.geomspace(1e3, 1e9, 7)
    times = np.array([predict(model, round(d), 0.2).target.escape_samples for d in dims])
    assert np.corrcoef(times / dims, np.log(dims))[0, 1] > 1 - 1e-5
    slower = np.array([predict(model, round(d), 1.4 / np.log(d)).target.escape_samples for d in dims])
    assert np.corrcoef(slower / dims / np.log(dims), np.log(dims))[0, 1] > 0.999


def test_fixed_points_and_their_stability():
    """He_2(u) + He_2(v) with unequal strengths: ±u stable, ±v saddles, 0 a source; the flow ends at a listed point."""
    population = Population(model_of(teacher("uv", ("20", 1), ("02", 0.5)), hermite_mixture({2: 1.0})), 8)
    ode = PopulationODE(population.model, SeriesField(population), 1000, 1e-3)
    points = {tuple(np.round(f.overlaps, 1)): f.stable for f in ode.fixed_points()}
    assert points == {(1, 0): True, (-1, 0): True, (0, 1): False, (0, -1): False, (0, 0): False}
    end = ode.run(np.array([0.01, 0.02])).end
    assert any(np.abs(end - f.overlaps).max() < 1e-6 and f.stable for f in ode.fixed_points())


def test_starts_on_above_and_exactly_at_the_threshold():
    population = Population(model_of(MixedCumulant(corr=0.5)), 20)
    ode = PopulationODE(population.model, SeriesField(population), 1000, 0.3)
    assert ode.run(np.array([0.3, 0.1]), 0.3).escape_samples[0] == 0
    assert ode.run(np.array([0.5, 0.3]), 0.3).escape_samples.tolist() == [0, 0]
    run = ode.run(np.array([0.6, 0.1]), 0.3, stop_at_escape=True)
    assert abs(run.overlaps_at(run.escape_samples[1:])[0, 1]) == pytest.approx(0.3, abs=1e-7)


def test_bad_runs_are_refused():
    population = Population(model_of(MixedCumulant(corr=0.5)), 20)
    field = SeriesField(population)
    for dim, lr in ((9, 0.1), (1000, 0), (1000, float("nan")), (float("inf"), 0.1)):
        with pytest.raises(InputError):
            PopulationODE(population.model, field, dim, lr)
    for start in ([0.1], [0.9, 0.9], [float("nan"), 0]):
        with pytest.raises(InputError):
            PopulationODE(population.model, field, 1000, 0.1).run(np.array(start))


def test_quadrature_takes_over_where_the_series_fails():
    population = Population(model_of(MixedCumulant(corr=0.5, beta_u=5.0)), 20)
    _, run, method, gap = run_converged(population, 1000, 0.3, np.array([0.03, 0.03]), 0.3)
    assert method == "quadrature"
    assert gap > 1e-3
    assert np.linalg.norm(run.end) < 1


@pytest.mark.parametrize(("p", "dim"), [(4, 1000), (8, 1e8)])
def test_first_passage_vs_dense_run(p, dim):
    """One spike's crossing at plotting accuracy against the dense, accurate run: within 1e-3, on any clock."""
    result = predict(model_of(spiked_cumulant(gauss(p))), int(dim))
    ode = PopulationODE(result.model, SeriesField(result.population), int(dim), result.lr)
    assert ode.first_passage(result.start, 0, 0.3) == pytest.approx(result.target.escape_samples, rel=1e-3)
    assert ode.first_passage(result.start, 0, result.start[0] / 2) == 0
