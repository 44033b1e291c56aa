"""Escape times of a single neuron against d: one subject, one engine, a rate for each d, and its controls."""

import os
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, log, sqrt
from typing import Any

import numpy as np
from numpy.random import SeedSequence

from sims.escape_study import Job, Wording, check_hours, check_study, whole
from sims.scaling_engines import ENGINES, Subject
from solvers.random_start import largest_small_rate, natural_scale
from solvers.report import model_dict
from theory.archive import fingerprint
from theory.errors import require
from theory.results import EscapeTimes

CRITICAL, CONSTANT, LOG = "critical", "constant", "log"


@dataclass(frozen=True)
class Study:
    """What to measure: ``lrs`` holds one rate for each of ``dims``; ``budget`` is a factor of the predicted median.

    Only the first of the ``batches`` (sizes B) is fitted and has controls. Points with threshold < 5/√d, which noise alone
    crosses, are measured but not fitted unless ``keep_small``. Raises InputError for values outside their range.
    """

    subject: Subject
    engine: str
    dims: tuple[int, ...]
    lrs: tuple[float, ...]
    batches: tuple[int, ...] = (1,)
    runs: int = 64
    seed: int = 0
    budget: float = 20.0
    keep_small: bool = False
    controls: bool = True
    correction: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.engine in ENGINES, "engine", self.engine, ", ".join(ENGINES))
        check_study(self)
        ok = isfinite(self.budget) and self.budget >= 1
        require(ok, "budget", self.budget, "a factor >= 1 of the predicted median")
        known = ENGINES[self.engine].minibatches or self.batches == (1,)
        require(known, "batch", ",".join(map(str, self.batches)), f"1 with engine {self.engine}", "take chain or highd")

    @property
    def target(self) -> str:
        """Spike to reach."""
        return self.subject.target

    @property
    def spikes(self) -> tuple[str, ...]:
        """All spikes of the task."""
        return self.subject.model.spikes

    @property
    def threshold(self) -> float:
        """Overlap of weak recovery."""
        return self.subject.threshold

    @property
    def random(self) -> bool:
        """Whether the engine's runs differ; the ODE from the typical start is one run."""
        return ENGINES[self.engine].random

    @property
    def gives_up(self) -> bool:
        """Never: budgets grow with the predicted medians."""
        return False

    @property
    def finite_size(self) -> float:
        """A threshold at finite η√d shortens the last leg by a share ∝ d^(-(k-2)/2), the correction for order k >= 3."""
        degree = self.subject.form[0] if self.subject.form else 2
        return max(degree - 2, 1) / 2 if self.correction else 0.0

    def large_enough(self, dim: int) -> bool:
        """Whether the threshold lies beyond what noise alone reaches, 5/√d."""
        return self.threshold >= 5 / sqrt(dim)

    def fits(self, dim: int) -> bool:
        """Whether the point at d may be fitted."""
        return self.keep_small or self.large_enough(dim)

    def seconds(self, job: Job) -> float:
        """Cost of one run of the whole budget."""
        return ENGINES[self.engine].cost(job.dim, job.samples)

    def measure(self, job: Job) -> EscapeTimes:
        """Escape times of all runs. Raises KeyboardInterrupt if any is missing."""
        return whole(ENGINES[self.engine].measure(self.subject, job))

    def measure_controls(self, job: Job) -> list[tuple[str, str, EscapeTimes]]:
        """Kind, activation and escape times of a blind neuron and, where the sign of σ matters, a repelled one."""
        if not self.has_controls:
            return []
        measure = ENGINES[self.engine].measure
        return [
            (kind, control.model.learner.activation.name, whole(measure(control, job)))
            for kind, control in self.subject.controls.items()
        ]

    @cached_property
    def jobs(self) -> list[tuple[Job, float]]:
        """Every point to measure, with its predicted median (inf: never, by the theory)."""
        pairs, runs = [], self.runs if self.random else 1
        for dim, lr in zip(self.dims, self.lrs, strict=True):
            predicted = self.subject.predicted(dim, lr)
            unknown = natural_scale(self.subject.population, dim, lr, np.array([inf]))
            samples = self.budget * (predicted if isfinite(predicted) else unknown)
            for batch in self.batches:
                seed = int(SeedSequence(self.seed, spawn_key=(dim, batch)).generate_state(1)[0])
                pairs.append((Job(dim, lr, batch, runs, samples, seed), predicted))
        return pairs

    def check_cost(self, hours: float) -> None:
        """Raise InputError if this takes longer than ``hours`` on these cores: a run about twice its predicted median."""
        cost = ENGINES[self.engine].cost
        seconds = sum(j.runs * cost(j.dim, min(2 * predicted, j.samples)) for j, predicted in self.jobs)
        advice = "take --engine sde, smaller --dims, fewer --runs or a larger --kappa, or allow more by --hours"
        check_hours(seconds / len(os.sched_getaffinity(0)) / 3600, hours, advice)

    @property
    def wording(self) -> Wording:
        """The study for people."""
        model, known = self.subject.model, len(self.spikes) == 1
        title = model.task.describe().replace("; ", "\n", 1) + f"\n{model.learner.activation.name}, {self.engine}"
        setting = f"from the typical start, engine {self.engine}"
        if self.random:
            title += f", {self.runs} runs"
            setting = (
                f"from a random start, engine {self.engine}, {self.runs} runs, seed {self.seed}, "
                f"budget {self.budget:g} predicted medians"
            )
        return Wording(
            model.describe(), title, f"|alpha_{self.target}| >= {self.threshold:g}",
            rf"$|\alpha_{{{self.target}}}| \geq {self.threshold:g}$", setting,
            "first-passage law" if known else "ODE from the typical start",
        )  # fmt: skip

    @property
    def has_controls(self) -> bool:
        """Controls were asked for, and runs differ."""
        return self.controls and self.random

    @property
    def fingerprint(self) -> str:
        """Task and learner to the last digit."""
        return fingerprint(self.subject.model)

    @property
    def record(self) -> dict[str, Any]:
        """Task and neuron as plain values."""
        return model_dict(self.subject.model)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know."""
        small = [d for d in self.dims if not self.large_enough(d)]
        pairs = list(zip(self.dims, self.lrs, strict=True))
        rough = [d for d, lr in pairs if lr > largest_small_rate(self.subject.population, d)]
        fate = "kept in the fit" if self.keep_small else "not fitted (--keep-small fits them)"
        lines = []
        if small:
            names = ", ".join(map(str, small))
            lines.append(
                f"threshold {self.subject.threshold:g} is below 5/sqrt(d) at d = {names}: noise alone crosses it; {fate}"
            )
        if rough and self.engine == "sde":
            lines.append(
                f"lr is too large for a diffusion at d = {', '.join(map(str, rough))}: take --engine chain there"
            )
        if self.engine == "ode" and any(lr >= self.subject.critical_rate(d) for d, lr in pairs):
            lines.append(
                "lr is not below the critical rate: the ODE never escapes, noise may; give --kappa 0.5 or less"
            )
        return tuple(lines)


def rates(
    subject: Subject, dims: tuple[int, ...], scaling: str, first: float | None, kappa: float | None
) -> list[float]:
    """δ(d): κ δ_crit(d); or ``first`` at the first d, constant or ∝ 1/log d from there.

    ``first`` is by default ½ δ_crit, halved while a smaller rate lets more spikes reach the threshold; κ is 1 for order >= 3,
    which noise helps over the barrier, and that same ratio below.
    """
    critical = [subject.critical_rate(dim) for dim in dims]
    if scaling == CRITICAL:
        require(
            first is None,
            "lr",
            first,
            "auto with --lr-scaling critical",
            "give --kappa, the ratio to the critical rate",
        )
        assert subject.form is not None
        if kappa is None:
            kappa = 1.0 if subject.form[0] >= 3 else subject.moderate_rate(dims[0]) / critical[0]
        require(isfinite(kappa) and kappa > 0, "kappa", kappa, "a number > 0")
        return [kappa * c for c in critical]
    require(kappa is None, "kappa", kappa, "nothing unless --lr-scaling critical", "give --lr, the rate at the first d")
    start = subject.moderate_rate(dims[0]) if first is None else first
    require(isfinite(start) and start > 0, "lr", start, "a number > 0, or auto")
    return [start * (log(dims[0]) / log(dim) if scaling == LOG else 1) for dim in dims]
