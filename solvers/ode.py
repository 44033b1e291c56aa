"""Population flow: the ODE of the overlaps in samples, its threshold events, fixed points and their stability.

    dα/dt = (δ/d) [∇Φ - α (α·∇Φ)] - (δ²/2d) V(α) α        (t in samples; second order in δ, theory §3)

integrated by SciPy's LSODA in τ = δ t/d. The right-hand side is the SymPy series, lowered; where the truncated series is not
accurate along the flow, the same drift comes from quadrature over the latents, and ``method`` says which.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from solvers.fields import Field, SeriesField, accurate_field
from solvers.segments import Segment
from theory.errors import require
from theory.exponents import VISIBLE
from theory.population import Population
from theory.result_tables import run_dataset
from theory.results import EscapeTimes, Result, Trajectory
from theory.spaces import Space
from theory.summaries import Summary, samples_text

Array = NDArray[np.float64]
RTOL, ATOL = 1e-8, 1e-12
SERIES_TOLERANCE = 1e-3
MAX_PARTS = 200
LEFT = 1.02  # the size of overlaps that only an inaccurate drift reaches
GROWTH = 4.0  # a part ends where |α| has grown by this factor: a blow-up at t = 10^40 needs a clock that starts again


class Subject(Protocol):
    """What flows: a ``Model``, or a ``SpikedTensor``."""

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the overlaps."""
        ...

    @property
    def space(self) -> Space:
        """Where they live."""
        ...


class NotConvergedError(ArithmeticError):
    """The truncated series is not accurate where the flow goes; quadrature over the latents is."""


@dataclass(frozen=True)
class FixedPoint:
    """A zero of the drift: overlaps (r,), and the eigenvalues of its Jacobian in units of δ/d per sample."""

    overlaps: Array
    eigenvalues: NDArray[np.complex128]

    @property
    def stable(self) -> bool:
        """All eigenvalues have a negative real part."""
        return bool(np.all(self.eigenvalues.real < 0))


@dataclass(frozen=True, repr=False)
class FlowRun(Result):
    """One integrated flow: dense output in samples, first crossing of the threshold by each spike, and its end."""

    spikes: tuple[str, ...]
    segments: tuple[Segment, ...]
    samples_per_unit: float
    escape_samples: Array
    threshold: float
    end: Array
    settled: bool

    @property
    def duration(self) -> float:
        """Samples covered by the dense output."""
        return self.segments[-1].end * self.samples_per_unit if self.segments else 0.0

    def overlaps_at(self, samples: Array) -> Array:
        """α at times in samples, shape (n, r); beyond the end the fixed point."""
        tau = np.atleast_1d(np.asarray(samples, dtype=float)) / self.samples_per_unit
        result = np.tile(self.end, (len(tau), 1))
        for segment in self.segments:
            inside = (tau >= segment.begin) & (tau <= segment.end)
            if inside.any():
                result[inside] = segment.at(tau[inside] - segment.begin)
        return result

    def evolve(self, samples: Array) -> Trajectory:
        """The flow on a time grid, as one run."""
        return Trajectory(self.spikes, np.asarray(samples, dtype=float), self.overlaps_at(samples)[None])

    def escape(self) -> EscapeTimes:
        """Escape times, as one run; inf where the settled flow never reaches the threshold."""
        return EscapeTimes(self.spikes, self.escape_samples[None], self.threshold, np.inf)

    @property
    def horizon(self) -> float:
        """Samples that a picture shows: 2.5 times the last escape, or else all that was covered."""
        seen = self.escape_samples[np.isfinite(self.escape_samples)]
        return 2.5 * float(seen.max()) if seen.size and seen.max() > 0 else max(self.duration, 10.0)

    def grid(self, log: bool = False) -> Array:
        """500 times up to ``horizon``, in samples: evenly spaced, or in the last four decades evenly in log time."""
        return np.geomspace(self.horizon / 1e4, self.horizon, 500) if log else np.linspace(0, self.horizon, 500)

    def summary(self) -> Summary:
        """Escape in samples and last overlap of every spike, and whether the flow rests there."""
        rows = zip(self.spikes, map(samples_text, self.escape_samples), (f"{a:.3f}" for a in self.end), strict=True)
        end = "rests" if self.settled else "ends, not at rest,"
        title = f"FlowRun: population flow, {end} after {self.duration:.4g} samples; threshold {self.threshold:g}"
        return Summary(title, ("spike", "escape", "α at end"), tuple(rows))

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw |α_k| up to ``horizon``, a dot at every escape. Returns the Matplotlib axes, new ones for None."""
        from theory.drawing import mark_escapes

        return mark_escapes(self.evolve(self.grid(log)).plot(ax, log), self.escape())

    def to_dataframe(self) -> Any:
        """The overlaps on ``grid()`` as a ``pandas.DataFrame``, see ``Trajectory.to_dataframe`` (needs pandas)."""
        return self.evolve(self.grid()).to_dataframe()

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset``: ``overlap`` on ``grid()``, and ``escape`` (run, spike) in samples (needs xarray)."""
        return run_dataset(self.evolve(self.grid()), self.escape())


@dataclass(frozen=True)
class PopulationODE:
    """The population flow of a model, or of anything with overlaps and their space, for one d and learning rate δ.

    The step is δ/d. ``field`` is the source of the drift; see ``run_converged``. Raises InputError for d < 10 or a learning
    rate that is not positive and finite.
    """

    model: Subject
    field: Field
    dim: float
    lr: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(np.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a finite number > 0, or auto")
        require(np.isfinite(self.dim) and self.dim >= 10, "dim", self.dim, "a number >= 10")

    def rate(self, alpha: Array) -> Array:
        """dα/dτ with τ = δ t/d, shape (r,)."""
        flow, variance = self.field(alpha)
        return flow - self.lr / 2 * variance * alpha

    def jacobian(self, alpha: Array) -> Array:
        """∂(dα/dτ)/∂α by central differences, shape (r, r)."""
        steps = np.eye(len(alpha)) * 1e-5
        return np.stack([(self.rate(alpha + h) - self.rate(alpha - h)) / 2e-5 for h in steps], axis=1)

    def run(self, start: Array, threshold: float = 0.3, stop_at_escape: bool = False) -> FlowRun:
        """Integrate from overlaps ``start``, shape (r,), until the flow settles at a stable fixed point.

        ``stop_at_escape`` ends it as soon as every spike has crossed the threshold. Raises InputError if the start lies
        outside the ball, NotConvergedError if the flow leaves it, which only a truncated series can do.
        """
        start = np.asarray(start, dtype=float)
        n, space = len(self.model.spikes), self.model.space
        ok = start.shape == (n,) and np.all(np.isfinite(start)) and space.size(start) <= 1 + 1e-12
        require(bool(ok), "init", start.tolist(), f"{n} finite overlaps of unit vectors")
        escapes = np.where(np.abs(start) >= threshold, 0.0, np.inf)
        end, segments, settled = start, [], True

        @_terminal
        def all_crossed(_: float, alpha: Array) -> float:
            return (np.abs(alpha) - threshold).min()

        stop = [all_crossed] if stop_at_escape and np.isinf(escapes).any() else []
        begin = 0.0
        for part, at_rest in self._parts(start, np.ones(len(start)), RTOL, stop):
            segments.append(Segment.of(begin, part))
            end, settled = part.y[:, -1], at_rest
            for k in np.flatnonzero(np.isinf(escapes)):
                escapes[k] = begin + _first_crossing(part, int(k), threshold)
            begin = segments[-1].end
            if stop and part.t_events[0].size:  # the last spike crosses here, up to the rounding of the event's root
                escapes[np.isinf(escapes)] = begin
                break
        unit = self.dim / self.lr
        return FlowRun(self.model.spikes, tuple(segments), unit, escapes * unit, threshold, end, settled)

    def first_passage(self, start: Array, k: int, threshold: float) -> float:
        """Samples until |α_k| first reaches the threshold, to 1e-5; inf if the flow settles before."""
        begin, event = 0.0, _passes(k, threshold)
        if event(0.0, start) >= 0:
            return 0.0
        for part, _ in self._parts(start, np.ones(len(start)), 1e-6, [event]):
            begin += part.t[-1]
            if part.t_events[0].size:
                return float(begin * self.dim / self.lr)
        return np.inf

    def settle(self, start: Array, active: Array | None = None) -> Array:
        """End of the flow from ``start`` (r,) to plotting accuracy; spikes where ``active`` (r,) is 0 are held fixed."""
        end = np.asarray(start, dtype=float)
        for part, _ in self._parts(end, np.ones(len(end)) if active is None else active, 1e-5, []):
            end = part.y[:, -1]
        return end.copy()

    def _parts(self, alpha: Array, mask: Array, rtol: float, events: list[Callable]) -> Iterator[tuple[Any, bool]]:
        """Solutions one after the other, each with its own clock, until the overlaps rest at a point that is not unstable.

        A part ends where |α| has grown by ``GROWTH`` (the drift sets the next horizon), or after a horizon that doubles.
        """
        horizon = 0.0
        outside = _terminal(lambda _, a: LEFT - self.model.space.size(a))
        for _ in range(MAX_PARTS):
            rate = float(np.linalg.norm(mask * self.rate(alpha)))
            if not horizon and rate < self.field.resolution:
                return
            size = float(np.linalg.norm(alpha))
            horizon = horizon or 10 * max(size, 1e-300) / rate
            growing = _reaches(min(GROWTH * size, 2.0))
            part = _integrate(
                lambda _, a: mask * self.rate(a), (0.0, horizon), alpha, [*events, growing, outside], rtol
            )
            if part.status < 0 or part.t_events[-1].size:
                raise NotConvergedError("the series is not converged along the flow: the overlaps left the unit ball")
            grown, change = part.t_events[-2].size > 0, np.abs(part.y[:, -1] - alpha).max()
            alpha, horizon = part.y[:, -1], 0.0 if grown else 2 * horizon
            resting = not grown and change < max(1e-8, 1e-2 * rtol)
            settled = resting and np.linalg.eigvals(mask[:, None] * self.jacobian(alpha) * mask).real.max() < 1e-6
            yield part, bool(settled)
            if settled:
                return

    def fixed_points(self, n_starts: int = 64, seed: int = 0) -> list[FixedPoint]:
        """Zeros of the drift in the unit ball with their stability, found by Newton's method from random starts."""
        from scipy.optimize import root

        rng = np.random.default_rng(seed)
        r = len(self.model.spikes)
        found: list[FixedPoint] = []
        starts = rng.standard_normal((n_starts, r))
        starts *= (rng.random(n_starts) ** (1 / r) / np.linalg.norm(starts, axis=1))[:, None]
        for start in [np.zeros(r), *starts]:
            result = root(self.rate, start, tol=1e-12)
            point = result.x
            inside = point @ point <= 1 + 1e-9 and np.abs(self.rate(point)).max() < 1e-9
            if inside and all(np.abs(point - f.overlaps).max() > 1e-6 for f in found):
                found.append(
                    FixedPoint(np.round(point, 12) + 0.0, np.linalg.eigvals(self.jacobian(point)).astype(complex))
                )
        return sorted(found, key=lambda f: tuple(-f.overlaps))


def _integrate(rate: Callable, span: tuple[float, float], alpha: Array, events: list[Callable], rtol: float) -> Any:
    """LSODA; where its functional iteration fails next to an unstable direction, the implicit Radau method."""
    options = {"rtol": rtol, "atol": ATOL, "dense_output": rtol <= RTOL, "events": events}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        part = solve_ivp(rate, span, alpha, method="LSODA", **options)
    return part if part.status >= 0 else solve_ivp(rate, span, alpha, method="Radau", **options)


def _first_crossing(part: Any, k: int, threshold: float) -> float:
    """First time at which |α_k| >= threshold in this part, refined on its dense output; inf if it is not reached."""
    over = np.flatnonzero(np.abs(part.y[k]) >= threshold)
    if not over.size:
        return np.inf
    j = int(over[0])
    left, right = part.t[max(j - 1, 0)], part.t[j]

    def excess(t: float) -> float:
        return abs(part.sol(t)[k]) - threshold

    return float(brentq(excess, left, right, xtol=1e-12 * right)) if excess(left) < 0 < excess(right) else float(right)


def _terminal(event: Callable[[float, Array], float]) -> Callable[[float, Array], float]:
    """An event of SciPy's that ends the integration."""
    event.terminal = True  # type: ignore[attr-defined]
    return event


def _reaches(size: float) -> Callable[[float, Array], float]:
    return _terminal(lambda _, alpha: size - float(np.linalg.norm(alpha)))


def _passes(k: int, threshold: float) -> Callable[[float, Array], float]:
    return _terminal(lambda _, alpha: abs(float(alpha[k])) - threshold)


def best_signs(population: Population, size: float) -> Array:
    """The start |α_k| = size on every spike with the signs that maximise Φ: the half of the starts that is attracted.

    Terms with even powers only see no signs and would drown the others; what is left equal, up to rounding, goes to +.
    """
    r = len(population.model.spikes)
    signs = np.array(np.meshgrid(*[[1, -1]] * r, indexing="ij")).reshape(r, -1).T
    values = np.zeros(len(signs))
    for index, c in population.objective.as_dict().items():
        if any(i % 2 for i in index) and abs(c) > VISIBLE:
            values += float(c) * size ** sum(index) * np.prod(signs**index, axis=1)
    best = values.max()
    return size * signs[int(np.argmax(values >= best - 1e-9 * abs(best)))]


def settle(population: Population, dim: float, lr: float, start: Array, active: Array | None = None) -> Array:
    """End of the flow from ``start``: the series leads there, Newton's method on the exact drift removes its error."""
    exact = PopulationODE(population.model, accurate_field(population), dim, lr)
    try:
        end = PopulationODE(population.model, SeriesField(population), dim, lr).settle(start, active)
    except NotConvergedError:
        return exact.settle(start, active)
    free = np.flatnonzero(np.abs(end) > 1e-5)
    for _ in range(8 if len(free) else 0):
        block = exact.jacobian(end)[np.ix_(free, free)]
        step = np.linalg.lstsq(block, -exact.rate(end)[free], rcond=1e-8)[0]
        if not np.all(np.isfinite(step)) or np.abs(step).max() > 0.2:
            return exact.settle(start, active)
        end[free] += step
        if np.abs(step).max() < 1e-7:
            break
    return end


def run_converged(
    population: Population, dim: float, lr: float, start: Array, threshold: float, stop_at_escape: bool = False
) -> tuple[PopulationODE, FlowRun, str, float]:
    """Run the flow by the lowered series if that is accurate to 1e-3 of the largest drift on its way, else by quadrature.

    Returns the ODE, its run, ``"series"`` or ``"quadrature"``, and the largest relative difference seen between the two.
    """
    exact, gap = accurate_field(population), np.inf
    try:
        ode = PopulationODE(population.model, SeriesField(population), dim, lr)
        run = ode.run(start, threshold, stop_at_escape)
        points = _spread_along(run)
        drifts = np.array([[exact(a)[0], ode.field(a)[0]] for a in points])
        gap = float(np.abs(drifts[:, 0] - drifts[:, 1]).max() / max(np.abs(drifts[:, 0]).max(), 1e-300))
        if gap < SERIES_TOLERANCE:
            return ode, run, "series", gap
    except NotConvergedError:
        pass
    ode = PopulationODE(population.model, exact, dim, lr)
    return ode, ode.run(start, threshold, stop_at_escape), "quadrature", gap


def _spread_along(run: FlowRun, n_points: int = 8) -> Array:
    """Points of the flow that are evenly spaced in arc length, so that the fast transition is not skipped."""
    path = np.concatenate([segment.at(segment.times) for segment in run.segments]) if run.segments else run.end[None]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    return path[np.searchsorted(length, np.linspace(0, length[-1], n_points))]
