"""The overlap chain: the exact law of high-dimensional SGD in r + 1 numbers, at any d, at O(r) work a sample (theory §5).

    α ← (α + Σ_b h_b (ξ_b - s_b α)) / √(1 + ‖Σ_b h_b (x_b - s_b w)‖²),   h_b = (δ/d) g(y_b, s_b),   b = 1 … B

needs of the input only ξ = Uᵀx, a = x·w_⊥/|w_⊥| and, once a batch, a χ² with d - r - 1 degrees of freedom for the rest. No
approximation: (α_t) has the law of ``sims.sgd.OnlineSGD``. The clock t counts samples. For a ``SmoothedNeuron`` g is a
function of ‖x‖² = |ξ|² + a² + χ² too: the χ² must be that of one input, B = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from solvers._chain_kernels import LANES, follow_chain, run_chain
from solvers.lanes import START, LanePlan, Lanes, record_times
from theory.errors import require
from theory.learners import SmoothedNeuron
from theory.lower import compile_gradient_lanes, compile_law_lanes
from theory.normals import fill_normals
from theory.population import Model
from theory.replicas import spike_mask
from theory.results import Ensemble, stream

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
BLOCK_SAMPLES = 1_000_000  # samples of one lane between two looks at the clock, about 0.3 s


@dataclass(frozen=True)
class OverlapChain:
    """The overlaps of online projected SGD in dimension d, learning rate δ (step δ/d), mini-batch size B (summed).

    ``start`` is the overlaps (r,) of the first w; None: w uniform on the sphere. Raises InputError for d below the number
    of spikes + 2, a start outside the ball, or values that are not positive.
    """

    model: Model
    dim: int
    lr: float
    batch: int = 1
    start: Array | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        r = len(self.model.spikes)
        require(r + 2 <= self.dim <= 10**15, "dim", self.dim, f"{r + 2} (spikes + 2) … 10^15")
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        require(1 <= self.batch <= 10**6, "batch", self.batch, "1 … 10^6")
        single = self.batch == 1 or not isinstance(self.model.learner, SmoothedNeuron)
        require(
            single, "batch", self.batch, "1 with the smoothed loss, whose gradient depends on the norm of each input"
        )
        if self.start is not None:
            start = np.asarray(self.start, dtype=float)
            ok = start.shape == (r,) and bool(np.all(np.isfinite(start))) and start @ start <= 1 + 1e-12
            require(ok, "start", start.tolist(), f"{r} finite overlaps with sum of squares <= 1")

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the overlaps."""
        return self.model.spikes

    @property
    def idle_state(self) -> Array:
        """α = 0, q = 1."""
        return np.append(np.zeros(len(self.spikes)), 1.0)

    def first_state(self, seed: SeedSequence) -> Array:
        """(α_1 … α_r, q) of the first w of the replica with this seed, q² = 1 - |α|²."""
        r = len(self.model.spikes)
        if self.start is not None:
            alpha = np.asarray(self.start, dtype=float)
            return np.append(alpha, np.sqrt(max(1 - alpha @ alpha, 0)))
        rng = np.random.default_rng(stream(seed, START))
        w = np.append(rng.standard_normal(r), np.sqrt(rng.chisquare(self.dim - r)))
        return w / np.linalg.norm(w)

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

        A replica ends early once all of ``stop_spikes`` have escaped. Overlaps are recorded at ``times`` (default:
        ``time_grid(samples)``; an empty array records nothing), nan after an early end; escapes are exact to the batch.
        Replica i depends on (seed, i) alone. Progress goes to stderr unless ``quiet`` or not a terminal. Raises
        KeyboardInterrupt if nothing had finished, DivergedError if a state is not finite.
        """
        whole = record_times(samples, times)
        whole = whole[whole <= samples // self.batch * self.batch]  # reached by whole batches
        plan = LanePlan(self, samples, seed, threshold, spike_mask(self.spikes, stop_spikes), whole)
        self._compiled  # noqa: B018 - compiles in this thread
        return plan.run(runs, threads, quiet)

    def advance(self, lanes: Lanes) -> int:
        """Move all running lanes until one of them is done, or for a fraction of a second: by how many samples each."""
        law, gradient, theta, shape, n_extra = self._compiled
        plan, dof = lanes.plan, self.dim - len(self.spikes) - 1
        batches = run_chain(
            fill_normals, law, gradient, theta, shape, lanes.work, lanes.state, lanes.barrier, lanes.step, self.batch,
            dof, n_extra, max(BLOCK_SAMPLES // self.batch, 1), plan.samples, plan.threshold,
            plan.stop_mask, plan.times, lanes.status, lanes.clock, lanes.next_record, lanes.overlaps, lanes.escapes,
        )  # fmt: skip
        return int(batches) * self.batch

    @cached_property
    def _compiled(self) -> tuple[Any, Any, Array, Array, int]:
        """law, gradient, the parameters of either, and how many normals the label takes."""
        law = self.model.task.law()
        lanes, theta = compile_law_lanes(law)
        gradient, shape = compile_gradient_lanes(self.model.learner, self.dim)
        return lanes, gradient, theta, shape, len(law.normals)

    def follow(self, xi: Array, y: Array, a: Array, chi_squares: Array) -> Array:
        """(α, q) after every batch, shape (n, r + 1), from ``start``, on given inputs instead of random ones.

        xi (n, B, r); y, a (n, B); chi_squares (n,). On the data of a d-dimensional run this is its trajectory.
        """
        n, _, r = xi.shape
        state = np.repeat(self.first_state(SeedSequence(0))[:, None], LANES, axis=1)
        inputs = np.concatenate([xi, a[:, :, None]], axis=2)
        inputs, labels, chi = (np.repeat(x[..., None], LANES, axis=-1) for x in (inputs, y, chi_squares))
        states = np.empty((n, r + 1, LANES))
        step = np.full(LANES, self.lr / self.dim)
        follow_chain(*compile_gradient_lanes(self.model.learner, self.dim), state, step, inputs, labels, chi, states)
        return states[:, :, 0]
