"""The Gram chain: the exact law of online SGD of a two-layer network in R = W U and Q = W Wᵀ, at any d, O(K²) a sample.

Theory §5: of an input only ξ = Uᵀx, its part in the span of W_⊥ and its length beyond enter; a block of inputs needs the
inner products of what lies beyond, a Wishart matrix. No approximation: (R, Q, a, b, a_0) has the law of SGD in R^d
(``sims.network_sgd.NetworkSGD``). The clock t counts samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from solvers._gram_kernels import DIVERGED, STOPPED, follow_block, run_gram
from theory._network_kernels import step_block
from theory.errors import require
from theory.lower import compile_law, compile_network
from theory.network_results import Divergence, NetworkEnsemble, first_not_finite
from theory.network_runs import RunPlan
from theory.networks import NetworkModel, NetworkState, Rates, check_start
from theory.normals import fill_normals, make_generator, stream_length
from theory.replicas import OnBlock
from theory.results import stream

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
# Streams of a replica's seed; SGD in R^d takes 0 and 1: equal seeds are independent runs.
START, NOISE, LENGTHS = 2, 3, 4
WORK_AT_ONCE = 2e8  # multiplications between two looks at the clock, about 0.1 s


@dataclass(frozen=True)
class GramChain:
    """Overlaps of online SGD of the model's two-layer network in dimension d, mini-batch size B (summed).

    ``start`` is the first state; None: random by the learner's law. Raises InputError for d < r + K + 1, a batch beyond
    1 … 4096, or a start whose shapes do not fit.
    """

    model: NetworkModel
    dim: int
    rates: Rates
    batch: int = 1
    start: NetworkState | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        r, hidden = len(self.model.spikes), self.model.learner.hidden
        allowed = f"{r + hidden + 1} (spikes + neurons + 1) … 10^15"
        advice = "take fewer neurons, or sims.network_sgd, which works at any d"
        whole = isinstance(self.dim, int | np.integer) and r + hidden + 1 <= self.dim <= 10**15
        require(whole, "dim", self.dim, allowed, advice)
        require(1 <= self.batch <= 4096, "batch", self.batch, "1 … 4096")
        self.steps  # noqa: B018 - checks the weight decay
        if self.start is not None:
            check_start(self.model, self.start)

    @cached_property
    def steps(self) -> Array:
        """(δ_1, δ_2, δ_b, δ_0)/d and the weight decay."""
        return self.rates.steps(self.dim, self.model.learner.weight_decay, self.batch)

    @cached_property
    def block(self) -> int:
        """Samples of a block, whole batches; escapes and records are taken at block ends."""
        fastest = 24 if self.model.learner.hidden <= 32 else 32
        return max(fastest // self.batch, 1) * self.batch

    @cached_property
    def _sizes(self) -> tuple[Integers, int, int]:
        """Degrees of freedom of a block's χ² draws, the normals it takes, and how many blocks one call advances."""
        r, hidden = len(self.model.spikes), self.model.learner.hidden
        dof = self.dim - r - hidden
        ranks = dof - np.arange(min(self.block, dof))
        beyond = int(np.minimum(np.arange(self.block), len(ranks)).sum())
        pool = stream_length(self.block * (r + self._compiled[-1] + hidden) + beyond)
        return ranks, pool, max(int(WORK_AT_ONCE / (self.block * 8 * (hidden + 8) ** 2)), 1)

    @cached_property
    def _compiled(self) -> tuple[Any, ...]:
        law = self.model.task.law()
        lowered, theta = compile_law(law)
        act, residual = compile_network(self.model.learner)
        return lowered, act, residual, theta, len(law.normals)

    def first_state(self, seed: SeedSequence) -> NetworkState:
        """The start of the replica with this seed; W_⊥ W_⊥ᵀ is a Wishart matrix with d - r degrees of freedom."""
        if self.start is not None:
            return self.start
        learner, rng, r = self.model.learner, np.random.default_rng(stream(seed, START)), len(self.model.spikes)
        R = rng.standard_normal((learner.hidden, r))
        lower = np.tril(rng.standard_normal((learner.hidden, learner.hidden)), -1)
        lower += np.diag(np.sqrt(rng.chisquare(self.dim - r - np.arange(learner.hidden))))
        Q = R @ R.T + lower @ lower.T
        lengths = np.sqrt(np.diag(Q)) if learner.spherical else np.full(learner.hidden, np.sqrt(self.dim))
        scale = learner.initial_scale / lengths
        a, b = learner.draw_readout(rng)
        return NetworkState(R * scale[:, None], Q * np.outer(scale, scale), a, b)

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
    ) -> NetworkEnsemble:
        """Run replicas 0 … runs-1, or those listed, for ``samples`` samples (whole blocks). Ctrl-C keeps the finished ones.

        A replica ends early once all of ``stop_spikes`` have escaped, or where a number stops being finite. States are
        recorded at ``times`` (default ``time_grid(samples)``; an empty array records nothing) rounded up to whole blocks.
        Replica i depends on (seed, i) alone. Raises KeyboardInterrupt if nothing had finished.
        """
        plan = RunPlan.of(self.model.spikes, self.block, samples, threshold, stop_spikes, times)
        self._sizes  # noqa: B018 - compiles in this thread
        return plan.run(partial(_run_one, self, plan), runs, seed, "chain", threads, quiet)

    def follow(self, state: NetworkState, xi: Array, rest: Array, inner: Array, y: Array) -> NetworkState:
        """The state after one block of given inputs: ξ (n, r), W_⊥ x (n, K), x_⊥·x_⊥ (n, n), y (n,), whole batches.

        x_⊥ is the part of x outside the spikes. On the inner products of a run in R^d this is that run.
        """
        require(len(y) % self.batch == 0, "y", len(y), f"a multiple of the batch, {self.batch}")
        _, act, residual, _, _ = self._compiled
        R, P, a, b = (np.ascontiguousarray(x).copy() for x in (state.R, state.rest, state.a, state.b))
        output, learner = np.array([state.output]), self.model.learner
        arrays = [np.ascontiguousarray(x, dtype=float) for x in (xi, rest, inner, y)]
        follow_block(
            step_block, act, residual, R, P, a, b, output, self.steps, learner.output_scale, int(learner.spherical),
            self.batch, *arrays,
        )  # fmt: skip
        return NetworkState(R, P + R @ R.T, a, b, float(output[0]))


@dataclass(frozen=True)
class _Replica:
    """A ``NetworkRun``."""

    records: tuple[Array, ...]
    escapes: Integers
    samples: int
    diverged: Divergence | None


def _run_one(chain: GramChain, plan: RunPlan, replica: int, seed: SeedSequence, on_block: OnBlock) -> _Replica | None:
    """One replica; None if it was asked to stop."""
    state = chain.first_state(seed)
    learner, block, (law, act, residual, theta, n_extra) = chain.model.learner, chain.block, chain._compiled
    R, P, a, b = (np.ascontiguousarray(x).copy() for x in (state.R, state.rest, state.a, state.b))
    now = (R, P, a, b, np.array([state.output]))
    records = tuple(np.full((len(plan.times), *x.shape), np.nan) for x in now)
    ranks, pool, at_once = chain._sizes
    work, lengths = make_generator(stream(seed, NOISE)), np.random.default_rng(stream(seed, LENGTHS))
    cosines = np.abs(R) / np.sqrt(np.diag(state.Q))[:, None]
    escapes = np.where(cosines.max(axis=0) >= plan.threshold, 0, -1)
    t, status, diverged = 0, STOPPED if _all_escaped(escapes, plan.stop_mask) else 0, None
    for j, until in enumerate([*plan.times, plan.samples]):
        while t < until and status not in (STOPPED, DIVERGED):
            blocks = min((until - t) // block, at_once)
            chi_squares = lengths.chisquare(ranks, size=(blocks, len(ranks)))
            before = t
            t, status = run_gram(
                fill_normals, law, step_block, act, residual, theta, work, n_extra, *now, chain.steps, learner.output_scale,
                int(learner.spherical), chain.batch, block, pool, chi_squares, t, plan.threshold, plan.stop_mask, escapes,
            )  # fmt: skip
            if not on_block(t - before):
                return None
        if status == DIVERGED:
            diverged = Divergence(replica, t, first_not_finite(chain.model.spikes, R, P, a, b, float(now[4][0])))
            break
        if j < len(plan.times) and t == until:
            for record, value in zip(records, now, strict=True):
                record[j] = value
    overlaps, rest, *others = records
    squares = rest + overlaps @ np.swapaxes(overlaps, -1, -2)
    return _Replica((overlaps, squares, *others), escapes, t, diverged)


def _all_escaped(escapes: Integers, mask: NDArray[np.bool_]) -> bool:
    return bool(np.any(mask) and np.all(escapes[mask] >= 0))
