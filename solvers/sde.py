"""Overlap diffusion: drift and noise of online SGD in steps of many samples (theory §4). Exact for small steps δ/d.

    dα = [(δ/d) (∇Φ - α (α·∇Φ)) - (δ²/2d) V α] dt + (δ/d) D(α)^½ dB            (t in samples)

Cost independent of d. A trajectory takes steps in which neither drift nor noise moves an overlap by more than a fraction
``tolerance`` of itself (or of d^(-1/2) near zero); thresholds are crossed by exact Brownian bridges within a step.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from solvers._sde_kernels import run_sde
from theory.errors import require
from theory.lower import PolynomialMap
from theory.replicas import replica_numbers
from theory.results import Ensemble, EscapeTimes, Trajectory, replica_seed
from theory.spaces import Ball

Array = NDArray[np.float64]
SHELLS = 32


@dataclass(frozen=True)
class OverlapSDE:
    """The diffusion of a model's overlaps for one dimension and learning rate δ (step δ/d).

    ``step`` is the lowered map (flow, V, second moments) of the model: ``Population.lowered_step``, or
    ``fields.fitted_step`` where the series diverges. ``start`` overlaps (r,), None: those of a random w on the sphere.
    ``tolerance`` sets the steps: the weak error shrinks with it (tests/convergence/test_sde_order.py); 0.1 is within 1 %.
    Raises InputError for d below r + 2, or values that are not positive.
    """

    spikes: tuple[str, ...]
    step: PolynomialMap
    dim: float
    lr: float
    start: tuple[float, ...] | None = None
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        r = len(self.spikes)
        require(np.isfinite(self.dim) and self.dim >= r + 2, "dim", self.dim, f"a number >= {r + 2}")
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0")
        require(1e-4 <= self.tolerance <= 0.5, "tolerance", self.tolerance, "1e-4 … 0.5")
        if self.start is not None:
            inside = (
                len(self.start) == r and bool(np.all(np.isfinite(self.start))) and np.dot(self.start, self.start) <= 1
            )
            require(inside, "start", self.start, f"{r} finite overlaps with sum of squares <= 1")

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.int64], Array, Array]:
        return (
            np.ascontiguousarray(self.step.exponents.T),
            np.ascontiguousarray(self.step.coefficients),
            self._stiffness,
        )

    @property
    def _stiffness(self) -> Array:
        """Largest norm of ∂F/∂α seen in random directions on each of ``SHELLS`` shells of the ball, by differences."""
        r, rng = len(self.spikes), np.random.default_rng(0)
        radii = self.dim ** (-0.5 * (1 - np.arange(SHELLS + 1) / SHELLS))
        directions = np.array([[1.0], [-1.0]]) if r == 1 else rng.standard_normal((8 * (r - 1), r))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        points, small = radii[:, None, None] * directions, 1e-4 * radii[:, None, None]
        slopes = [self.step.many(points + small * e) - self.step.many(points - small * e) for e in np.eye(r)]
        norms = np.linalg.norm(np.stack(slopes)[..., :r], axis=(0, -1)) / (2 * small[:, 0])
        largest = norms.max(axis=1)
        return np.maximum(largest[:-1], largest[1:])

    def steps(self, samples: float) -> float:
        """Upper estimate of the steps that one trajectory takes in this many samples."""
        return max(1.0, float(samples * self.lr / self.dim * self._arrays[2].max() / self.tolerance))

    def run(
        self,
        runs: int | Sequence[int],
        samples: float,
        seed: int = 0,
        threshold: float = 0.3,
        times: Sequence[float] | Array = (),
        stop_spikes: tuple[str, ...] = (),
        threads: int | None = None,
    ) -> Ensemble:
        """Trajectories 0 … runs-1, or those listed, for ``samples`` samples, or until all of ``stop_spikes`` have escaped.

        Overlaps are recorded at ``times`` (in samples, sorted; the steps then end on them). Each trajectory has its own
        SeedSequence child: results do not depend on ``threads``. Escape times are continuous; inf: not within ``samples``.
        Raises InputError for values out of their range.
        """
        replicas = replica_numbers(runs)
        require(np.isfinite(samples) and samples > 0, "samples", samples, "a finite number > 0")
        require(0 < threshold < 1, "threshold", threshold, "a number between 0 and 1")
        require(threads is None or 1 <= threads <= 1024, "threads", threads, "1 … 1024")
        r, unit, begin = len(self.spikes), self.lr / self.dim, perf_counter()
        record = np.asarray(times, dtype=float) * unit
        n = len(replicas)
        overlaps, escapes = np.full((n, len(record), r), np.nan), np.full((n, r), np.inf)
        stop_mask = np.array([s in stop_spikes for s in self.spikes])
        exponents, coefficients, stiffness = self._arrays

        def work(first: int) -> None:
            for i in range(first, n, workers):
                rng = np.random.default_rng(replica_seed(seed, int(replicas[i])))
                alpha = Ball(r).random(rng, self.dim) if self.start is None else np.array(self.start, dtype=float)
                run_sde(
                    rng, exponents, coefficients, stiffness, self.lr, np.sqrt(unit), self.dim**-0.5, self.tolerance,
                    alpha, samples * unit, threshold, stop_mask, record, overlaps[i], escapes[i],
                )  # fmt: skip

        workers = min(threads or len(os.sched_getaffinity(0)), n)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))
        escapes[escapes > samples * unit] = np.inf
        return Ensemble(
            Trajectory(self.spikes, np.asarray(times, dtype=float), overlaps),
            EscapeTimes(self.spikes, escapes / unit, threshold, samples),
            tuple(replicas.tolist()),
            False,
            perf_counter() - begin,
            int(min(n * samples, 2**62)),
        )
