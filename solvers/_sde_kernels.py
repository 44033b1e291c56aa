"""Compiled loop of the overlap diffusion: adaptive stochastic Heun steps, thresholds crossed by Brownian bridges.

In τ = δ t/d:  dα = [F(α) - (δ/2) V(α) α] dτ + √(δ/d) D(α)^½ dB, with F, V and D + F Fᵀ polynomials in the overlaps.
Numbers only; every jitted helper of `run_sde` lives in this file (Numba's cache knows only the file of the caller).
"""

import numpy as np
from numba import boolean, float64, int64, njit, types

from theory.jit import kernel

MATRIX, VECTOR = float64[:, ::1], float64[::1]


@njit(error_model="numpy")
def _monomials(exponents, alpha, powers, out):
    """α^exponents, exponents (r, n_monomials)."""
    r = alpha.size
    for a in range(r):
        powers[a, 0] = 1.0
        for k in range(1, powers.shape[1]):
            powers[a, k] = powers[a, k - 1] * alpha[a]
    for i in range(out.size):
        out[i] = powers[0, exponents[0, i]]
    for a in range(1, r):
        for i in range(out.size):
            out[i] *= powers[a, exponents[a, i]]


@njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _sums(coefficients, monomials, n, out):
    """The first n polynomials: coefficients (n_out, n_monomials) · monomials. Sums run in vector lanes."""
    for j in range(n):
        total = 0.0
        for i in range(monomials.size):
            total += coefficients[j, i] * monomials[i]
        out[j] = total


@njit(error_model="numpy")
def _moment(values, r, a, b):
    """Entry (a, b), a >= b, of the second moment, stored row by row as its lower triangle."""
    return values[r + 1 + a * (a + 1) // 2 + b]


@njit(error_model="numpy")
def _drift(values, alpha, lr, out):
    """F - (δ/2) V α."""
    for a in range(alpha.size):
        out[a] = values[a] - 0.5 * lr * values[alpha.size] * alpha[a]


@njit(error_model="numpy")
def _cholesky(values, r, lower):
    """Lower triangle of D = second moment - F Fᵀ; a pivot that rounding or a truncated series made negative is zero."""
    for a in range(r):
        for b in range(a + 1):
            total = _moment(values, r, a, b) - values[a] * values[b]
            for c in range(b):
                total -= lower[a, c] * lower[b, c]
            if a == b:
                lower[a, a] = np.sqrt(max(total, 0.0))
            else:
                lower[a, b] = total / lower[b, b] if lower[b, b] > 0.0 else 0.0


@njit(error_model="numpy")
def _rate(values, alpha, lr, noise, floor, stiffness):
    """Inverse time on which drift or noise changes the overlaps by their own size (not below `floor` ~ d^-1/2).

    `stiffness` holds a Lipschitz constant of F on shells, evenly spaced in log |α| from the floor to 1.
    """
    r = alpha.size
    size, spread = 0.0, 0.0
    for a in range(r):
        size += alpha[a] ** 2
        spread += _moment(values, r, a, a)
    size = max(np.sqrt(size), floor)
    shell = min(int(stiffness.size * (1.0 - np.log(size) / np.log(floor))), stiffness.size - 1)
    return stiffness[shell] + 0.5 * lr * values[r] + noise**2 * spread / size**2


@njit(error_model="numpy")
def _bridge(rng, gap, gap_end, variance):
    """Share of the step after which a Brownian bridge first gains `gap`, ending `gap_end` below the level; -1: never.

    It crosses for sure if gap_end <= 0, otherwise with probability exp(-2 gap gap_end/variance). Given that, u/(1 - u)
    of the share u is inverse Gaussian with mean gap/|gap_end| and shape gap²/variance.
    """
    if gap_end > 0.0 and (variance == 0.0 or rng.random() >= np.exp(-2.0 * gap * gap_end / variance)):
        return -1.0
    beyond = abs(gap_end)
    if variance < 1e-10 * gap * gap:
        return gap / (gap + beyond)
    shape = gap * gap / variance
    tangent = beyond < 1e-12 * gap  # the mean is infinite: a Lévy law
    odds = shape / max(rng.standard_normal() ** 2, 1e-300) if tangent else rng.wald(gap / beyond, shape)
    return odds / (1.0 + odds)


@njit(error_model="numpy")
def _cross(rng, before, after, variance, threshold, far):
    """Share of the step at which |α_k| first reaches the threshold, or -1. Levels more than `far` deviations off are out."""
    first = -1.0
    for sign in (1.0, -1.0):
        gap, gap_end = threshold - sign * before, threshold - sign * after
        if gap_end > 0.0 and gap * gap_end > far * variance:
            continue
        share = _bridge(rng, gap, gap_end, variance)
        if share >= 0.0 and (first < 0.0 or share < first):
            first = share
    return first


@njit(error_model="numpy")
def _stay(alpha):
    """Back onto the sphere along the radius where a step left the ball."""
    size = 0.0
    for a in range(alpha.size):
        size += alpha[a] ** 2
    if size > 1.0:
        for a in range(alpha.size):
            alpha[a] /= np.sqrt(size)


@njit(error_model="numpy")
def _heun(rng, exponents, coefficients, powers, monomials, lr, noise, h, alpha, values, lower, kick, ahead):
    """One step of length h from `alpha`, where the polynomials have `values`, to `ahead` (r,)."""
    r = alpha.size
    slope, slope_ahead, values_ahead = np.empty(r), np.empty(r), np.empty(values.size)
    _drift(values, alpha, lr, slope)
    _cholesky(values, r, lower)
    for a in range(r):
        kick[a] = rng.standard_normal()
    for a in range(r - 1, -1, -1):
        total = 0.0
        for b in range(a + 1):
            total += lower[a, b] * kick[b]
        kick[a] = noise * np.sqrt(h) * total
    for a in range(r):
        ahead[a] = alpha[a] + h * slope[a] + kick[a]
    _stay(ahead)
    _monomials(exponents, ahead, powers, monomials)
    _sums(coefficients, monomials, r + 1, values_ahead)
    _drift(values_ahead, ahead, lr, slope_ahead)
    for a in range(r):
        ahead[a] = alpha[a] + 0.5 * h * (slope[a] + slope_ahead[a]) + kick[a]
    _stay(ahead)


@njit(error_model="numpy")
def _waiting(escapes, stop_mask):
    """Whether a spike that was asked for has not escaped, or none was asked for."""
    asked, waiting = False, False
    for a in range(escapes.size):
        asked |= stop_mask[a]
        waiting |= stop_mask[a] and escapes[a] == np.inf
    return waiting or not asked


_RUN = int64(
    types.npy_rng, int64[:, ::1], MATRIX, VECTOR, float64, float64, float64, float64, VECTOR, float64, float64,
    boolean[::1], VECTOR, MATRIX, VECTOR,
)  # fmt: skip


@kernel(_RUN)
def run_sde(
    rng, exponents, coefficients, stiffness, lr, noise, floor, tolerance, alpha, end, threshold, stop_mask, record,
    overlaps, escapes,
):  # fmt: skip
    """One trajectory from overlaps `alpha` (r,), which advance in place, to τ = `end`; returns the number of steps.

    Heun in the drift with the noise of the step's beginning; step = tolerance / rate. `noise` = √(δ/d). `record` (n,) are
    sorted times τ at which the overlaps go to `overlaps` (n, r); `escapes` (r,) gets the first crossing of the threshold in
    τ (inf before). The run ends when every spike in `stop_mask` has escaped, if there is one.
    """
    r = alpha.size
    powers, values = np.empty((r, exponents.max() + 1)), np.empty(coefficients.shape[0])
    monomials = np.empty(coefficients.shape[1])
    kick, ahead, lower = np.empty(r), np.empty(r), np.zeros((r, r))
    tau, steps, next_record = 0.0, 0, 0
    for a in range(r):
        if abs(alpha[a]) >= threshold:
            escapes[a] = 0.0
    while True:
        while next_record < record.size and record[next_record] <= tau:
            for a in range(r):
                overlaps[next_record, a] = alpha[a]
            next_record += 1
        if tau >= end or not _waiting(escapes, stop_mask):
            return steps
        _monomials(exponents, alpha, powers, monomials)
        _sums(coefficients, monomials, values.size, values)
        limit = record[next_record] if next_record < record.size else end
        h = tolerance / _rate(values, alpha, lr, noise, floor, stiffness)
        finish = h >= limit - tau
        h = min(h, limit - tau)
        _heun(rng, exponents, coefficients, powers, monomials, lr, noise, h, alpha, values, lower, kick, ahead)
        for a in range(r):
            if escapes[a] == np.inf:
                spread = noise * noise * h * max(_moment(values, r, a, a) - values[a] * values[a], 0.0)
                share = _cross(rng, alpha[a], ahead[a], spread, threshold, 30.0)
                if share >= 0.0:
                    escapes[a] = tau + share * h
            alpha[a] = ahead[a]
        tau = limit if finish else tau + h
        steps += 1
