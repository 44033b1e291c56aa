"""Phase diagrams: the fate of the cumulant spike v over a plane of two parameters, by the flow from a typical start.

Every point is the answer of ``solvers.prediction.predict`` at the same rate by a shorter way (``phase_reader``); points are
shared out to processes. Times in samples.
"""

import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from solvers.build import build_model, build_task
from solvers.phase_reader import Fate, Reader
from theory.errors import require
from theory.exponents import first_form
from theory.population import Model, Population
from theory.provenance import environment
from theory.store import FINISHED, Point, Run, Store

Array = NDArray[np.float64]
PLANES = {"corr,dim": ("corr", "dim"), "corr,beta-u": ("corr", "beta-u"), "lr,dim": ("lr", "dim")}
POINTS_WORTH_A_POOL, CHUNKS_PER_WORKER = 100, 8
KEPT_TOGETHER = 50  # fates of one transaction
MODEL_OPTIONS = (
    "task", "p", "corr", "coupling", "latent", "beta_m", "beta_u", "beta_v", "teacher", "noise", "activation", "loss",
)  # fmt: skip


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
class Question:
    """One point: options of the model, d, δ (None: the automatic rate), and whether v is to stand alone."""

    words: Namespace
    dim: int
    lr: float | None
    alone: bool = False

    def point(self, threshold: float) -> Point:
        """What a store knows it by."""
        options = {name: getattr(self.words, name) for name in MODEL_OPTIONS}
        own = {"dim": self.dim, "lr": self.lr, "alone": self.alone, "threshold": threshold, "format": 1}
        return Point.of("solvers.phase", {**options, **own}, 1, 0.0)


def phase_diagram(
    words: Namespace,
    plane: str,
    x: Array,
    y: Array,
    dim: int = 1000,
    threshold: float = 0.3,
    workers: int | None = None,
    quiet: bool = True,
    store: Store | None = None,
) -> PhaseDiagram:
    """Fate of v at every point of ``plane`` (one of ``PLANES``), with ``x`` (n_x,) and ``y`` (n_y,) the values on its axes.

    ``words`` are the parsed model options (``solvers.options.add_model_options``): a model holds closures, so processes
    exchange words. ``dim`` counts only where d is no axis. The result does not depend on ``workers``.
    Fates that ``store`` has are taken from there, and the others kept. Raises InputError.
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
    fates = _answer_all([*alone, *points], threshold, workers, quiet, store)
    grid = np.array(fates[len(alone) :], dtype=object).reshape(len(x), len(y)).T
    return PhaseDiagram(plane, x, y, model, tuple(dims), threshold, tuple(map(tuple, grid)), tuple(fates[: len(alone)]))


def _question(words: Namespace, values: dict[str, float], dim: int) -> Question:
    """The point at which the axes have these values."""
    options = {name.replace("-", "_"): value for name, value in values.items() if name in ("corr", "beta-u")}
    return Question(Namespace(**{**vars(words), **options}), int(values.get("dim", dim)), values.get("lr"))


def _solo(model: Model) -> Model | None:
    task = model.task.alone("v") if "v" in model.spikes else None
    return None if task is None else Model(task, model.learner)


def _answer_all(
    questions: list[Question], threshold: float, workers: int | None, quiet: bool, store: Store | None
) -> list[Fate]:
    """Answers in order, those that the store has from there."""
    if store is None:
        return list(_answers(questions, threshold, workers, quiet))
    points = [question.point(threshold) for question in questions]
    store.add_points(points)
    known = {p.hash: Fate.from_json(run.result) for p in points for run in store.runs(p.hash)}
    todo = [(q, p) for q, p in zip(questions, points, strict=True) if p.hash not in known]
    computed = _answers([q for q, _ in todo], threshold, workers, quiet)
    answered = zip(todo, computed, strict=True)
    while part := list(islice(answered, KEPT_TOGETHER)):
        found = {point.hash: fate for (_, point), fate in part}
        store.add([Run(h, 0, FINISHED, f.to_json(), False, 0.0, 0.0) for h, f in found.items()], environment())
        known |= found
    return [known[p.hash] for p in points]


def _answers(questions: list[Question], threshold: float, workers: int | None, quiet: bool) -> Iterator[Fate]:
    """Answers in order, as they come; neighbours share a chunk, since neighbours often share a model."""
    if not questions:
        return
    workers = 1 if len(questions) < POINTS_WORTH_A_POOL else workers or len(os.sched_getaffinity(0))
    size = -(-len(questions) // (CHUNKS_PER_WORKER * workers))
    chunks = [questions[i : i + size] for i in range(0, len(questions), size)]
    bar = tqdm(total=len(questions), unit="point", disable=True if quiet else None, desc="phase diagram")
    with bar, _pool(workers) as run:
        for part in run(_answer, chunks, [threshold] * len(chunks)):
            bar.update(len(part))
            yield from part


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
