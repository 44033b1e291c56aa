"""Overlap ODE of a two-layer network for d → ∞: the flow of R = W U, P = W_⊥ W_⊥ᵀ, a, b, a_0 under online SGD (theory §7).

With τ = t/d (t in samples), ζ = h - R ξ the fields of W_⊥, c_k = r K^(-γ) a_k σ'(h_k + b_k) and r = ∂objective/∂f,

    dR/dτ = δ_1 E[c ξᵀ] - s R,           da/dτ = δ_2 (E[r K^(-γ) σ] - λ a),   db/dτ = δ_b E[c],   da_0/dτ = δ_0 E[r],
    dP/dτ = δ_1 E[c ζᵀ + ζ cᵀ] + δ_1² E[c cᵀ] - (s P + P s),    s = δ_1 λ,

as ‖x‖²/d → 1; Q = P + R Rᵀ. Steps are O(1/d), so the samples of a mini-batch see the same state to leading order and the flow
does not depend on the batch. Spherical rows: projection and normalisation shrink row k by the diagonal
s_k = δ_1 E[c_k h_k] + ½ δ_1² E[c_k²], divided by Q_kk = 1 so that rounding in Q_kk does not grow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.network_moments import Closure, choose_closure
from theory.errors import InputError, require
from theory.network_results import NetworkTrajectory
from theory.networks import NetworkModel, NetworkState, Rates, check_start
from theory.result_tables import run_dataset
from theory.results import EscapeTimes, Result, time_grid
from theory.summaries import Summary, clock_text, last_recorded, spread_text

Array = NDArray[np.float64]
HUGE = 1e6  # the flow has run away where |w|², |a|, |b| or |a_0| is this many times its start (or 1)
GROWN = 10.0  # or this many times, where the integrator fails: a blow-up at a finite time
SMOOTH = 1e-6  # a sample of a kinked σ is no field for a high order: there RK23 took a tenth of DOP853's time
BLIND = 0.5  # closure error of a spike's drift beyond which its escape is not to be believed
CHECKS, SCRAMBLINGS = 8, 4  # states along the path, and samples at each, from which the closure's error is estimated
PATIENCE = 100  # evaluations of the flow per d samples, and for a start 50 times that; 2 … 15 are usual


@dataclass(frozen=True, repr=False)
class NetworkFlow(Result):
    """One integrated flow. ``trajectory`` holds it as one run; ``escapes`` in samples, inf where not within the budget.

    ``closure`` names the source of the expectations. ``closure_errors`` is its estimated error in the drift of R, for each
    spike, of P and a, relative to that drift: root mean square over states evenly spaced in arc length; empty without
    sampling error. ``warning`` says in plain words what went wrong, if anything: a failed integration (nan from there on),
    or spikes whose drift is within the closure's error.
    """

    trajectory: NetworkTrajectory
    escapes: EscapeTimes
    closure: str
    closure_errors: dict[str, float]
    warning: str
    evaluations: int

    @property
    def closure_error(self) -> float:
        """The largest of ``closure_errors``; 0 if the expectations are exact."""
        return max(self.closure_errors.values(), default=0.0)

    def summary(self) -> Summary:
        """Escape in samples and last overlap of every spike; where the expectations come from, and the warning."""
        ends = (spread_text(last_recorded(self.trajectory.of(s))) for s in self.escapes.spikes)
        rows = tuple((*row, end) for row, end in zip(self.escapes.summary().rows, ends, strict=True))
        title = f"NetworkFlow: d → ∞, {self.escapes.limits}; recorded at {clock_text(self.trajectory.times)}"
        errors = ", ".join(f"{block} {error:.2g}" for block, error in self.closure_errors.items())
        notes = (
            f"expectations: {self.closure}" + (f"; relative error of the drift: {errors}" if errors else ""),
            *([f"warning: {self.warning}"] if self.warning else []),
        )
        return Summary(title, ("spike", "escape", "best neuron at last"), rows, notes)

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw the best neuron's overlaps, and the escapes on the threshold. Returns the Matplotlib axes."""
        from theory.drawing import mark_escapes

        return mark_escapes(self.trajectory.plot(ax, log=log), self.escapes)

    def to_dataframe(self) -> Any:
        """The trajectory's ``pandas.DataFrame`` (needs pandas)."""
        return self.trajectory.to_dataframe()

    def to_xarray(self) -> Any:
        """The trajectory's ``xarray.Dataset`` with ``escape`` (run, spike) in samples (needs xarray)."""
        return run_dataset(self.trajectory, self.escapes)


@dataclass(frozen=True)
class NetworkODE:
    """The d → ∞ flow of a model; ``dim`` sets the clock, steps being δ/d.

    ``points`` and ``seed`` belong to the Sobol sample that serves where no closed form does (solvers/network_moments.py).
    """

    model: NetworkModel
    dim: float
    rates: Rates
    points: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the dimension."""
        require(isfinite(self.dim) and self.dim >= 1, "dim", self.dim, "a finite number >= 1")

    def run(
        self, start: NetworkState, samples: float, times: Array | None = None, threshold: float = 0.3
    ) -> NetworkFlow:
        """Integrate from ``start`` for ``samples`` samples; states at ``times`` (in samples, by default a log-linear grid).

        Raises InputError for a start that does not fit the model, and for a flow that runs away: the text names the rate.
        """
        self._check(start, samples, threshold)
        times = np.asarray(time_grid(max(int(samples), 1)) if times is None else times, dtype=float)
        fits = len(times) > 0 and np.all(np.diff(times) > 0) and times[0] >= 0 and times[-1] <= samples
        require(bool(fits), "times", times, "increasing, within 0 … samples")
        flow = _Flow(self, choose_closure(self.model, self.rates, start.b, self.points, self.seed))
        solution = flow.solve(start, samples / self.dim, threshold)
        grown = np.abs(solution.y[:, -1]).max() > GROWN * max(1.0, np.abs(solution.y[:, 0]).max())
        if solution.t_events[-1].size or (not solution.success and grown):
            raise self._runaway(flow, solution.y[:, -1], solution.t[-1] * self.dim)
        reached = solution.t[-1] * self.dim
        states = np.full((len(times), solution.y.shape[0]), np.nan)
        inside = times <= reached
        if inside.any():
            states[inside] = solution.sol(times[inside] / self.dim).T
        escapes = self._escapes(flow, start, solution, samples, threshold)
        errors = flow.closure_errors(solution)
        return NetworkFlow(
            flow.trajectory(times, states),
            escapes,
            flow.closure.name,
            errors,
            _warning(solution, reached, errors),
            int(solution.nfev),
        )

    def _check(self, start: NetworkState, samples: float, threshold: float) -> None:
        check_start(self.model, start)
        require(isfinite(samples) and samples > 0, "samples", samples, "a finite number > 0")
        require(0 < threshold < 1, "threshold", threshold, "between 0 and 1")

    def _escapes(self, flow: "_Flow", start: NetworkState, part: Any, samples: float, threshold: float) -> EscapeTimes:
        first = [events[0] * self.dim if events.size else np.inf for events in part.t_events[:-1]]
        reached = flow.best_cosines(flow.pack(start)) >= threshold
        return EscapeTimes(self.model.spikes, np.where(reached, 0.0, first)[None], threshold, float(samples))

    def _runaway(self, flow: "_Flow", state: Array, samples: float) -> InputError:
        R, P, a, b, output = flow.unpack(state)
        sizes = {
            "first": float((np.diagonal(P) + np.sum(R**2, axis=1)).max()),
            "second": float(np.abs(a).max()),
            "bias": float(np.abs(b).max()),
            "output": abs(output),
        }
        worst = max(sizes, key=lambda name: sizes[name])
        what = {"first": "|w|²", "second": "|a|", "bias": "|b|", "output": "|a_0|"}[worst]
        return InputError(
            f"rate {worst}",
            getattr(self.rates, worst),
            "a rate below the critical one",
            f"{what} reached {sizes[worst]:.1g} after {samples:.6g} samples: lower it",
        )


class _Flow:
    """The vector field in packed form: R by rows, the lower triangle of P, a, b, a_0."""

    def __init__(self, ode: NetworkODE, closure: Closure) -> None:
        self.ode, self.closure = ode, closure
        self.shape = (ode.model.learner.hidden, len(ode.model.spikes))
        self.lower = np.tril_indices(self.shape[0])
        sizes = [self.shape[0] * self.shape[1], len(self.lower[0]), self.shape[0], self.shape[0]]
        self.cuts = np.cumsum(sizes)

    def pack(self, state: NetworkState) -> Array:
        """The packed form of a state."""
        return np.concatenate([state.R.ravel(), state.rest[self.lower], state.a, state.b, [state.output]])

    def unpack(self, x: Array) -> tuple[Array, Array, Array, Array, float]:
        """R, P, a, b, a_0."""
        R, low, a, b, output = np.split(x, self.cuts)
        P = np.zeros((self.shape[0],) * 2)
        P[self.lower] = low
        return R.reshape(self.shape), P + np.tril(P, -1).T, a, b, float(output[0])

    def rate(self, x: Array, closure: Closure | None = None) -> Array:
        """d/dτ of the packed state."""
        R, P, a, b, output = self.unpack(x)
        m = (closure or self.closure)(R, P, a, b, output)
        rates, learner = self.ode.rates, self.ode.model.learner
        first, decay = rates.first, learner.weight_decay
        shrink = np.full(len(a), first * decay)
        if learner.spherical:
            radial = np.sum(m.spikes * R, axis=1) + np.diagonal(m.rest)
            norm = np.diagonal(P) + np.sum(R**2, axis=1)
            shrink = (first * radial + first**2 / 2 * np.diagonal(m.squares)) / norm
        dR = first * m.spikes - shrink[:, None] * R
        dP = first * (m.rest + m.rest.T) + first**2 * m.squares - (shrink[:, None] + shrink) * P
        da, db = rates.second * (m.second - decay * a), rates.bias * m.push
        return np.concatenate([dR.ravel(), dP[self.lower], da, db, [rates.output * m.output]])

    def best_cosines(self, x: Array) -> Array:
        """max_k |R_ka|/√Q_kk for each spike a."""
        R = x[: self.cuts[0]].reshape(self.shape)
        squares = x[self.cuts[0] + self._diagonal] + np.sum(R**2, axis=1)
        return np.asarray((np.abs(R) / np.sqrt(squares)[:, None]).max(axis=0))

    def solve(self, start: NetworkState, span: float, threshold: float) -> Any:
        """SciPy's solution with dense output, an event for each spike's threshold, and one for a flow that runs away."""
        from scipy.integrate import solve_ivp

        x = self.pack(start)
        limit = HUGE * max(1.0, float(np.abs(x).max()))
        events = [self._reaches(a, threshold) for a in range(self.shape[1])]
        rtol, scale = self.closure.rtol, min(1.0, float(np.sqrt(np.mean(start.R**2))))
        with np.errstate(over="ignore", invalid="ignore"):
            return solve_ivp(
                self._within(int(PATIENCE * (50 + span))),
                (0.0, span),
                x,
                method="DOP853" if rtol < SMOOTH else "RK23",
                rtol=rtol,
                atol=1e-2 * rtol * max(scale, 1e-12),
                dense_output=True,
                events=[*events, _passes(limit)],
            )

    def _within(self, most: int) -> Callable[[float, Array], Array]:
        """The vector field, for ``most`` calls: rates far too large make a flow that no explicit method can follow."""
        calls = iter(range(most))

        def field(t: float, x: Array) -> Array:
            if next(calls, None) is None:
                rates = vars(self.ode.rates)
                name = max(rates, key=lambda n: rates[n])
                advice = f"the flow is too stiff: {most} evaluations led to {t * self.ode.dim:.3g} samples; lower it"
                raise InputError(f"rate {name}", rates[name], "a rate that the integrator can follow", advice)
            return self.rate(x)

        return field

    def closure_errors(self, solution: Any) -> dict[str, float]:
        """Error of the drift's blocks, from scramblings independent of the one used: half their mean squared difference."""
        others = self.closure.others(SCRAMBLINGS)
        if not others:
            return {}
        path = solution.y.T
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        states = path[np.searchsorted(length, np.linspace(0, length[-1], CHECKS))]
        drifts = np.array([[self.rate(x, c) for c in (self.closure, *others)] for x in states])
        error = np.mean((drifts[:, 1:] - drifts[:, :1]) ** 2, axis=1) / 2
        size = np.mean(drifts, axis=1) ** 2
        r, spikes = self.shape[1], self.ode.model.spikes
        blocks = {f"R[{s}]": np.arange(a, self.cuts[0], r) for a, s in enumerate(spikes)}
        blocks |= {"P": np.arange(self.cuts[0], self.cuts[1])}
        if self.ode.rates.second > 0:
            blocks |= {"a": np.arange(self.cuts[1], self.cuts[2])}
        return {
            name: float(np.sqrt(error[:, at].sum() / max(size[:, at].sum(), 1e-300))) for name, at in blocks.items()
        }

    def trajectory(self, times: Array, states: Array) -> NetworkTrajectory:
        """The packed states (n_times, n) as one run."""
        R, P, a, b, output = (np.stack(parts) for parts in zip(*(self.unpack(x) for x in states), strict=True))
        Q = P + R @ R.transpose(0, 2, 1)
        return NetworkTrajectory(self.ode.model.spikes, times, R[None], Q[None], a[None], b[None], output[None])

    @cached_property
    def _diagonal(self) -> NDArray[np.int64]:
        k = np.arange(self.shape[0])
        return k * (k + 3) // 2

    def _reaches(self, a: int, threshold: float) -> Callable[[float, Array], float]:
        return lambda _, x: float(self.best_cosines(x)[a]) - threshold


def _warning(solution: Any, reached: float, errors: dict[str, float]) -> str:
    parts = [] if solution.success else [f"integration stopped after {reached:.6g} samples: {solution.message}"]
    blind = [name[2:-1] for name, error in errors.items() if name.startswith("R[") and error > BLIND]
    if blind:
        text = f"the sample, not the law, may decide about {', '.join(blind)}"
        parts.append(f"{text}: closure error above {BLIND:.0%} of the drift; raise points")
    return "; ".join(parts)


def _passes(limit: float) -> Callable[[float, Array], float]:
    def event(_: float, x: Array) -> float:
        return limit - float(np.abs(x).max())

    event.terminal = True  # type: ignore[attr-defined]
    return event
