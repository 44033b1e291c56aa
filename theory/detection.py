"""Detection of a cumulant spike: likelihood-ratio norm, low-degree norm, and the samples at which they stop being small.

Null: x ~ N(0, I). Planted: the same but for u·x = s_v ν + √(1-s_v²) z along a spike u drawn from a prior, s_v² = β/(1+β)
(theory §9; Székely, Bardone, Gerace & Goldt, arXiv 2312.14922). For two independent spikes with overlap ω, and n samples,

    ‖L_n‖² = E_ω[f(ω)ⁿ],   f(ω) = Σ_k (s_v^k E[He_k(ν)])²/k! ω^k = E_νν'[(1-τ²)^(-½) exp((2τνν' - τ²(ν²+ν'²))/(2(1-τ²)))],

τ = s_v² ω (Mehler's formula: a finite sum for a discrete latent). While the norm is bounded no test tells the two apart with
vanishing error; its part of degree <= D does the same for tests that are polynomials of that degree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import entr, gammaln, logsumexp

from theory.errors import require
from theory.hermite import hermite_values
from theory.latents import Latent
from theory.results import Array

ANGLES = 100_000  # of the midpoint rule in the angle between two spikes: exact to rounding for d up to 10^7
MOST_DEGREE = 200
NEAR, NEAR_DEGREE = 0.2, 40  # |s_v² ω| up to which log f is summed, to 0.2^40


class Prior(Protocol):
    """Law of the spike u on the unit sphere, by that of the overlap ω of two independent ones."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    def rate(self, omega: Array) -> Array:
        """I(ω): P(ω) decays as exp(-d I(ω))."""
        ...

    def moments(self, dim: int, degree: int) -> Array:
        """E[ω^m], m = 0 … degree."""
        ...

    def law(self, dim: int) -> tuple[Array, Array]:
        """Values of ω and the logarithms of their probabilities, or a quadrature rule of that form."""
        ...


@dataclass(frozen=True)
class UniformSphere:
    """u uniform on the sphere: density of ω ∝ (1-ω²)^((d-3)/2)."""

    name: str = "sphere"

    def rate(self, omega: Array) -> Array:
        """-½ log(1-ω²)."""
        return np.asarray(-0.5 * np.log1p(-(omega**2)))

    def moments(self, dim: int, degree: int) -> Array:
        """E[ω^2j] = Π_{i<j} (2i+1)/(d+2i)."""
        even = np.cumprod([1.0, *((2 * i + 1) / (dim + 2 * i) for i in range(degree // 2))])
        moments = np.zeros(degree + 1)
        moments[::2] = even
        return moments

    def law(self, dim: int) -> tuple[Array, Array]:
        """Midpoint rule in θ with ω = sin θ, weight cos^(d-2) θ."""
        theta = (np.arange(ANGLES) + 0.5) * np.pi / ANGLES - np.pi / 2
        weight = (dim - 2) * np.log(np.cos(theta))
        return np.sin(theta), weight - logsumexp(weight)


@dataclass(frozen=True)
class RademacherSpike:
    """Entries of u are ±1/√d: ω is the mean of d signs."""

    name: str = "rademacher"

    def rate(self, omega: Array) -> Array:
        """½ (1+ω) log(1+ω) + ½ (1-ω) log(1-ω)."""
        return np.asarray(-(entr(1 + omega) + entr(1 - omega)) / 2)

    def moments(self, dim: int, degree: int) -> Array:
        """The sums over the d + 1 values of ω; odd moments vanish."""
        omega, weight = self.law(dim)
        share, moments = np.exp(weight), np.zeros(degree + 1)
        for m in range(0, degree + 1, 2):
            moments[m] = share.sum()
            share *= omega**2
        return moments

    def law(self, dim: int) -> tuple[Array, Array]:
        """The d + 1 values of ω, binomial."""
        k = np.arange(dim + 1.0)
        return (2 * k - dim) / dim, gammaln(dim + 1) - gammaln(k + 1) - gammaln(dim - k + 1) - dim * log(2)


@dataclass(frozen=True)
class Detection:
    """The spiked cumulant model: latent ν, strength β and prior of the spike. Raises InputError for β outside (0, 10^4]."""

    latent: Latent
    beta: float
    prior: Prior

    def __post_init__(self) -> None:
        """Check the strength: beyond 10^4 the planted law is singular to the precision of a double."""
        require(isfinite(self.beta) and 0 < self.beta <= 1e4, "beta", self.beta, "a number > 0, at most 10^4")

    @property
    def signal(self) -> float:
        """s_v² = β/(1+β), the share of the latent in the variance along the spike."""
        return self.beta / (1 + self.beta)

    def log_density_ratio(self, along: Array) -> Array:
        """log ℓ(u·x): the planted density along the spike over the Gaussian one."""
        s = np.asarray(along, dtype=float)
        terms = [
            np.log(w) - (s - np.sqrt(self.signal) * x) ** 2 / (2 * (1 - self.signal))
            for x, w in zip(self.latent.nodes, self.latent.weights, strict=True)
        ]
        return np.asarray(np.logaddexp.reduce(terms, axis=0) - 0.5 * np.log1p(-self.signal) + s**2 / 2)

    def log_kernel(self, omega: Array) -> Array:
        """log f(ω) for |ω| <= 1: in closed form; near 0, where that would be rounding, by the series."""
        tau = self.signal * np.asarray(omega, dtype=float)
        near = np.abs(tau) < NEAR
        series = np.polynomial.polynomial.polyval(
            np.where(near, tau, 0.0), np.append(0.0, self._chaos(NEAR_DEGREE)[1:])
        )
        return np.where(near, np.log1p(series), self._closed_log_kernel(tau))

    def _closed_log_kernel(self, tau: Array) -> Array:
        tau = tau[..., None, None]
        nodes, weights = np.array(self.latent.nodes), np.array(self.latent.weights)
        a, b = nodes[:, None], nodes[None, :]
        exponent = (2 * tau * a * b - tau**2 * (a**2 + b**2)) / (2 * (1 - tau**2))
        pairs = logsumexp(exponent + np.log(weights[:, None] * weights), axis=(-2, -1))
        return np.asarray(pairs - 0.5 * np.log1p(-(tau[..., 0, 0] ** 2)))

    def series(self, degree: int) -> Array:
        """Coefficients (s_v^k E[He_k(ν)])²/k! of f, k = 0 … degree."""
        require(0 <= degree <= MOST_DEGREE, "degree", degree, f"0 … {MOST_DEGREE}")
        return np.asarray(self._chaos(degree) * self.signal ** np.arange(degree + 1))

    def _chaos(self, degree: int) -> Array:
        """E[He_k(ν)]²/k!, k = 0 … degree."""
        nodes, weights = np.array(self.latent.nodes), np.array(self.latent.weights)
        squares = (hermite_values(degree, nodes) @ weights) ** 2
        squares[1 : self.latent.order] = 0.0  # by construction, up to rounding
        return np.asarray(squares)

    def log_norm(self, samples: float, dim: int) -> float:
        """log ‖L_n‖² for n samples in dimension d, exact at any of them."""
        self._check(samples, dim)
        return self._log_norms(dim)(samples)

    def _log_norms(self, dim: int) -> Callable[[float], float]:
        """The function n → log ‖L_n‖²."""
        omega, weight = self.prior.law(dim)
        kernel = self.log_kernel(omega)
        return lambda samples: float(logsumexp(weight + samples * kernel))

    def low_degree_norm(self, samples: float, dim: int, degree: int) -> float:
        """‖L_n^{<=D}‖² - 1 = Σ_{0<m<=D} [ω^m] f(ω)ⁿ · E[ω^m], exact; inf where it overflows."""
        self._check(samples, dim)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = power_of_series(self.series(degree), samples)[1:] * self.prior.moments(dim, degree)[1:]
        return float(terms.sum()) if np.isfinite(terms).all() else np.inf

    @cached_property
    def critical_ratio(self) -> float:
        """γ_c = inf_ω I(ω)/log f(ω): with n = γ d samples the norm stays bounded as d → ∞ only for γ < γ_c."""

        def ratio(omega: Array) -> Array:
            gain = self.log_kernel(omega)
            tiny = np.finfo(float).tiny
            return np.where(gain > tiny, self.prior.rate(omega) / np.maximum(gain, tiny), np.inf)

        sizes = np.geomspace(1e-3, 1 - 1e-9, 400)
        grid = np.concatenate([-sizes[::-1], sizes])
        values = ratio(grid)
        best = int(np.argmin(values))
        around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        refined = minimize_scalar(
            lambda x: float(ratio(np.array(x))), bounds=around, method="bounded", options={"xatol": 1e-12}
        )
        return float(min(values[best], refined.fun))

    def statistical_threshold(self, dim: int, level: float = 2.0) -> float:
        """Samples n at which ‖L_n‖² = ``level`` in dimension d."""
        self._check(1, dim)
        norms = self._log_norms(dim)
        return _crossing(lambda n: norms(n) - log(level), f"‖L_n‖² = {level:g}")

    def low_degree_threshold(self, dim: int, degree: int, level: float = 2.0) -> float:
        """Samples n at which ‖L_n^{<=D}‖² = ``level``. Raises InputError for a D that sees nothing.

        Even powers of ω count, the prior being symmetric: that is D >= p for even p and D >= p + 1 for odd p, where D >= 2p
        has another power of d.
        """
        least = self.latent.order + self.latent.order % 2
        advice = "polynomials of lower degree see the moments of a Gaussian"
        require(least <= degree <= MOST_DEGREE, "degree", degree, f"{least} … {MOST_DEGREE}", advice)
        return _crossing(lambda n: self.low_degree_norm(n, dim, degree) - (level - 1), f"‖L_n^<={degree}‖² = {level:g}")

    def _check(self, samples: float, dim: int) -> None:
        require(isfinite(samples) and samples > 0, "samples", samples, "a finite number > 0")
        require(isinstance(dim, int | np.integer) and 2 <= dim <= 10**7, "dim", dim, "a whole number, 2 … 10^7")


def power_of_series(coefficients: NDArray[np.float64], power: float) -> Array:
    """Coefficients of (Σ_k a_k x^k)^power to the same degree, a_0 = 1: m b_m = Σ_k (k (power+1) - m) a_k b_{m-k}."""
    b = np.zeros(len(coefficients))
    b[0] = 1.0
    for m in range(1, len(b)):
        k = np.arange(1, m + 1)
        b[m] = ((k * (power + 1) - m) * coefficients[1 : m + 1] * b[m - k]).sum() / m
    return b


def _crossing(excess: Callable[[float], float], what: str) -> float:
    """Where an increasing function of n changes sign, on a logarithmic scale."""
    high = 1.0
    while excess(high) < 0:
        high *= 4
        require(high < 1e30, "samples", "more than 10^30", f"a finite number with {what}", "take a larger beta")
    low = high / 4
    while excess(low) > 0:
        low /= 4
    return float(np.exp(brentq(lambda x: excess(float(np.exp(x))), log(low), log(high), xtol=1e-10)))
