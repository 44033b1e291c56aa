"""The exact chain of tensor PCA against SGD that draws the whole tensor, step by step and in law."""

from time import sleep

import numpy as np
import pytest
from numba import njit, void
from scipy import integrate, linalg, stats

from solvers import _chain_kernels, _tensor_kernels
from solvers._chain_kernels import LANES, draw_chi_squares
from solvers._tensor_kernels import CHI, FILL
from solvers.tensor_chain import TensorChain
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM
from theory.errors import DivergedError, InputError
from theory.normals import fill_normals
from theory.tensor_pca import SpikedTensor, TensorField


def stiefel(rng, runs, dim, rank):
    """Uniform frames (runs, N, r)."""
    return polar(rng.standard_normal((runs, dim, rank)))


def polar(X):
    left, _, right = np.linalg.svd(X, full_matrices=False)
    return left @ right


def contract(tensor, X):
    """Σ over positions of the tensor (runs, N, …, N) contracted with x_j in all the others: the gradient, (runs, N, r)."""
    order = tensor.ndim - 1
    total = np.zeros_like(X)
    for position in range(order):
        for j in range(X.shape[2]):
            rest = np.moveaxis(tensor, 1 + position, 1)
            for _ in range(order - 1):
                rest = np.einsum("n...k,nk->n...", rest, X[:, :, j])
            total[:, :, j] += rest
    return total


def sgd_step(tensor, V, X, lr, rng):
    """One step of online SGD from X (runs, N, r) with spikes V (N, r): the new X, and the gradient's noise (runs, N, r)."""
    runs, dim, _ = X.shape
    snr, letters = np.array(tensor.snr), "abcdefgh"[: tensor.order]
    W = rng.standard_normal((runs,) + (dim,) * tensor.order)
    spikes = np.einsum(",".join(f"{x}i" for x in letters) + ",i->" + letters, *[V] * tensor.order, snr)
    G = snr * contract(W + np.sqrt(dim) * spikes, X)
    inner = np.swapaxes(X, 1, 2) @ G
    Z = lr / dim * (G - X @ (inner + np.swapaxes(inner, 1, 2)) / 2)
    return polar(X + Z), snr * contract(W, X)


SIZES = [(p, snr) for p in (2, 3, 4) for snr in ((1.5,), (2.0, 1.0), (3.0, 2.0, 2.0))]


@pytest.mark.parametrize(("order", "snr"), SIZES)
def test_chain_vs_explicit_tensor_step_by_step(order, snr, rng):
    """Fed with the inner products of its noise, the chain is the run in R^{12 x r}."""
    tensor, dim, steps = SpikedTensor(order, snr), 12, 30
    V, X = stiefel(rng, 1, dim, tensor.rank)[0], stiefel(rng, 1, dim, tensor.rank)
    lr, start, products, truth = tensor.rate(0.3, dim), V.T @ X[0], [], []
    for _ in range(steps):
        new, noise = sgd_step(tensor, V, X, lr, rng)
        products.append([X[0].T @ noise[0], V.T @ noise[0], noise[0].T @ noise[0]])
        X = new
        truth.append(V.T @ X[0])
    chain = TensorChain(tensor, dim, lr, start)
    states = chain.follow(*np.swapaxes(products, 0, 1))
    np.testing.assert_allclose(states, truth, atol=1e-10)
    assert np.abs(states[-1] - start).max() > 0.05


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1e-9, 1e-3, 0.1, 2.0, 100.0])
def test_inverse_root_vs_scipy(rank, size, rng):
    """C^(-1/2) of LANES matrices at once, each by its own number of iterations."""
    snr, k = (1.0,) * rank, _tensor_kernels
    square = (rank, rank, LANES)
    W = np.zeros((k._first_normal(rank), LANES))
    factors = rng.standard_normal((LANES, rank, rank)) * np.sqrt(size * rng.random(LANES))[:, None, None]
    P = factors @ np.swapaxes(factors, 1, 2)
    block = slice(k._C * rank**2, (k._C + 1) * rank**2)
    W[block] = np.moveaxis(P, 0, 2).reshape(-1, LANES)
    W[k._BLOCKS * rank**2 + k._STEP] = 1.0
    flat = W.reshape(-1)
    k._gram(snr, flat)
    k._root(snr, flat)
    Z = W[k._Z * rank**2 : (k._Z + 1) * rank**2].reshape(square) / np.sqrt(W[k._BLOCKS * rank**2 + k._SCALE])
    for lane in range(LANES):
        expected = linalg.inv(linalg.sqrtm(np.eye(rank) + P[lane]))
        np.testing.assert_allclose(Z[:, :, lane], expected, atol=1e-14)


def explicit_runs(tensor, dim, lr, runs, samples, rng, start=None):
    """M (runs, samples + 1, r²) of that many runs of SGD with explicit tensors, from a uniform X or a given M."""
    V = np.eye(dim)[:, : tensor.rank]
    X = stiefel(rng, runs, dim, tensor.rank)
    if start is not None:
        outside = linalg.sqrtm(np.eye(tensor.rank) - start.T @ start)
        X = np.tile(np.vstack([start, outside, np.zeros((dim - 2 * tensor.rank, tensor.rank))]), (runs, 1, 1))
    states = [V.T @ X]
    for _ in range(samples):
        X, _ = sgd_step(tensor, V, X, lr, rng)
        states.append(V.T @ X)
    return np.stack(states, axis=1).reshape(runs, samples + 1, -1)


def summaries(overlaps, escapes, horizon):
    """Overlaps (runs, times, r²), the largest singular value, and escape times (a censored one is later than all others)."""
    runs, times, n = overlaps.shape
    rank = round(np.sqrt(n))
    top = np.linalg.norm(overlaps.reshape(runs, times, rank, rank), 2, axis=(2, 3))
    return [*overlaps.reshape(runs, -1).T, *top.T, *np.minimum(escapes, 2.0 * horizon).T]


def of_chain(tensor, dim, lr, samples, at, threshold, runs=3000, start=None):
    ensemble = TensorChain(tensor, dim, lr, start).run(
        runs, samples, SEED + 1, threshold, times=np.array(at), threads=1
    )
    return summaries(ensemble.trajectory.overlaps, ensemble.escapes.times, samples)


def of_tensors(tensor, dim, lr, samples, at, threshold, rng, runs=1000, start=None):
    states = explicit_runs(tensor, dim, lr, runs, samples, rng, start)
    over = np.abs(states) >= threshold
    first = np.where(over.any(axis=1), over.argmax(axis=1), np.inf)
    return summaries(states[:, at], first, samples)


def smallest(found, expected):
    return min(stats.ks_2samp(a, b, method="asymp").pvalue for a, b in zip(found, expected, strict=True)) * len(found)


LAWS = [  # p, λ, N, δ_0, samples
    (2, (1.0,), 3, 0.2, 30), (2, (2.0, 1.0), 8, 0.06, 60), (2, (1.0, 1.0), 6, 0.2, 40), (2, (2.0, 1.5, 1.0), 9, 0.06, 50),
    (3, (1.0,), 7, 0.4, 50), (3, (2.0, 1.0), 6, 0.2, 40), (3, (1.5, 1.5, 1.0), 9, 0.2, 30),
    (4, (1.0,), 5, 0.4, 50), (4, (1.5, 1.0), 6, 0.2, 25),
    (2, (2.0, 1.0), 8, 2.0, 4), (3, (2.0, 1.0), 6, 3.0, 4), (2, (1.5, 1.0, 0.5), 10, 2.0, 4),  # the retraction dominates
]  # fmt: skip


@pytest.mark.parametrize(("order", "snr", "dim", "strength", "samples"), LAWS)
def test_chain_vs_explicit_tensor_in_law(order, snr, dim, strength, samples, rng):
    """From a uniform start, at N from 3r on."""
    tensor = SpikedTensor(order, snr)
    lr, at, runs = tensor.rate(strength, dim), sorted({0, 1, samples // 3, samples}), 4000 if samples < 10 else 1000
    truth = of_tensors(tensor, dim, lr, samples, at, 0.8, rng, runs)
    found = of_chain(tensor, dim, lr, samples, at, 0.8, max(runs, 3000))
    assert smallest(found, truth) > FALSE_ALARM
    assert np.mean(truth[-1] < samples) > 0.01


@njit(void(FILL, *CHI.signature.args[1:]))
def _too_many_degrees(fill, work, normals, dof, out):
    draw_chi_squares(fill, work, normals, dof + 3, out)


def widened(factor):
    """The generator, with the noise of A at r = 2 larger by that factor."""

    @njit(void(*FILL.signature.args))
    def fill(work, out):
        fill_normals(work, out)
        if out.size > 2 * LANES:
            out[4 * LANES : 5 * LANES] *= factor

    return fill


WRONG = {  # what is replaced by what, at which p and N
    "degrees of freedom of the Wishart matrix": ("draw_chi_squares", lambda: _too_many_degrees, 2, 8),
    "independent columns at p = 2, λ = 2, 1": ("fill_normals", lambda: widened(np.sqrt(5.0)), 2, 8),
    "twice the variance in X": ("fill_normals", lambda: widened(np.sqrt(2.0)), 3, 6),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_noise_is_seen(wrong, rng, monkeypatch):
    """From near a rotation, where the noise in X shows: tensors and chain agree, and no longer with that part broken."""
    name, broken, order, dim = WRONG[wrong]
    tensor, at, start = SpikedTensor(order, (2.0, 1.0)), [1, 4], np.array([[0.8, 0.4], [-0.5, 0.8]])
    arguments = (tensor, dim, tensor.rate(0.5, dim), at[-1], at, 0.95)
    truth = of_tensors(*arguments, rng, 2000, start)
    assert smallest(of_chain(*arguments, start=start), truth) > FALSE_ALARM
    monkeypatch.setattr(f"solvers.tensor_chain.{name}", broken())
    assert smallest(of_chain(*arguments, start=start), truth) < 1e-8


FLOWS = [(2, (2.0, 1.0)), (2, (1.5, 1.5)), (3, (2.0, 1.0, 1.0)), (4, (1.5, 1.0))]


@pytest.mark.parametrize(("order", "snr"), FLOWS)
def test_chain_vs_population_flow(order, snr, rng):
    """At N = 10^14 noise vanishes, and at small δ the chain is the flow that SymPy derives."""
    tensor, dim, step = SpikedTensor(order, snr), 10**14, 1e-4  # step = √N δ/N
    rank, lr, samples = tensor.rank, step * np.sqrt(dim), 8000
    start = 0.4 * np.eye(rank) + 0.2 * rng.uniform(-1, 1, (rank, rank))
    times = np.array([2000, 4000, samples])
    chain = TensorChain(tensor, dim, lr, start).run(1, samples, SEED, times=times).trajectory.overlaps[0]
    field = TensorField(tensor, dim, lr)
    flow = integrate.solve_ivp(
        lambda _, a: field(a)[0] * step / np.sqrt(dim), (0, samples), start.ravel(), t_eval=times, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(chain, flow.y.T, atol=2e-3)
    assert np.abs(chain[-1] - start.ravel()).max() > 0.2


def test_equal_snr_vs_the_logistic_curve(rng):
    """p = 2, equal λ: the flow leaves the singular vectors of M alone, and s² is logistic, of rate 4λ² √N δ/N a sample."""
    dim, step, samples, snr = 10**14, 1e-4, 6000, 1.5
    start = 0.1 * rng.standard_normal((3, 3))
    chain = TensorChain(SpikedTensor(2, (snr,) * 3), dim, step * np.sqrt(dim), start)
    times = np.arange(0, samples + 1, 1000)
    states = chain.run(1, samples, SEED, times=times).trajectory.overlaps[0].reshape(-1, 3, 3)
    left, values, right = np.linalg.svd(start)
    odds = (values**2 / (1 - values**2)) * np.exp(4 * snr**2 * step * times)[:, None]
    expected = [left * np.sqrt(x / (1 + x)) @ right for x in odds]
    np.testing.assert_allclose(states, expected, atol=2e-3)
    assert np.linalg.norm(states[-1], 2) > 0.8


def test_one_step_vs_quadrature():
    """r = 1: m' = (m + ε k t)/√(1 + ε² (t² + p λ² χ²_{N-2})), k² = 1 - m², t = √p λ a + k √N p λ² m^{p-1}; N = 5."""
    order, snr, dim, lr, m, runs = 3, 1.2, 5, 0.8, 0.5, 30_000
    k, nodes = np.sqrt(1 - m**2), np.linspace(0, 1, 4001)[1:] - 1 / 8000
    t = np.sqrt(order) * snr * stats.norm.ppf(nodes)[:, None] + k * np.sqrt(dim) * order * snr**2 * m ** (order - 1)
    rest = order * snr**2 * stats.chi2(dim - 2).ppf(nodes[::4])
    after = (m + lr / dim * k * t) / np.sqrt(1 + (lr / dim) ** 2 * (t**2 + rest))
    chain = TensorChain(SpikedTensor(order, (snr,)), dim, lr, np.array([[m]]))
    found = chain.run(runs, 1, SEED, times=np.array([1])).trajectory.overlaps[:, 0, 0]
    for power in (1, 2, 3):
        error = np.std(after**power) / np.sqrt(runs)
        assert abs(np.mean(found**power) - np.mean(after**power)) < Z_ALARM * error


def chain_at(dim=50, order=3, snr=(2.0, 1.0), **options):
    tensor = SpikedTensor(order, snr)
    return TensorChain(tensor, dim, tensor.rate(0.3, dim), **options)


def same(a, b, rows=slice(None)):
    np.testing.assert_array_equal(a.trajectory.overlaps, b.trajectory.overlaps[rows])
    np.testing.assert_array_equal(a.escapes.times, b.escapes.times[rows])


def test_replicas_do_not_depend_on_threads_order_or_company():
    """Bit for bit: 37 replicas in two threads, in one, in reverse, and three of them alone, at N so small that χ² rejects."""
    chain = chain_at(8)
    options = {"samples": 3000, "seed": SEED, "stop_spikes": ("1", "2"), "threshold": 0.9}
    full = chain.run(37, threads=2, **options)
    same(chain.run(37, threads=1, **options), full)
    same(chain.run(range(36, -1, -1), threads=2, **options), full, slice(None, None, -1))
    same(chain.run([30, 3, 17], **options), full, [30, 3, 17])
    assert len(np.unique(full.escapes.times.min(axis=1))) > 5


def test_cutting_a_run_into_blocks_changes_nothing(monkeypatch):
    chain = chain_at()
    whole = chain.run(5, 3000, SEED)
    monkeypatch.setattr("solvers.tensor_chain.BLOCK_SAMPLES", 92)
    same(chain.run(5, 3000, SEED), whole)


def test_escapes_and_the_early_end():
    """Escapes are the first samples over the threshold; a replica ends when each named row has one."""
    chain, times = chain_at(), np.arange(3001)
    full = chain.run(20, 3000, SEED, times=times)
    over = np.abs(full.trajectory.overlaps) >= 0.3
    first = np.where(over.any(axis=1), over.argmax(axis=1), np.inf)
    np.testing.assert_array_equal(full.escapes.times, first)
    assert full.trajectory.spikes == ("11", "12", "21", "22")
    for names, rows in ((("2",), [1]), (("1", "2"), [0, 1])):
        ends = np.minimum(first.reshape(20, 2, 2).min(axis=2)[:, rows].max(axis=1), 3000)
        short = chain.run(20, 3000, SEED, times=times, stop_spikes=names)
        assert short.samples == ends.sum() < full.samples
        for before, after, end in zip(full.trajectory.overlaps, short.trajectory.overlaps, ends, strict=True):
            np.testing.assert_array_equal(after[times <= end], before[times <= end])
            assert np.isnan(after[times > end]).all()


def test_huge_dimension_and_huge_budget():
    """N = 10^12: M_0 √N is standard normal, and 10^15 samples are a budget like any other."""
    start = chain_at(10**12).run(2000, 1, SEED, times=np.array([0])).trajectory.overlaps[:, 0]
    assert all(stats.kstest(m * 1e6, "norm").pvalue > FALSE_ALARM for m in start.T)
    ensemble = chain_at().run(2, 10**15, SEED, stop_spikes=("1", "2"), times=np.array([], int))
    assert np.isfinite(ensemble.escapes.times.reshape(2, 2, 2).min(axis=2)).all()


def test_an_interrupted_run_keeps_what_is_finished(monkeypatch):
    def interrupt(_):
        sleep(0.3)
        raise KeyboardInterrupt

    chain, options = chain_at(), {"samples": 5000, "seed": SEED, "times": np.array([5000])}
    monkeypatch.setattr("solvers.lanes.as_completed", interrupt)
    part = chain.run(100_000, **options)
    monkeypatch.undo()
    assert part.interrupted
    assert 0 < len(part.replicas) < 100_000
    same(chain.run(part.replicas[:3], **options), part, slice(0, 3))


def test_divergence_is_reported():
    with pytest.raises(DivergedError, match="lower the learning rate"):
        TensorChain(SpikedTensor(3, (2.0, 1.0)), 50, 1e300).run(3, 1000)


@pytest.mark.parametrize(
    ("arguments", "run", "text"),
    [
        ((5, 1.0), {}, "dim: got 5; allowed: 6"),
        ((6.5, 1.0), {}, "dim"),
        ((50, 0.0), {}, "lr"),
        ((50, np.nan), {}, "lr"),
        ((50, 1.0, np.ones((2, 2))), {}, "start"),
        ((50, 1.0, np.zeros(4)), {}, "start"),
        ((50, 1.0), {"runs": 0}, "runs"),
        ((50, 1.0), {"samples": 0}, "samples"),
        ((50, 1.0), {"threshold": -1.0}, "threshold"),
        ((50, 1.0), {"stop_spikes": ["12"]}, "stop_spikes: got 12; allowed: 1, 2"),
        ((50, 1.0), {"times": np.array([5, 3])}, "times"),
        ((50, 1.0), {"threads": 0}, "threads"),
    ],
)
def test_bad_input(arguments, run, text):
    with pytest.raises(InputError, match=text):
        TensorChain(SpikedTensor(3, (2.0, 1.0)), *arguments).run(**{"runs": 2, "samples": 10, **run})


def test_constants_that_kernels_must_repeat():
    for name in ("LANES", "IDLE", "RUNNING", "REACHED", "STOPPED", "DIVERGED"):
        assert getattr(_tensor_kernels, name) == getattr(_chain_kernels, name)
