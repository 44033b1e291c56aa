"""The exact chain of multi-spiked tensor PCA: online SGD on the Stiefel manifold in the r² overlaps M = VᵀX alone, at any N.

A sample costs O(r³) whatever N, against N^p entries of its tensor. No approximation: the gradient's noise is Gaussian with
known covariance (theory §8), and what lies beyond the spikes and the columns of X enters through a Wishart matrix with N - 2r
degrees of freedom; (M_t) has the law of ``sims.tensor_sgd.TensorSGD`` [Ben Arous, Gerbelot & Piccolo 2024]. The clock t
counts samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from solvers._chain_kernels import draw_chi_squares
from solvers._tensor_kernels import follow_tensor, run_tensor
from solvers.lanes import START, LanePlan, Lanes, record_times
from theory.errors import require
from theory.normals import fill_normals
from theory.replicas import spike_mask
from theory.results import Ensemble, stream
from theory.tensor_pca import SpikedTensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
BLOCK_SAMPLES = 1_000_000  # samples of one lane between two looks at the clock, over r²: about half a second


@dataclass(frozen=True)
class TensorChain:
    """The overlaps of online SGD of ``tensor`` in R^{N x r}, N = ``dim``, at learning rate δ (step δ/N), polar retraction.

    ``start`` is the first M (r, r); None: X uniform on the Stiefel manifold. Raises InputError for N below 3r, a start with
    a singular value above 1, or a rate that is not positive.
    """

    tensor: SpikedTensor
    dim: int
    lr: float
    start: Array | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        r = self.tensor.rank
        whole = isinstance(self.dim, int | np.integer) and 3 * r <= self.dim <= 10**15
        require(whole, "dim", self.dim, f"{3 * r} (three times the spikes) … 10^15")
        require(bool(np.isfinite(self.lr)) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        if self.start is not None:
            start = np.asarray(self.start, dtype=float)
            ok = start.shape == (r, r) and bool(np.all(np.isfinite(start)))
            ok = ok and self.tensor.space.size(start.ravel()) <= 1 + 1e-12
            require(ok, "start", start.tolist(), f"a finite matrix ({r}, {r}) with singular values <= 1")

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the overlaps m_ij."""
        return self.tensor.spikes

    @property
    def idle_state(self) -> Array:
        """M = 0."""
        return np.zeros(self.tensor.rank**2)

    def first_state(self, seed: SeedSequence) -> Array:
        """M (r²,), row by row, of the first X of the replica with this seed."""
        if self.start is not None:
            return np.asarray(self.start, dtype=float).ravel()
        return self.tensor.space.random(np.random.default_rng(stream(seed, START)), self.dim)

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

        A replica ends early once each spike of ``stop_spikes`` ("1", "2", …) has an overlap that has escaped: some j with
        |m_ij| >= threshold. Overlaps are recorded at ``times`` (default: ``time_grid(samples)``; an empty array records
        nothing), nan after an early end. Replica i depends on (seed, i) alone. Progress goes to stderr unless ``quiet`` or
        not a terminal. Raises KeyboardInterrupt if nothing had finished, DivergedError if a state is not finite.
        """
        names = tuple(str(i + 1) for i in range(self.tensor.rank))
        plan = LanePlan(self, samples, seed, threshold, spike_mask(names, stop_spikes), record_times(samples, times))
        run_tensor(self.tensor.rank)  # compiles in this thread
        return plan.run(runs, threads, quiet)

    def advance(self, lanes: Lanes) -> int:
        """Move all running lanes until one of them is done, or for a fraction of a second: by how many samples each."""
        plan, r = lanes.plan, self.tensor.rank
        return int(
            run_tensor(r)(
                fill_normals, draw_chi_squares, *self._numbers, self.dim - 2 * r, lanes.work, lanes.state,
                lanes.barrier, lanes.step, max(BLOCK_SAMPLES // r**2, 1), plan.samples, plan.threshold,
                plan.stop_mask, plan.times, lanes.status, lanes.clock, lanes.next_record, lanes.overlaps, lanes.escapes,
            )
        )  # fmt: skip

    def follow(self, inside: Array, toward: Array, gram: Array) -> Array:
        """M after every sample, shape (n, r, r), from ``start``, on given noise N = [n_1 … n_r] of the gradient.

        ``inside`` XᵀN, ``toward`` VᵀN, ``gram`` NᵀN, each (n, r, r). On the inner products of a run in R^{N x r} this is
        that run.
        """
        r = self.tensor.rank
        state = self.first_state(SeedSequence(0)).reshape(r, r)
        arrays = [np.ascontiguousarray(x, dtype=float) for x in (inside, toward, gram)]
        states = np.empty_like(arrays[0])
        follow_tensor(r)(*self._numbers, self.lr / self.dim, state, *arrays, states)
        return states

    @property
    def _numbers(self) -> tuple[tuple[float, ...], int, float]:
        """λ's, p and √N p."""
        return tuple(map(float, self.tensor.snr)), self.tensor.order, float(np.sqrt(self.dim) * self.tensor.order)
