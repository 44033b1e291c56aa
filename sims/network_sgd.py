"""Online SGD of two-layer networks in R^d: the ground truth of the network views. O(d K) work a sample, no d × d matrix.

The learning rule is ``theory.networks.TwoLayer``'s, a mini-batch moving by the SUM over its samples. Inputs come in blocks,
so that BLAS does the work; blocks change no number beyond rounding. The clock t counts samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import types
from numba.extending import get_cython_function_address
from numpy.random import SeedSequence
from numpy.typing import NDArray

from sims._network_kernels import DIVERGED, GEMM_SIGNATURE, REACHED, run_network
from theory._network_kernels import step_block
from theory.errors import require
from theory.lower import compile_law, compile_network
from theory.network_results import Divergence, NetworkEnsemble, first_not_finite
from theory.network_runs import RunPlan
from theory.networks import NetworkModel, NetworkState, Rates, check_start, semidefinite_root
from theory.normals import fill_normals, make_generator, stream_length
from theory.replicas import OnBlock
from theory.results import stream

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
SPIKES, NOISE = 0, 1  # streams of a replica's seed, as in sims.sgd
WORK_AT_ONCE = 1e10  # multiplications between two looks at the clock, about half a second
MOST_NUMBERS = 2**28  # numbers in W, and in the inputs of one batch: 2 GiB
LINE = 8  # numbers in a cache line


class _Dgemm(types.WrapperAddressProtocol):
    """SciPy's dgemm as a first-class function of Numba."""

    def __wrapper_address__(self) -> int:
        return int(get_cython_function_address("scipy.linalg.cython_blas", "dgemm"))

    def signature(self) -> Any:
        return GEMM_SIGNATURE


@dataclass(frozen=True)
class Start:
    """First parameters of a run: spikes U (r, d), orthonormal rows; W (K, d), a (K,), b (K,), a_0."""

    U: Array
    W: Array
    a: Array
    b: Array
    output: float = 0.0


@dataclass(frozen=True)
class NetworkSGD:
    """SGD of the model's network in R^d with steps rate/d and mini-batches of B samples (summed).

    ``start``: the first R, Q, a, b, a_0, W's remainder in a random frame of the complement of the spikes; None: random by
    the learner's law. Raises InputError for d <= r (with ``start`` d < r + K), weights or a batch that do not fit into
    memory, or a start whose shapes do not fit.
    """

    model: NetworkModel
    dim: int
    rates: Rates
    batch: int = 1
    start: NetworkState | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        r, hidden = len(self.model.spikes), self.model.learner.hidden
        least, what = (r + 1, "spikes + 1") if self.start is None else (r + hidden, "spikes + neurons, with a start")
        largest = min(MOST_NUMBERS // hidden, 10**7)
        whole = isinstance(self.dim, int | np.integer) and least <= self.dim <= largest
        require(whole, "dim", self.dim, f"{least} ({what}) … {largest} for {hidden} neurons")
        most = min(MOST_NUMBERS // self.dim, 4096 if self.model.learner.spherical else 10**5)
        require(1 <= self.batch <= most, "batch", self.batch, f"1 … {most} at d = {self.dim}")
        self.steps  # noqa: B018 - checks the weight decay
        if self.start is not None:
            check_start(self.model, self.start)

    @cached_property
    def steps(self) -> Array:
        """(δ_1, δ_2, δ_b, δ_0)/d and the weight decay."""
        return self.rates.steps(self.dim, self.model.learner.weight_decay, self.batch)

    @cached_property
    def block(self) -> int:
        """Samples of a block, whole batches; escapes are seen at block ends. Few inner products against few passes over W."""
        fastest = 24 if self.model.learner.hidden <= 32 else 32
        return max(fastest // self.batch, 1) * self.batch

    @cached_property
    def _compiled(self) -> tuple[Any, ...]:
        law = self.model.task.law()
        lowered, theta = compile_law(law)
        return lowered, *compile_network(self.model.learner), theta, len(law.normals), _Dgemm()

    def begin(self, seed: SeedSequence) -> Start:
        """The start of the replica with this seed. For one spherical neuron U and W are those of ``sims.sgd.OnlineSGD``."""
        rng, learner, r = np.random.default_rng(stream(seed, SPIKES)), self.model.learner, len(self.model.spikes)
        U = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((self.dim, r)))[0].T)
        W = rng.standard_normal((learner.hidden, self.dim))
        if self.start is not None:
            frame = np.linalg.qr(np.vstack([U, W]).T)[0][:, r:].T
            now = self.start
            return Start(U, now.R @ U + semidefinite_root(now.rest) @ frame, now.a, now.b, now.output)
        lengths = np.linalg.norm(W, axis=1, keepdims=True) if learner.spherical else np.sqrt(self.dim)
        return Start(U, W * (learner.initial_scale / lengths), *learner.draw_readout(rng))

    def inputs(self, seed: SeedSequence, samples: int) -> tuple[Array, Array]:
        """The first inputs X (samples, d) and labels y (samples,) of the replica with this seed, by NumPy."""
        law, _, _, theta, n_extra, _ = self._compiled
        U, work, d = self.begin(seed).U, make_generator(stream(seed, NOISE)), self.dim
        X, y, xi = np.empty((samples, d)), np.empty(samples), np.zeros(len(U))
        z = np.empty(stream_length(d + n_extra))
        for t in range(samples):
            fill_normals(work, z)
            y[t] = law(U @ z[:d], z[d : d + n_extra].copy(), theta, xi)
            X[t] = z[:d] + U.T @ (xi - U @ z[:d])
        return X, y

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
        """Run replicas 0 … runs-1, or those listed, for ``samples`` samples (whole batches). Ctrl-C keeps the finished ones.

        A replica ends early once all of ``stop_spikes`` have escaped, or where a number stops being finite; both are looked
        at after every block. States are recorded at ``times`` (default ``time_grid(samples)``; an empty array records
        nothing) rounded up to whole batches; a block ends there too. Replica i depends on (seed, i) alone. Raises
        KeyboardInterrupt if nothing had finished.
        """
        plan = RunPlan.of(self.model.spikes, self.batch, samples, threshold, stop_spikes, times)
        self._compiled  # noqa: B018 - compiles in this thread, and loads the BLAS that is limited next
        return plan.run(
            lambda i, child, on_block: _Run(self, plan, i, child).follow(on_block), runs, seed, "SGD", threads, quiet
        )


class _Run:
    """A ``NetworkRun``: one replica's arrays, which the kernel advances in place, and what it recorded."""

    def __init__(self, engine: NetworkSGD, plan: RunPlan, replica: int, seed: SeedSequence) -> None:
        start = engine.begin(seed)
        self.engine, self.plan, self.replica = engine, plan, replica
        self.work = make_generator(stream(seed, NOISE))
        self.n_normals = stream_length(engine.dim + engine._compiled[4])
        self.rows = _aligned(len(start.W) + len(start.U) + engine.block, self.n_normals)
        self.W = self.rows[: len(start.W), : engine.dim]
        self.W[:] = start.W
        self.rows[len(start.W) :][: len(start.U), : engine.dim] = start.U
        self.R, self.squares = start.W @ start.U.T, np.einsum("kd,kd->k", start.W, start.W)
        self.a, self.b, self.output = start.a.copy(), start.b.copy(), np.array([start.output])
        self.records = tuple(np.full((len(plan.times), *x.shape), np.nan) for x in self.state())
        self.escapes, self.samples = np.full(len(start.U), -1), 0
        self.diverged: Divergence | None = None

    def state(self) -> tuple[Array, ...]:
        """R, Q, a, b, a_0 as they are now."""
        return self.R, self.W @ self.W.T, self.a, self.b, self.output

    def follow(self, on_block: OnBlock) -> "_Run | None":
        """Run to the end; None if it was asked to stop."""
        times, block = self.plan.times, self.engine.block
        at_once = max(int(WORK_AT_ONCE / (self.rows.size * block)), 1) * block
        status = REACHED
        for j, until in enumerate([*times.tolist(), self.plan.samples]):
            while status == REACHED and self.samples < until:
                before = self.samples
                status = self._advance(min(until, before // block * block + at_once))
                if not on_block(self.samples - before):
                    return None
            if status == DIVERGED:
                with np.errstate(all="ignore"):
                    R, Q, a, b, output = self.state()
                name = first_not_finite(self.engine.model.spikes, R, Q, a, b, float(output[0]))
                self.diverged = Divergence(self.replica, self.samples, name)
                break
            if j < len(times) and self.samples == until:
                for record, value in zip(self.records, self.state(), strict=True):
                    record[j] = value
        return self

    def _advance(self, until: int) -> int:
        engine, plan = self.engine, self.plan
        law, act, residual, theta, n_extra, gemm = engine._compiled
        learner = engine.model.learner
        self.samples, status = run_network(
            fill_normals, law, act, residual, step_block, gemm, theta, self.rows, engine.dim, self.work, self.n_normals,
            n_extra, engine.steps, learner.output_scale, int(learner.spherical), engine.batch, self.samples, until,
            self.R, self.squares, self.a, self.b, self.output, plan.threshold, plan.stop_mask, self.escapes,
        )  # fmt: skip
        return int(status)


def _aligned(rows: int, width: int) -> Array:
    """Zeros (rows, >= width) on cache lines; an odd number of lines, so that the rows do not share a set of the cache."""
    lines = -(-width // LINE) | 1
    memory = np.zeros(rows * lines * LINE + LINE)
    first = -memory.ctypes.data // 8 % LINE
    return memory[first : first + rows * lines * LINE].reshape(rows, lines * LINE)
