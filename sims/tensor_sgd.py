"""Direct simulation of online SGD for multi-spiked tensor PCA: the ground truth. X on the Stiefel manifold of R^N.

    X <- (X + Z)(I + ZᵀZ)^(-1/2),  Z = (δ/N) [G - ½ X (XᵀG + GᵀX)],  G_j = λ_j ∇⟨Y, x_j^{⊗p}⟩            (theory §8)

for a fresh tensor Y a sample. Its noise enters through n_j = λ_j ∇⟨W, x_j^{⊗p}⟩ in R^N alone: drawn from the tensor itself
(``ExplicitTensor``, N^p numbers: the proof) or from its Gaussian law (``GradientLaw``, r N). The clock t counts samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sims._tensor_kernels import DIVERGED, STOPPED, explicit_noise, matrix_law, run_tensor, tensor_law
from theory.errors import DivergedError, require
from theory.networks import semidefinite_root
from theory.normals import fill_normals, make_generator, stream_length
from theory.replicas import OnBlock, replica_numbers, run_replicas, spike_mask
from theory.results import Ensemble, EscapeTimes, Trajectory, replica_seed, stream, time_grid
from theory.tensor_pca import SpikedTensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
SPIKES, NOISE = 0, 1  # streams of a replica's seed, as in sims.sgd
MOST_ENTRIES = 2**26  # of an explicit tensor: 512 MiB in each thread
BLOCK_WORK = 1e8  # normals between two looks at the clock, about 0.3 s


class Noise(Protocol):
    """A way to draw the noise of the gradient."""

    def normals(self, tensor: SpikedTensor, dim: int) -> int:
        """Standard normals for one sample."""
        ...

    def kernel(self, tensor: SpikedTensor) -> Any:
        """The compiled function (z, X, snr, p, G): from normals z and x_j (r, N) the n_j, into G (r, N)."""
        ...


@dataclass(frozen=True)
class ExplicitTensor:
    """All N^p entries of W, contracted with x_j in every position but one: exact by construction, O(r N^p) a sample."""

    def normals(self, tensor: SpikedTensor, dim: int) -> int:
        """N^p. Raises InputError where they do not fit into memory."""
        largest = int(MOST_ENTRIES ** (1 / tensor.order))
        require(dim <= largest, "dim", dim, f"at most {largest} for an explicit tensor of order {tensor.order}",
                "take GradientLaw(), the same noise in law")  # fmt: skip
        return int(dim**tensor.order)

    def kernel(self, tensor: SpikedTensor) -> Any:  # noqa: ARG002 - one for all orders
        """``explicit_noise``."""
        return explicit_noise


@dataclass(frozen=True)
class GradientLaw:
    """The exact Gaussian law of (n_1 … n_r) given orthonormal x_j: O(r N) a sample, O(r² N) for p = 2."""

    def normals(self, tensor: SpikedTensor, dim: int) -> int:
        """r N."""
        return tensor.rank * dim

    def kernel(self, tensor: SpikedTensor) -> Any:
        """``matrix_law`` for p = 2, whose columns are correlated, else ``tensor_law``."""
        return matrix_law if tensor.order == 2 else tensor_law


@dataclass(frozen=True)
class _Replica:
    """Overlaps (n_times, r²), nan after an early end; escape times (r²,), -1 if not seen."""

    overlaps: Array
    escapes: Integers
    samples: int


@dataclass(frozen=True)
class TensorSGD:
    """Online SGD of ``tensor`` in R^N with step δ/N and the given ``noise``.

    ``start`` is M = VᵀX (r, r) of the first X, its remainder in a random frame of the complement of the spikes; None: X
    uniform on the Stiefel manifold. Raises InputError for N < r (with ``start`` 2r), a start that is no contraction,
    values that are not positive, or a tensor that does not fit into memory.
    """

    tensor: SpikedTensor
    dim: int
    lr: float
    noise: Noise
    start: Array | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        r = self.tensor.rank
        least, what = (max(2, r), "spikes, at least 2") if self.start is None else (2 * r, "2 · spikes, with a start")
        whole = isinstance(self.dim, int | np.integer) and least <= self.dim <= 10**7
        require(whole, "dim", self.dim, f"{least} ({what}) … 10^7 for a simulation")
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        self.noise.normals(self.tensor, self.dim)
        if self.start is not None:
            M = np.asarray(self.start, dtype=float)
            ok = M.shape == (r, r) and bool(np.all(np.isfinite(M))) and self.tensor.space.size(M) <= 1 + 1e-12
            require(ok, "start", M.tolist(), f"a finite {r} × {r} matrix with singular values <= 1")

    def geometry(self, seed: SeedSequence) -> tuple[Array, Array]:
        """Random orthonormal spikes and the first X of the replica with this seed, as rows (r, N) each."""
        rng, r = np.random.default_rng(stream(seed, SPIKES)), self.tensor.rank
        V = np.linalg.qr(rng.standard_normal((self.dim, r)))[0]
        X = rng.standard_normal((self.dim, r))
        if self.start is None:
            X = _signed_frame(X)
        else:
            M = np.asarray(self.start, dtype=float)
            beyond = np.linalg.qr(np.hstack([V, X]))[0][:, r:]
            X = V @ M + beyond @ semidefinite_root(np.eye(r) - M.T @ M).T
        return np.ascontiguousarray(V.T), np.ascontiguousarray(X.T)

    def run(
        self,
        runs: int | Sequence[int],
        samples: int,
        seed: int = 0,
        threshold: float = 0.3,
        stop_spikes: Sequence[str] = (),
        times: Integers | None = None,
        threads: int | None = None,
        quiet: bool = True,
    ) -> Ensemble:
        """Run replicas 0 … runs-1, or those listed, for ``samples`` samples each. Ctrl-C keeps the finished ones.

        A replica ends early once each of ``stop_spikes`` ("1", "2", …: rows of M) has an overlap that has escaped. Overlaps
        are recorded at ``times`` (default: ``time_grid(samples)``; an empty array records nothing), nan after an early
        end. Replica i depends on (seed, i) alone. Progress goes to stderr unless ``quiet`` or not a terminal. Raises
        KeyboardInterrupt if nothing had finished, DivergedError if a state is not finite.
        """
        require(1 <= samples <= 10**15, "samples", samples, "1 … 10^15")
        require(seed >= 0, "seed", seed, "a whole number >= 0")
        require(np.isfinite(threshold) and threshold > 0, "threshold", threshold, "a finite number > 0")
        grid = time_grid(samples) if times is None else np.asarray(times, dtype=np.int64)
        require(bool(np.all(np.diff(grid, prepend=-1) > 0)), "times", grid.tolist(), "increasing sample counts >= 0")
        grid = grid[grid <= samples]
        rows = spike_mask(tuple(str(i + 1) for i in range(self.tensor.rank)), stop_spikes)
        listed = replica_numbers(runs).tolist()

        def work(replica: int, on_block: OnBlock) -> _Replica | None:
            return self._run_one(replica_seed(seed, replica), samples, threshold, rows, grid, on_block)

        with threadpool_limits(1, user_api="blas"):
            done, seconds = run_replicas(work, listed, samples, "SGD", threads, quiet)
        escapes = np.array([run.escapes for run in done.values()], dtype=float)
        escapes[escapes < 0] = np.inf
        overlaps = np.stack([run.overlaps for run in done.values()])
        return Ensemble(
            Trajectory(self.tensor.spikes, grid.astype(float), overlaps),
            EscapeTimes(self.tensor.spikes, escapes, threshold, samples),
            tuple(done),
            len(done) < len(listed),
            seconds,
            sum(run.samples for run in done.values()),
        )

    def _run_one(
        self,
        seed: SeedSequence,
        samples: int,
        threshold: float,
        stop_rows: NDArray[np.bool_],
        times: Integers,
        on_block: OnBlock,
    ) -> _Replica | None:
        """One replica; None if it was asked to stop."""
        V, X = self.geometry(seed)
        work, size = make_generator(stream(seed, NOISE)), self.tensor.rank**2
        normals = self.noise.normals(self.tensor, self.dim)
        noise, z = self.noise.kernel(self.tensor), np.empty(stream_length(normals))
        overlaps, escapes = np.full((len(times), size), np.nan), np.full(size, -1, dtype=np.int64)
        block, t, record, status = max(int(BLOCK_WORK / normals), 1), 0, 0, -1
        while status != STOPPED and (t < samples or status < 0):
            reached, record, status = run_tensor(
                fill_normals, noise, self.tensor.order, np.array(self.tensor.snr, dtype=float), V, X, work, z,
                self.lr / self.dim, t, min(t + block, samples), threshold, stop_rows, times, record, overlaps, escapes,
            )  # fmt: skip
            if status == DIVERGED:
                raise DivergedError(reached, self.lr)
            if not on_block(reached - t):
                return None
            t = reached
        return _Replica(overlaps, escapes, t)


def _signed_frame(A: Array) -> Array:
    """Q of A = Q R with diag R > 0 (N, r): uniform on the Stiefel manifold if the entries of A are normal."""
    Q, R = np.linalg.qr(A)
    return np.asarray(Q * np.sign(np.diag(R)))
