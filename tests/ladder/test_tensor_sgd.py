"""Direct simulation of tensor PCA: against NumPy on the same tensors, its two noises and the exact chain against each other.

Would be falsified by: a position of the tensor left out, columns of the noise that are correlated wrongly (p = 2 correlates
them), a missing factor in the population gradient, a frame that drifts off the Stiefel manifold, a state or an escape saved a
step off, replicas that depend on threads or company. Broken copies of the noise are seen (test_a_wrong_noise_is_seen).
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numba import float64, int64, njit, void
from numpy.random import SeedSequence
from scipy import stats
from scipy.linalg import polar

from sims._tensor_kernels import matrix_law, run_tensor, tensor_law
from sims.tensor_sgd import NOISE, ExplicitTensor, GradientLaw, TensorSGD
from solvers.tensor_chain import TensorChain
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM
from theory.errors import DivergedError, InputError
from theory.normals import fill_normals, make_generator, stream_length
from theory.results import replica_seed, stream
from theory.tensor_pca import SpikedTensor, TensorField

SNR = (3.0, 2.0, 1.5)
NOISES = {"explicit": ExplicitTensor(), "law": GradientLaw()}


def tensor_of(order, rank):
    return SpikedTensor(order, SNR[:rank])


def contracted(W, x, position):
    """W with x in every position but one, the highest first."""
    for k in reversed(range(W.ndim)):
        if k != position:
            W = np.tensordot(W, x, axes=(k, 0))
    return W


def reference_step(tensor, V, X, W, step):
    """One sample of SGD from the definition: Y = W + √N Σ λ_i v_i^{⊗p}; frames are rows."""
    Y, n = W.copy(), V.shape[1]
    for snr, v in zip(tensor.snr, V, strict=True):
        spike = v
        for _ in range(tensor.order - 1):
            spike = np.multiply.outer(spike, v)
        Y += np.sqrt(n) * snr * spike
    G = np.array([
        snr * sum(contracted(Y, x, k) for k in range(tensor.order)) for snr, x in zip(tensor.snr, X, strict=True)
    ])  # fmt: skip
    Z = step * (G - (X @ G.T + G @ X.T) @ X / 2)
    return polar((X + Z).T)[0].T


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_explicit_tensors_vs_numpy_on_the_same_entries(order, rank):
    """The overlaps of every step, to rounding."""
    tensor, dim = tensor_of(order, rank), 8
    engine = TensorSGD(tensor, dim, 0.3, ExplicitTensor())
    found = engine.run([5], 12, SEED, times=np.arange(13)).trajectory.overlaps[0]
    V, X = engine.geometry(replica_seed(SEED, 5))
    work, z = make_generator(stream(replica_seed(SEED, 5), NOISE)), np.empty(stream_length(dim**order))
    for overlaps in found:
        np.testing.assert_allclose((V @ X.T).ravel(), overlaps, atol=1e-12)
        fill_normals(work, z)
        X = reference_step(tensor, V, X, z[: dim**order].reshape((dim,) * order), 0.3 / dim)
    assert np.abs(found[-1] - found[0]).max() > 0.05


def frame(rng, rank, dim):
    return np.ascontiguousarray(np.linalg.qr(rng.standard_normal((dim, rank)))[0].T)


def draws(kernel, size, tensor, X, n):
    """n draws of (n_1 … n_r), one behind the other (n, r N)."""
    work, z, G = make_generator(SeedSequence(SEED)), np.empty(stream_length(size)), np.empty_like(X)
    out = np.empty((n, X.size))
    for row in out:
        fill_normals(work, z)
        kernel(z, X, np.array(tensor.snr), tensor.order, G)
        row[:] = G.ravel()
    return out


def noise_covariance(tensor, X):
    """λ_j λ_k (p x_j·x_k^(p-1) I + p(p-1) (x_j·x_k)^(p-2) x_k x_jᵀ), block by block, for any x's."""
    p, dim = tensor.order, X.shape[1]
    blocks = [
        [a * b * p * ((x @ y) ** (p - 1) * np.eye(dim) + (p - 1) * (x @ y) ** (p - 2) * np.outer(y, x))
         for b, y in zip(tensor.snr, X, strict=True)]
        for a, x in zip(tensor.snr, X, strict=True)
    ]  # fmt: skip
    return np.block(blocks)


def covariance_scores(found, expected):
    """z-scores of all entries on and above the diagonal of the covariance of normals with mean 0."""
    n, diagonal = len(found), np.diag(expected)
    errors = np.sqrt((np.outer(diagonal, diagonal) + expected**2) / n)
    return ((found.T @ found / n - expected) / errors)[np.triu_indices(len(expected))]


def alarm_of(comparisons):
    return stats.norm.isf(FALSE_ALARM / comparisons / 2)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("name", NOISES)
def test_covariance_of_the_noise_vs_formula(order, name, rng):
    """All entries within and across columns, of the contracted tensor as of the law."""
    tensor, X, noise = tensor_of(order, 3), frame(rng, 3, 5), NOISES[name]
    found = draws(noise.kernel(tensor), noise.normals(tensor, 5), tensor, X, 6_000)
    scores = covariance_scores(found, noise_covariance(tensor, X))
    assert np.abs(scores).max() < alarm_of(scores.size)


def assert_same_law(pairs, level=FALSE_ALARM):
    pairs = list(pairs)
    pvalues = [stats.ks_2samp(a, b, method="asymp").pvalue for a, b in pairs]
    assert min(pvalues) > level / len(pairs), f"smallest p-value {min(pvalues):.2g} of {len(pairs)}"


def distributions(ensemble):
    """Overlaps at the recorded times, singular values of M, escape times (a censored one is later than all others)."""
    overlaps = ensemble.trajectory.overlaps
    n, times, size = overlaps.shape
    rank = int(np.sqrt(size))
    values = np.linalg.svd(overlaps.reshape(n, times, rank, rank), compute_uv=False).reshape(n, -1)
    escapes = np.minimum(ensemble.escapes.times, 2.0 * ensemble.escapes.budget)
    return [*overlaps.reshape(n, -1).T, *values.T, *escapes.T]


LAWS = [(2, 12, 3, 0.4), (2, 30, 2, 0.1), (3, 9, 3, 0.5), (3, 16, 2, 0.4), (4, 7, 2, 0.3)]  # p, N, r, lr


@pytest.mark.parametrize(("order", "dim", "rank", "lr"), LAWS)
def test_explicit_tensors_vs_gradient_law(order, dim, rank, lr):
    tensor, times = tensor_of(order, rank), np.array([1, 8, 40])
    found = [
        distributions(TensorSGD(tensor, dim, lr, noise).run(1200, 40, SEED + k, 0.6, times=times))
        for k, noise in enumerate(NOISES.values())
    ]
    assert_same_law(zip(*found, strict=True))


@dataclass(frozen=True)
class WrongLaw(GradientLaw):
    """Another function in place of the right one."""

    wrong: object

    def kernel(self, tensor):  # noqa: ARG002
        return self.wrong


@pytest.mark.parametrize(("order", "wrong"), [(2, tensor_law), (3, matrix_law)])
def test_a_wrong_noise_is_seen(order, wrong, rng):
    """p = 2 without the correlation of its columns, p = 3 with it: covariance and trajectories both raise the alarm."""
    tensor, X = tensor_of(order, 2), frame(rng, 2, 5)
    found = draws(wrong, 10, tensor, X, 3000)
    assert np.abs(covariance_scores(found, noise_covariance(tensor, X))).max() > 8
    times, start = np.array([1, 8, 40]), np.diag([0.7, -0.7])
    right, false = (
        distributions(TensorSGD(tensor, 6, 0.4, noise, start).run(1500, 40, SEED + k, 0.6, times=times))
        for k, noise in enumerate((ExplicitTensor(), WrongLaw(wrong)))
    )
    with pytest.raises(AssertionError, match="p-value"):
        assert_same_law(zip(right, false, strict=True), 1e-8)


@njit(void(float64[::1], float64[:, ::1], float64[::1], int64, float64[:, ::1]))
def silence(z, X, snr, order, G):  # noqa: ARG001
    G[:] = 0.0


STEPS = [  # p, M
    (2, [[0.7, -0.2], [0.1, 0.8]]), (3, [[0.5, 0.3], [-0.4, 0.6]]), (4, [[0.8, 0.1], [0.2, -0.7]]),
    (3, [[-0.7, 0.1], [0.2, 0.5]]),
]  # fmt: skip


@pytest.mark.parametrize(("order", "start"), STEPS)
def test_flow_vs_one_step(order, start):
    """Without noise a short step is √N flow, as SymPy derives it; noise adds δ normalisation on average, up to O(r/N)
    and, where it meets the signal, O(δ p λ²/√N)."""
    tensor, M, dim = SpikedTensor(order, (1.0, 0.7)), np.array(start), 100
    drift = TensorField(tensor, dim, 1e-300)(M.ravel())[0]

    def moved(lr, noise, runs):
        overlaps = TensorSGD(tensor, dim, lr, noise, M).run(runs, 1, SEED, times=np.array([0, 1])).trajectory.overlaps
        np.testing.assert_allclose(overlaps[:, 0], np.tile(M.ravel(), (runs, 1)), atol=1e-12)
        return (overlaps[:, 1] - M.ravel()) / (lr / dim)

    np.testing.assert_allclose(moved(1e-5, WrongLaw(silence), 1)[0], drift, rtol=1e-3, atol=1e-3)
    lr, runs = 0.5, 3000
    steps = moved(lr, GradientLaw(), runs)
    price = TensorField(tensor, dim, lr)(M.ravel())[0] - drift
    errors = steps.std(axis=0) / np.sqrt(runs)
    misfit = np.abs(steps.mean(axis=0) - moved(lr, WrongLaw(silence), 1)[0] - price)
    assert np.all(misfit < Z_ALARM * errors + 0.15 * np.abs(price).max())
    assert np.abs(price / errors).max() > 7  # a missing price would be seen


@pytest.mark.parametrize(("order", "dim", "rank"), [(2, 6, 3), (3, 40, 3), (3, 2000, 2), (4, 9, 9)])
def test_the_frame_stays_orthonormal(order, dim, rank):
    tensor = SpikedTensor(order, (1.5,) * rank)
    engine, noise = TensorSGD(tensor, dim, tensor.rate(0.5, dim), GradientLaw()), GradientLaw()
    V, X = engine.geometry(replica_seed(SEED, 0))
    work, z = make_generator(SeedSequence(SEED)), np.empty(stream_length(noise.normals(tensor, dim)))
    nothing = np.empty(0, np.int64), 0, np.empty((0, rank**2)), np.full(rank**2, -1)
    t, _, status = run_tensor(
        fill_normals, noise.kernel(tensor), order, np.array(tensor.snr), V, X, work, z, engine.lr / dim, 0, 20_000,
        0.3, np.zeros(rank, np.bool_), *nothing,
    )  # fmt: skip
    assert (t, status) == (20_000, 0)
    np.testing.assert_allclose(X @ X.T, np.eye(rank), atol=1e-12)


@pytest.mark.parametrize(("dim", "rank"), [(4, 2), (30, 3)])
def test_random_start_vs_the_law_of_the_manifold(dim, rank, rng):
    """M = VᵀX against ``theory.spaces.Contractions.random``, and m_11² against Beta(1/2, (N-1)/2)."""
    tensor = tensor_of(3, rank)
    M = TensorSGD(tensor, dim, 0.1, GradientLaw()).run(2000, 1, SEED, times=np.array([0])).trajectory.overlaps[:, 0]
    expected = np.array([tensor.space.random(rng, dim) for _ in M])
    values = [np.linalg.svd(x.reshape(-1, rank, rank), compute_uv=False) for x in (M, expected)]
    assert_same_law([*zip(M.T, expected.T, strict=True), *zip(values[0].T, values[1].T, strict=True)])
    assert stats.kstest(M[:, 0] ** 2, stats.beta(0.5, (dim - 1) / 2).cdf).pvalue > FALSE_ALARM


CHAINS = [  # p, N, r, lr, noise, M
    (3, 9, 3, 0.4, ExplicitTensor(), None), (3, 150, 2, 0.3, GradientLaw(), None),
    (2, 40, 3, 0.06, GradientLaw(), None), (4, 25, 2, 0.2, GradientLaw(), [[0.4, 0.1], [-0.2, 0.45]]),
]  # fmt: skip


@pytest.mark.parametrize(("order", "dim", "rank", "lr", "noise", "start"), CHAINS)
def test_tensor_chain_vs_sgd(order, dim, rank, lr, noise, start):
    """The chain in M and the frame in R^N: the same law of overlaps, singular values and escape times, rows stopped alike."""
    tensor, start, times = tensor_of(order, rank), None if start is None else np.array(start), np.array([0, 2, 15, 60])
    engines = TensorChain(tensor, dim, lr, start), TensorSGD(tensor, dim, lr, noise, start)
    found = [distributions(engine.run(1000, 60, SEED, 0.5, times=times)) for engine in engines]
    assert_same_law((a, b) for a, b in zip(*found, strict=True) if np.ptp(np.concatenate([a, b])) > 1e-9)
    ends = [engine.run(500, 60, SEED, 0.5, ["1"], times=np.array([60])).escapes.times for engine in engines]
    assert_same_law([[np.minimum(x[:, :rank].min(axis=1), 120.0) for x in ends]])


def engine_at(dim=30, lr=0.2, noise=None, **options):
    return TensorSGD(tensor_of(3, 2), dim, lr, noise or GradientLaw(), **options)


def same(a, b, rows=slice(None)):
    np.testing.assert_array_equal(a.trajectory.overlaps, b.trajectory.overlaps[rows])
    np.testing.assert_array_equal(a.escapes.times, b.escapes.times[rows])


def test_replicas_do_not_depend_on_threads_company_or_blocks(monkeypatch):
    options = {"samples": 300, "seed": SEED, "stop_spikes": ("1", "2")}
    full = engine_at().run(9, threads=2, **options)
    same(engine_at().run(9, threads=1, **options), full)
    alone = engine_at().run([7, 2], **options)
    assert alone.replicas == (2, 7)
    same(alone, full, [2, 7])
    monkeypatch.setattr("sims.tensor_sgd.BLOCK_WORK", 60 * 7)
    same(engine_at().run(9, threads=2, **options), full)
    assert np.isnan(full.trajectory.overlaps[:, -1]).any()


def test_escape_and_early_end():
    """The first step over the threshold; a row has escaped with any of its members; then nothing is recorded."""
    times = np.arange(601)
    full = engine_at().run(20, 600, SEED, 0.5, times=times)
    over = np.abs(full.trajectory.overlaps) >= 0.5
    np.testing.assert_array_equal(full.escapes.times, np.where(over.any(axis=1), over.argmax(axis=1), np.inf))
    short = engine_at().run(20, 600, SEED, 0.5, ["2"], times=times)
    ends = full.escapes.times[:, 2:].min(axis=1)
    assert np.isfinite(ends).sum() > 5
    for before, overlaps, end in zip(full.trajectory.overlaps, short.trajectory.overlaps, ends, strict=True):
        np.testing.assert_array_equal(overlaps[times <= end], before[times <= end])
        assert np.all(np.isnan(overlaps[times > end]))
    assert short.samples == np.minimum(ends, 600).sum()
    assert full.trajectory.spikes == ("11", "12", "21", "22")


def test_divergence_is_reported():
    with pytest.raises(DivergedError, match="lower the learning rate"):
        engine_at(lr=1e300).run(2, 10)


@pytest.mark.parametrize(
    ("engine", "run", "text"),
    [
        ({"dim": 1}, {}, "dim: got 1"),
        ({"dim": 3, "start": np.eye(2)}, {}, "dim: got 3; allowed: 4"),
        ({"dim": 2.5}, {}, "dim"),
        ({"dim": 500, "noise": ExplicitTensor()}, {}, "dim: got 500; allowed: at most 406 for an explicit tensor"),
        ({"lr": np.nan}, {}, "lr"),
        ({"start": np.ones((2, 2))}, {}, "start"),
        ({"start": np.ones(2)}, {}, "start"),
        ({}, {"runs": 0}, "runs"),
        ({}, {"samples": 0}, "samples"),
        ({}, {"seed": -1}, "seed"),
        ({}, {"threshold": 0.0}, "threshold"),
        ({}, {"stop_spikes": ["11"]}, "stop_spikes: got 11; allowed: 1, 2"),
        ({}, {"times": np.array([5, 3])}, "times"),
        ({}, {"threads": 0}, "threads"),
    ],
)
def test_bad_input(engine, run, text):
    with pytest.raises(InputError, match=text):
        engine_at(**engine).run(**{"runs": 2, "samples": 10, **run})
