"""Phase diagrams: the fate of the cumulant spike v over a plane of two parameters, by the flow from a typical start.

Every point is the answer of ``solvers.prediction.predict`` at the same rate by a shorter way: the staircase only where the
flow cannot tell, one drift for all d and δ of a model, the rate found by bisection. Times in samples.
"""

import os
from argparse import Namespace
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from solvers.build import build_model, build_task
from solvers.fields import Field, accurate_field
from solvers.ode import PopulationODE, best_signs, settle
from solvers.prediction import MAX_HALVINGS
from theory.errors import require
from theory.exponents import FALLS_BACK, Staircase, critical_rate, first_form
from theory.population import Model, Population

Array = NDArray[np.float64]
PLANES = {"corr,dim": ("corr", "dim"), "corr,beta-u": ("corr", "beta-u"), "lr,dim": ("lr", "dim")}
POINTS_WORTH_A_POOL, CHUNKS_PER_WORKER = 100, 8


@dataclass(frozen=True)
class Fate:
    """What becomes of v at one point.

    Status, rate δ, critical rate (nan: none), first crossing in samples, |α_v| at the end of the flow, and ``reach``, the
    largest such end among the rates tried: it crosses the threshold at the edge of never.
    """

    status: str
    lr: float
    critical: float
    escape_samples: float
    overlap: float
    reach: float


@dataclass(frozen=True)
class PhaseDiagram:
    """Fates over a plane: ``fates`` has one row for each value of ``y``, with one entry for each of ``x``.

    ``alone`` is v without the other spikes at its own automatic rate, one entry for each of ``dims``; empty if the task
    has no such thing. ``model`` is that of the last point.
    """

    plane: str
    x: Array
    y: Array
    model: Model
    dims: tuple[int, ...]
    threshold: float
    fates: tuple[tuple[Fate, ...], ...]
    alone: tuple[Fate, ...]

    @property
    def axes(self) -> tuple[str, str]:
        """Names of x and y, as on the command line."""
        return PLANES[self.plane]

    def describe(self) -> str:
        """What is held fixed, in one line."""
        task, learner = self.model.task, self.model.learner
        settings = {name: value for name, value in task.settings().items() if name.replace("_", "-") not in self.axes}
        if settings.get("teacher") and "corr" in self.axes:
            settings["teacher"] = f"He_2(u) + corr·He_1(u)·He_1(v) + He_{settings['p']}(v)"
        names = ("teacher", "beta_m", "beta_u", "beta_v", "corr", "p")
        values = [(name, settings[name]) for name in names if settings.get(name)]
        values += [] if "dim" in self.axes else [("d", self.dims[0])]
        fixed = ", ".join(f"{name} = {v if isinstance(v, str) else f'{v:g}'}" for name, v in values)
        fixed = fixed.replace("beta_", "β_").replace("teacher", "f*")
        return f"{task.name}: {fixed}; {learner.activation.name}, {learner.loss.name} loss"

    def matrix(self, name: str) -> NDArray:
        """One attribute of the fates, shape (n_y, n_x)."""
        return np.array([[getattr(fate, name) for fate in row] for row in self.fates])

    @property
    def speedup(self) -> Array:
        """Samples of v alone over samples here, shape (n_y, n_x); nan where v is never recovered in either."""
        alone = np.array([[fate.escape_samples] for fate in self.alone] or [[np.nan]])
        times = self.matrix("escape_samples")
        reached = np.isfinite(times) & np.isfinite(alone)
        return np.divide(alone, times, where=reached, out=np.full(times.shape, np.nan))


@dataclass(frozen=True)
class Reader:
    """One model, read at many dimensions and rates: what they share is computed once."""

    population: Population
    threshold: float
    ends: dict[tuple[float, tuple[float, ...]], Array] = field(default_factory=dict)

    @cached_property
    def form(self) -> tuple[int, float] | None:
        """Degree and maximum of the form that drives first."""
        return first_form(self.population)

    @cached_property
    def drift(self) -> Field:
        """Accurate to 1e-6 everywhere in the ball."""
        return accurate_field(self.population)

    def critical(self, dim: int) -> float | None:
        """δ_crit of theory §4; None if nothing is driven from a random start."""
        return critical_rate(self.population, *self.form, dim, self.threshold) if self.form else None

    def flow(self, dim: float, lr: float) -> PopulationODE:
        """The flow at one dimension and rate."""
        return PopulationODE(self.population.model, self.drift, dim, lr)

    def fate(self, dim: int, lr: float | None = None) -> Fate:
        """Fate of v from |α| = d^(-1/2) on every spike with attracted signs; ``lr`` None for the automatic rate."""
        start, k = best_signs(self.population, dim**-0.5), self.population.model.spikes.index("v")
        critical = self.critical(dim)
        tried = {lr: self.rest(dim, lr, start)} if lr else self.rests(critical, dim, start, k)
        overlaps = {rate: abs(float(end[k])) for rate, end in tried.items()}
        # The largest rate that will do; if none will, the smallest.
        rate = max((r for r in overlaps if overlaps[r] >= self.threshold), default=min(overlaps))
        ode, overlap = self.flow(dim, rate), overlaps[rate]
        escape = ode.first_passage(start, k, self.threshold)
        status = "recovered" if np.isfinite(escape) else self._why_not(ode, overlap)
        return Fate(status, rate, np.nan if critical is None else critical, escape, overlap, max(overlaps.values()))

    def rests(self, critical: float | None, dim: int, start: Array, k: int) -> dict[float, Array]:
        """Ends of the flow at those of the rates ½ δ_crit, ¼ δ_crit, … δ_crit/128 that tell where v first settles above η.

        The rule of ``solvers.prediction.automatic_rate``, applied to v alone. A smaller δ repels v less, so bisect.
        """
        if critical is None:
            rate = 0.1 / float(self.population.variance.coeff_monomial(1))
            return {rate: self.rest(dim, rate, start)}
        rates, tried = [critical / 2 / 2**n for n in range(MAX_HALVINGS + 1)], {}

        def recovers(rate: float) -> bool:
            tried[rate] = self.rest(dim, rate, start)
            return abs(tried[rate][k]) >= self.threshold

        if not recovers(rates[0]) and recovers(rates[-1]):
            bisect_left(rates, True, 1, MAX_HALVINGS, key=recovers)
        return tried

    def rest(self, dim: int, lr: float, start: Array) -> Array:
        """End of the flow. Up to order 2 every start of the same signs ends there, whatever d."""
        if self.form is None or self.form[0] > 2:
            return settle(self.population, dim, lr, start)
        key = lr, tuple(np.sign(start))
        if key not in self.ends:
            self.ends[key] = settle(self.population, dim, lr, start)
        return self.ends[key]

    def _why_not(self, ode: PopulationODE, overlap: float) -> str:
        """The status that ``predict`` gives to a spike whose overlap never reaches the threshold."""
        if 1e-5 < overlap < self.threshold:
            return "below_threshold"
        if self.form and ode.model.spikes == ("v",):
            return FALLS_BACK[self.form[0] >= 3][0]
        stairs = Staircase(self.population, ode, lambda a, active: ode.settle(a, active), ode.dim**-0.5)
        verdict = next(v for v in stairs.verdicts() if v.spike == "v")
        lost = "below_threshold" if abs(verdict.fixed_point) < self.threshold else "wrong_sign"
        return lost if verdict.cause == "driven" else verdict.cause


@dataclass(frozen=True)
class Question:
    """One point: options of the model, d, δ (None: the automatic rate), and whether v is to stand alone."""

    words: Namespace
    dim: int
    lr: float | None
    alone: bool = False


def phase_diagram(
    words: Namespace,
    plane: str,
    x: Array,
    y: Array,
    dim: int = 1000,
    threshold: float = 0.3,
    workers: int | None = None,
    quiet: bool = True,
) -> PhaseDiagram:
    """Fate of v at every point of ``plane`` (one of ``PLANES``), with ``x`` (n_x,) and ``y`` (n_y,) the values on its axes.

    ``words`` are the parsed model options (``solvers.options.add_model_options``): a model holds closures, so processes
    exchange words. ``dim`` counts only where d is no axis. The result does not depend on ``workers``. Raises InputError.
    """
    require(0 < threshold < 1, "threshold", threshold, "a number between 0 and 1")
    require(workers is None or 1 <= workers <= 256, "workers", workers, "1 … 256")
    names = PLANES[plane]
    points = [_question(words, dict(zip(names, (a, b), strict=True)), dim) for a in x.tolist() for b in y.tolist()]
    for point in points:
        build_task(point.words)
    model, solo = build_model(points[-1].words), _solo(build_model(points[-1].words))
    require("v" in model.spikes, "model", "no spike v", "one with the spike v, whose fate is drawn")
    drawn = plane == "lr,dim" or (solo is not None and first_form(Population(solo)) is not None)
    require(drawn, "model", "v alone is never recovered", "an attractive term of v alone, to compare with")
    dims = [point.dim for point in points[: len(y)]] if "dim" in names else [dim]
    alone = [Question(points[-1].words, d, None, alone=True) for d in dims] if solo else []
    fates = _answer_all([*alone, *points], threshold, workers, quiet)
    grid = np.array(fates[len(alone) :], dtype=object).reshape(len(x), len(y)).T
    return PhaseDiagram(plane, x, y, model, tuple(dims), threshold, tuple(map(tuple, grid)), tuple(fates[: len(alone)]))


def _question(words: Namespace, values: dict[str, float], dim: int) -> Question:
    """The point at which the axes have these values."""
    options = {name.replace("-", "_"): value for name, value in values.items() if name in ("corr", "beta-u")}
    return Question(Namespace(**{**vars(words), **options}), int(values.get("dim", dim)), values.get("lr"))


def _solo(model: Model) -> Model | None:
    task = model.task.alone("v") if "v" in model.spikes else None
    return None if task is None else Model(task, model.learner)


def _answer_all(questions: list[Question], threshold: float, workers: int | None, quiet: bool) -> list[Fate]:
    """Answers in order; neighbours share a chunk, since neighbours often share a model."""
    workers = 1 if len(questions) < POINTS_WORTH_A_POOL else workers or len(os.sched_getaffinity(0))
    size = -(-len(questions) // (CHUNKS_PER_WORKER * workers))
    chunks = [questions[i : i + size] for i in range(0, len(questions), size)]
    bar = tqdm(total=len(questions), unit="point", disable=True if quiet else None, desc="phase diagram")
    answers: list[Fate] = []
    with bar, _pool(workers) as run:
        for part in run(_answer, chunks, [threshold] * len(chunks)):
            answers += part
            bar.update(len(part))
    return answers


@contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Iterable[list[Fate]]]]:
    """``map`` here, or over processes: spawned, since a fork would copy the locks of the caller's threads."""
    if workers == 1:
        yield map
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            yield pool.map


def _answer(questions: list[Question], threshold: float) -> list[Fate]:
    """One learner for all, so that its coefficients are computed once; one reader as long as the task stays the same."""
    learner, reader = build_model(questions[0].words).learner, None
    answers = []
    for question in questions:
        model = Model(build_task(question.words), learner)
        model = _solo(model) or model if question.alone else model
        if reader is None or reader.population.model.task != model.task:
            reader = Reader(Population(model), threshold)
        answers.append(reader.fate(question.dim, question.lr))
    return answers
