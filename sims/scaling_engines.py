"""Who is timed, and by which view: a subject, the controls that it deserves, and one function for each engine.

To add an engine write one function (Subject, Job) -> Ensemble or EscapeTimes and name it in ENGINES.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sims.ensemble import run_ensemble
from sims.escape_study import NO_RECORDS, Job
from sims.sgd import OnlineSGD
from solvers.chain import OverlapChain
from solvers.fokker_planck import FirstPassage
from solvers.ode import FlowRun, best_signs, run_converged
from solvers.prediction import automatic_rate
from solvers.random_start import field_of, step_of
from solvers.sde import OverlapSDE
from theory.activations import Activation, hermite_mixture
from theory.errors import require
from theory.exponents import critical_rate, first_form
from theory.population import Model, Population
from theory.results import Ensemble, EscapeTimes

HIGHEST_BLIND = 8


@dataclass(frozen=True)
class Subject:
    """A model, the spike to reach, the overlap of weak recovery."""

    model: Model
    target: str
    threshold: float = 0.3

    @cached_property
    def population(self) -> Population:
        """The Hermite series of the model."""
        return Population(self.model, max(20, self.model.task.signal_order))

    @cached_property
    def form(self) -> tuple[int, float] | None:
        """Degree k and maximum of what drives first from a random start; None if nothing does."""
        return first_form(self.population)

    @cached_property
    def noise(self) -> float:
        """V(0) = E[g²] at α = 0."""
        return float(self.population.variance.coeff_monomial(1))

    def critical_rate(self, dim: float) -> float:
        """δ_crit(d) ∝ d^(-(k-2)/2) for order k >= 2. Raises InputError if nothing is driven."""
        if self.form is None:
            allowed, advice = "one that is driven from a random start", "python -m solvers.predict says why it is not"
            require(False, "activation", self.model.learner.activation.name, allowed, advice)
            raise AssertionError
        return critical_rate(self.population, *self.form, dim, self.threshold)

    def moderate_rate(self, dim: float) -> float:
        """½ δ_crit, halved while a smaller rate lets more spikes reach the threshold."""
        start = best_signs(self.population, dim**-0.5)
        return automatic_rate(self.population, self.critical_rate(dim), int(dim), start, self.threshold)

    def flow(self, dim: float, lr: float) -> tuple[FlowRun, bool]:
        """The ODE from the typical start, and whether the truncated series is accurate on its way."""
        start = best_signs(self.population, dim**-0.5)
        _, run, method, _ = run_converged(self.population, dim, lr, start, self.threshold, stop_at_escape=True)
        return run, method == "series"

    @cached_property
    def series(self) -> bool:
        """Is the truncated series accurate up to the threshold? Asked at a rate at which the flow gets there."""
        return self.form is None or self.flow(1e4, self.critical_rate(1e4) / 8)[1]

    def predicted(self, dim: float, lr: float) -> float:
        """Median from a random start by the exact first-passage law of one overlap; for several spikes the ODE's time."""
        if len(self.model.spikes) == 1:
            return FirstPassage.of(field_of(self.population, self.series), dim, lr, self.threshold).quantile(0.5)
        return float(self.flow(dim, lr)[0].escape_samples[self.model.spikes.index(self.target)])

    @cached_property
    def controls(self) -> dict[str, "Subject"]:
        """Neurons that cannot find the target: one blind to it and, where the sign of σ matters, one repelled by it."""
        assert self.form is not None
        degree = self.form[0]
        for k in [*range(degree - 1, 0, -1), *range(degree + 1, HIGHEST_BLIND + 1)]:
            unit = self._with(hermite_mixture({k: 1.0}))
            if unit.form is None:
                # As noisy as the neuron it stands beside.
                found = {"blind": self._with(hermite_mixture({k: float(np.sqrt(self.noise / unit.noise))}))}
                break
        else:
            found = {}
        opposite = self._with(negated(self.model.learner.activation))
        if opposite.form is None or opposite.form[0] > degree:
            found["wrong-sign"] = opposite
        return found

    def _with(self, activation: Activation) -> "Subject":
        return replace(self, model=replace(self.model, learner=replace(self.model.learner, activation=activation)))


def negated(activation: Activation) -> Activation:
    """-σ."""
    closed = activation.closed_form
    return Activation(
        f"-({activation.name})", -activation.expression, activation.kinks, closed and (lambda k: -closed(k))
    )


def _chain(subject: Subject, job: Job) -> Ensemble:
    engine, stop = OverlapChain(subject.model, job.dim, job.lr, job.batch), (subject.target,)
    return engine.run(job.replicas, int(job.samples), job.seed, subject.threshold, stop, NO_RECORDS)


def _highd(subject: Subject, job: Job) -> Ensemble:
    engine, stop = OnlineSGD(subject.model, job.dim, job.lr, job.batch), (subject.target,)
    return run_ensemble(
        engine, job.replicas, int(job.samples), job.seed, subject.threshold, times=NO_RECORDS, stop_spikes=stop
    )


def _sde(subject: Subject, job: Job) -> Ensemble:
    step = step_of(subject.population, subject.series)
    engine, stop = OverlapSDE(subject.model.spikes, step, job.dim, job.lr), (subject.target,)
    return engine.run(job.replicas, job.samples, job.seed, subject.threshold, stop_spikes=stop)


def _ode(subject: Subject, job: Job) -> EscapeTimes:
    escapes = subject.flow(job.dim, job.lr)[0].escape()
    return replace(escapes, times=np.where(escapes.times <= job.samples, escapes.times, np.inf), budget=job.samples)


@dataclass(frozen=True)
class Engine:
    """A view: whether its runs differ (``random``), whether it has ``minibatches``, its ``cost`` in seconds (d, samples)."""

    measure: Callable[[Subject, Job], Ensemble | EscapeTimes]
    random: bool
    minibatches: bool
    cost: Callable[[int, float], float]


ENGINES = {
    "chain": Engine(_chain, True, True, lambda _, samples: 3e-8 * samples),
    "sde": Engine(_sde, True, False, lambda *_: 5e-3),
    "highd": Engine(_highd, True, True, lambda dim, samples: 2e-9 * dim * samples),
    "ode": Engine(_ode, False, False, lambda *_: 0.1),
}
