"""Samples until the first and the last spike of tensor PCA are recovered, against N, at rates δ = δ_0 N^{(3-p)/2}.

An ``EscapeStudy``: spike i is recovered when some |m_ij| >= threshold. The theory's median is the drift's time from the
typical overlap N^(-1/2). The clock is samples.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from numpy.random import SeedSequence

from sims.escape_runs import run_study
from sims.escape_study import NO_RECORDS, Job, Scaling, Wording, check_hours, check_study, whole
from sims.tensor_sgd import GradientLaw, TensorSGD
from solvers.tensor_chain import TensorChain
from solvers.tensor_study import spike_times, typical_budget
from theory.errors import require
from theory.results import EscapeTimes
from theory.scaling_laws import fit_scaling
from theory.store import Store
from theory.tensor_pca import SpikedTensor

ENDS = ("first", "last")


@dataclass(frozen=True)
class Engine:
    """A view of tensor PCA; ``cost`` in seconds of one sample, of (r, N)."""

    view: Callable[[SpikedTensor, int, float], TensorChain | TensorSGD]
    cost: Callable[[int, int], float]


ENGINES = {
    "chain": Engine(TensorChain, lambda rank, _: 1.5e-8 * rank**2),
    "highd": Engine(
        lambda tensor, dim, lr: TensorSGD(tensor, dim, lr, GradientLaw()), lambda rank, dim: 1e-5 + 1e-8 * rank**2 * dim
    ),
}


@dataclass(frozen=True)
class TensorArm:
    """What to measure at one δ_0 = ``strength``: the spike ``target``, 1 … r, or the first or last to be recovered.

    ``patience`` scales the budget. N whose random overlaps reach the threshold (5/√N) are not fitted unless ``keep_small``.
    Raises InputError for values outside their range.
    """

    tensor: SpikedTensor
    strength: float
    dims: tuple[int, ...]
    target: str = "last"
    engine: str = "chain"
    threshold: float = 0.5
    runs: int = 64
    seed: int = 0
    patience: float = 1.0
    keep_small: bool = False
    stream: int = 0

    def __post_init__(self) -> None:
        """Check the ranges, and that the engine takes every N."""
        require(
            self.engine in ENGINES, "engine", self.engine, ", ".join(ENGINES), "tensor PCA has no SDE and no ODE here"
        )
        require(isfinite(self.strength) and 0 < self.strength <= 100, "lr", self.strength, "numbers > 0, at most 100")
        require(
            isfinite(self.patience) and 0 < self.patience <= 1e6, "budget", self.patience, "a number > 0, at most 10^6"
        )
        check_study(self)
        for job, _ in self.jobs:
            self._view(job)

    @property
    def spikes(self) -> tuple[str, ...]:
        """What can be timed."""
        return (*(str(i + 1) for i in range(self.tensor.rank)), *ENDS)

    @property
    def batches(self) -> tuple[int, ...]:
        """One fresh tensor a step."""
        return (1,)

    @property
    def gives_up(self) -> bool:
        """A median beyond the budget says nothing about larger N: the budget grows with N."""
        return False

    @property
    def finite_size(self) -> float:
        """No correction is known."""
        return 0.0

    @cached_property
    def jobs(self) -> list[tuple[Job, float]]:
        """Every N; the predicted median is the drift's, from the typical overlap."""
        pairs = []
        for dim in self.dims:
            budget = self.patience * typical_budget(self.tensor, dim, self.strength, self.threshold)
            seed = int(SeedSequence(self.seed, spawn_key=(dim, self.stream)).generate_state(1)[0])
            job = Job(dim, self.tensor.rate(self.strength, dim), 1, self.runs, min(max(budget, 1.0), 1e15), seed)
            pairs.append((job, float("nan")))
        return pairs

    @property
    def warnings(self) -> tuple[str, ...]:
        """The N at which chance reaches the threshold."""
        small = [d for d in self.dims if not self.threshold >= 5 * d**-0.5]
        if not small:
            return ()
        fate = "kept in the fit" if self.keep_small else "not fitted (--keep-small fits them)"
        return (f"threshold {self.threshold:g} is below 5/√N at N = {', '.join(map(str, small))}: {fate}",)

    @property
    def wording(self) -> Wording:
        """The arm for people."""
        title = f"{self.tensor.describe()}\n{self.engine}, {self.runs} runs"
        setting = (
            f"from a random frame, engine {self.engine}, {self.runs} runs, seed {self.seed}; δ_0 = {self.strength:g}"
        )
        who = f"{self.target} spike" if self.target in ENDS else f"spike {self.target}"
        event = f"{who} recovered: max_j |m_ij| >= {self.threshold:g}"
        return Wording(
            self.tensor.describe(), title, event, rf"$\max_j |m_{{ij}}| \geq {self.threshold:g}$", setting, ""
        )

    @property
    def record(self) -> dict[str, Any]:
        """Tensor and rate as plain values."""
        return {"task": "tensor-pca", "p": self.tensor.order, "snr": list(self.tensor.snr), "strength": self.strength,
                "corr": None, "description": self.tensor.describe()}  # fmt: skip

    @property
    def has_controls(self) -> bool:
        """None: without a spike λ there is no learner either."""
        return False

    @property
    def fingerprint(self) -> str:
        """The tensor to the last digit."""
        return repr(self.tensor)

    def fits(self, dim: int) -> bool:
        """Whether the point at N may be fitted."""
        return self.keep_small or self.threshold >= 5 * dim**-0.5

    def seconds(self, job: Job) -> float:
        """Cost of one run of the whole budget."""
        return job.samples * ENGINES[self.engine].cost(self.tensor.rank, job.dim)

    def measure(self, job: Job) -> EscapeTimes:
        """Recovery times of all spikes up to the target. Raises KeyboardInterrupt if any run is missing."""
        names = self.spikes[: self.tensor.rank]
        stop = names if self.target == "last" else () if self.target == "first" else (self.target,)
        found = self._view(job).run(job.replicas, int(job.samples), job.seed, self.threshold, stop, NO_RECORDS)
        return spike_times(self.tensor, whole(found))

    def measure_controls(self, job: Job) -> list[tuple[str, str, EscapeTimes]]:  # noqa: ARG002 - see has_controls
        """None."""
        return []

    def _view(self, job: Job) -> TensorChain | TensorSGD:
        return ENGINES[self.engine].view(self.tensor, job.dim, job.lr)


def run_arms(arms: list[TensorArm], quiet: bool = True, store: Store | None = None) -> dict[str, Scaling]:
    """Every arm, named by what is timed and δ_0; the first spike of the runs that wait for the last comes for nothing.

    Ctrl-C keeps the finished points; KeyboardInterrupt if there are none.
    """
    results: dict[str, Scaling] = {}
    for arm in arms:
        try:
            found = run_study(arm, quiet, store)
        except KeyboardInterrupt:
            if not results:
                raise
            return {name: replace(result, interrupted=True) for name, result in results.items()}
        for target in ENDS if arm.target == "last" else (arm.target,):
            results[f"{target}, δ_0 = {arm.strength:g}"] = seen_from(found, arm, target)
        if found.interrupted:
            break
    return results


def seen_from(result: Scaling, arm: TensorArm, target: str) -> Scaling:
    """The same runs timed until another spike."""
    points = tuple(replace(p, target=target) for p in result.points)
    used = [p for p in points if p.fitted]
    fit = fit_scaling(np.array([float(p.job.dim) for p in used]), [p.times for p in used], arm.seed)
    return replace(result, study=replace(arm, target=target), points=points, fit=fit)


def check_cost(arms: list[TensorArm], hours: float) -> None:
    """Raise InputError if a tenth of the budgets, which few runs use up, takes longer than ``hours``."""
    seconds = sum(job.runs * arm.seconds(job) for arm in arms for job, _ in arm.jobs) / 10
    check_hours(
        seconds / len(os.sched_getaffinity(0)) / 3600, hours, "take fewer --runs or --dims, or allow more by --hours"
    )
