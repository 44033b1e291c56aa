"""The overlap ODE of two-layer networks: its three sources of expectations against each other, against Saad & Solla's
equations, against one neuron's population flow, and against the Gram chain as d grows.

Would be falsified by: a wrong term of the flow (decay, second layer, biases, normalisation, the δ² term), a closed form that
is not the expectation, a cubature that is not exact, a sampling error that is not what is reported, a gap to the chain that
does not close like 1/d (mean) and 1/√d (single runs).

False alarms: Z_ALARM for every compared number where a test draws chains (one in ten thousand each). Orders of convergence
are compared with bands wide against their scatter over seeds. All else is deterministic.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from solvers.gram_chain import GramChain
from solvers.network_moments import Cubature, ErfClosure, choose_closure, gauss_hermite
from solvers.network_ode import NetworkODE, _Flow
from solvers.ode import PopulationODE
from tests.conftest import ACTIVATIONS, LOSSES, SEED, TASKS, Z_ALARM, model_of
from theory.activations import erf, hermite_mixture, relu, tanh
from theory.errors import InputError
from theory.learners import CorrelationLoss, LogisticLoss, SquaredLoss
from theory.networks import NetworkModel, NetworkState, Rates, TwoLayer, symmetric_root
from theory.quadrature import LatentQuadrature
from theory.teacher_network import TeacherNetwork

PARTS = ("spikes", "rest", "squares", "push", "second", "output")
QUADRATIC = hermite_mixture({0: 0.2, 1: 0.3, 2: 0.6})
ERF_TEACHER = TeacherNetwork(erf(), (1.0, -0.7), 0.3)


def random_state(hidden, spikes, rng, bias=0.0, unit=False, output=0.2):
    W = 0.4 * rng.standard_normal((hidden, spikes + hidden + 2))
    if unit:
        W /= np.linalg.norm(W, axis=1)[:, None]
    b = bias * rng.standard_normal(hidden)
    return NetworkState(W[:, :spikes], W @ W.T, rng.standard_normal(hidden), b, output)


def at(closure, state):
    m = closure(state.R, state.rest, state.a, state.b, state.output)
    return np.concatenate([np.ravel(getattr(m, part)) for part in PARTS])


def sobol_errors(model, state, exact, powers, scramblings=8):
    """Root mean square error of all expectations for n = 2^power points."""
    return [
        np.sqrt(np.mean([np.mean((at(Cubature.sobol(model, 2**p, SEED, i), state) - exact) ** 2)
                         for i in range(scramblings)]))
        for p in powers
    ]  # fmt: skip


def order(errors, powers):
    return -np.polyfit(powers, np.log2(errors), 1)[0]


# Expectations


@pytest.mark.parametrize(("hidden", "least"), [(1, 0.7), (3, 0.55)])
def test_closed_erf_form_vs_sobol_sample(hidden, least, rng):
    """The error falls faster than Monte Carlo's n^-½: like n^-0.7 in 4 dimensions, n^-0.55 in 6, or better."""
    model = NetworkModel(ERF_TEACHER, TwoLayer(erf(), SquaredLoss(), hidden))
    state, powers = random_state(hidden, 2, rng), range(6, 15, 2)
    errors = sobol_errors(model, state, at(ErfClosure(model), state), powers)
    assert order(errors, powers) > least
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(("task", "loss", "hidden", "noisy"), [
    ("mcm_p3", "squared", 2, False), ("teacher", "squared", 2, True), ("spiked_p4_positive", "squared", 3, False),
    ("mcm_mean_p6", "correlation", 2, False),
])  # fmt: skip
def test_exact_cubature_vs_sobol_sample(task, loss, hidden, noisy, rng):
    """Polynomial σ, biases, every kind of task: the Sobol error falls like n^-½ or faster, and has no floor."""
    model = NetworkModel(TASKS[task], TwoLayer(QUADRATIC, LOSSES[loss], hidden))
    exact = choose_closure(model, Rates(1.0, bias=1.0), np.zeros(hidden), 4096, SEED)
    assert exact.name.startswith("exact")
    assert (len(np.unique(exact.label)) > 1600) == noisy
    state, powers = random_state(hidden, len(model.spikes), rng, bias=0.3), range(8, 15, 2)
    errors = sobol_errors(model, state, at(exact, state), powers)
    assert order(errors, powers) > 0.4
    assert errors[-1] < 0.06 * np.sqrt(np.mean(at(exact, state) ** 2))


def test_exact_cubature_vs_closed_form_of_a_linear_network(rng):
    """σ(z) = z on a linear teacher: E[c ξᵀ] = K^-γ a (a* - K^-γ aᵀR), E[r²] = noise² + |a* - K^-γ Rᵀa|² + K^-2γ aᵀP a."""
    linear, state = hermite_mixture({1: 1.0}), replace(random_state(3, 2, rng), output=0.0)
    model = NetworkModel(TeacherNetwork(linear, (1.0, -0.7), 0.3), TwoLayer(linear, SquaredLoss(), 3))
    m = Cubature.exact(model)(state.R, state.rest, state.a, state.b, 0.0)
    g, gap = state.a / np.sqrt(3), np.array([1.0, -0.7]) - state.a @ state.R / np.sqrt(3)
    np.testing.assert_allclose(m.spikes, np.outer(g, gap), atol=1e-12)
    np.testing.assert_allclose(m.rest, -np.outer(g, g @ state.rest), atol=1e-12)
    np.testing.assert_allclose(m.squares, np.outer(g, g) * (0.09 + gap @ gap + g @ state.rest @ g), atol=1e-12)


@pytest.mark.parametrize(("dim", "level"), [(1, 5), (2, 3), (5, 3), (12, 2)])
def test_cubature_rule_vs_moments_of_the_normal_law(dim, level, rng):
    """Exact to degree 2 level + 1: E[(v·x)^n] = (n-1)!! |v|^n along random directions, and not beyond."""
    x, w = gauss_hermite(dim, level)
    v = rng.standard_normal((40, dim))
    v /= np.linalg.norm(v, axis=1)[:, None]
    for n in range(2 * level + 2):
        expected = 0 if n % 2 else np.prod(np.arange(n - 1, 0, -2))
        np.testing.assert_allclose((x @ v.T).T ** n @ w, expected, rtol=1e-10, atol=1e-10)
    beyond = (x @ v.T).T ** (2 * level + 2) @ w - np.prod(np.arange(2 * level + 1, 0, -2))
    assert np.abs(beyond).max() > 0.1


def test_the_symmetric_root_is_a_continuous_root(rng):
    A = rng.standard_normal((6, 3))
    root = symmetric_root(A @ A.T)
    np.testing.assert_allclose(root @ root, A @ A.T, atol=1e-12)
    moved = symmetric_root(A @ A.T + 1e-8 * np.eye(6))
    assert np.abs(moved - root).max() < 1.01e-4


def test_reported_error_vs_the_true_one(rng):
    """The scatter of scramblings estimates the error against the closed form within a factor 2."""
    model = NetworkModel(ERF_TEACHER, TwoLayer(erf(), SquaredLoss(), 3))
    ode, start = NetworkODE(model, 1000, Rates(1.0, 0.5)), random_state(3, 2, rng)
    exact, sampled = _Flow(ode, ErfClosure(model)), _Flow(ode, Cubature.sobol(model, 1024, SEED))
    solution = sampled.solve(start, 2.0, 0.3)
    reported = sampled.closure_errors(solution)
    assert set(reported) == {"R[t1]", "R[t2]", "P", "a"}
    assert exact.closure_errors(solution) == {}
    states = solution.y.T
    closures = [Cubature.sobol(model, 1024, SEED + 1, i) for i in range(8)]
    drifts = np.array([[exact.rate(x), *(exact.rate(x, c) for c in closures)] for x in states])
    rows = np.arange(0, exact.cuts[0], 2)
    true = np.sqrt(np.mean((drifts[:, 1:] - drifts[:, :1])[..., rows] ** 2) / np.mean(drifts[:, :1, rows] ** 2))
    assert 0.5 < reported["R[t1]"] / true < 2


# Saad & Solla, Phys. Rev. E 52, 4225 (1995): their notation, from their paper


def saad_solla_i3(C, i, j, k):
    lam3 = (1 + C[i, i]) * (1 + C[k, k]) - C[i, k] ** 2
    return 2 / np.pi / np.sqrt(lam3) * (C[j, k] * (1 + C[i, i]) - C[i, j] * C[i, k]) / (1 + C[i, i])


def saad_solla_i4(C, i, j, k, n):
    lam4 = (1 + C[i, i]) * (1 + C[j, j]) - C[i, j] ** 2
    lam0 = (
        lam4 * C[k, n] - C[j, k] * C[j, n] * (1 + C[i, i]) - C[i, k] * C[i, n] * (1 + C[j, j])
        + C[i, j] * C[i, k] * C[j, n] + C[i, j] * C[i, n] * C[j, k]
    )  # fmt: skip

    def lam(m):
        square = C[j, m] ** 2 * (1 + C[i, i]) + C[i, m] ** 2 * (1 + C[j, j])
        return lam4 * (1 + C[m, m]) - square + 2 * C[i, j] * C[i, m] * C[j, m]

    return 4 / np.pi**2 / np.sqrt(lam4) * np.arcsin(lam0 / np.sqrt(lam(k) * lam(n)))


def saad_solla_rate(R, Q, T, eta):
    """dR_in/dα and dQ_ik/dα of two soft committees: student fields 0 … K-1, teacher fields K … K+M-1."""
    K, M = R.shape
    C = np.block([[Q, R], [R.T, T]])
    sign = np.concatenate([-np.ones(K), np.ones(M)])
    fields = range(K + M)
    phi = np.array([[sum(sign[m] * saad_solla_i3(C, i, j, m) for m in fields) for j in fields] for i in range(K)])
    noise = np.array([
        [sum(sign[m] * sign[n] * saad_solla_i4(C, i, k, m, n) for m in fields for n in fields) for k in range(K)]
        for i in range(K)
    ])  # fmt: skip
    return eta * phi[:, K:], eta * (phi[:, :K] + phi[:, :K].T) + eta**2 * noise


def committee(hidden, rows, noise=0.0):
    return NetworkModel(
        TeacherNetwork(erf(), (1.0,) * rows, noise), TwoLayer(erf(), SquaredLoss(), hidden, scaling=0.0)
    )


def test_closed_erf_form_vs_saad_and_solla_at_random_states(rng):
    for hidden, rows in ((1, 1), (2, 2), (3, 2)):
        state = replace(random_state(hidden, rows, rng, output=0.0), a=np.ones(hidden))
        flow = _Flow(NetworkODE(committee(hidden, rows), 1.0, Rates(1.7)), ErfClosure(committee(hidden, rows)))
        dR, dP, *_ = flow.unpack(flow.rate(flow.pack(state)))
        expected_R, expected_Q = saad_solla_rate(state.R, state.Q, np.eye(rows), 1.7)
        np.testing.assert_allclose(dR, expected_R, atol=1e-13)
        np.testing.assert_allclose(dP + dR @ state.R.T + state.R @ dR.T, expected_Q, atol=1e-13)


def test_plateau_and_specialisation_of_two_neurons_vs_saad_and_solla():
    """K = M = 2, η = 1: a symmetric plateau with all R_in alike, then each neuron takes a row; Q → T, R → a permutation."""
    K, eta, span, dim = 2, 1.0, 300.0, 500
    R, Q = np.array([[1e-3, 0], [0, 2e-3]]), np.diag([0.4, 0.25])

    def rate(_, x):
        dR, dQ = saad_solla_rate(x[:4].reshape(2, 2), x[4:].reshape(2, 2), np.eye(2), eta)
        return np.concatenate([dR.ravel(), dQ.ravel()])

    alphas = np.linspace(0, span, 61)
    theirs = solve_ivp(
        rate, (0, span), np.concatenate([R.ravel(), Q.ravel()]), t_eval=alphas, rtol=1e-9, atol=1e-11
    ).y.T
    start = NetworkState(R, Q, np.ones(K), np.zeros(K))
    flow = NetworkODE(committee(2, 2), dim, Rates(eta)).run(start, span * dim, times=alphas * dim)
    assert (flow.closure, flow.closure_errors, flow.warning) == ("closed form", {}, "")
    ours = flow.trajectory
    np.testing.assert_allclose(ours.R[0].reshape(-1, 4), theirs[:, :4], atol=1e-5)
    np.testing.assert_allclose(ours.Q[0].reshape(-1, 4), theirs[:, 4:], atol=1e-5)
    plateau = [t for t, x in zip(alphas, ours.R[0], strict=True) if np.ptp(x) < 0.05 and x.min() > 0.3]
    assert len(plateau) > 3
    np.testing.assert_allclose(np.sort(ours.R[0, -1].ravel()), [0, 0, 1, 1], atol=0.02)
    best = ours.of("t1")[0]
    first = alphas[np.argmax(best >= 0.3)] * dim
    assert first - span * dim / 60 < flow.escapes.of("t1")[0] <= first


# One neuron


@pytest.mark.parametrize(("task", "activation", "loss"), [
    ("mcm_corr", "hermite", "correlation"), ("mcm_p3", "hermite", "squared"), ("teacher", "hermite", "squared"),
    ("teacher_network", "erf", "squared"),
])  # fmt: skip
def test_one_spherical_neuron_vs_population_flow(task, activation, loss):
    """K = 1, a = 1, spherical row: dα/dt of the existing view, to quadrature accuracy."""
    single = model_of(TASKS[task], ACTIVATIONS[activation], LOSSES[loss])
    learner = TwoLayer(ACTIVATIONS[activation], LOSSES[loss], 1, spherical=True)
    model, delta = NetworkModel(TASKS[task], learner), 0.7
    flow = _Flow(NetworkODE(model, 100, Rates(delta)), choose_closure(model, Rates(delta), np.zeros(1), 16, SEED))
    reference = PopulationODE(single, LatentQuadrature(single), 100, delta)
    for alpha in (np.array([0.3, -0.2]), np.array([0.1, 0.6]), np.array([-0.8, 0.5])):
        state = NetworkState(alpha[None], np.ones((1, 1)), np.ones(1), np.zeros(1))
        dR, dP, *_ = flow.unpack(flow.rate(flow.pack(state)))
        np.testing.assert_allclose(dR[0], delta * reference.rate(alpha), atol=1e-9)
        assert dP[0, 0] == pytest.approx(-2 * alpha @ dR[0], abs=1e-12)


def test_one_relu_neuron_vs_population_flow_as_the_sample_grows():
    model = NetworkModel(TASKS["mcm_corr"], TwoLayer(relu(), CorrelationLoss(), 1, spherical=True))
    single, alpha, powers = model_of(TASKS["mcm_corr"]), np.array([0.3, -0.2]), range(8, 15, 2)
    exact = 0.7 * PopulationODE(single, LatentQuadrature(single), 100, 0.7).rate(alpha)
    state, errors = NetworkState(alpha[None], np.ones((1, 1)), np.ones(1), np.zeros(1)), []
    for p in powers:
        flows = [_Flow(NetworkODE(model, 100, Rates(0.7)), Cubature.sobol(model, 2**p, SEED, i)) for i in range(8)]
        errors.append(np.sqrt(np.mean([(f.rate(f.pack(state))[:2] - exact) ** 2 for f in flows])))
    assert order(errors, powers) > 0.45


# The chain


CHAINS = [  # task, learner, rates, batch
    ("teacher", TwoLayer(QUADRATIC, SquaredLoss(), 2, weight_decay=0.4), Rates(0.5, 0.3, 0.2, 0.4), 1),
    ("spiked_p4_positive", TwoLayer(QUADRATIC, SquaredLoss(), 2, spherical=True), Rates(1.0, 0.4, 0.3, 0.2), 5),
    ("mcm_p3", TwoLayer(QUADRATIC, CorrelationLoss(), 2, weight_decay=2.0, scaling=1.0), Rates(0.7, 0.5), 3),
    ("teacher_network", TwoLayer(erf(), SquaredLoss(), 3), Rates(1.5, 0.5, 0.0, 0.5), 2),
]


@pytest.mark.parametrize(("task", "learner", "rates", "batch"), CHAINS)
def test_ode_vs_gram_chain_in_many_dimensions(task, learner, rates, batch, rng):
    """Every part of the state after τ = ½ at d = 20 000, averaged over 40 runs; the gap O(1/d) is below the noise."""
    model, dim, runs = NetworkModel(TASKS[task], learner), 20_000, 40
    start = random_state(learner.hidden, len(model.spikes), rng, bias=0 if task == "teacher_network" else 0.2,
                         unit=learner.spherical)  # fmt: skip
    ensemble = GramChain(model, dim, rates, batch, start).run(
        runs, dim // 2, SEED, times=np.array([dim // 2]), threads=1
    )
    chain, now = ensemble.trajectory, ensemble.trajectory.times
    flow = NetworkODE(model, dim, rates).run(start, now[-1], times=now)
    assert flow.closure_errors == {}
    ode = flow.trajectory
    for name in ("R", "Q", "a", "b", "output"):
        runs_of, expected = getattr(chain, name)[:, -1], getattr(ode, name)[0, -1]
        error = runs_of.std(axis=0, ddof=1) / np.sqrt(runs) + 3.0 / dim
        assert np.all(np.abs(runs_of.mean(axis=0) - expected) < Z_ALARM * 1.3 * error), name
    moved = max(np.abs(getattr(ode, name)[0, -1] - getattr(start, name)).max() for name in ("R", "Q", "a"))
    assert moved > 0.01


def test_gap_to_the_chain_closes_as_d_grows():
    """Single runs scatter around the flow by ∝ d^-½, their mean approaches it like 1/d.

    R and Q of K = M = 2, erf, τ = 4. d × gap of Q_kk is 0.6 at every d up to 192 (3000 runs, ±0.05); ±0.15 is left for the
    next order.
    """
    model, rates, tau = committee(2, 2), Rates(1.5), 4
    start = NetworkState(np.array([[0.3, 0.1], [0.0, 0.4]]), np.diag([0.4, 0.5]), np.ones(2), np.zeros(2))
    dims, runs = np.array([24, 48, 96]), 1500
    scatter, gaps, errors = [], [], []
    for dim in dims:
        times = np.array([24 * (tau * dim // 24)])
        chain = (
            GramChain(model, int(dim), rates, start=start).run(runs, times[0], SEED, times=times, threads=1).trajectory
        )
        flow = NetworkODE(model, dim, rates).run(start, times[-1], times=times).trajectory
        deviation = np.concatenate(
            [(getattr(chain, x) - getattr(flow, x))[:, -1].reshape(runs, -1) for x in "RQ"], axis=1
        )
        scatter.append(np.sqrt(np.mean(deviation**2)))
        gaps.append(dim * deviation.mean(axis=0))
        errors.append(dim * deviation.std(axis=0) / np.sqrt(runs))
    assert -0.65 < np.polyfit(np.log(dims), np.log(scatter), 1)[0] < -0.45
    gaps, errors = np.array(gaps), np.array(errors)
    assert np.all(np.abs(gaps - gaps[0]) < Z_ALARM * np.hypot(errors, errors[0]) + 0.15)
    assert np.all(gaps[:, [4, 7]] > 0.3)


# Runs


def test_spherical_rows_keep_their_length(rng):
    model = NetworkModel(TASKS["mcm_corr"], TwoLayer(relu(), SquaredLoss(), 4, spherical=True))
    start = random_state(4, 2, rng, unit=True)
    flow = NetworkODE(model, 1000, Rates(1.0, 0.2), points=256).run(start, 50_000)
    Q = np.diagonal(flow.trajectory.Q[0], axis1=1, axis2=2)
    assert np.abs(Q - 1).max() < 1e-3
    assert flow.closure == "Sobol sample of 256 points"
    assert 0 < flow.closure_error < np.inf


def test_dimension_is_only_a_clock(rng):
    model, start = committee(2, 2, 0.1), replace(random_state(2, 2, rng, output=0.0), a=np.ones(2))
    small, large = (
        NetworkODE(model, d, Rates(0.5)).run(start, 20 * d, times=np.array([20.0 * d])) for d in (100, 10**8)
    )
    np.testing.assert_allclose(small.trajectory.R, large.trajectory.R, rtol=1e-12)
    np.testing.assert_allclose(small.escapes.times * 10**6, large.escapes.times, rtol=1e-9)


def test_choice_of_the_closure():
    def name(task, learner, rates=Rates(1.0), bias=0.0):  # noqa: B008 - a frozen value
        return choose_closure(NetworkModel(task, learner), rates, np.full(learner.hidden, bias), 64, SEED).name.split()[
            0
        ]

    squared = SquaredLoss()
    assert name(ERF_TEACHER, TwoLayer(erf(), squared, 3)) == "closed"
    assert name(ERF_TEACHER, TwoLayer(erf(), squared, 3), bias=0.1) == "Sobol"
    assert name(ERF_TEACHER, TwoLayer(erf(), squared, 3), Rates(1.0, bias=0.1)) == "Sobol"
    assert name(ERF_TEACHER, TwoLayer(erf(), CorrelationLoss(), 3)) == "Sobol"
    assert name(TeacherNetwork(tanh(), (1.0,)), TwoLayer(erf(), squared, 3)) == "Sobol"
    assert name(TASKS["mcm_corr"], TwoLayer(QUADRATIC, squared, 2)) == "exact"
    assert name(TASKS["mcm_corr"], TwoLayer(QUADRATIC, squared, 20)) == "Sobol"
    assert name(TASKS["mcm_corr"], TwoLayer(QUADRATIC, LogisticLoss(), 2)) == "Sobol"


def test_a_spike_below_the_sampling_error_is_named():
    """Independent latents at d = 1024: a sample of 64 points knows nothing of v; what is exact warns of nothing."""
    model = NetworkModel(TASKS["spiked_p4_positive"], TwoLayer(relu(), SquaredLoss(), 2))
    start = NetworkState(np.full((2, 1), 0.03), np.diag([1.0, 0.8]), np.array([1.0, -1.0]), np.zeros(2))
    flow = NetworkODE(model, 1024, Rates(0.3), points=64).run(start, 20_000)
    assert flow.warning.startswith("the sample, not the law, may decide about v: closure error above 50% of the drift")
    exact = replace(model, learner=TwoLayer(QUADRATIC, SquaredLoss(), 2))
    assert NetworkODE(exact, 1024, Rates(0.3)).run(start, 20_000).warning == ""


def test_a_run_above_the_critical_rate_names_it(rng):
    model, start = NetworkModel(TASKS["mcm_p3"], TwoLayer(QUADRATIC, SquaredLoss(), 1)), random_state(1, 2, rng)
    with pytest.raises(
        InputError, match=r"rate first: got 60.0; allowed: a rate below the critical one; \|w\|² reached"
    ):
        NetworkODE(model, 100, Rates(60.0)).run(start, 1e6)


@pytest.mark.parametrize(("make", "text"), [
    (lambda s: NetworkODE(committee(2, 2), 0, Rates(1.0)).run(s, 10), "dim"),
    (lambda s: NetworkODE(committee(3, 2), 10, Rates(1.0)).run(s, 10), "shape"),
    (lambda s: NetworkODE(committee(2, 2), 10, Rates(1.0)).run(s, 0), "samples"),
    (lambda s: NetworkODE(committee(2, 2), 10, Rates(1.0)).run(s, 10, threshold=1.5), "threshold"),
    (lambda s: NetworkODE(committee(2, 2), 10, Rates(1.0)).run(s, 10, times=np.array([5.0, 3.0])), "times"),
    (lambda s: NetworkODE(committee(2, 2), 10, Rates(1.0), points=100).run(replace(s, b=np.ones(2)), 10), "power of 2"),
])  # fmt: skip
def test_bad_input(make, text, rng):
    with pytest.raises(InputError, match=text):
        make(random_state(2, 2, rng))


def test_rates_that_no_integrator_can_follow_end_in_words():
    """Found by a review: a bias rate of 1e9 ran for ever."""
    model = NetworkModel(TASKS["mcm_corr"], TwoLayer(ACTIVATIONS["relu"], SquaredLoss(), 2))
    start = GramChain(model, 24, Rates(0.5)).first_state(np.random.SeedSequence(SEED))
    ode = NetworkODE(model, 24, Rates(0.5, bias=1e9), points=64)
    with pytest.raises(InputError, match=r"rate bias: got 1000000000\.0; allowed: .* lower it"):
        ode.run(start, 50.0)
