"""A study of escape times against d, whoever is timed: what it has to say, its points and controls, how it is run.

Medians respect censoring: a median beyond the budget is inf, a lower bound, and does not enter the fit. The clock t counts
samples.
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any, Protocol

import numpy as np

from theory.errors import require
from theory.network_results import NetworkEnsemble
from theory.results import Array, Ensemble, EscapeTimes, wilson_interval
from theory.scaling_laws import ScalingFit, ratio_of_medians

NO_RECORDS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Job:
    """One point to measure: ``runs`` replicas from ``first`` on, of at most ``samples`` samples each, i from (seed, i)."""

    dim: int
    lr: float
    batch: int
    runs: int
    samples: float
    seed: int
    first: int = 0

    @property
    def replicas(self) -> list[int]:
        """Numbers of the replicas."""
        return list(range(self.first, self.first + self.runs))


@dataclass(frozen=True)
class Wording:
    """A study for people.

    ``subject``: who is timed; ``title``: the same for a figure; ``event``, ``event_math``: what ends a run; ``setting``: how
    runs are made; ``theory``: where predicted medians come from (empty: there are none).
    """

    subject: str
    title: str
    event: str
    event_math: str
    setting: str
    theory: str


class EscapeStudy(Protocol):
    """One learner on one task, timed by one engine until it reaches ``target``. Only the first of ``batches`` is fitted."""

    @property
    def engine(self) -> str:
        """Name of the view."""
        ...

    @property
    def target(self) -> str:
        """Spike to reach."""
        ...

    @property
    def spikes(self) -> tuple[str, ...]:
        """All spikes of the task."""
        ...

    @property
    def threshold(self) -> float:
        """Overlap of weak recovery."""
        ...

    @property
    def dims(self) -> tuple[int, ...]:
        """Dimensions d."""
        ...

    @property
    def batches(self) -> tuple[int, ...]:
        """Mini-batch sizes B."""
        ...

    @property
    def runs(self) -> int:
        """Runs at each point."""
        ...

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        ...

    @property
    def gives_up(self) -> bool:
        """Whether larger d are left out after a median beyond the budget."""
        ...

    @property
    def jobs(self) -> list[tuple[Job, float]]:
        """Every point to measure, with its predicted median (inf: never, by the theory; nan: no theory)."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know."""
        ...

    @property
    def wording(self) -> Wording:
        """The study for people."""
        ...

    @property
    def record(self) -> dict[str, Any]:
        """Task and learner as plain values."""
        ...

    @property
    def has_controls(self) -> bool:
        """Whether ``measure_controls`` has anything to measure."""
        ...

    @property
    def fingerprint(self) -> str:
        """Task and learner to the last digit."""
        ...

    @property
    def finite_size(self) -> float:
        """Power q of a finite-size factor exp(c d^-q) in the laws; 0: none."""
        ...

    def fits(self, dim: int) -> bool:
        """Whether the point at d may be fitted."""
        ...

    def seconds(self, job: Job) -> float:
        """Cost of one run of the whole budget."""
        ...

    def measure(self, job: Job) -> EscapeTimes:
        """Escape times of all runs. Raises KeyboardInterrupt if any is missing."""
        ...

    def measure_controls(self, job: Job) -> list[tuple[str, str, EscapeTimes]]:
        """The same of learners that cannot find the target: (kind, activation, times)."""
        ...


def check_study(study: EscapeStudy) -> None:
    """Raise InputError for what no study can have."""
    different = len(study.dims) >= 2 and len(set(study.dims)) == len(study.dims)
    require(different, "dims", ",".join(map(str, study.dims)), "two or more different dimensions")
    require(2 <= study.runs <= 10**6, "runs", study.runs, "2 … 10^6")
    require(study.seed >= 0, "seed", study.seed, "a whole number >= 0")
    require(0 < study.threshold < 1, "threshold", study.threshold, "a number between 0 and 1")
    require(study.target in study.spikes, "target", study.target, ", ".join(study.spikes))
    ok = all(1 <= b <= 10**6 for b in study.batches) and len(set(study.batches)) == len(study.batches) >= 1
    require(ok, "batch", ",".join(map(str, study.batches)), "different whole numbers, 1 … 10^6")


def check_hours(expected: float, hours: float, advice: str) -> None:
    """Raise InputError if the work is ``expected`` to take longer than ``hours``."""
    require(isfinite(hours) and hours > 0, "hours", hours, "a number > 0")
    require(expected <= hours, "dims", f"about {expected:.2g} hours of work", f"at most {hours:g}", advice)


@dataclass(frozen=True)
class Point:
    """What one job measured; ``predicted`` is the theory's median, ``fitted`` whether the point was offered to the fit."""

    job: Job
    escapes: EscapeTimes
    target: str
    predicted: float
    fitted: bool

    @property
    def times(self) -> Array:
        """Escape times of the target, shape (runs,); inf where censored."""
        return self.escapes.of(self.target)

    @property
    def median(self) -> float:
        """Median in samples, inf beyond the budget."""
        return self.escapes.quantile(self.target, 0.5)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the median."""
        return self.escapes.median_interval(self.target, self.job.seed)


@dataclass(frozen=True)
class Control:
    """A learner that cannot find the target, run as long as the slowest real run: its crossings are false alarms."""

    kind: str
    activation: str
    job: Job
    crossed: int
    fitted: bool

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the share that crossed."""
        return wilson_interval(self.crossed, self.job.runs)


def false_alarms(controls: list[Control]) -> tuple[int, int]:
    """Crossings and runs at the d that may be fitted; at all d if none may."""
    counted = [c for c in controls if c.fitted] or controls
    return sum(c.crossed for c in counted), sum(c.job.runs for c in counted)


@dataclass(frozen=True)
class Scaling:
    """The points and controls that were finished, and the fit (None: fewer than two usable points)."""

    study: EscapeStudy
    points: tuple[Point, ...]
    controls: tuple[Control, ...]
    fit: ScalingFit | None
    interrupted: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the study, and the d that it gave up."""
        tried = {p.job.dim for p in self.points}
        left = [d for d in self.study.dims if d not in tried]
        if not left or self.interrupted:
            return self.study.warnings
        line = f"d = {', '.join(map(str, left))} not run: the median at d = {max(tried)} is beyond the budget"
        return (*self.study.warnings, line)


@dataclass(frozen=True)
class MedianRatio:
    """Ratio of two studies' medians at one d and its 95 % interval; inf, 0 or nan where a median is beyond its budget."""

    dim: int
    value: float
    interval: tuple[float, float]


def median_ratios(above: Scaling, below: Scaling) -> list[MedianRatio]:
    """At every d that both studies measured, by their first batch sizes. Their noise has to be independent."""
    first, second = (
        {p.job.dim: p for p in result.points if p.job.batch == result.study.batches[0]} for result in (above, below)
    )
    ratios = []
    for dim in [d for d in first if d in second]:
        a, b = first[dim], second[dim]
        found = ratio_of_medians(a.times, b.times, (a.escapes.budget, b.escapes.budget), a.job.seed)
        ratios.append(MedianRatio(dim, *found))
    return ratios


def whole(result: Ensemble | NetworkEnsemble | EscapeTimes) -> EscapeTimes:
    """Escape times of all replicas: those that an interrupted ensemble had finished are its fastest, a biased sample."""
    if isinstance(result, EscapeTimes):
        return result
    if result.interrupted:
        raise KeyboardInterrupt
    return result.escapes
