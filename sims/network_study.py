"""The stairs of a two-layer network: what it has understood of the task, measured along replicas of one or several models.

An engine runs each model, an ``ErrorMeter`` measures its states and those of the overlap ODE from the start of the first run.
The clock is samples.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solvers.network_ode import NetworkODE
from theory.errors import InputError, require
from theory.learners import CorrelationLoss
from theory.network_error import TASK, ErrorMeter, NetworkErrors
from theory.network_results import Divergence, NetworkEnsemble, NetworkTrajectory
from theory.networks import NetworkModel, Rates
from theory.results import EscapeTimes
from theory.scaling_laws import ratio_of_medians

RECORDS = 120
THEORY_SPAN = 200  # of the ODE, in units of d samples: some 10 s at K = 32, and it grows with the span
LARGEST = 4.0  # gigabytes of one model's records
BLIND = 1e-10  # Hermite coefficient that counts as none
OPTION = {"first": "--lr", "second": "--lr-second", "bias": "--lr-bias", "output": "--lr-output"}


class Engine(Protocol):
    """``solvers.gram_chain.GramChain`` or ``sims.network_sgd.NetworkSGD``."""

    def __call__(self, model: NetworkModel, dim: int, rates: Rates, batch: int) -> Any:
        """The engine for one model; its ``run`` gives a ``NetworkEnsemble``."""
        ...


@dataclass(frozen=True)
class NetworkStudy:
    """``runs`` replicas of ``samples`` samples for every model; replica i of each from (seed, i)."""

    models: tuple[NetworkModel, ...]
    engine: Engine
    dim: int
    rates: Rates
    samples: int
    batch: int = 1
    runs: int = 8
    seed: int = 0
    threshold: float = 0.3
    theory: bool = True

    def __post_init__(self) -> None:
        """Check what the engines do not, and that each of them accepts its model."""
        require(1 <= self.runs <= 10**4, "runs", self.runs, "1 … 10^4")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        require(0 < self.threshold < 1, "threshold", self.threshold, "between 0 and 1")
        enough = self.batch <= self.samples <= 10**15
        require(enough, "samples", self.samples, "at least one batch, at most 10^15")
        for model in self.models:
            self.engine(model, self.dim, self.rates, self.batch)
            hidden = model.learner.hidden
            size = 8e-9 * self.runs * RECORDS * hidden * (hidden + 5)
            got, advice = f"{hidden} with {self.runs} runs, {size:.3g} GB of records", "take fewer neurons or runs"
            require(size <= LARGEST, "hidden", got, f"{LARGEST:g} GB", advice)

    @property
    def times(self) -> NDArray[np.int64]:
        """0, then evenly spaced in log time from d/10, before which nothing happens."""
        first = min(max(self.batch, self.dim // 10), self.samples)
        return np.unique(np.concatenate([[0], np.geomspace(first, self.samples, RECORDS - 1).round()]).astype(np.int64))


@dataclass(frozen=True)
class Theory:
    """The overlap ODE from the start of the first run, for at most 200 d samples; ``warning`` if it ended before."""

    trajectory: NetworkTrajectory
    errors: NetworkErrors
    stairs: EscapeTimes | None
    warning: str = ""


@dataclass(frozen=True)
class Column:
    """One model: finished replicas, their errors, stairs (None for labels that are not ±1), theory if there is an answer."""

    model: NetworkModel
    ensemble: NetworkEnsemble
    errors: NetworkErrors
    stairs: EscapeTimes | None
    theory: Theory | None
    warnings: tuple[str, ...]
    interrupted: bool


@dataclass(frozen=True)
class NetworkResult:
    """The columns that were finished; ``interrupted`` if Ctrl-C gave up runs or models."""

    study: NetworkStudy
    columns: tuple[Column, ...]
    interrupted: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know, each once."""
        study, chance = self.study, 5 / np.sqrt(self.study.dim)
        lines = [line for column in self.columns for line in column.warnings]
        if study.threshold < chance:
            lines.insert(
                0, f"threshold {study.threshold:g} is below 5/sqrt(d) = {chance:.2g}: chance overlaps cross it"
            )
        model = study.models[0]
        p, sigma = model.task.signal_order, model.learner.activation
        unbiased = study.rates.bias == 0 and model.learner.bias_scale == 0
        if unbiased and abs(sigma.normalized_coefficients(p)[p]) < BLIND:
            advice = "give --lr-bias or --bias-scale, or another activation"
            lines.append(f"{sigma.name} without biases is blind to order {p} of independent latents: {advice}")
        free = not model.learner.spherical or study.rates.second > 0
        if isinstance(model.learner.loss, CorrelationLoss) and free and model.learner.weight_decay == 0:
            lines.append(
                "the correlation loss has no minimum: weights grow for ever without --weight-decay or --spherical"
            )
        return tuple(dict.fromkeys(lines))


def run_study(study: NetworkStudy, quiet: bool = True) -> NetworkResult:
    """Run, measure, integrate. Raises InputError if all replicas of a model diverged, KeyboardInterrupt if none finished."""
    columns: list[Column] = []
    interrupted = False
    for model in study.models:
        try:
            columns.append(_column(study, model, quiet))
        except KeyboardInterrupt:
            if not columns:
                raise
            interrupted = True
        interrupted = interrupted or columns[-1].interrupted
        if interrupted:
            break
    return NetworkResult(study, tuple(columns), interrupted)


def _column(study: NetworkStudy, model: NetworkModel, quiet: bool) -> Column:
    engine = study.engine(model, study.dim, study.rates, study.batch)
    ensemble = engine.run(study.runs, study.samples, study.seed, study.threshold, times=study.times, quiet=quiet)
    warnings = _divergences(ensemble, study.rates)
    _say(quiet, "measuring test errors" + (", then the overlap ODE" if study.theory else ""))
    meter = ErrorMeter(model, seed=study.seed)
    errors = meter.measure_trajectory(ensemble.trajectory)
    theory, interrupted = None, ensemble.interrupted
    if study.theory:
        try:
            theory = _theory(study, model, meter, ensemble.trajectory)
            warnings += [f"theory: {theory.warning}"] if theory.warning else []
        except InputError as error:
            warnings.append(f"no theory: {error}")
        except KeyboardInterrupt:
            warnings.append("no theory: interrupted")
            interrupted = True
    stairs = _stairs(errors, ensemble.trajectory)
    return Column(model, ensemble, errors, stairs, theory, tuple(warnings), interrupted)


def _say(quiet: bool, line: str) -> None:
    if not quiet and sys.stderr.isatty():
        sys.stderr.write(line + "\n")


def _divergences(ensemble: NetworkEnsemble, rates: Rates) -> list[str]:
    """A warning line where some replicas diverged. Raises InputError if all did."""
    diverged: Sequence[Divergence] = ensemble.diverged
    if not diverged:
        return []
    first = min(diverged, key=lambda d: d.samples)
    # A number of the second layer points to its own rate; the first layer's are the last to say who was too fast.
    own = {"a": "second", "b": "bias", "a_0": "output"}
    option = OPTION[own.get(first.name.partition("[")[0], max(vars(rates), key=lambda name: vars(rates)[name]))]
    all_runs = len(ensemble.replicas)
    where = f"{first.name} of run {first.replica} after {first.samples} samples"
    line = f"{len(diverged)} of {all_runs} runs diverged, {where}"
    if len(diverged) == all_runs:
        raise InputError("learning rates", line, "rates at which a run stays finite", f"lower {option} first")
    return [f"{line}; lower {option} to keep them"]


def _theory(study: NetworkStudy, model: NetworkModel, meter: ErrorMeter, runs: NetworkTrajectory) -> Theory:
    ode = NetworkODE(model, study.dim, study.rates, seed=study.seed)
    times = runs.times[runs.times <= THEORY_SPAN * study.dim]
    flow = ode.run(runs.state(0, 0), max(float(times[-1]), 1.0), times, study.threshold)
    errors = meter.measure_trajectory(flow.trajectory)
    return Theory(flow.trajectory, errors, _stairs(errors, flow.trajectory), flow.warning)


def _stairs(errors: NetworkErrors, trajectory: NetworkTrajectory) -> EscapeTimes | None:
    return None if errors.laws == (TASK,) else errors.stairs(trajectory.times, float(trajectory.times[-1]))


@dataclass(frozen=True)
class Ratio:
    """Ratio of two medians over runs with its 95 % interval; an end is inf or 0 where a median lies among censored runs."""

    value: float
    low: float
    high: float


def median_ratio(above: EscapeTimes, below: EscapeTimes, name: str, seed: int = 0) -> Ratio | None:
    """Median of ``above`` over that of ``below``, runs resampled independently; None if both are censored or a single run.

    A censored median ``above`` leaves a lower bound, budget / median, as value; one ``below`` an upper bound.
    """
    first, second = above.quantile(name, 0.5), below.quantile(name, 0.5)
    single = min(len(above.times), len(below.times)) < 2
    if single or (np.isinf(first) and np.isinf(second)) or second == 0:
        return None
    value, (low, high) = ratio_of_medians(above.of(name), below.of(name), (above.budget, below.budget), seed)
    if not np.isfinite(value) or value == 0:
        value = min(first, above.budget) / min(second, below.budget)
    return Ratio(value, low, high)
