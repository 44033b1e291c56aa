"""The views that a sweep can run: one entry each, all with the ``run`` of the overlap chain.

To add a view write a function (Subject, configuration, start) -> engine and name it in ``VIEWS``; the engine's ``run`` takes
runs, samples, seed, threshold, stop_spikes, times, threads and gives an ``Ensemble``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sims.ensemble import run_ensemble
from sims.scaling_engines import ENGINES, Subject
from sims.sgd import OnlineSGD
from solvers.chain import START, OverlapChain
from solvers.fokker_planck import FirstPassage
from solvers.ode import run_converged
from solvers.random_start import field_of, step_of
from solvers.sde import OverlapSDE
from theory.network_results import NetworkEnsemble
from theory.results import Ensemble, EscapeTimes, Trajectory, replica_seed, stream
from theory.spaces import Ball

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class Engine(Protocol):
    """What a view's replicas are run with."""

    def run(
        self, runs: Sequence[int], samples: int, seed: int, threshold: float, stop_spikes: Sequence[str], times: Integers,
        threads: int,
    ) -> Ensemble | NetworkEnsemble:  # fmt: skip
        """The replicas listed; see ``OverlapChain.run``."""
        ...


@dataclass(frozen=True)
class View:
    """``build`` an engine of (subject, configuration, start (r,) or None: random); ``cost`` in seconds of a run (d, samples).

    ``minibatches``: takes B > 1; ``records``: has trajectories; ``one_overlap``: for one spike only; ``random``: whether runs
    from one start differ.
    """

    build: Callable[[Subject, Mapping[str, Any], Array | None], Any]
    cost: Callable[[int, float], float]
    minibatches: bool = False
    records: bool = True
    one_overlap: bool = False
    random: bool = True


@dataclass(frozen=True)
class _Flow:
    """The population flow from a start, or from that of each replica."""

    subject: Subject
    dim: int
    lr: float
    start: Array | None

    def run(
        self, runs: Sequence[int], samples: int, seed: int, threshold: float, stop_spikes: Sequence[str], times: Integers,
        threads: int = 1,  # noqa: ARG002 - milliseconds a run
    ) -> Ensemble:  # fmt: skip
        """One flow a replica; the random start is that of the overlap chain with the same seed."""
        spikes, population = self.subject.model.spikes, self.subject.population
        escapes, overlaps = [], []
        for i in runs:
            rng = np.random.default_rng(stream(replica_seed(seed, i), START))
            start = Ball(len(spikes)).random(rng, self.dim) if self.start is None else self.start
            flow = run_converged(population, self.dim, self.lr, start, threshold, bool(stop_spikes))[1]
            escapes.append(np.where(flow.escape_samples <= samples, flow.escape_samples, np.inf))
            overlaps.append(flow.overlaps_at(times.astype(float)))
        return _ensemble(spikes, runs, times, np.stack(overlaps), np.stack(escapes), threshold, samples)


@dataclass(frozen=True)
class _PassageTimes:
    """Draws from the first-passage law of one overlap, by inversion."""

    subject: Subject
    dim: int
    lr: float
    start: float | None

    def run(
        self, runs: Sequence[int], samples: int, seed: int, threshold: float, stop_spikes: Sequence[str],  # noqa: ARG002
        times: Integers, threads: int = 1,  # noqa: ARG002 - a law of times: nothing to stop, record or share out
    ) -> Ensemble:  # fmt: skip
        """One uniform number a replica."""
        field = field_of(self.subject.population, self.subject.series)
        law = FirstPassage.of(field, self.dim, self.lr, threshold, self.start)
        shares = [np.random.default_rng(stream(replica_seed(seed, i), START)).random() for i in runs]
        drawn = np.array([[law.quantile(u)] for u in shares])
        escapes, none = np.where(drawn <= samples, drawn, np.inf), np.empty((len(runs), 0, 1))
        return _ensemble(self.subject.model.spikes, runs, times[:0], none, escapes, threshold, samples)


@dataclass(frozen=True)
class _SGD:
    """``OnlineSGD`` with the manners of the other engines."""

    engine: OnlineSGD

    def run(
        self, runs: Sequence[int], samples: int, seed: int, threshold: float, stop_spikes: Sequence[str], times: Integers,
        threads: int = 1,
    ) -> Ensemble:  # fmt: skip
        """Replicas of SGD in R^d."""
        return run_ensemble(
            self.engine, runs, samples, seed, threshold, threads, times=times, stop_spikes=tuple(stop_spikes)
        )


def _ensemble(
    spikes: tuple[str, ...], runs: Sequence[int], times: Integers, overlaps: Array, escapes: Array, threshold: float,
    samples: int,
) -> Ensemble:  # fmt: skip
    """An ensemble of a view that draws no samples."""
    path = Trajectory(spikes, times.astype(float), overlaps)
    return Ensemble(path, EscapeTimes(spikes, escapes, threshold, samples), tuple(runs), False, 0.0, 0)


def _flow(subject: Subject, config: Mapping[str, Any], start: Array | None) -> Engine:
    return _Flow(subject, config["dim"], config["lr"], start)


def _passage(subject: Subject, config: Mapping[str, Any], start: Array | None) -> Engine:
    return _PassageTimes(subject, config["dim"], config["lr"], None if start is None else float(start[0]))


def _sde(subject: Subject, config: Mapping[str, Any], start: Array | None) -> OverlapSDE:
    first = None if start is None else tuple(start.tolist())
    return OverlapSDE(
        subject.model.spikes, step_of(subject.population, subject.series), config["dim"], config["lr"], first
    )


def _chain(subject: Subject, config: Mapping[str, Any], start: Array | None) -> OverlapChain:
    return OverlapChain(subject.model, config["dim"], config["lr"], config["batch"], start)


def _highd(subject: Subject, config: Mapping[str, Any], start: Array | None) -> Engine:
    return _SGD(OnlineSGD(subject.model, config["dim"], config["lr"], config["batch"], start))


VIEWS = {
    "ode": View(_flow, ENGINES["ode"].cost, random=False),
    "first-passage": View(_passage, lambda *_: 5e-3, records=False, one_overlap=True),
    "sde": View(_sde, ENGINES["sde"].cost),
    "chain": View(_chain, ENGINES["chain"].cost, minibatches=True),
    "highd": View(_highd, ENGINES["highd"].cost, minibatches=True),
}
