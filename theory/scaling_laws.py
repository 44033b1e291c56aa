"""Laws of escape times against d, fitted to medians that respect censoring; exponents by bootstrap, laws compared by AIC.

    log t = log A + k log d + m log(log d + b) + c d^-q                                            (t in samples)

A d^k has m = c = 0 and k free or an integer; A d (log d + b)^m has k = 1 and m = 1, 2, and A (log d + b)^m k = 0; q is the
finite-size correction.
"""

from dataclasses import dataclass
from math import ceil, floor, inf, nan

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from theory.results import Array

RESAMPLES = 2000
FLAT = 0.5  # exponents below are compared with A log d, not with A d log d


@dataclass(frozen=True)
class Law:
    """One law: power ``k`` (None: free), power ``m`` of the logarithm, exponent ``correction`` = q (0: none)."""

    k: float | None
    m: int = 0
    correction: float = 0.0

    @property
    def name(self) -> str:
        """As printed and drawn."""
        if self.m:
            return f"A{_power(self.k or 0)} (log d + b)" + (f"^{self.m}" if self.m > 1 else "")
        power = "A d^k" if self.k is None else f"A{_power(self.k)}"
        return power + (f" exp(c d^-{self.correction:g})" if self.correction else "")

    @property
    def n_parameters(self) -> int:
        """Free parameters, A included."""
        return 1 + (self.k is None) + (self.m > 0) + (self.correction > 0)

    def design(self, dims: Array) -> Array:
        """Columns (n, 1 … 3) of the linear parameters log A, k, c."""
        columns = [np.ones(len(dims))]
        columns += [np.log(dims)] if self.k is None else []
        columns += [dims**-self.correction] if self.correction else []
        return np.stack(columns, axis=1)

    def offset(self, dims: Array, b: float) -> Array:
        """What is not fitted linearly: k log d for a fixed k, m log(log d + b)."""
        fixed = (self.k or 0.0) * np.log(dims)
        return fixed + self.m * np.log(np.log(dims) + b) if self.m else fixed


def _power(k: float) -> str:
    return "" if k == 0 else " d" if k == 1 else f" d^{k:g}"


@dataclass(frozen=True)
class LawFit:
    """A law with its parameters; ``aic`` = χ² + 2 · parameters, comparable between laws of the same points."""

    law: Law
    linear: tuple[float, ...]
    b: float
    aic: float

    @property
    def parameters(self) -> dict[str, float]:
        """A and, where they are free, k, b, c. A is inf beyond the range of floats."""
        names = ["A"] + ["k"] * (self.law.k is None) + ["c"] * (self.law.correction > 0)
        with np.errstate(over="ignore"):
            values = dict(zip(names, (float(np.exp(self.linear[0])), *self.linear[1:]), strict=True))
        return values | ({"b": self.b} if self.law.m else {})

    def at(self, dims: Array) -> Array:
        """Samples at each d."""
        return np.asarray(np.exp(self.law.design(dims) @ np.array(self.linear) + self.law.offset(dims, self.b)))


@dataclass(frozen=True)
class ScalingFit:
    """Exponent of A d^k with its 95 % interval (ends ±inf where medians are nearly censored), and all laws, best first."""

    exponent: float
    interval: tuple[float, float]
    laws: tuple[LawFit, ...]


def resampled_medians(times: Array, rng: np.random.Generator, resamples: int = RESAMPLES) -> Array:
    """Medians (resamples,) of n runs drawn with replacement; inf where one falls among the censored runs.

    A draw is x_(⌈nU⌉), so only the middle one or two order statistics of n uniforms are needed: Beta laws, O(1) a resample.
    """
    ordered, n = np.sort(times), len(times)
    middle = (n + 1) // 2
    low = high = rng.beta(middle, n + 1 - middle, resamples)
    if n % 2 == 0:
        high = low + (1 - low) * rng.beta(1, n - middle, resamples)
    draws = [ordered[np.minimum((n * u).astype(int), n - 1)] for u in (low, high)]
    return np.asarray((draws[0] + draws[1]) / 2)


def ratio_of_medians(
    above: Array, below: Array, budgets: tuple[float, float], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, tuple[float, float]]:
    """Ratio of the medians of two independent sets of runs and its 95 % bootstrap interval.

    A censored median lies anywhere beyond its budget: the ratio is then inf, 0 or (both) nan, the interval open on that
    side. A start beyond the threshold counts as half a sample.
    """
    rng = np.random.default_rng(seed)
    top, bottom = (resampled_medians(np.maximum(t, 0.5), rng, resamples) for t in (above, below))
    lows, highs = np.minimum(top, budgets[0]) / bottom, top / np.minimum(bottom, budgets[1])
    interval = [np.quantile(x, q, method="inverted_cdf") for x, q in ((lows, 0.025), (highs, 0.975))]
    first, second = (float(np.median(np.maximum(t, 0.5))) for t in (above, below))
    ratio = nan if first == second == inf else first / second
    return ratio, (float(interval[0]), float(interval[1]))


def fit_scaling(
    dims: Array, times: list[Array], seed: int = 0, correction: float = 0.0, resamples: int = RESAMPLES
) -> ScalingFit | None:
    """Fit every law to the medians of ``times`` (one array of runs for each d); None for fewer than two finite medians.

    A median beyond the budget (inf) is a lower bound and does not enter. The bootstrap draws runs within each d; errors of
    the log medians come from it. A single run for each d (the ODE) has no error: then no interval, and AIC from residuals.
    A start beyond the threshold counts as half a sample.
    """
    times = [np.maximum(t, 0.5) for t in times]
    medians = np.array([np.median(t) for t in times])
    seen = np.isfinite(medians)
    dims, logs, times = dims[seen], np.log(medians[seen]), [t for t, s in zip(times, seen, strict=True) if s]
    free = Law(None, correction=correction)
    if len(dims) < free.n_parameters:
        return None
    rng = np.random.default_rng(seed)
    resampled = np.log([resampled_medians(t, rng, resamples) for t in times])
    errors = _errors(logs, resampled)
    row = _estimator(free.design(dims), errors)[1]
    exponent = float(row @ logs)
    interval = _interval(row, resampled) if errors is not None else (-inf, inf)
    power = float(exponent > FLAT)
    laws = [free, *_integers(exponent, correction), Law(power, 1), Law(power, 2)]
    fits = [_fit(law, dims, logs, errors) for law in laws if law.n_parameters < len(dims)]
    return ScalingFit(exponent, interval, tuple(sorted(fits, key=lambda f: f.aic)))


def _integers(exponent: float, correction: float) -> list[Law]:
    """The two integer powers around the fitted one."""
    low = min(max(int(exponent > FLAT), floor(exponent)), 20)
    return [Law(float(k), correction=correction) for k in (low, max(low + 1, min(ceil(exponent), 20)))]


def _errors(logs: Array, resampled: Array) -> Array | None:
    """Standard errors (n,) of the log medians: half the central 68 %, its lower half where the upper end is censored."""
    low, high = np.quantile(resampled, (0.1587, 0.8413), axis=1, method="inverted_cdf")
    errors = np.where(np.isfinite(high), (np.where(np.isfinite(high), high, 0) - low) / 2, logs - low)
    return errors if np.all(errors > 0) else None


def _estimator(design: Array, errors: Array | None) -> Array:
    """Rows of weighted least squares: parameters = rows @ (log t - offset), shape (parameters, n)."""
    weights = np.ones(len(design)) if errors is None else 1 / errors
    return np.asarray(np.linalg.pinv(design * weights[:, None]) * weights)


def _interval(row: Array, resampled: Array) -> tuple[float, float]:
    """Percentile interval of the exponent row·log m; a resample with censored medians on both sides may lie anywhere."""
    slopes = []
    for fill in (-inf, inf):
        with np.errstate(invalid="ignore"):
            values = row @ np.where(np.isfinite(resampled), resampled, 0)
            pulls = np.where(np.isinf(resampled), np.sign(row)[:, None] * inf, 0).sum(axis=0)
        slopes.append(values + np.where(np.isnan(pulls), fill, pulls))
    low = np.quantile(slopes[0], 0.025, method="inverted_cdf")
    high = np.quantile(slopes[1], 0.975, method="inverted_cdf")
    return float(low), float(high)


def _fit(law: Law, dims: Array, logs: Array, errors: Array | None) -> LawFit:
    """Least squares; b, which enters nonlinearly, by a search over log(log d_min + b)."""
    design = law.design(dims)
    rows, scale = _estimator(design, errors), 1.0 if errors is None else errors

    def residuals(b: float) -> NDArray[np.float64]:
        rest = logs - law.offset(dims, b)
        return np.asarray((rest - design @ (rows @ rest)) / scale)

    def misfit(u: float) -> float:
        return float(np.sum(residuals(np.exp(u) - np.log(dims[0])) ** 2))

    b = 0.0
    if law.m:
        grid = np.linspace(np.log(1e-2), np.log(1e3), 100)
        best = int(np.argmin([misfit(u) for u in grid]))
        bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        b = float(np.exp(minimize_scalar(misfit, bounds=bounds, method="bounded").x) - np.log(dims[0]))
    chi_square, n = float(np.sum(residuals(b) ** 2)), len(dims)
    goodness = chi_square if errors is not None else n * np.log(max(chi_square / n, 1e-30))
    linear = rows @ (logs - law.offset(dims, b))
    return LawFit(law, tuple(linear.tolist()), b, goodness + 2 * law.n_parameters)
