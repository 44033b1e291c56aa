"""Gradient flow of multi-spiked tensor PCA on a fixed sample: n tensors drawn once, and the ascent that sees no others.

The mean of n tensors says all they say: Y = W/√n + √N Σ_i λ_i v_i^{⊗p}. From a random X on the Stiefel manifold of R^N

    Ẋ = G - ½ X (XᵀG + GᵀX),   G_j = λ_j ∇⟨Y, x_j^{⊗p}⟩ = λ_j [p S(x_j, …, x_j, ·)/√n + √N p Σ_i λ_i m_ij^{p-1} v_i]

to rest; S, the symmetric part of W, has N(N+1)…(N+p-1)/p! independent entries [Ben Arous, Gerbelot & Piccolo 2024,
arXiv:2408.06401]. The flows of several n share W and the start: their contractions are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb, factorial

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.random import Generator
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from theory.errors import InputError, require
from theory.replicas import OnBlock, replica_numbers, run_replicas
from theory.results import replica_seed, stream
from theory.tensor_pca import SpikedTensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
START, NOISE = 0, 1  # streams of a replica's seed, as in sims.tensor_sgd
MOST_ENTRIES = 2**26  # of the rearranged tensor: 512 MiB in each thread
RELATIVE, ABSOLUTE = 1e-2, 1e-6  # error of a step, of the way it goes and of X
AT_REST = 1e-3  # of the first speed
STAGES = 8  # of a step
MOST_STEPS = 20_000
MOST_STARTS = 1000


def multisets(dim: int, size: int) -> Integers:
    """All a_1 <= … <= a_size of 0 … dim-1: shape (size, C(dim+size-1, size))."""
    count = comb(dim + size - 1, size)
    flat = (a for multiset in combinations_with_replacement(range(dim), size) for a in multiset)
    return np.fromiter(flat, np.int64, count * size).reshape(count, size).T.copy()


def arrangements(sets: Integers) -> Array:
    """How many different sequences each multiset (size, n), sorted, can be put into: size!/Π multiplicities!."""
    run, repeats = np.ones(sets.shape[1]), np.ones(sets.shape[1])
    for before, now in zip(sets, sets[1:], strict=False):
        run = np.where(now == before, run + 1, 1)
        repeats *= run
    return np.asarray(factorial(len(sets)) / repeats)


def position(sets: Integers) -> Integers:
    """Number of each sorted multiset (size, n), 0 … C(dim+size-1, size) - 1 whatever dim: Σ_k C(a_k + k, k+1), a_0 <= …."""
    number = np.zeros(sets.shape[1], np.int64)
    for k, a in enumerate(sets):
        term = np.ones_like(a)
        for m in range(k + 1):
            term = term * (a + k - m) // (m + 1)
        number += term
    return number


@dataclass(frozen=True)
class SymmetricNoise:
    """S as a matrix: row i, column a multiset J of p-1 indices, entry p S_iJ times the arrangements of J."""

    matrix: Array
    sets: Integers

    @classmethod
    def draw(cls, order: int, dim: int, rng: Generator) -> "SymmetricNoise":
        """The symmetric part of N^p independent normals: an entry averages them over its arrangements."""
        full = multisets(dim, order)
        entries = np.empty(full.shape[1])
        entries[position(full)] = rng.standard_normal(full.shape[1]) / np.sqrt(arrangements(full))
        sets = multisets(dim, order - 1)
        weights, matrix = order * arrangements(sets), np.empty((dim, sets.shape[1]))
        for i, row in enumerate(matrix):
            row[:] = weights * entries[position(np.sort(np.vstack([np.full_like(sets[:1], i), sets]), axis=0))]
        return cls(matrix, sets)

    def gradient(self, X: Array) -> Array:
        """∇⟨W, x^{⊗p}⟩ of every column x: (N, m) to (N, m)."""
        products = X[self.sets[0]]
        for row in self.sets[1:]:
            products *= X[row]
        return np.asarray(self.matrix @ products)


@dataclass(frozen=True)
class Velocity:
    """Ẋ on one sample: spikes V (N, r), noise (None: none). Frames of several flows stand side by side: X (N, n, r)."""

    tensor: SpikedTensor
    V: Array
    noise: SymmetricNoise | None

    def overlaps(self, X: Array) -> Array:
        """M = VᵀX (n, r, r)."""
        return np.asarray(np.tensordot(self.V, X, axes=(0, 0)).swapaxes(0, 1))

    def __call__(self, X: Array, loudness: Array) -> Array:
        """The tangent gradient at X; loudness (n,) is 1/√n of each flow."""
        dim, p, snr = len(X), self.tensor.order, np.array(self.tensor.snr)
        signal = snr[:, None] * self.overlaps(X) ** (p - 1)
        G = np.sqrt(dim) * p * np.moveaxis(self.V @ signal, 1, 0)
        if self.noise is not None:
            G += self.noise.gradient(X.reshape(dim, -1)).reshape(X.shape) * loudness[:, None]
        G *= snr
        inner = np.einsum("nbi,nbj->bij", X, G)
        return np.asarray(G - np.einsum("nbi,bij->nbj", X, (inner + inner.swapaxes(1, 2)) / 2))


def retracted(X: Array) -> Array:
    """The polar factors X (XᵀX)^(-1/2) of frames (N, n, r)."""
    values, vectors = np.linalg.eigh(np.einsum("nbi,nbj->bij", X, X))
    root = (vectors / np.sqrt(values)[:, None, :]) @ vectors.swapaxes(1, 2)
    return np.asarray(np.einsum("nbi,bij->nbj", X, root))


@lru_cache(maxsize=4)
def chebyshev_weights(stages: int) -> Array:
    """(μ, ν, μ̃, γ̃) of stages 1 … s (s, 4) of the Runge–Kutta–Chebyshev method of order 2 [Verwer, Sommeijer 2004, eq. 2.7].

    Stable on a real interval of length about 0.65 (s² - 1), where a usual method with s stages has about s: the recovered
    columns are fast and at rest long before the others.
    """
    w = 1 + 2 / 13 / stages**2
    T, slope, curve = (np.array([Chebyshev.basis(j).deriv(m)(w) for j in range(stages + 1)]) for m in range(3))
    b = np.append(0, curve[1:] / np.maximum(slope[1:], 1) ** 2)
    b[:2] = b[2]
    a, step = 1 - b * T, slope[-1] / curve[-1]
    rows = [(0.0, 0.0, b[1] * step, 0.0)]
    for j in range(2, stages + 1):
        pull = 2 * b[j] * step / b[j - 1]
        rows.append((2 * b[j] * w / b[j - 1], -b[j] / b[j - 2], pull, -a[j - 1] * pull))
    return np.array(rows)


def stride(velocity: Velocity, X: Array, speed: Array, loudness: Array, h: Array) -> tuple[Array, Array, Array]:
    """A step of length h (n,) by ``STAGES`` stages and back to the manifold, order 2: X, Ẋ there, estimated error (n,).

    A step so long that it leaves the neighbourhood of the manifold is not retracted; its error is inf.
    """
    h_, start = h[:, None], X
    first, *later = chebyshev_weights(STAGES)
    before, now = X, X + first[2] * h_ * speed
    with np.errstate(over="ignore", invalid="ignore"):
        for μ, ν, pull, back in later:
            pushed = h_ * (pull * velocity(now, loudness) + back * speed)
            before, now = now, (1 - μ - ν) * start + μ * now + ν * before + pushed
        wild = ~(length(now - start) < 1)
    X = retracted(np.where(wild[:, None], start, now))
    slope = velocity(X, loudness)
    error = length(0.8 * (start - X) + 0.4 * h_ * (speed + slope))
    return X, slope, np.where(wild, np.inf, error)


def length(X: Array) -> Array:
    """Frobenius norms (n,) of frames (N, n, r)."""
    return np.asarray(np.sqrt(np.einsum("nbi,nbi->b", X, X)))


@dataclass(frozen=True)
class Ends:
    """Where flows ended: M (n, r, r), steps taken (n,), and which were given up on the way (n,)."""

    overlaps: Array
    steps: Integers
    unfinished: NDArray[np.bool_]


def ascend(velocity: Velocity, X: Array, loudness: Array, threshold: float, at_rest: float = AT_REST) -> Ends:
    """Follow the flows from X (N, r), one for each loudness, until all spikes are recovered or nothing moves any more.

    A spike is recovered by an overlap |m_ij| >= threshold; at rest is a speed below ``at_rest`` times the first.
    """
    n, (_, r) = len(loudness), X.shape
    ends = Ends(np.empty((n, r, r)), np.zeros(n, np.int64), np.zeros(n, np.bool_))
    left, X = np.arange(n), np.repeat(X[:, None], n, axis=1)
    speed = velocity(X, loudness)
    first = length(speed)
    h = 1e-2 / first
    while len(left):
        there, slope, error = stride(velocity, X, speed, loudness[left], h)
        score = error / (ABSOLUTE + RELATIVE * h * length(speed))
        good = score <= 1
        X, speed = np.where(good[:, None], there, X), np.where(good[:, None], slope, speed)
        h = h * np.clip(0.9 * np.maximum(score, 1e-9) ** (-1 / 3), 0.2, 5)
        ends.steps[left] += 1
        M = velocity.overlaps(X)
        rest = length(speed) < at_rest * first[left]
        done = (recovered(M, threshold) == r) | rest
        ends.unfinished[left] = ~done & (ends.steps[left] >= MOST_STEPS)
        done |= ends.unfinished[left]
        ends.overlaps[left] = M
        X, speed, h, left = X[:, ~done], speed[:, ~done], h[~done], left[~done]
    return ends


def recovered(M: Array, threshold: float) -> Integers:
    """How many spikes have an overlap |m_ij| >= threshold: (…, r, r) to (…)."""
    return np.asarray((np.abs(M).max(axis=-1) >= threshold).sum(axis=-1))


@dataclass(frozen=True)
class FlowEnsemble:
    """Ends of the finished replicas: M (n_runs, n_counts, r, r), and the uniform starts each drew until one would do."""

    overlaps: Array
    unfinished: NDArray[np.bool_]
    starts: Integers
    replicas: tuple[int, ...]
    interrupted: bool
    seconds: float


@dataclass(frozen=True)
class FixedSampleFlow:
    """Flows on samples of ``counts`` tensors, real numbers > 0 (only n λ² matters), from starts without a fault of their own.

    X is uniform on the Stiefel manifold, given that the flow without noise (n = ∞) recovers every spike from it: for odd
    p one whose overlaps are negative never does. Raises InputError for N below 2r or a tensor that does not fit into
    memory, counts that are not positive, or a threshold outside (0, 1).
    """

    tensor: SpikedTensor
    dim: int
    counts: tuple[float, ...]
    threshold: float = 0.7

    def __post_init__(self) -> None:
        """Check the ranges."""
        r, p = self.tensor.rank, self.tensor.order
        require(p >= 3, "p", p, "3 … 8", "an order at which the flow can get stuck")
        size = self.dim * comb(self.dim + p - 2, p - 1) if self.dim >= 1 else 0
        advice = f"an explicit tensor of order {p} must fit into memory: {MOST_ENTRIES} numbers"
        require(self.dim >= 2 * r and size <= MOST_ENTRIES, "dims", self.dim, f"{2 * r} … {self.largest(p)}", advice)
        ok = len(self.counts) > 0 and all(np.isfinite(n) and n > 0 for n in self.counts)
        require(ok, "counts", self.counts, "numbers of tensors > 0")
        require(0 < self.threshold < 1, "threshold", self.threshold, "a number between 0 and 1")

    @staticmethod
    def largest(order: int) -> int:
        """The largest N whose tensor fits."""
        dim = 2
        while (dim + 1) * comb(dim + order - 1, order - 1) <= MOST_ENTRIES:
            dim += 1
        return dim

    def start(self, rng: Generator) -> tuple[Array, Array, int]:
        """Spikes and a first X (N, r) from which the flow without noise recovers all, and how many uniform X it took."""
        r = self.tensor.rank
        V = np.linalg.qr(rng.standard_normal((self.dim, r)))[0]
        for tries in range(1, MOST_STARTS + 1):
            Q, R = np.linalg.qr(rng.standard_normal((self.dim, r)))
            X = Q * np.sign(np.diag(R))
            end = ascend(Velocity(self.tensor, V, None), X, np.zeros(1), self.threshold)
            if recovered(end.overlaps, self.threshold)[0] == r:
                return V, X, tries
        raise InputError(
            "snr", self.tensor.snr, "spikes that one of 1000 flows without noise recovers", "take closer λ"
        )

    def run(
        self, runs: int | Sequence[int], seed: int = 0, threads: int | None = None, quiet: bool = True
    ) -> FlowEnsemble:
        """Run replicas 0 … runs-1, or those listed; Ctrl-C keeps the finished ones.

        Replica i, a tensor and a start, depends on (seed, i) alone. Raises KeyboardInterrupt if nothing had finished.
        """
        require(seed >= 0, "seed", seed, "a whole number >= 0")
        listed = replica_numbers(runs).tolist()

        def work(replica: int, on_block: OnBlock) -> tuple[Ends, int] | None:
            found = self.follow(replica, seed)
            return found if on_block(1) else None

        with threadpool_limits(1, user_api="blas"):
            done, seconds = run_replicas(work, listed, 1, f"N = {self.dim}", threads, quiet)
        ends = [end for end, _ in done.values()]
        return FlowEnsemble(
            np.stack([end.overlaps for end in ends]),
            np.stack([end.unfinished for end in ends]),
            np.array([tries for _, tries in done.values()]),
            tuple(done),
            len(done) < len(listed),
            seconds,
        )

    def follow(self, replica: int, seed: int) -> tuple[Ends, int]:
        """The ends of one replica's flows, and the starts it drew."""
        child = replica_seed(seed, replica)
        V, X, tries = self.start(np.random.default_rng(stream(child, START)))
        noise = SymmetricNoise.draw(self.tensor.order, self.dim, np.random.default_rng(stream(child, NOISE)))
        loudness = 1 / np.sqrt(np.array(self.counts, dtype=float))
        return ascend(Velocity(self.tensor, V, noise), X, loudness, self.threshold), tries
