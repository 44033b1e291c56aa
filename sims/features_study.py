"""Samples that a trained network and random features need for the cumulant: their accuracies side by side, several d.

The network learns online (exact Gram chain, or SGD in R^d where it has too many neurons for that), the features by ridge.
Of each, ``gain`` is the accuracy on the task minus that on Gaussians of the same mean and covariance in each class, so
what the higher cumulants contribute; on the spiked cumulant model it is the accuracy above chance. The clock is samples.
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from sims.feature_ridge import MOST_WIDTH, RandomFeatures, Scores
from sims.network_sgd import NetworkSGD
from solvers.gram_chain import GramChain
from theory.activations import relu
from theory.errors import require
from theory.laws import Task
from theory.learners import SquaredLoss
from theory.network_error import COVARIANCE, TASK, ErrorMeter
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.results import Array, EscapeTimes
from theory.scaling_laws import ScalingFit, fit_scaling
from theory.tasks import MixedCumulant

CUMULANT, MIXED = "cumulant alone", "mean, covariance, cumulant"
TASKS: dict[str, Task] = {
    CUMULANT: MixedCumulant(beta_m=0, beta_u=0, beta_v=10),
    MIXED: MixedCumulant(beta_m=1, beta_u=5, beta_v=10),
}
CONTROLS: dict[str, Task] = {  # what random features do learn
    "mean alone": MixedCumulant(beta_m=1, beta_u=0, beta_v=0),
    "covariance alone": MixedCumulant(beta_m=0, beta_u=5, beta_v=0),
}
SUCCESS = {
    CUMULANT: 0.1,
    MIXED: 0.02,
}  # gain of a network that has found the cumulant: 60 % accuracy, the margin of a stair
LEVEL = 0.99  # of the interval of a mean over runs
RECORDS, EVERY = 36, 4  # states of the network; ridge is fitted at every fourth of these times
CONTROL_FACTOR = 10  # samples of a control over d²


@dataclass(frozen=True)
class FeaturesStudy:
    """``runs`` networks of ``hidden`` neurons and as many ridge fits on width·d features, for each of ``dims``.

    A network takes ``samples_factor`` d² samples, the features as many as the median network needs to succeed. The mixed
    task is left out at the largest of several d, to save time. Raises InputError for values out of range.
    """

    dims: tuple[int, ...]
    hidden: int = 64
    widths: tuple[int, ...] = (2, 8)
    runs: int = 8
    samples_factor: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        ok = len(set(self.dims)) == len(self.dims) > 0 and min(self.dims) >= 16
        require(ok, "dims", self.dims, "one or more different dimensions >= 16")
        ok = len(set(self.widths)) == len(self.widths) > 0 and min(self.widths) >= 1
        require(ok, "width", self.widths, "one or more different factors of d, whole numbers >= 1")
        most = max(self.widths) * max(self.dims)
        require(most <= MOST_WIDTH, "width", f"{most} features", f"at most {MOST_WIDTH}", "take a smaller factor or d")
        require(2 <= self.runs <= 1000, "runs", self.runs, "2 … 1000")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        factor = self.samples_factor
        require(isfinite(factor) and 1 <= factor <= 1e6, "samples-factor", factor, "1 … 10^6")
        self.learner  # noqa: B018 - checks the number of neurons

    @cached_property
    def learner(self) -> TwoLayer:
        """ReLU, squared loss, random biases."""
        return TwoLayer(relu(), SquaredLoss(), self.hidden, bias_scale=1.0)

    @staticmethod
    def rates(dim: int) -> Rates:
        """First layer ∝ 1/d, as δ_crit at order 4 (theory §4), but at most 1: beyond that the second layer learns less."""
        return Rates(first=min(1.0, 64 / dim), second=0.1, bias=0.2, output=0.15)

    def times(self, dim: int) -> NDArray[np.int64]:
        """Evenly spaced in log time, d … samples_factor d²."""
        return np.unique(np.geomspace(dim, self.samples_factor * dim**2, RECORDS).astype(np.int64))

    def tasks(self, dim: int) -> list[str]:
        """Names of the tasks measured at this d."""
        return [CUMULANT] if len(self.dims) > 1 and dim == max(self.dims) else [CUMULANT, MIXED]


@dataclass(frozen=True)
class NetworkCurve:
    """Accuracy and gain (n_runs, n_times) of the networks; chance and 0 after a divergence."""

    times: NDArray[np.int64]
    accuracy: Array
    gain: Array
    diverged: int

    def found(self, success: float) -> int | None:
        """Index of the first time at which the median gain reaches ``success``."""
        reached = np.median(self.gain, axis=0) >= success
        return int(np.argmax(reached)) if reached.any() else None

    def successes(self, success: float) -> EscapeTimes:
        """For each run the first time at which its gain reaches ``success``."""
        reached = self.gain >= success
        first = np.where(reached.any(axis=1), self.times[np.argmax(reached, axis=1)], np.inf)
        return EscapeTimes(("v",), first[:, None], success, float(self.times[-1]))


@dataclass(frozen=True)
class Point:
    """One task at one d. ``features`` by width/d end where the median network succeeds, or with its last sample."""

    task: str
    dim: int
    network: NetworkCurve
    features: dict[int, Scores]

    @property
    def success(self) -> float:
        """Gain of a network that has found the cumulant."""
        return SUCCESS[self.task]

    @property
    def successes(self) -> EscapeTimes:
        """When the networks found it."""
        return self.network.successes(self.success)

    @property
    def needed(self) -> float:
        """Samples after which the median network has found it, inf if not within its samples."""
        found = self.network.found(self.success)
        return np.inf if found is None else float(self.network.times[found])


@dataclass(frozen=True)
class FeaturesResult:
    """Points by d, the accuracy (n_runs, 1) of the controls by (name, d) at the largest width, the power of d."""

    study: FeaturesStudy
    points: tuple[Point, ...]
    controls: dict[tuple[str, int], Scores]
    interrupted: bool

    def of(self, task: str) -> list[Point]:
        """The points of one task."""
        return [p for p in self.points if p.task == task]

    @cached_property
    def fit(self) -> ScalingFit | None:
        """Samples until success on the cumulant alone against d; None for fewer than two finite medians."""
        points = self.of(CUMULANT)
        return fit_scaling(
            np.array([p.dim for p in points], float), [p.successes.of("v") for p in points], self.study.seed
        )


def run_study(study: FeaturesStudy, quiet: bool = True) -> FeaturesResult:
    """All points and controls; Ctrl-C keeps the finished ones. Raises KeyboardInterrupt if there are none."""
    points: list[Point] = []
    controls: dict[tuple[str, int], Scores] = {}
    interrupted = False
    try:
        for dim in sorted(study.dims):
            points += [_point(study, name, dim, quiet) for name in study.tasks(dim)]
            times = np.array([CONTROL_FACTOR * dim**2])
            for name, task in CONTROLS.items():
                controls[name, dim] = _fit_features(study, task, dim, max(study.widths), times, quiet)
    except KeyboardInterrupt:
        if not points:
            raise
        interrupted = True
    return FeaturesResult(study, tuple(points), controls, interrupted)


def _point(study: FeaturesStudy, name: str, dim: int, quiet: bool) -> Point:
    network = _train(study, NetworkModel(TASKS[name], study.learner), dim, quiet)
    found = network.found(SUCCESS[name])
    last = len(network.times) - 1 if found is None else found
    times = network.times[last % EVERY : last + 1 : EVERY]
    return Point(name, dim, network, {w: _fit_features(study, TASKS[name], dim, w, times, quiet) for w in study.widths})


def _train(study: FeaturesStudy, model: NetworkModel, dim: int, quiet: bool) -> NetworkCurve:
    fits = dim >= study.hidden + len(model.spikes) + 1
    engine = (GramChain if fits else NetworkSGD)(model, dim, study.rates(dim))
    times = study.times(dim)
    ensemble = engine.run(study.runs, int(times[-1]), study.seed, times=times, quiet=quiet)
    if ensemble.interrupted:
        raise KeyboardInterrupt
    errors = ErrorMeter(model, seed=study.seed).measure_trajectory(ensemble.trajectory)
    accuracy = np.nan_to_num(errors.accuracy(), nan=0.5)
    gain = np.nan_to_num(errors.gap(COVARIANCE, TASK), nan=0.0)
    return NetworkCurve(ensemble.trajectory.times.astype(np.int64), accuracy, gain, len(ensemble.diverged))


def _fit_features(
    study: FeaturesStudy, task: Task, dim: int, width: int, times: NDArray[np.int64], quiet: bool
) -> Scores:
    scores = RandomFeatures(task, relu(), dim, width * dim).run(study.runs, times, study.seed, quiet=quiet)
    if scores.interrupted:
        raise KeyboardInterrupt
    return scores


def mean_interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean over runs (n_runs,)."""
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
