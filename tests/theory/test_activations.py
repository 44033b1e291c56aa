"""Activations: closed forms against quadrature, and the small grammar of the command line."""

import numpy as np
import pytest

from tests.conftest import ACTIVATIONS
from theory.activations import CATALOGUE, ScalarFunction, activation_from_text, relu, sigmoid, softplus, tanh
from theory.errors import InputError
from theory.hermite import hermite_values


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_coefficients_vs_quadrature(name):
    """Closed form (or Gauss-Legendre panels) against the trapezoidal rule on a fine grid, kinks on grid points."""
    activation = ACTIVATIONS[name]
    z = np.linspace(-24, 24, 480_001)
    weights = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    expected = hermite_values(30, z) @ (weights * activation.function.evaluate(z))
    tolerance = 1e-8 if activation.kinks else 1e-12  # the trapezoidal rule is of second order at a kink
    np.testing.assert_allclose(activation.normalized_coefficients(30), expected, atol=tolerance)
    np.testing.assert_allclose(activation.function.normalized_coefficients(30), expected, atol=tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_closed_form_vs_panels(name):
    activation = ACTIVATIONS[name]
    panels = activation.function.normalized_coefficients(40)
    np.testing.assert_allclose(activation.normalized_coefficients(40), panels, atol=1e-12)
    if activation.function.degree is None:
        assert activation.function.quadrature_error(40) < 1e-12


def test_derivative_identity_softplus_vs_sigmoid():
    """softplus' = sigmoid, so c_k(softplus) = c_{k-1}(sigmoid)."""
    np.testing.assert_allclose(softplus().coefficients(9)[1:], sigmoid().coefficients(8), atol=1e-11)


def test_relu_is_blind_to_odd_orders_and_known_values():
    c = relu().coefficients(7)
    np.testing.assert_allclose(c[[3, 5, 7]], 0, atol=0)
    np.testing.assert_allclose(c[[0, 1, 2, 4]], [0.3989422804, 0.5, 0.3989422804, -0.3989422804], atol=1e-9)


def test_squares_sum_to_second_moment():
    for activation in (tanh(), relu(0.5)):
        square = ScalarFunction(activation.expression**2, activation.kinks).normalized_coefficients(0)[0]
        partial = np.cumsum(activation.normalized_coefficients(60) ** 2)
        assert partial[-1] < square + 1e-12
        assert square - partial[-1] < 0.02 * square


def test_no_overflow_far_out():
    far = np.array([-2000.0, 2000.0])
    for name in CATALOGUE:
        assert np.all(np.isfinite(CATALOGUE[name]().function.evaluate(far))), name


def test_grammar():
    assert activation_from_text("relu:0.5").kinks == (-0.5,)
    np.testing.assert_allclose(activation_from_text("hermite:2=1,4=-0.5").coefficients(4), [0, 0, 1, 0, -0.5])


@pytest.mark.parametrize(
    "text", ["cube", "relu:x", "relu:nan", "erf:1", "hermite:", "hermite:2", "hermite:2=1,2=3", "hermite:-1=2",
             "hermite:2=inf", "hermite:0=1", "hermite:99=1", "__import__('os')", ""]
)  # fmt: skip
def test_bad_text_is_refused_with_the_known_names(text):
    with pytest.raises(InputError, match="allowed"):
        activation_from_text(text)
    with pytest.raises(InputError, match="relu, erf, tanh, sigmoid, softplus"):
        activation_from_text("cube")
