"""What a task is: the vocabulary for joint laws of (y, ξ).

A task says its law three times, and the tests hold the three to each other: ``moment`` (Hermite moments
E[y^n Π He_{i_a}(ξ_a)], with symbols or with numbers), ``law`` (a generative SymPy expression, lowered into the simulators)
and ``mixture`` (given the latents ξ is Gaussian: nodes for quadrature).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import sympy as sp
from numpy.random import Generator
from numpy.typing import NDArray

from theory.hermite import MultiIndex

Parameters = SimpleNamespace


@dataclass(frozen=True)
class Law:
    """Generative form: y and ξ as expressions in raw projections z = Uᵀz of white noise and further independent normals.

    ``parameters`` pairs each remaining symbol with its value; they stay run-time arguments of every kernel.
    """

    label: sp.Expr
    projections: tuple[sp.Expr, ...]
    raw: tuple[sp.Symbol, ...]
    normals: tuple[sp.Symbol, ...]
    parameters: tuple[tuple[sp.Symbol, float], ...]

    def at(
        self, raw: NDArray[np.float64], normals: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """y (n,) and ξ (n, r) at given raw projections z (n, r) and further normals (n, m), by NumPy."""
        function = _numeric(self.label, self.projections, (*self.raw, *self.normals, *(s for s, _ in self.parameters)))
        with np.errstate(all="ignore"):  # NumPy evaluates every branch of a Piecewise
            y, *xi = function(*raw.T, *normals.T, *(value for _, value in self.parameters))
        n = len(raw)
        return np.broadcast_to(y, n).astype(float), np.stack([np.broadcast_to(x, n) for x in xi], axis=1)


def has_classes(task: "Task") -> bool:
    """Whether the labels are ±1: y² = 1 always."""
    return bool(np.all(task.mixture().label_powers[:, 2] == 1))


def sample(law: Law, n: int, rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """n independent samples of y (n,) and ξ (n, r)."""
    raw, normals = rng.standard_normal((len(law.raw), n)), rng.standard_normal((len(law.normals), n))
    return law.at(raw.T, normals.T)


@lru_cache(maxsize=64)
def _numeric(
    label: sp.Expr, projections: tuple[sp.Expr, ...], arguments: tuple[sp.Symbol, ...]
) -> Callable[..., list[Any]]:
    return sp.lambdify(arguments, [label, *projections], ["scipy", "numpy"])


@dataclass(frozen=True)
class Mixture:
    """Nodes q of the latents: weight (n,), E[y^k | q] (n, 3), and ξ | q ~ N(mean (n, r), diag variance (n, r))."""

    weight: NDArray[np.float64]
    label_powers: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


class Task(Protocol):
    """The joint law of (y, ξ)."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the spikes, in the order of ξ and of the overlaps."""
        ...

    @property
    def degree(self) -> int | None:
        """Degree beyond which E[y Π He] vanishes, or None."""
        ...

    def symbols(self) -> Parameters:
        """Parameters as SymPy symbols."""
        ...

    def numbers(self, order: int) -> Parameters:
        """Parameters as floats, for moments up to total degree ``order``."""
        ...

    def definitions(self) -> dict[sp.Symbol, sp.Expr | float]:
        """Value of every symbol that ``symbols`` uses, up to the moments of the latents."""
        ...

    def moment(self, index: MultiIndex, power: int, par: Parameters) -> sp.Expr | float:
        """E[y^power Π He_{i_a}(ξ_a)], power 0, 1 or 2."""
        ...

    def law(self) -> Law:
        """Generative form."""
        ...

    def mixture(self) -> Mixture:
        """Quadrature nodes over the latents."""
        ...

    @property
    def signal_order(self) -> int:
        """Lowest order of the series that still holds the term the task is about."""
        ...

    def useful_degrees(self) -> dict[int, int]:
        """Degrees that a neuron should see, each with the sign of c_k that makes its pure terms attractive."""
        ...

    def likelihood_moment(self, index: MultiIndex, par: Parameters) -> float:
        """C_I of theory §3: E[Π He | planted], or E[f* Π He]."""
        ...

    def settings(self) -> dict[str, float | int | str | None]:
        """Name and parameters as plain values, for records."""
        ...

    def alone(self, spike: str) -> "Task | None":
        """The same task with every other spike removed; None if nothing about this spike is left."""
        ...

    def describe(self) -> str:
        """The task in one line."""
        ...
