"""Stair times of a two-layer network against d: when its test errors on the task and on a Gaussian equivalent split.

An arm like those of ``sims.network_scaling``, whose event is a stair (theory/network_error.py) in the place of an overlap.
The clock is samples.
"""

from dataclasses import dataclass, replace

import numpy as np

from sims.escape_study import Job, Wording
from sims.network_scaling import Arm
from theory.errors import InputError, require
from theory.laws import has_classes
from theory.network_error import STAIRS, ErrorMeter
from theory.results import EscapeTimes

RATIO = 1.1  # of neighbouring record times: the resolution of a stair
FIRST, GROWTH = 200, 4  # samples of the first attempt in units of d; the next attempt is that much longer


@dataclass(frozen=True)
class StairArm(Arm):
    """``target`` is mean, covariance or cumulant; nothing else differs from ``Arm``. It has no controls.

    Raises InputError for a task whose labels are not ±1.
    """

    def __post_init__(self) -> None:
        """Check the labels too."""
        require(has_classes(self.model.task), "target", self.target, "a spike, for a task whose labels are not ±1")
        super().__post_init__()

    @property
    def spikes(self) -> tuple[str, ...]:
        """The stairs: what a target can be."""
        return tuple(STAIRS)

    @property
    def warnings(self) -> tuple[str, ...]:
        """None: a gap of test errors does not start by chance."""
        return ()

    def fits(self, dim: int) -> bool:  # noqa: ARG002 - a gap is no overlap: chance does not depend on d
        """Every point may be fitted."""
        return True

    @property
    def has_controls(self) -> bool:
        """None."""
        return False

    @property
    def wording(self) -> Wording:
        """The arm for people."""
        above, below, margin = STAIRS[self.target]
        event = f"{self.target} stair: test error ({above}) - test error ({below}) >= {margin:g}"
        return replace(super().wording, event=event, event_math=rf"{self.target} stair $\geq {margin:g}$")

    def measure(self, job: Job) -> EscapeTimes:
        """Stair times of all runs, in attempts of growing length of the replicas that have not got there.

        A replica is the same run in every attempt, so that a longer one costs time and changes nothing.
        """
        meter = ErrorMeter(self.model, seed=job.seed)
        times, todo, samples = np.full(job.runs, np.inf), np.arange(job.runs), FIRST * float(job.dim)
        while True:
            samples = min(samples, job.samples)
            times[todo] = self._stairs(meter, job, job.first + todo, samples)
            todo = np.flatnonzero(np.isinf(times))
            if len(todo) == 0 or samples >= job.samples:
                return EscapeTimes((self.target,), times[:, None], STAIRS[self.target][2], job.samples)
            samples *= GROWTH

    def measure_controls(self, job: Job) -> list[tuple[str, str, EscapeTimes]]:  # noqa: ARG002 - see the class
        """None."""
        return []

    def _stairs(self, meter: ErrorMeter, job: Job, replicas: np.ndarray, samples: float) -> np.ndarray:
        count = int(np.log(samples / job.dim) / np.log(RATIO)) + 2
        records = np.unique((job.dim * RATIO ** np.arange(count)).astype(np.int64))
        found = self._view(self.model, job).run(replicas.tolist(), int(samples), job.seed, times=records)
        if found.interrupted:
            raise KeyboardInterrupt
        if found.diverged:
            first = found.diverged[0]
            what = f"{first.name} not finite after {first.samples} samples of run {first.replica} at d = {job.dim}"
            raise InputError("lr", what, "rates at which every run stays finite", "lower --lr and the other rates")
        errors = meter.measure_trajectory(found.trajectory)
        return errors.stairs(found.trajectory.times, samples).of(self.target)
