"""The population flow of tensor PCA against gradients in R^N, closed forms, and what it recovers."""

import numpy as np
import pytest
from scipy.stats import kstest

from solvers.ode import PopulationODE
from tests.conftest import FALSE_ALARM, Z_ALARM
from theory.errors import InputError
from theory.spaces import Contractions
from theory.tensor_pca import SpikedTensor, TensorField, TensorPopulation, drift_times, elimination, outcome

CASES = [(2, (1.0,)), (2, (2.0, 1.0)), (3, (1.5, 1.0)), (3, (3.0, 2.0, 1.0)), (4, (2.0, 1.0))]


def frame(rng, dim, rank):
    return np.linalg.qr(rng.standard_normal((dim, rank)))[0]


@pytest.mark.parametrize(("order", "snr"), CASES)
def test_symbolic_flow_vs_gradient_in_space(order, snr, rng):
    """SymPy's flow of M is Vᵀ times the tangent part of the gradient that central differences see in R^N."""
    dim, r, λ = 9, len(snr), np.array(snr)
    V, X = frame(rng, dim, r), frame(rng, dim, r)

    def objective(X):
        return np.sum(np.outer(λ, λ) * (V.T @ X) ** order)

    gradient = np.zeros((dim, r))
    for index in np.ndindex(dim, r):
        h = np.zeros((dim, r))
        h[index] = 1e-5
        gradient[index] = (objective(X + h) - objective(X - h)) / 2e-5
    tangent = gradient - X @ (X.T @ gradient + gradient.T @ X) / 2
    population = TensorPopulation(order, r)
    flow = population.lowered(population.flow, snr)((V.T @ X).ravel())
    assert flow == pytest.approx((V.T @ tangent).ravel(), abs=1e-8)


@pytest.mark.parametrize(("order", "snr"), CASES)
def test_symbolic_noise_vs_explicit_tensors(order, snr, rng):
    """Cov(VᵀT) of the tangent gradient of ⟨W, x^{⊗p}⟩ over explicit tensors W is the SymPy matrix."""
    dim, r, n = 6, len(snr), 20_000
    V, X = frame(rng, dim, r), frame(rng, dim, r)
    steps = np.empty((n, r * r))
    for first in range(0, n, 500):
        W = rng.standard_normal((500, *[dim] * order))
        noise = np.zeros((500, dim, r))
        for place in range(order):
            turned = np.moveaxis(W, place + 1, 1).reshape(500, dim, -1)
            for j in range(r):
                powers = X[:, j]
                for _ in range(order - 2):
                    powers = np.multiply.outer(powers, X[:, j]).ravel()
                noise[:, :, j] += snr[j] * turned @ powers
        tangent = noise - X @ (X.T @ noise + np.swapaxes(X.T @ noise, 1, 2)) / 2
        steps[first : first + 500] = (V.T @ tangent).reshape(500, -1)
    population = TensorPopulation(order, r)
    theory = population.lowered(population.diffusion, snr)((V.T @ X).ravel()).reshape(r * r, r * r)
    products = steps[:, :, None] * steps[:, None, :]
    z = (products.mean(axis=0) - theory) / (products.std(axis=0) / np.sqrt(n) + 1e-12)
    assert np.abs(z).max() < Z_ALARM + 1  # up to 45 different entries at once


def test_one_spike_vs_closed_form():
    """r = 1, p = 3: m^{p-1} (1 - m²) p λ² √N, and the time that its drift alone needs."""
    tensor, dim, lr = SpikedTensor(3, (1.3,)), 10**6, 1e-6
    field = TensorField(tensor, dim, lr)
    m = 0.3
    assert field(np.array([m]))[0] == pytest.approx(
        [3 * 1.69 * m**2 * (1 - m**2) * 1000 - lr * 3 * 1.69 * m / 2], rel=1e-12
    )
    run = PopulationODE(tensor, field, dim, lr).run(np.array([1e-3]), threshold=0.3)
    c = lr / dim * 3 * 1.69 * 1000
    exact = (1e3 - 1 / 0.3 + np.arctanh(0.3) - np.arctanh(1e-3)) / c  # ∫ dm/(m² (1-m²)) = -1/m + artanh m
    assert run.escape_samples[0] == pytest.approx(exact, rel=1e-4)
    assert drift_times(tensor, np.array([[1e-3]]), dim, lr, 0.3)[0, 0] == pytest.approx((1e3 - 1 / 0.3) / c, rel=1e-12)


def test_equal_strengths_of_order_two_vs_logistic_law(rng):
    """p = 2, equal λ: the singular values of M follow σ' = 2 c σ (1 - σ²) and its frames do not turn."""
    tensor, dim, lr = SpikedTensor(2, (1.0, 1.0, 1.0)), 10**12, 1e-9
    left, right = frame(rng, 3, 3), frame(rng, 3, 3)
    σ = np.array([0.02, 0.01, 0.003])
    start = left @ np.diag(σ) @ right.T
    run = PopulationODE(tensor, TensorField(tensor, dim, lr), dim, lr).run(start.ravel())
    time = 2.2 / (lr / np.sqrt(dim))
    odds = (σ / np.sqrt(1 - σ**2)) * np.exp(2 * 2.2)
    expected = left @ np.diag(odds / np.sqrt(1 + odds**2)) @ right.T
    assert run.overlaps_at(np.array([time]))[0] == pytest.approx(expected.ravel(), rel=1e-5)


@pytest.mark.parametrize(("order", "snr"), [(2, (2.0, 1.0)), (3, (3.0, 2.0, 1.0)), (4, (2.0, 1.5))])
def test_flow_ends_in_a_signed_permutation(order, snr, rng):
    """From random starts the flow recovers every spike once, p = 2 with distinct λ in their order, and stays inside."""
    tensor, dim = SpikedTensor(order, snr), 10**4
    lr = 1e-4
    ode = PopulationODE(tensor, TensorField(tensor, dim, lr), dim, lr)
    for _ in range(4):
        start = tensor.space.random(rng, dim)
        run = ode.run(np.abs(start) if order == 3 else start)
        end = run.end.reshape(len(snr), len(snr))
        assert tensor.space.size(run.end) <= 1 + 1e-9
        assert np.sort(np.abs(end), axis=None) == pytest.approx([0] * (end.size - len(end)) + [1] * len(end), abs=1e-3)
        assert outcome(end, 0.9) == "exact" if order == 2 else outcome(end, 0.9) in ("exact", "permutation")


def test_elimination_vs_flow(rng):
    """The order of the flow's escapes is the greedy one, and each row and column escapes once."""
    tensor, dim = SpikedTensor(3, (2.0, 1.0)), 10**8
    lr = 1e-6
    ode = PopulationODE(tensor, TensorField(tensor, dim, lr), dim, lr)
    for _ in range(6):
        start = np.abs(tensor.space.random(rng, dim))
        run = ode.run(start, threshold=0.5)
        seen = elimination(run.escape_samples.reshape(2, 2))
        assert seen == elimination(drift_times(tensor, start.reshape(2, 2), dim, lr, 0.5))
        assert {i for i, _ in seen} == {j for _, j in seen} == {0, 1}


def test_drift_times_know_signs():
    """Odd p: a negative overlap never arrives; even p: its sign does not matter."""
    M = np.array([[-0.1]])
    assert np.isinf(drift_times(SpikedTensor(3, (1.0,)), M, 100, 0.1, 0.5))
    even = SpikedTensor(4, (1.0,))
    assert drift_times(even, M, 100, 0.1, 0.5) == drift_times(even, -M, 100, 0.1, 0.5) < np.inf
    assert elimination(np.full((2, 2), np.inf)) == []


def test_outcomes():
    turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
    assert outcome(np.eye(2), 0.8) == outcome(-np.eye(2), 0.8) == "exact"
    assert outcome(np.array([[0.0, 1.0], [-1.0, 0.0]]), 0.8) == "permutation"
    assert outcome(turn, 0.8) == "subspace"
    assert outcome(np.diag([1.0, 0.1]), 0.8) == "partial"


@pytest.mark.parametrize("rank", [1, 2])
def test_random_overlaps_vs_frames(rank, rng):
    """Uniform on the Stiefel manifold: Beta law of m_11² at any r, and entries like those of QR frames."""
    drawn = np.array([Contractions(rank).random(rng, 7) for _ in range(4000)])
    frames = np.array([(frame(rng, 7, rank) * rng.choice([-1, 1], rank))[:rank].ravel() for _ in range(4000)])
    assert kstest(drawn[:, 0] ** 2, "beta", args=(0.5, 3.0)).pvalue > FALSE_ALARM
    assert kstest(drawn.prod(axis=1), frames.prod(axis=1)).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("order", "snr", "word"),
    [
        (1, (1.0,), "p"),
        (9, (1.0,), "p"),
        (3, (), "snr"),
        (3, (1.0, 2.0), "decreasing"),
        (3, (1.0, -1.0), "1e-3"),
        (3, (np.nan,), "snr"),
    ],
)
def test_bad_tensors(order, snr, word):
    with pytest.raises(InputError, match=word):
        SpikedTensor(order, snr)
