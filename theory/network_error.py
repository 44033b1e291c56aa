"""Test error and loss of two-layer networks, on the task and on its Gaussian equivalents: functions of (R, Q, a, b) alone.

Of an input only ξ and h = W x = R ξ + (Q - R Rᵀ)^½ g enter, g ~ N(0, I_K). Sobol points, scrambled several times
independently, stand for (ξ, g); the same ones serve every law and every state, so that gaps between laws are sharper than
the errors themselves. The spread over the scramblings is the standard error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy as sp

from theory._error_kernels import network_outputs
from theory.equivalents import GaussianEquivalent, class_moments
from theory.errors import require
from theory.laws import has_classes
from theory.learners import Y
from theory.lower import compile_network
from theory.network_results import NetworkTrajectory
from theory.networks import F, NetworkModel, NetworkState, symmetric_root
from theory.results import Array, EscapeTimes, replica_seed

TASK, COVARIANCE, MEAN, NULL = "task", "covariance", "mean", "null"
EQUIVALENTS = {COVARIANCE: 2, MEAN: 1, NULL: 0}  # name: the highest order of moments that it shares with the task
MARGIN = 0.02  # gap of test errors that counts, several standard errors of the measured one
CHANCE = 0.05  # the same for the mean, of which a random start already has ± 0.02 at d = 64, as 1/√d
STAIRS = {
    "mean": (NULL, MEAN, CHANCE),
    "covariance": (MEAN, COVARIANCE, MARGIN),
    "cumulant": (COVARIANCE, TASK, MARGIN),
}


@dataclass(frozen=True)
class NetworkErrors:
    """Loss and test error under each law, (…, laws, scrambles), … being () of a state or (n_runs, n_times).

    Loss: E[constant(y) - objective(y, f)], ½(y - f)² for the squared one. Test error: P(y f < 0), f = 0 counting half; nan
    for a task without labels ±1, which has no laws but itself.
    """

    laws: tuple[str, ...]
    losses: Array
    errors: Array

    def loss(self, law: str = TASK) -> Array:
        """Loss (…)."""
        return np.asarray(self.losses[..., self._index(law), :].mean(axis=-1))

    def error(self, law: str = TASK) -> Array:
        """Test error (…)."""
        return np.asarray(self._error(law).mean(axis=-1))

    def accuracy(self, law: str = TASK) -> Array:
        """1 - test error."""
        return 1 - self.error(law)

    def gap(self, above: str, below: str) -> Array:
        """Test error under ``above`` minus that under ``below``."""
        return np.asarray((self._error(above) - self._error(below)).mean(axis=-1))

    def noise(self, law: str, below: str | None = None) -> Array:
        """Standard error (…) of ``error(law)``, or of ``gap(law, below)``."""
        values = self._error(law) - (0 if below is None else self._error(below))
        return np.asarray(values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1]))

    def stairs(self, times: Array, budget: float) -> EscapeTimes:
        """When each order of moments begins to count, (n_runs, 3): mean, covariance, cumulant; inf if never.

        The curves split rather than plateau: a stair is the first of two consecutive ``times`` at which the test error on
        the equivalent that lacks these moments lies above that on the one which has them, by the margin of ``STAIRS``. The
        result's ``threshold`` can hold only one of the margins, ``MARGIN``.
        """
        columns = []
        for above, below, margin in STAIRS.values():
            apart = self.gap(above, below) >= margin
            both = apart[:, :-1] & apart[:, 1:]
            first = times[np.argmax(both, axis=1)] if both.size else np.inf
            columns.append(np.where(both.any(axis=1), first, np.inf))
        return EscapeTimes(tuple(STAIRS), np.stack(columns, axis=1), MARGIN, budget)

    def _error(self, law: str) -> Array:
        return np.asarray(self.errors[..., self._index(law), :])

    def _index(self, law: str) -> int:
        require(law in self.laws, "law", law, ", ".join(self.laws))
        return self.laws.index(law)


@dataclass(frozen=True)
class ErrorMeter:
    """Measures states of one model on ``scrambles`` × ``points`` fixed inputs; ``points`` a power of 2."""

    model: NetworkModel
    points: int = 1024
    scrambles: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        ok = 2 <= self.points <= 2**20 and self.points & (self.points - 1) == 0
        require(ok, "points", self.points, "a power of 2, 2 … 2^20")
        require(2 <= self.scrambles <= 1024, "scrambles", self.scrambles, "2 … 1024")

    @cached_property
    def laws(self) -> tuple[str, ...]:
        """The task, and its Gaussian equivalents if its labels are ±1."""
        return (TASK, *EQUIVALENTS) if has_classes(self.model.task) else (TASK,)

    def measure(self, state: NetworkState) -> NetworkErrors:
        """Losses and errors (laws, scrambles) of one state."""
        return self._summary(self._outputs(state.R, state.Q, state.a, state.b, state.output))

    def measure_trajectory(self, trajectory: NetworkTrajectory) -> NetworkErrors:
        """The same (n_runs, n_times, laws, scrambles); nan where a run had ended."""
        runs, times = trajectory.output.shape
        losses = np.full((runs, times, len(self.laws), self.scrambles), np.nan)
        errors = losses.copy()
        whole = np.isfinite(trajectory.output) & np.isfinite(trajectory.Q).all(axis=(-1, -2))
        for i, j in zip(*np.nonzero(whole), strict=True):
            R, Q, a, b, output = (getattr(trajectory, name)[i, j] for name in ("R", "Q", "a", "b", "output"))
            now = self._summary(self._outputs(R, Q, a, b, float(output)))
            losses[i, j], errors[i, j] = now.losses, now.errors
        return NetworkErrors(self.laws, losses, errors)

    @cached_property
    def _sample(self) -> tuple[Array, Array, Array]:
        """Labels y (n,), ξ (laws, n, r) under each law, g (n, K)."""
        task, law = self.model.task, self.model.task.law()
        extra, r = len(law.normals), len(law.raw)
        normals = self._normals(extra + r + self.model.learner.hidden)
        z, g = normals[:, extra : extra + r], normals[:, extra + r :]
        y, xi = law.at(z, normals[:, :extra])
        equivalents = [GaussianEquivalent(task, EQUIVALENTS[name]).projections(y, z) for name in self.laws[1:]]
        return y, np.stack([xi, *equivalents]), np.ascontiguousarray(g)

    def _normals(self, columns: int) -> Array:
        from scipy.stats import qmc

        parts = []
        for k in range(self.scrambles):
            engine = qmc.Sobol(columns, rng=np.random.default_rng(replica_seed(self.seed, k)))
            parts.append(qmc.MultivariateNormalQMC(np.zeros(columns), engine=engine).random(self.points))
        return np.vstack(parts)

    def _outputs(self, R: Array, Q: Array, a: Array, b: Array, output: float) -> Array:
        """f at all inputs (laws, n)."""
        _, xi, g = self._sample
        out = np.empty(xi.shape[:2])
        rest = g @ symmetric_root(Q - R @ R.T)  # continuous: the sampling error does not flicker along a run
        scaled = a * self.model.learner.output_scale
        network_outputs(self._act, rest, xi, np.ascontiguousarray(R.T), scaled, np.ascontiguousarray(b), output, out)
        return out

    @cached_property
    def _share(self) -> Array:
        """Probabilities of y = -1, +1."""
        return class_moments(self.model.task).probability

    @cached_property
    def _act(self) -> object:
        return compile_network(self.model.learner)[0]

    def _summary(self, f: Array) -> NetworkErrors:
        y, _, _ = self._sample
        with np.errstate(over="ignore", invalid="ignore"):  # just before a run diverges
            losses, errors = self._loss(y, f), np.full_like(f, np.nan)
        if NULL in self.laws:
            errors, share = _wrong(y, f), self._share
            # The null's label is independent of its input: both are averaged over, exactly.
            for values, of in ((losses, self._loss), (errors, _wrong)):
                values[self.laws.index(NULL)] = sum(p * of(s, f[-1]) for p, s in zip(share, (-1.0, 1.0), strict=True))
        shape = (len(self.laws), self.scrambles, self.points)
        return NetworkErrors(self.laws, *(x.reshape(shape).mean(axis=-1) for x in (losses, errors)))

    @cached_property
    def _loss(self) -> Callable[[Array | float, Array], Array]:
        learner = self.model.learner
        return sp.lambdify([Y, F], learner.loss.constant(Y) - learner.objective, "numpy")


def _wrong(y: Array | float, f: Array) -> Array:
    return np.asarray((y * f < 0) + 0.5 * (f == 0))
