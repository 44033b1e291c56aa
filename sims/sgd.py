"""High-dimensional online SGD: the ground truth. Real d-dimensional inputs, O(d) work a sample, O(d) memory a replica.

    w <- normalise( w + (δ/d) Σ_b g(y_b, s_b) (x_b - s_b w) ),   s = w·x,   b = 1 … B            (theory §3)

The step of a mini-batch is the SUM over its B samples, so the flow in samples does not depend on B at leading order (a
mean reduction, as in PyTorch, is the same with lr·B). The clock t counts samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from sims._kernels import DIVERGED, run_sgd
from theory.errors import DivergedError, require
from theory.lower import compile_gradient, compile_law
from theory.normals import fill_normals, make_generator, stream_length
from theory.population import Model
from theory.results import stream

Array = NDArray[np.float64]
SPIKES, NOISE = 0, 1
BLOCK_WORK = 2e8  # normals between two looks at the clock, about 0.3 s


@dataclass(frozen=True)
class Replica:
    """One run: overlaps (n_times, r) at ``times``, escape times (r,) in samples (-1: not within ``samples``)."""

    times: NDArray[np.int64]
    overlaps: Array
    escapes: NDArray[np.int64]
    samples: int


@dataclass(frozen=True)
class OnlineSGD:
    """Online projected SGD of the model's neuron in R^d, learning rate δ (step δ/d), mini-batch size B.

    ``start`` is the overlaps (r,) of the first w, its remainder uniform in the orthogonal complement; None: w uniform on the
    sphere. Raises InputError for d below the number of spikes + 2 or values that are not positive.
    """

    model: Model
    dim: int
    lr: float
    batch: int = 1
    start: Array | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        smallest = max(10, len(self.model.spikes) + 2)
        require(smallest <= self.dim <= 10**7, "dim", self.dim, f"{smallest} … 10^7 for a simulation")
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        require(1 <= self.batch <= 10**6, "batch", self.batch, "1 … 10^6")

    @cached_property
    def _compiled(self) -> tuple[Any, Any, Array]:
        law, theta = compile_law(self.model.task.law())
        return law, compile_gradient(self.model.learner), theta

    def warm_up(self) -> "OnlineSGD":
        """Compile the model's two functions now, in the calling thread."""
        self._compiled  # noqa: B018 - fills the cache
        return self

    def geometry(self, seed: SeedSequence) -> tuple[Array, Array]:
        """Random orthonormal spikes (r, d) and the first w (d,) of the replica with this seed."""
        rng = np.random.default_rng(stream(seed, SPIKES))
        r = len(self.model.spikes)
        spikes = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((self.dim, r)))[0].T)
        w = rng.standard_normal(self.dim)
        if self.start is not None:
            across = w - spikes.T @ (spikes @ w)
            w = spikes.T @ self.start + across * np.sqrt(1 - self.start @ self.start) / np.linalg.norm(across)
        return spikes, w / np.linalg.norm(w)

    def noise(self, seed: SeedSequence) -> NDArray[np.uint64]:
        """The replica's normal generators."""
        return make_generator(stream(seed, NOISE))

    @cached_property
    def n_normals(self) -> int:
        """Normals drawn for one sample: the input's d, the label's, and those that fill the last block."""
        return stream_length(self.dim + len(self.model.task.law().normals))

    def run(
        self,
        seed: SeedSequence,
        samples: int,
        threshold: float = 0.3,
        times: NDArray[np.int64] | None = None,
        stop_spikes: Sequence[str] = (),
        on_block: Callable[[int], bool] = lambda _: True,
    ) -> Replica | None:
        """Run one replica for ``samples`` samples; None if ``on_block`` (told of the samples done) asked to stop.

        The overlaps are recorded at ``times``. Escapes are exact to the sample (to the batch for B > 1). With
        ``stop_spikes`` the run ends when every one of them has crossed the threshold.
        """
        law, gradient, theta = self._compiled
        spikes, w = self.geometry(seed)
        work = self.noise(seed)
        times = np.zeros(0, dtype=np.int64) if times is None else np.asarray(times, dtype=np.int64)
        r = len(spikes)
        overlaps, escapes = np.full((len(times), r), np.nan), np.full(r, -1, dtype=np.int64)
        stop_mask = np.array([s in stop_spikes for s in self.model.spikes])
        block = max(int(BLOCK_WORK / self.dim) // self.batch, 1) * self.batch
        t, record = 0, 0
        while True:
            until = min(t + block, samples)
            reached, record, status = run_sgd(
                fill_normals, law, gradient, theta, spikes, w, work, self.n_normals, self.lr / self.dim, self.batch, t,
                until, threshold, stop_mask, times, record, overlaps, escapes,
            )  # fmt: skip
            if status == DIVERGED:
                raise DivergedError(reached, self.lr)
            if not on_block(reached - t):
                return None
            t = reached
            escaped = bool(np.any(stop_mask) and np.all(escapes[stop_mask] >= 0))
            if t + self.batch > samples or escaped:
                return Replica(times[:record], overlaps[:record], escapes, t)
