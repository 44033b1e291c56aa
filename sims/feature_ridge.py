"""Random features: ridge regression on φ(x) = σ(W x) with W frozen, in one streaming pass; the baseline of a trained network.

The normal equations need sums over samples only, so that memory is N² at any number of samples. Inputs are drawn in R^d,
x = z + U (ξ - Uᵀz), by NumPy alone. The ridge strength is the best of a grid on held-out data, which are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from theory.activations import Activation
from theory.equivalents import GaussianEquivalent, class_moments
from theory.errors import require
from theory.laws import Task
from theory.lower import compile_activation
from theory.replicas import OnBlock, replica_numbers, run_replicas
from theory.results import Array, replica_seed, stream

Floats = NDArray[np.float32]
FEATURES = 5  # stream of a replica's seed; the engines of networks take 0 … 4
BLOCK, HELD_OUT = 4096, 16384
STRENGTHS = np.logspace(-5, 3, 17)  # of the ridge, in units of the mean variance of a feature
MOST_WIDTH = 8192


@dataclass(frozen=True)
class Scores:
    """Test accuracy of the finished replicas at ``times`` samples: on the task, and on its Gaussian equivalent of order 2.

    ``accuracy``, ``equivalent``, ``strength`` (n_runs, n_times). ``gain`` is what the higher cumulants contribute.
    """

    times: NDArray[np.int64]
    accuracy: Array
    equivalent: Array
    strength: Array
    interrupted: bool = False

    @property
    def gain(self) -> Array:
        """Accuracy on the task minus that on Gaussians of the same mean and covariance in each class."""
        return self.accuracy - self.equivalent


class Moments:
    """Sums over samples of y (n,) and φ (n, N): enough for the covariance of φ and its covariance with y."""

    def __init__(self, width: int) -> None:
        self.n, self.y, self.features = 0, 0.0, np.zeros(width)
        self.squares, self.products = np.zeros((width, width)), np.zeros(width)

    def add(self, features: NDArray[np.floating], y: Array) -> None:
        """Add samples."""
        self.n += len(y)
        self.y += float(y.sum())
        self.features += features.sum(axis=0, dtype=float)
        self.squares += features.T @ features
        self.products += features.T @ y.astype(features.dtype)

    @property
    def mean(self) -> Array:
        """E[φ] (N,)."""
        return self.features / self.n

    def covariances(self) -> tuple[Array, Array]:
        """Cov(φ, φ) (N, N) and Cov(φ, y) (N,)."""
        mean = self.mean
        return self.squares / self.n - np.outer(mean, mean), self.products / self.n - mean * (self.y / self.n)


def ridge_path(moments: Moments, strengths: Sequence[float] | Array) -> Array:
    """Minimisers a (N, strengths) of mean (y - ȳ - a·(φ - φ̄))² + λ |a|², λ in units of the mean variance of φ."""
    covariance, with_label = moments.covariances()
    values, vectors = np.linalg.eigh(covariance)
    ridges = np.asarray(strengths) * np.trace(covariance) / len(covariance)
    # Rounding may leave an eigenvalue that is 0 a little negative.
    shrunk = (vectors.T @ with_label)[:, None] / (np.clip(values, 0, None)[:, None] + ridges)
    return np.asarray(vectors @ shrunk)


def choose(path: Array, held_out: Moments) -> int:
    """Index of the column with the least squared error on held-out data, its constant left free."""
    covariance, with_label = held_out.covariances()
    errors = np.einsum("ks,kl,ls->s", path, covariance, path, optimize=True) - 2 * with_label @ path
    return int(np.argmin(errors))


@dataclass(frozen=True)
class RandomFeatures:
    """Ridge on ``width`` = N features σ(w_k·x), w_k ~ N(0, I/d), of a task with labels ±1; predicts sign(a·(φ - φ̄)).

    Raises InputError for sizes beyond the limits and for a task without labels ±1.
    """

    task: Task
    activation: Activation
    dim: int
    width: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        r = len(self.task.spikes)
        require(r < self.dim <= 10**5, "dim", self.dim, f"{r + 1} (spikes + 1) … 10^5")
        require(1 <= self.width <= MOST_WIDTH, "width", self.width, f"1 … {MOST_WIDTH} features")
        class_moments(self.task)

    def run(
        self,
        runs: int | Sequence[int],
        times: NDArray[np.int64],
        seed: int = 0,
        tests: int = 32768,
        threads: int | None = None,
        quiet: bool = True,
    ) -> Scores:
        """Fit at every one of ``times`` samples, increasing; ``tests`` fresh samples test each fit.

        Replica i depends on (seed, i) alone. Ctrl-C keeps the finished ones; KeyboardInterrupt if nothing had finished.
        """
        times = np.asarray(times, dtype=np.int64)
        ok = len(times) > 0 and bool(np.all(np.diff(times, prepend=1) > 0))
        require(ok, "times", times.tolist(), "increasing sample counts >= 2")
        require(tests >= 1, "tests", tests, "a whole number >= 1")
        listed = replica_numbers(runs).tolist()
        with threadpool_limits(1):
            done, _ = run_replicas(
                lambda i, on_block: self._run_one(replica_seed(seed, i), times, tests, on_block),
                listed, int(times[-1]), f"features d = {self.dim}, N = {self.width}", threads, quiet,
            )  # fmt: skip
        accuracy, equivalent, strength = (np.stack(rows) for rows in zip(*done.values(), strict=True))
        return Scores(times, accuracy, equivalent, strength, len(done) < len(listed))

    def _run_one(
        self, seed: SeedSequence, times: NDArray[np.int64], tests: int, on_block: OnBlock
    ) -> tuple[Array, Array, Array] | None:
        data = _Data.begin(self, np.random.default_rng(stream(seed, FEATURES)))
        train, held_out = Moments(self.width), Moments(self.width)
        for n in _pieces(HELD_OUT):
            held_out.add(*data.draw(n))
        readouts = []
        for until in times.tolist():
            for n in _pieces(until - train.n):
                train.add(*data.draw(n))
                if not on_block(n):
                    return None
            path = ridge_path(train, STRENGTHS)
            best = choose(path, held_out)
            readouts.append((path[:, best], path[:, best] @ train.mean, STRENGTHS[best]))
        a, offset, strength = (np.array(column) for column in zip(*readouts, strict=True))
        return *data.accuracies(a.T, offset, tests), strength


@dataclass(frozen=True)
class _Data:
    """One replica's spikes U (d, r), first layer W (d, N) and noise."""

    of: RandomFeatures
    U: Array
    W: Floats
    rng: Generator

    @classmethod
    def begin(cls, of: RandomFeatures, rng: Generator) -> "_Data":
        U = np.linalg.qr(rng.standard_normal((of.dim, len(of.task.spikes))))[0]
        W = rng.standard_normal((of.dim, of.width)) / np.sqrt(of.dim)
        return cls(of, U, W.astype(np.float32), rng)

    def draw(self, n: int) -> tuple[Floats, Array]:
        """φ (n, N) and y (n,) of n fresh samples."""
        z, y, raw, xi = self._sample(n)
        return self._features(z, xi - raw), y

    def accuracies(self, a: Array, offset: Array, tests: int) -> tuple[Array, Array]:
        """Accuracy of sign(a·φ - offset) for each column of ``a`` on fresh samples of the task and of the equivalent."""
        hits, equivalent = np.zeros((2, len(offset))), GaussianEquivalent(self.of.task, 2)
        for n in _pieces(tests):
            z, y, raw, xi = self._sample(n)
            for k, projections in enumerate((xi, equivalent.projections(y, raw))):
                scores = self._features(z, projections - raw).astype(float) @ a - offset
                hits[k] += np.sum((scores > 0) == (y > 0)[:, None], axis=0)
        return hits[0] / tests, hits[1] / tests

    def _sample(self, n: int) -> tuple[Floats, Array, Array, Array]:
        """White noise z (n, d), y, its projections Uᵀz and ξ (n, r)."""
        law = self.of.task.law()
        z = self.rng.standard_normal((n, self.of.dim), dtype=np.float32)
        raw = z @ self.U
        y, xi = law.at(raw, self.rng.standard_normal((n, len(law.normals))))
        return z, y, raw, xi

    def _features(self, z: Floats, change: Array) -> Floats:
        x = z + (change @ self.U.T).astype(np.float32)
        return compile_activation(self.of.activation)(x @ self.W)


def _pieces(n: int) -> list[int]:
    """n as a sum of blocks."""
    return [min(BLOCK, n - start) for start in range(0, n, BLOCK)]
