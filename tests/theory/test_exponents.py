"""The staircase of one neuron (theory §6): the examples of the theory note, §10, and more. Simulations of the same
cases are in tests/ladder/test_staircase_vs_sgd.py."""

import numpy as np
import pytest

from solvers.prediction import predict
from tests.conftest import model_of, teacher
from theory.activations import erf, hermite_mixture, relu
from theory.exponents import ThresholdLaw, critical_rate, first_form
from theory.latents import EvenCoupling, gauss, lobatto, radau
from theory.population import Population
from theory.tasks import MixedCumulant, spiked_cumulant


def directions(task, activation=None, **run):
    result = predict(model_of(task, activation), **run)
    return {d.spike: d for d in result.directions}


def mixture(**coefficients):
    return hermite_mixture({int(name[1:]): value for name, value in coefficients.items()})


def test_threshold_laws():
    assert [str(ThresholdLaw(k)) for k in (1, 2, 3, 4)] == ["d", "d log^2 d", "d^2", "d^3"]
    assert [ThresholdLaw(k).exponent for k in (1, 2, 3, 6)] == [1, 1, 2, 5]


@pytest.mark.parametrize("sign", [1, -1])
def test_h1u_plus_h1u_h1v_recovers_v_with_the_sign_of_c2(sign):
    found = directions(teacher("uv", ("10", 1), ("11", 1)), mixture(c1=1, c2=sign))
    assert found["u"].status == found["v"].status == "recovered"
    assert found["v"].waits_for == ("u",)
    assert found["v"].information_exponent == 1
    assert np.sign(found["v"].fixed_point) == sign
    assert (found["u"].order_reached, found["v"].order_reached) == (1, 2)


def test_h2u_plus_h4v_never_finds_v():
    found = directions(teacher("uv", ("20", 1), ("04", 1)), mixture(c2=1, c4=1))
    assert (found["u"].status, found["v"].status) == ("recovered", "repelled")
    assert str(found["u"].law) == "d log^2 d"
    assert found["v"].escape_samples == np.inf


@pytest.mark.parametrize(("c2", "status"), [(0.25, "repelled"), (2.0, "recovered")])
def test_h1u_plus_h2v_depends_on_the_strength_of_c2(c2, status):
    found = directions(teacher("uv", ("10", 1), ("02", 1)), mixture(c1=1, c2=c2))
    assert found["v"].status == status
    assert (found["v"].information_exponent == 2) == (status == "recovered") or status == "repelled"


def test_h2u_plus_h1u_h2v_works_in_half_of_the_runs():
    found = directions(teacher("uv", ("20", 1), ("12", 1)), mixture(c2=1, c3=2))
    assert found["v"].status == "recovered"
    assert "50%" in found["v"].reason
    assert found["v"].waits_for == ("u",)


def test_two_equal_cumulants_one_of_them_wins():
    found = directions(teacher("uv", ("30", 1), ("03", 1)), mixture(c3=1))
    assert all("50%" in d.reason and d.information_exponent == 3 for d in found.values())


def test_product_of_three_needs_all_three():
    found = directions(teacher("uvw", ("111", 1)), mixture(c3=1))
    assert found["w"].waits_for == ("u", "v")
    assert str(found["w"].law) == "d^2"
    assert all(d.status == "recovered" for d in found.values())


def test_wrong_sign_of_one_does_not_stop_the_other():
    found = directions(teacher("uv", ("20", -1), ("04", 1)), mixture(c2=1, c4=1))
    assert found["u"].status == "repelled"
    assert (found["v"].status, str(found["v"].law)) == ("recovered", "d^3")


def test_mixed_cumulant_independent_locks_onto_u():
    """§10.1: v beside u never; v alone d^(p-1): the two are reported apart."""
    result = predict(model_of(MixedCumulant()))
    found = {d.spike: d for d in result.directions}
    assert (found["u"].status, found["v"].status) == ("recovered", "repelled")
    assert "u" in found["v"].reason
    assert str(result.baseline.law) == "d^3"
    assert np.isfinite(result.baseline.escape_samples)
    assert result.speedup is None


def test_mixed_cumulant_correlated_slides_down():
    result = predict(model_of(MixedCumulant(corr=0.5)))
    v = result.target
    assert (v.status, str(v.law), v.waits_for, v.information_exponent) == ("recovered", "d log^2 d", ("u",), 2)
    assert result.speedup > 1e5


@pytest.mark.parametrize(("corr", "alpha_v"), [(0.3, 0.28), (0.5, 0.445), (0.75, 0.595)])
def test_fixed_points_of_the_theory_note(corr, alpha_v):
    """§10.5: α_v* at β_u = 1, β_v = 10 (small learning rate)."""
    result = predict(model_of(MixedCumulant(corr=corr)), lr=1e-3)
    assert result.target.fixed_point == pytest.approx(alpha_v, abs=0.012)
    assert result.target.status == ("below_threshold" if corr == 0.3 else "recovered")


@pytest.mark.parametrize(("corr", "alpha_v"), [(0.3, 0.13), (0.75, 0.36)])
def test_fixed_points_at_a_strong_covariance_spike(corr, alpha_v):
    """§10.5: 0.13 – 0.36 at β_u = 5, where the series diverges and quadrature over the latents takes over."""
    result = predict(model_of(MixedCumulant(corr=corr, beta_u=5.0)), lr=1e-3)
    assert result.method == "quadrature"
    assert result.target.fixed_point == pytest.approx(alpha_v, abs=0.03)


def test_wrong_sign_is_said():
    """§10.2: c_p E[He_p(ν)] < 0: no number of samples helps."""
    for task in (spiked_cumulant(gauss(6)), spiked_cumulant(lobatto(4))):
        v = directions(task)["v"]
        assert (v.status, v.escape_samples) == ("wrong_sign", np.inf)
    assert directions(spiked_cumulant(lobatto(6)))["v"].status == "recovered"


def test_blind_activation_is_said_and_a_seeing_one_named():
    """§10.4: ReLU without bias has c_3 = 0."""
    v = directions(spiked_cumulant(radau(3)))["v"]
    assert v.status == "blind"
    assert "c_3 = 0" in v.reason
    assert "hermite:2=1,3=1" in v.reason
    assert directions(spiked_cumulant(radau(3)), relu(0.5))["v"].information_exponent == 3
    even = directions(spiked_cumulant(gauss(4)), erf())["v"]
    assert even.status == "blind"


def test_odd_order_starts_on_the_wrong_side():
    """§10.3: in the ODE one half of the starts fails."""
    activation, task = mixture(c3=1), spiked_cumulant(radau(3))
    good, bad = (directions(task, activation, start=np.array([a]))["v"] for a in (0.1, -0.1))
    assert (good.status, bad.status) == ("recovered", "wrong_sign")
    assert "side" in bad.reason


def test_large_rates():
    """§10.5: order 2 above the critical rate never escapes; order >= 3 is noise-activated."""
    critical = predict(model_of(MixedCumulant(corr=0.5))).lr_critical
    assert directions(MixedCumulant(corr=0.5), lr=1.5 * critical)["u"].status == "lr_too_large"
    alone = spiked_cumulant(gauss(4))
    critical = predict(model_of(alone)).lr_critical
    found = directions(alone, lr=2 * critical)["v"]
    assert (found.status, found.escape_samples) == ("noise_activated", np.inf)


def test_critical_rate_is_where_the_flow_stops_growing():
    """The formula against the sign of the radial rate at the typical start, order 2 and order 4."""
    for task in (MixedCumulant(corr=0.5), spiked_cumulant(gauss(4))):
        dim = 10**6  # so that the next order in α is negligible at the start
        critical = predict(model_of(task), dim=dim, lr=1e-6).lr_critical
        ends = [np.abs(predict(model_of(task), dim=dim, lr=f * critical).flow.end).max() for f in (0.98, 1.02)]
        assert ends[0] > 1e-3 > ends[1]


def test_first_form_of_the_correlated_model_vs_eigenvalue():
    """Order 2: max of the form is the top eigenvalue of ½ Hessian = ½ [[c_2 β_u/2·…]] computed by hand."""
    population = Population(model_of(MixedCumulant(corr=0.5)), 8)
    c2, s_v = 1 / np.sqrt(2 * np.pi), np.sqrt(10 / 11)
    half_hessian = 0.25 * c2 * np.array([[1.0, s_v * 0.5], [s_v * 0.5, 0.0]])
    degree, maximum = first_form(population)
    assert degree == 2
    assert maximum == pytest.approx(np.linalg.eigvalsh(half_hessian)[-1], rel=1e-6)
    assert critical_rate(population, degree, maximum, 1000, 0.3) == pytest.approx(4 * maximum / 0.5)


def test_even_coupling_is_told_apart():
    found = directions(MixedCumulant(coupling=EvenCoupling()))
    assert found["u"].status == "recovered"
    assert found["v"].status != "recovered"


def test_mean_spike_falls_first():
    found = directions(MixedCumulant(corr=0.5, beta_m=1.0))
    assert (found["m"].order_reached, found["m"].information_exponent, str(found["m"].law)) == (1, 1, "d")
