"""Information exponents and the staircase of ONE neuron: which spike falls when, what it waits for, or why never.

The rule (theory §6) is not the textbook leap rule: norm spent on learnt directions A repels the others. At the signed
stable fixed point α_A let P be the lowest-degree form of Φ in the unlearnt directions. Degree 1 always drives; degree 2
drives iff the top eigenvalue of the transverse Jacobian (Hessian minus ρ = α·∇Φ + δV/2) is positive; degree >= 3 drives
only while nothing is learnt (ρ = 0) and if max P > 0 on the sphere.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.hermite import MultiIndex, multi_indices
from theory.laws import Task
from theory.population import Population

Array = NDArray[np.float64]
VISIBLE = 1e-12
FALLS_BACK = {
    False: ("lr_too_large", "lr is above the critical one: the normalisation term beats the drift at small overlaps"),
    True: (
        "noise_activated",
        "lr is above the critical one: the ODE never escapes, but noise carries runs over the barrier",
    ),
}


class Dynamics(Protocol):
    """What the staircase needs to know of the flow at one learning rate."""

    @property
    def lr(self) -> float:
        """Learning rate δ."""
        ...

    def rate(self, alpha: Array) -> Array:
        """Drift in units of δ/d."""
        ...

    def jacobian(self, alpha: Array) -> Array:
        """Its Jacobian."""
        ...


@dataclass(frozen=True)
class ThresholdLaw:
    """Samples as a function of d for a given leap ℓ: d for ℓ = 1, d log² d for ℓ = 2, d^(ℓ-1) beyond."""

    leap: int

    @property
    def exponent(self) -> int:
        """Power of d, logarithms apart."""
        return max(self.leap - 1, 1)

    def __str__(self) -> str:
        """As printed in tables."""
        return {1: "d", 2: "d log^2 d"}.get(self.leap, f"d^{self.exponent}")


@dataclass(frozen=True)
class Fall:
    """One spike falling: the degree that drives it, the stage (1, 2, …) and the spikes it needs."""

    spike: str
    degree: int
    stage: int
    waits_for: tuple[str, ...]
    law: ThresholdLaw


@dataclass(frozen=True)
class Verdict:
    """What the staircase says of one spike.

    ``probability`` is the share of random starts (by the signs of the spikes learnt before) in which it falls; ``cause`` is
    ``driven``, ``blind``, ``wrong_sign``, ``repelled``, ``lr_too_large`` or ``noise_activated``; ``reason`` says it in words.
    """

    spike: str
    exponent: int | None
    fall: Fall | None
    probability: float
    cause: str
    reason: str
    fixed_point: float


@dataclass(frozen=True)
class _Branch:
    """One history: where the flow has settled, what fell, and why the rest did not."""

    alpha: Array
    probability: float = 1.0
    falls: tuple[Fall, ...] = ()
    refused: dict[int, tuple[str, str, int]] = field(default_factory=dict)

    @property
    def learnt(self) -> tuple[int, ...]:
        return tuple(np.flatnonzero(np.abs(self.alpha) > 1e-5))


def task_degree(task: Task, spike: str, order: int) -> int | None:
    """Lowest degree of E[y Π He_{i_a}(ξ_a)] ≠ 0 that contains this spike: what a neuron that sees all orders would use."""
    par, a = task.numbers(order), task.spikes.index(spike)
    for degree in range(1, order + 1):
        indices = (i for i in multi_indices(len(task.spikes), degree) if i[a])
        if any(abs(task.moment(i, 1, par)) > VISIBLE for i in indices):
            return degree
    return None


class Staircase:
    """The order in which spikes fall from a random start.

    ``dynamics`` gives the drift at the chosen learning rate; ``settle(alpha, active)`` follows it from a point to its stable
    fixed point, with the spikes where ``active`` is 0 held at zero; ``size`` is the typical overlap of a random start,
    d^(-1/2).
    """

    def __init__(
        self, population: Population, dynamics: Dynamics, settle: Callable[[Array, Array], Array], size: float
    ) -> None:
        """Walk down every branch."""
        self.population, self.dynamics, self.settle, self.size = population, dynamics, settle, size
        self.spikes = population.model.spikes
        terms = population.objective.as_dict()
        self.terms: dict[MultiIndex, float] = {i: float(c) for i, c in terms.items() if abs(c) > VISIBLE}
        self.branches = self._walk(_Branch(np.zeros(len(self.spikes))))

    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each spike."""
        return tuple(self._verdict(k) for k in range(len(self.spikes)))

    def _walk(self, branch: _Branch) -> list[_Branch]:
        learnt = branch.learnt
        remaining = set(range(len(self.spikes))) - set(learnt)
        refused: dict[int, tuple[str, str, int]] = {}
        while remaining and (degree := self._lowest_degree(learnt, remaining)):
            members = {k for k in remaining if self._degree_of(k, learnt, remaining) == degree}
            directions, refusal = self._driving_directions(branch, degree, sorted(remaining))
            if directions:
                children = [self._fall(branch, degree, remaining, e) for e in directions]
                children = [c for c in children if c.learnt and not np.allclose(c.alpha, branch.alpha)]
                if children:  # a start whose own drive does not carry it falls back, and noise takes it elsewhere
                    share = branch.probability / len(children)
                    return [end for c in children for end in self._walk(replace(c, probability=share))]
                refusal = FALLS_BACK[degree >= 3]
            refused |= {k: (*refusal, degree) for k in members}
            remaining -= members
        blind = ("blind", "no term of the population loss contains it (all its coefficients vanish)", 0)
        refused |= {k: blind for k in remaining}
        return [_Branch(branch.alpha, branch.probability, branch.falls, refused)]

    def _driving_directions(
        self, branch: _Branch, degree: int, remaining: list[int]
    ) -> tuple[list[Array], tuple[str, str]]:
        """Unit directions along which the unlearnt spikes grow, or the reason why there are none."""
        learnt, names = branch.learnt, ", ".join(self.spikes[k] for k in branch.learnt)
        if degree == 1:
            drive = np.zeros(len(self.spikes))
            drive[remaining] = self.dynamics.rate(branch.alpha)[remaining]
            return [drive / np.linalg.norm(drive)], ("", "")
        if degree == 2:
            block = self.dynamics.jacobian(branch.alpha)[np.ix_(remaining, remaining)]
            values, vectors = np.linalg.eigh((block + block.T) / 2)
            if values[-1] > 0:
                top = vectors[:, values > values[-1] - 1e-9 * max(1.0, values[-1])].sum(axis=1)
                e = np.zeros(len(self.spikes))
                e[remaining] = np.where(np.abs(top) > 1e-7, top, 0.0)
                e *= np.sign(e[np.argmax(np.abs(e))]) / np.linalg.norm(e)
                return [e, -e], ("", "")
            if learnt:
                return [], ("repelled", f"repelled once {names} is learnt: growth rate {values[-1]:.3g} < 0 (in δ/d)")
        if learnt:
            return [], (
                "repelled",
                f"repelled once {names} is learnt: an order-{degree} drive cannot beat a linear force",
            )
        form = _Form(self.terms, degree, remaining, len(self.spikes))
        if form.maximum <= VISIBLE:
            return [], ("wrong_sign", f"its order-{degree} term has the repulsive sign: no number of samples helps")
        if degree == 2:
            return [], FALLS_BACK[False]
        return form.maximisers, ("", "")

    def _fall(self, branch: _Branch, degree: int, remaining: set[int], e: Array) -> _Branch:
        stage = 1 + max((f.stage for f in branch.falls), default=0)
        longest = max([degree, *(f.law.leap for f in branch.falls)])
        fallen = [k for k in remaining if abs(e[k]) > 1e-7]
        falls = tuple(
            Fall(self.spikes[k], degree, stage, self._waits_for(k, branch.learnt, remaining), ThresholdLaw(longest))
            for k in fallen
        )
        size = min(self.size, 0.9)
        active = np.zeros(len(self.spikes))
        active[[*branch.learnt, *fallen]] = 1
        alpha = self.settle(branch.alpha * np.sqrt(1 - size**2) + size * e, active)
        return _Branch(np.where(np.abs(alpha) > 1e-5, alpha, 0.0), branch.probability, branch.falls + falls)

    def _waits_for(self, k: int, learnt: Iterable[int], remaining: set[int]) -> tuple[str, ...]:
        """Other spikes without which the degree that drives k would be higher."""
        degree = self._degree_of(k, learnt, remaining)
        needed = []
        for j in (set(learnt) | remaining) - {k}:
            without = self._degree_of(k, set(learnt) - {j}, remaining - {j})
            if without is None or degree is None or without > degree:
                needed.append(j)
        return tuple(self.spikes[j] for j in sorted(needed))

    def _degree_of(self, k: int, learnt: Iterable[int], unlearnt: Iterable[int]) -> int | None:
        """Lowest degree in the unlearnt directions among the monomials of Φ that contain α_k and no other spike."""
        unlearnt, present = set(unlearnt), set(learnt) | set(unlearnt)
        degrees = [
            sum(index[j] for j in unlearnt)
            for index in self.terms
            if index[k] and all(j in present for j, i in enumerate(index) if i)
        ]
        return min(degrees, default=None)

    def _lowest_degree(self, learnt: Iterable[int], unlearnt: set[int]) -> int | None:
        degrees = [d for k in unlearnt if (d := self._degree_of(k, learnt, unlearnt)) is not None]
        return min(degrees, default=None)

    def _verdict(self, k: int) -> Verdict:
        spike = self.spikes[k]
        visible = self._degree_of(k, (), range(len(self.spikes)))
        fallen = [(b, f) for b in self.branches for f in b.falls if f.spike == spike]
        if fallen:
            branch, fall = max(fallen, key=lambda pair: (pair[0].probability, pair[0].alpha[k]))
            share = min(1.0, sum(b.probability for b, _ in fallen))
            return Verdict(spike, fall.degree, fall, share, "driven", self._driven(fall, share), float(branch.alpha[k]))
        branch = max(self.branches, key=lambda b: b.probability)
        cause, reason, degree = branch.refused.get(k, ("repelled", "pushed back to zero by the spikes that fall", 0))
        present = task_degree(self.population.model.task, spike, self.population.order)
        if present and (visible is None or (visible > present and cause == "wrong_sign")):
            cause = "blind"
            seen = "" if visible is None else f"; the next order it sees, {visible}, has the repulsive sign"
            reason = (
                f"the activation is blind to order {present} (c_{present} = 0){seen}; "
                f"hermite:{','.join(f'{k}=1' for k in sorted({2, present}))} would see it"
            )
        return Verdict(spike, degree or visible, None, 0.0, cause, reason, 0.0)

    def _driven(self, fall: Fall, share: float) -> str:
        words = f"driven at order {fall.degree}" + (f", needs {', '.join(fall.waits_for)}" if fall.waits_for else "")
        if fall.degree >= 3 and fall.degree % 2:
            words += "; starts on the wrong side fall back in the ODE, noise brings them later"
        return words + ("" if share > 0.99 else f"; in {share:.0%} of the random starts")


class _Form:
    """Homogeneous form of one degree in the given spikes, nothing learnt: its maximum on the unit sphere.

    ``maximisers``, for degree 3 and more, are the unit vectors at its positive local maxima.
    """

    def __init__(self, terms: dict[MultiIndex, float], degree: int, members: list[int], n_spikes: int) -> None:
        self.members = members
        outside = set(range(n_spikes)) - set(members)
        self.terms = {i: c for i, c in terms.items() if sum(i) == degree and not any(i[j] for j in outside)}
        self.support = {k for i in self.terms for k in range(n_spikes) if i[k]}
        if degree == 1:
            self.maximum = float(np.linalg.norm(list(self.terms.values())))
        elif degree == 2:
            self.maximum = self._top_eigenvalue(n_spikes)
        else:
            self.maximisers, self.maximum = self._maximise(degree, n_spikes)

    def _top_eigenvalue(self, n_spikes: int) -> float:
        matrix = np.zeros((n_spikes, n_spikes))
        for index, c in self.terms.items():
            a, b = (k for k in range(n_spikes) for _ in range(index[k]))
            matrix[a, b] += c / 2
            matrix[b, a] += c / 2
        used = sorted(self.support)
        return float(np.linalg.eigvalsh(matrix[np.ix_(used, used)])[-1])

    def _maximise(self, degree: int, n_spikes: int) -> tuple[list[Array], float]:
        """Positive local maxima by the shifted power method e <- normalise(∇P(e) + shift e) from many starts."""
        exponents = np.array(list(self.terms), dtype=float)
        coefficients = np.array(list(self.terms.values()))
        shift = degree**2 * np.abs(coefficients).sum()

        def value(e: Array) -> float:
            return float(coefficients @ np.prod(e**exponents, axis=1))

        def gradient(e: Array) -> Array:
            lowered = np.maximum(exponents[:, :, None] - np.eye(n_spikes), 0)
            return coefficients @ (exponents * np.prod(e[:, None] ** lowered, axis=1))

        used = sorted(self.support)
        starts = np.random.default_rng(0).standard_normal((24, len(used)))
        starts = np.vstack([np.eye(len(used)), -np.eye(len(used)), np.ones(len(used)), starts])
        found: list[Array] = []
        for start in starts:
            e = np.zeros(n_spikes)
            e[used] = start / np.linalg.norm(start)
            for _ in range(3000 if len(used) > 1 else 0):
                step = gradient(e) + shift * e
                moved = step / np.linalg.norm(step)
                if np.abs(moved - e).max() < 1e-10:
                    break
                e = moved
            is_new = all(np.abs(e - f).max() > 1e-3 for f in found)
            if is_new and value(e) > VISIBLE and self._is_maximum(e, value):
                found.append(np.where(np.abs(e) > 1e-6, e, 0.0))
        return found, max((value(e) for e in found), default=min(0.0, max(coefficients, default=0.0)))

    def _is_maximum(self, e: Array, value: Callable[[Array], float]) -> bool:
        rng = np.random.default_rng(1)
        noise = np.zeros((40, len(e)))
        noise[:, sorted(self.support)] = rng.standard_normal((40, len(self.support)))
        near = e + 1e-3 * noise
        near /= np.linalg.norm(near, axis=1)[:, None]
        return all(value(n) <= value(e) + 1e-12 for n in near)


def driving_forms(population: Population) -> Iterator[tuple[int, float]]:
    """Degree and maximum on the sphere of the forms that drive from a random start, each without the spikes before it."""
    terms = {i: float(c) for i, c in population.objective.as_dict().items() if abs(c) > VISIBLE}
    n_spikes = len(population.model.spikes)
    remaining = set(range(n_spikes))
    while remaining:
        inside = {i: c for i, c in terms.items() if not any(i[j] for j in range(n_spikes) if j not in remaining)}
        if not inside:
            return
        degree = min(sum(i) for i in inside)
        form = _Form(inside, degree, sorted(remaining), n_spikes)
        if form.maximum > VISIBLE:
            yield degree, form.maximum
        remaining -= form.support


def first_form(population: Population) -> tuple[int, float] | None:
    """The form that drives first; None if nothing does."""
    return next(driving_forms(population), None)


def critical_rate(population: Population, degree: int, maximum: float, dim: float, threshold: float) -> float:
    """δ_crit for the form max P = ``maximum`` of the given degree that drives first (theory §4).

    Order 2: 2 λ_max/V(0). Order k >= 3: 2 A d^(-(k-2)/2)/V(0) with drift A α^(k-1), A = k max P, at which the typical
    start sits on the barrier. Order 1 has no barrier: the largest δ whose fixed point along the mean reaches the
    threshold η to first order, 2 (1-η²) max P/(V η).
    """
    variance = float(population.variance.coeff_monomial(sp.Integer(1)))
    if degree == 1:
        return 2 * (1 - threshold**2) * maximum / (variance * threshold)
    return 2 * degree * maximum * dim ** (-(degree - 2) / 2) / variance
