"""Samples n against d that it takes to detect, and to learn, one spike of the fourth cumulant, by criteria of their own.

The data are the same for all: spiked cumulant model, Rademacher latent, β = 10. What is counted differs (``CRITERIA``):
bounds below which tests fail, a test that does not, weak recovery of the spike, and test accuracy. The clock is samples.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, inf, log2
from typing import TypeVar

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from sims.escape_study import Job, check_hours
from sims.feature_ridge import MOST_WIDTH
from sims.network_scaling import ENGINES, Arm, start_quantile
from sims.scaling_engines import Subject
from theory.activations import relu
from theory.detection import Detection, RademacherSpike
from theory.errors import require
from theory.learners import CorrelationLoss, Neuron, SquaredLoss
from theory.network_error import MARGIN
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.population import Model
from theory.results import Array
from theory.tasks import RADEMACHER, spiked_cumulant

T = TypeVar("T")
Times = NDArray[np.int64]

BETA, LEVEL, DEGREES = 10.0, 2.0, (4, 8)
OVERLAP, ERROR = 0.8, 0.25
SPIKED = spiked_cumulant(RADEMACHER, BETA)
DETECTION = Detection(RADEMACHER, BETA, RademacherSpike())
RATES = Rates(first=0.5, second=0.1, bias=0.2, output=0.15)
SUBJECT = Subject(Model(SPIKED, Neuron(relu(), CorrelationLoss())), "v", OVERLAP)
KAPPA = 4.0  # rate of the neuron over its critical one: near the best at order 4 (theory §4)
FAR = (256, 512, 1024, 2048)  # where theory and the diffusion of one neuron go on
CHAIN_FROM, CHAIN_TO = 40, 100  # from where 0.8 >= 5/√d, to where the exact chain takes a minute
FIRST_RECORD = 4  # test accuracy is taken at FIRST_RECORD d² 2^(k/2) samples
CHANCE = 1e-3  # probability that some neuron of a random network starts beyond the overlap
FEATURE_SECONDS = 2.5e-5  # of one sample on 1024 features

BOUND, LOW_DEGREE, TEST, RECOVERY, ACCURACY = "bound", "low degree", "test", "recovery", "accuracy"
CRITERIA = {
    BOUND: "squared likelihood-ratio norm 2: with fewer samples every test errs with probability >= 1/4",
    LOW_DEGREE: "squared low-degree norm 2: with fewer samples the spike shifts the mean of no polynomial of degree D by its "
    "standard deviation",
    TEST: "the likelihood-ratio test errs with probability 1/4 (it knows the model and tries all 2^d spikes)",
    RECOVERY: f"overlap with the spike >= {OVERLAP:g} in half of the runs",
    ACCURACY: f"test accuracy >= {100 * (0.5 + MARGIN):g} % in half of the runs",
}


@dataclass(frozen=True)
class QuadraticArm(Arm):
    """An arm whose runs take at most ``samples`` at its largest d and in proportion to d² below."""

    @cached_property
    def jobs(self) -> list[tuple[Job, float]]:
        """Those of an arm with smaller budgets."""
        share = self.samples / max(self.dims) ** 2
        return [(replace(job, samples=float(int(share * job.dim**2))), none) for job, none in super().jobs]


@dataclass(frozen=True)
class ComplexityStudy:
    """``runs`` networks and random features at each d, more single neurons, ``data_sets`` of the likelihood-ratio test.

    A network takes at most ``samples_factor`` d² samples, random features as many but at most ``feature_samples``. Raises
    InputError for values outside their range.
    """

    dims: tuple[int, ...]
    runs: int = 8
    seed: int = 0
    samples_factor: float = 400.0
    feature_samples: int = 300_000
    hidden: int = 64
    features: int = 1024
    data_sets: int = 1000

    def __post_init__(self) -> None:
        """Check the ranges."""
        listed = ",".join(map(str, self.dims))
        ok = len(set(self.dims)) == len(self.dims) > 0 and min(self.dims) >= 4 and max(self.dims) <= max(FAR)
        require(ok, "dims", listed, f"different dimensions, 4 … {max(FAR)}")
        require(len(self.near) >= 2, "dims", listed, f"two or more of them in {CHAIN_FROM} … {CHAIN_TO}")
        require(2 <= self.runs <= 1000, "runs", self.runs, "2 … 1000")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        require(8 <= self.samples_factor <= 1e6, "samples-factor", self.samples_factor, "8 … 10^6")
        require(100 <= self.feature_samples <= 1e9, "feature-samples", self.feature_samples, "100 … 10^9")
        require(1 <= self.features <= MOST_WIDTH, "features", self.features, f"1 … {MOST_WIDTH}")
        self.arm  # noqa: B018 - checks the number of neurons

    @property
    def near(self) -> tuple[int, ...]:
        """The d of the exact chain of one neuron."""
        return tuple(d for d in sorted(self.dims) if CHAIN_FROM <= d <= CHAIN_TO)

    @property
    def far(self) -> tuple[int, ...]:
        """The d of its diffusion."""
        return tuple(sorted({*FAR, *(d for d in self.dims if d > CHAIN_TO)}))

    @property
    def trained(self) -> tuple[int, ...]:
        """The d at which fewer than one random start in a thousand has a neuron beyond the overlap."""
        return tuple(d for d in sorted(self.dims) if start_quantile(self.hidden, d, CHANCE) <= OVERLAP)

    @property
    def network(self) -> NetworkModel:
        """ReLU, squared loss, random biases."""
        return NetworkModel(SPIKED, TwoLayer(relu(), SquaredLoss(), self.hidden, bias_scale=1.0))

    @property
    def arm(self) -> Arm:
        """The networks timed until their best neuron recovers the spike, and the same on data without it."""
        most = self.budget(max(self.trained))
        return QuadraticArm(
            self.network, "v", RATES, self.trained, most, "highd", OVERLAP, runs=self.runs, seed=self.seed
        )

    def budget(self, dim: int) -> int:
        """Samples of a network."""
        return int(self.samples_factor * dim**2)

    def feature_budget(self, dim: int) -> int:
        """Samples of random features."""
        return min(self.budget(dim), self.feature_samples)

    def seed_of(self, *key: int) -> int:
        """A seed for one part of the study."""
        return int(SeedSequence(self.seed, spawn_key=key).generate_state(1)[0])

    def check_cost(self, hours: float) -> None:
        """Raise InputError if networks and features, all to their last sample, would take longer than ``hours``."""
        of_network, one = ENGINES["highd"].cost, FEATURE_SECONDS * (self.features / 1024) ** 2
        seconds = sum(3 * self.budget(d) * of_network(self.hidden, d) for d in self.trained)
        seconds += sum(self.feature_budget(d) * one for d in self.dims)
        advice = "take fewer --runs, smaller --dims or a smaller --samples-factor, or allow more by --hours"
        check_hours(self.runs * seconds / 3600, hours, advice)


@dataclass(frozen=True)
class Point:
    """Samples n at one d, inf where not within ``budget``, with the 95 % interval (of no width where exact: ``runs`` 0).

    ``reached``: mean accuracy with the last sample of the budget and its 99 % interval, where that is the criterion.
    """

    dim: int
    samples: float
    interval: tuple[float, float]
    view: str
    runs: int = 0
    censored: int = 0
    budget: float = inf
    reached: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Curve:
    """n(d) of one method by one criterion; exponent of A d^k fitted to what lies within budgets, and its 95 % interval.

    An exact curve has the local exponent between its last two d, and no interval. ``predicted``: (d, n) by theory;
    ``control``: how many of how many runs on data without the spike met the criterion.
    """

    name: str
    criterion: str
    setting: str
    points: tuple[Point, ...]
    exponent: float | None = None
    interval: tuple[float, float] | None = None
    predicted: tuple[tuple[int, float], ...] = ()
    control: tuple[int, int] | None = None


@dataclass(frozen=True)
class Complexities:
    """All curves that have a point."""

    study: ComplexityStudy
    curves: tuple[Curve, ...]
    interrupted: bool

    def of(self, name: str) -> Curve:
        """One curve by its name."""
        return next(c for c in self.curves if c.name == name)


def crossings(times: Array | Times, values: Array, level: float) -> Array:
    """Where each row of ``values`` (n, n_times) first rises to ``level``, linear in log time between times; inf if never.

    A row that begins there has crossed at its first time.
    """
    reached = values >= level
    after = np.argmax(reached, axis=1)
    before = np.maximum(after - 1, 0)
    rows, logs = np.arange(len(values)), np.log(times)
    low, high = values[rows, before], values[rows, after]
    share = np.divide(level - low, high - low, out=np.ones(len(values)), where=after > before)
    found = np.exp(logs[before] + share * (logs[after] - logs[before]))
    return np.where(reached.any(axis=1), found, inf)


def record_times(dim: int, last: int) -> Times:
    """4 d² 2^(k/2) samples up to ``last``, which is the last of them."""
    first = min(FIRST_RECORD * dim**2, last)
    return np.unique(np.geomspace(first, last, ceil(2 * log2(last / first)) + 1).round().astype(np.int64))


def until_interrupted(items: Iterable[T]) -> tuple[list[T], bool]:
    """What was finished before Ctrl-C, and whether there was one."""
    done: list[T] = []
    try:
        for item in items:
            done.append(item)
    except KeyboardInterrupt:
        return done, True
    return done, False
