"""Tests of H0: rank <= k, for a table of probabilities of two groups of variables and for a cross-covariance.

Scale the table by its margins, S_ij = p_ij/√(r_i c_j), and let C, D span the left and right singular vectors beyond the k-th.
If rank(P) <= k, then C'SD is zero up to sampling noise, and errors of C, D and of the margins enter only at second order
(Robin & Smith 2000, Econometric Theory 16:151; Kleibergen & Paap 2006, J. Econometrics 133:97). The statistic
n vec(C'SD)' W⁻¹ vec(C'SD), W the multinomial covariance of √n C'SD at the fitted table of rank k, is asymptotically
chi-squared with (rows − k)(columns − k) degrees of freedom, fewer where states were never seen; stochastically smaller if
the rank is below k. At k = 1 it is Pearson's statistic of independence, exactly where half a sample or more is expected in
every cell. The limit is good when that holds; with rarer cells the test alarms less than its level, not more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri
from scipy.stats import ncx2

from theory.errors import require
from theory.results import Array

ZERO = 1e-9  # singular values and relative eigenvalues below it are rounding
CHUNK = 2**22  # numbers held at a time
LEAST_COUNT = 0.5  # variance given to any cell, in samples: without it rare cells inflate the far tail


@dataclass(frozen=True)
class RankTests:
    """Statistics, degrees of freedom and p-values of tests of rank <= k; each of shape (n_tests,)."""

    statistic: Array
    dof: Array
    p_value: Array


def table_rank_tests(tables: Array, samples: float, rank: int) -> RankTests:
    """Tests for tables (n_tests, rows, columns) of counts or of probabilities estimated from ``samples`` samples each.

    ``samples = inf`` takes the tables as exact: p is 1 where the rank is <= k up to rounding, 0 elsewhere. Raises InputError.
    """
    require(tables.ndim == 3 and tables.size > 0, "tables", tables.shape, "an array (n_tests, rows, columns)")
    require(bool(np.all(np.isfinite(tables)) and np.all(tables >= 0)), "tables", "a bad number", "numbers >= 0")
    totals = tables.sum(axis=(1, 2))
    require(bool(np.all(totals > 0)), "tables", "an empty table", "samples in each")
    require(rank >= 1, "rank", rank, "a whole number >= 1: every table of probabilities has rank 1 or more")
    require(samples > 0, "samples", samples, "a number > 0")
    n_tests, rows, columns = tables.shape
    if rank >= min(rows, columns):
        return RankTests(np.zeros(n_tests), np.zeros(n_tests), np.ones(n_tests))
    at_once = max(1, CHUNK // (rows * columns * (rows - rank) * (columns - rank)))
    parts = [
        _chunk(tables[i : i + at_once] / totals[i : i + at_once, None, None], samples, rank)
        for i in range(0, n_tests, at_once)
    ]
    return RankTests(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _chunk(tables: Array, samples: float, rank: int) -> tuple[Array, Array, Array]:
    margins = np.sqrt(tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :])
    inverse = np.divide(1.0, margins, out=np.zeros_like(margins), where=margins > 0)
    left, values, right = np.linalg.svd(tables * inverse)
    if np.isinf(samples):
        beyond = values[:, rank] > ZERO
        return np.where(beyond, np.inf, 0.0), np.full(len(tables), np.nan), np.where(beyond, 0.0, 1.0)
    fitted = (left[:, :, :rank] * values[:, None, :rank]) @ right[:, :rank, :]
    weights = np.maximum(fitted, LEAST_COUNT / samples * inverse) * inverse
    c, d = left[:, :, rank:], right[:, rank:, :]
    n_cells = tables.shape[1] * tables.shape[2]
    cells = np.einsum("tia,tbj->tijab", c, d).reshape(len(tables), n_cells, -1)
    covariance = np.einsum("tcx,tc,tcy->txy", cells, weights.reshape(len(tables), -1), cells, optimize=True)
    tail = np.einsum("tcx,tc->tx", cells, (tables * inverse).reshape(len(tables), -1))
    return _wald(tail, covariance, samples)


def _wald(tail: Array, covariance: Array, samples: float) -> tuple[Array, Array, Array]:
    """n tail' W⁺ tail; directions without variance carry no degree of freedom."""
    variances, axes = np.linalg.eigh(covariance)
    alive = variances > ZERO * np.maximum(variances.max(axis=1, keepdims=True), ZERO)
    along = np.einsum("txy,tx->ty", axes, tail)
    squares = np.divide(along**2, variances, out=np.zeros_like(along), where=alive)
    statistic, dof = samples * squares.sum(axis=1), alive.sum(axis=1).astype(float)
    return statistic, dof, np.where(dof > 0, chdtrc(np.maximum(dof, 1), statistic), 1.0)


def table_rank_power(table: Array, samples: float, rank: int, level: float) -> float:
    """Probability that the test rejects rank <= k at this level when ``table`` is the truth.

    The noncentral chi-squared law with n vec(C'SD)' W⁻¹ vec(C'SD) at the truth: exact for local alternatives as n → ∞.
    """
    require(0 < level < 1, "level", level, "a number between 0 and 1")
    test = table_rank_tests(np.asarray(table, dtype=float)[None], samples, rank)
    dof = float(test.dof[0])
    return float(ncx2.sf(chdtri(dof, level), dof, max(float(test.statistic[0]), ZERO))) if dof else 0.0


def covariance_rank_test(x: Array, y: Array, rank: int) -> RankTests:
    """Test that the cross-covariance of x (n, p) and y (n, q) has rank <= k, k >= 0, from n joint samples.

    The same statistic for S = Cov(x)^{-1/2} Cov(x, y) Cov(y)^{-1/2}, whose singular values are the canonical correlations; W
    is the sample covariance of the products, so that no law of x and y is assumed. k = 0: no correlation. Raises InputError.
    """
    require(x.ndim == y.ndim == 2 and len(x) == len(y), "x, y", (x.shape, y.shape), "arrays (n, p) and (n, q)")
    n, p, q = len(x), x.shape[1], y.shape[1]
    require(0 <= rank < min(p, q), "rank", rank, f"0 … {min(p, q) - 1}")
    require(n > p * q + p + q, "samples", n, f"more than {p * q + p + q} for these dimensions")
    white_x, white_y = _whitened(x), _whitened(y)
    left, _, right = np.linalg.svd(white_x.T @ white_y / n)
    along_x, along_y = white_x @ left[:, rank:], white_y @ right[rank:].T
    products = np.einsum("na,nb->nab", along_x, along_y).reshape(n, -1)
    covariance = np.atleast_2d(np.cov(products, rowvar=False, bias=True))
    return RankTests(*_wald(products.mean(axis=0)[None], covariance[None], n))


def _whitened(x: Array) -> Array:
    """Centred, with the identity as sample covariance."""
    centred = x - x.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    require(bool(values[-1] > ZERO * values[0] > 0), "x, y", "a degenerate covariance", "linearly independent columns")
    return np.asarray(left * np.sqrt(len(x)))


def holm(p_values: Array, level: float) -> NDArray[np.bool_]:
    """Rejections (a Boolean array of the shape of ``p_values``) with the chance of any false one <= level (Holm 1979)."""
    flat = np.ravel(p_values)
    ordered = np.sort(flat)
    passed = ordered <= level / np.arange(flat.size, 0, -1)
    n = flat.size if passed.all() else int(np.argmin(passed))
    return np.asarray(p_values <= ordered[n - 1], dtype=bool) if n else np.zeros(np.shape(p_values), dtype=bool)
