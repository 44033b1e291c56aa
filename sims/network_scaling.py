"""Samples until the best neuron of a two-layer network recovers a spike, against d, for independent and correlated latents.

An arm is one network on one law of the data; two arms that differ in corr alone make a comparison. Weak recovery is
max_k |w_k·v|/‖w_k‖ >= threshold. The clock is samples.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, log1p, nan
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from scipy.special import betainccinv

from sims.escape_runs import run_study
from sims.escape_study import NO_RECORDS, Job, Scaling, Wording, check_hours, check_study, whole
from sims.network_sgd import NetworkSGD
from solvers.gram_chain import GramChain
from theory.archive import fingerprint
from theory.errors import InputError, require
from theory.networks import NetworkModel, Rates
from theory.results import EscapeTimes
from theory.store import Store
from theory.tasks import MixedCumulant

CHANCE = 1e-3  # probability that a random start lies beyond the threshold, above which a point is not fitted
INVISIBLE = 1e-18  # β of the target in the control


@dataclass(frozen=True)
class Engine:
    """A view of networks; ``cost`` in seconds of one sample, of (K, d)."""

    view: type[GramChain] | type[NetworkSGD]
    cost: Callable[[int, int], float]


ENGINES = {
    "chain": Engine(GramChain, lambda hidden, _: 3.5e-7 + 2.9e-10 * hidden**2),
    "highd": Engine(NetworkSGD, lambda hidden, dim: 3e-7 + 2e-9 * dim + 1.6e-10 * hidden * dim),
}


@dataclass(frozen=True)
class Arm:
    """What to measure: ``rates``, constant in d, and at most ``samples`` samples a run.

    Points with a threshold that one random start in a thousand exceeds are measured but not fitted unless ``keep_small``.
    After a median beyond ``samples`` larger d are left out. Arms of different ``stream`` have independent noise. Raises
    InputError for values outside their range.
    """

    model: NetworkModel
    target: str
    rates: Rates
    dims: tuple[int, ...]
    samples: float
    engine: str = "chain"
    threshold: float = 0.5
    batches: tuple[int, ...] = (1,)
    runs: int = 16
    seed: int = 0
    keep_small: bool = False
    controls: bool = True
    stream: int = 0

    def __post_init__(self) -> None:
        """Check the ranges, and that the engine takes every d."""
        require(
            self.engine in ENGINES, "engine", self.engine, ", ".join(ENGINES), "networks have no SDE and no ODE here"
        )
        check_study(self)
        most = isfinite(self.samples) and 1 <= self.samples <= 1e15
        require(most, "samples", self.samples, "1 … 10^15 samples a run")
        for job, _ in self.jobs:
            self._view(self.model, job)

    @property
    def spikes(self) -> tuple[str, ...]:
        """All spikes of the task."""
        return self.model.spikes

    @property
    def gives_up(self) -> bool:
        """Recovery takes longer at larger d."""
        return True

    @property
    def finite_size(self) -> float:
        """No correction is known."""
        return 0.0

    @cached_property
    def jobs(self) -> list[tuple[Job, float]]:
        """Every point; no theory predicts its median."""
        pairs = []
        for dim in self.dims:
            for batch in self.batches:
                seed = int(SeedSequence(self.seed, spawn_key=(dim, batch, self.stream)).generate_state(1)[0])
                pairs.append((Job(dim, self.rates.first, batch, self.runs, self.samples, seed), nan))
        return pairs

    @property
    def warnings(self) -> tuple[str, ...]:
        """The d at which a random start may lie beyond the threshold."""
        hidden = self.model.learner.hidden
        small = [d for d in self.dims if self.threshold < start_quantile(hidden, d, CHANCE)]
        if not small:
            return ()
        levels = ", ".join(f"{start_quantile(hidden, d, CHANCE):.2f} at d = {d}" for d in small)
        fate = "kept in the fit" if self.keep_small else "not fitted (--keep-small fits them)"
        line = f"threshold {self.threshold:g} is below what one random start in {1 / CHANCE:.0f} exceeds ({levels}): {fate}"
        return (line,)

    @property
    def wording(self) -> Wording:
        """The arm for people."""
        learner, r = self.model.learner, self.rates
        title = self.model.task.describe().partition(";")[0]
        title += f"\n{learner.hidden} neurons, {learner.activation.name}, {self.engine}, {self.runs} runs"
        setting = (
            f"from a random start, engine {self.engine}, {self.runs} runs, seed {self.seed}, at most {self.samples:.3g} "
            f"samples a run; rates {r.first:g} (w), {r.second:g} (a), {r.bias:g} (b), {r.output:g} (a_0)"
        )
        event = f"max_k |cos(w_k, {self.target})| >= {self.threshold:g}"
        event_math = rf"$\max_k |\cos(w_k, {self.target})| \geq {self.threshold:g}$"
        return Wording(self.model.describe(), title, event, event_math, setting, "")

    @property
    def has_controls(self) -> bool:
        """Controls were asked for, and the task can be had without the target."""
        return self.controls and isinstance(self.model.task, MixedCumulant)

    @property
    def fingerprint(self) -> str:
        """Task and learner to the last digit."""
        return fingerprint(self.model)

    @property
    def record(self) -> dict[str, Any]:
        """Task, network and rates as plain values."""
        learner, r = self.model.learner, self.rates
        network = {
            "activation": learner.activation.name, "loss": learner.loss.name, "hidden": learner.hidden,
            "bias_scale": learner.bias_scale,
        }  # fmt: skip
        rates = {"first": r.first, "second": r.second, "bias": r.bias, "output": r.output}
        return {**self.model.task.settings(), **network, "rates": rates, "description": self.model.describe()}

    def fits(self, dim: int) -> bool:
        """Whether the point at d may be fitted."""
        return self.keep_small or self.threshold >= start_quantile(self.model.learner.hidden, dim, CHANCE)

    def seconds(self, job: Job) -> float:
        """Cost of one run of the whole budget."""
        return job.samples * ENGINES[self.engine].cost(self.model.learner.hidden, job.dim)

    def measure(self, job: Job) -> EscapeTimes:
        """Escape times of all runs. Raises KeyboardInterrupt if any is missing, InputError if any diverges."""
        return self._run(self.model, job)

    def measure_controls(self, job: Job) -> list[tuple[str, str, EscapeTimes]]:
        """The same network, starts and noise where the target carries nothing: β = 1e-18, independent latents."""
        task = self.model.task
        if not (self.has_controls and isinstance(task, MixedCumulant)):
            return []
        beta: dict[str, Any] = {f"beta_{self.target}": INVISIBLE}
        unseen = replace(task, corr=0.0, **beta)
        escapes = self._run(replace(self.model, task=unseen), job)
        return [(f"no {self.target}", self.model.learner.activation.name, escapes)]

    def _view(self, model: NetworkModel, job: Job) -> GramChain | NetworkSGD:
        return ENGINES[self.engine].view(model, job.dim, self.rates, job.batch)

    def _run(self, model: NetworkModel, job: Job) -> EscapeTimes:
        view = self._view(model, job)
        found = view.run(job.replicas, int(job.samples), job.seed, self.threshold, (self.target,), NO_RECORDS)
        if found.diverged:
            first = found.diverged[0]
            what = f"{first.name} not finite after {first.samples} samples of run {first.replica} at d = {job.dim}"
            raise InputError("lr", what, "rates at which every run stays finite", "lower --lr and the other rates")
        return whole(found)


def start_quantile(hidden: int, dim: int, chance: float) -> float:
    """What max_k |cos(w_k, v)| of K random rows exceeds with probability ``chance``; cos² ~ Beta(½, (d-1)/2)."""
    one = -np.expm1(log1p(-chance) / hidden)
    return float(np.sqrt(betainccinv(0.5, (dim - 1) / 2, one)))


def check_cost(arms: dict[str, Arm], hours: float) -> None:
    """Raise InputError if all runs of the arms and their controls, to their last sample, take longer than ``hours``."""
    seconds = sum((1 + arm.controls) * job.runs * arm.seconds(job) for arm in arms.values() for job, _ in arm.jobs)
    advice = "take fewer --samples, --runs or --dims, --no-controls, or allow more by --hours"
    check_hours(seconds / len(os.sched_getaffinity(0)) / 3600, hours, advice)


def run_arms(arms: dict[str, Arm], quiet: bool = True, store: Store | None = None) -> dict[str, Scaling]:
    """The arms one after the other; Ctrl-C keeps what was finished. Raises KeyboardInterrupt if nothing was."""
    results: dict[str, Scaling] = {}
    for name, arm in arms.items():
        try:
            results[name] = run_study(arm, quiet, store)
        except KeyboardInterrupt:
            if not results:
                raise
            last = next(reversed(results))
            return results | {last: replace(results[last], interrupted=True)}
        if results[name].interrupted:
            break
    return results
