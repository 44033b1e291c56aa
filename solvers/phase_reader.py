"""The fate of the cumulant spike v at one point of a phase diagram, by the flow from a typical start.

What ``solvers.prediction.predict`` answers, by a shorter way: the staircase only where the flow cannot tell, one drift for
all d and δ of a model, the rate found by bisection. Times in samples.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.fields import Field, accurate_field
from solvers.ode import PopulationODE, best_signs, settle
from solvers.prediction import MAX_HALVINGS
from theory.exponents import FALLS_BACK, Staircase, critical_rate, first_form
from theory.population import Population

Array = NDArray[np.float64]


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

    def to_json(self) -> str:
        """Plain values; null for nan and inf."""
        return json.dumps({k: None if isinstance(v, float) and not isfinite(v) else v for k, v in vars(self).items()})

    @classmethod
    def from_json(cls, text: str) -> "Fate":
        """The fate whose ``to_json`` this is."""
        never = {"critical": np.nan, "escape_samples": np.inf}
        values: dict[str, Any] = {k: never[k] if v is None else v for k, v in json.loads(text).items()}
        return cls(**values)


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
