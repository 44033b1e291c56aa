"""Compiled inner loops of high-dimensional SGD: a normal generator that vectorises, and online projected SGD.

This is the engine the low-dimensional views are tested against, so it keeps the real vector w in R^d and takes every
overlap and norm from it by direct dot products.  One sample costs O(d (r + 2)) operations, of which the d normals
are most; memory is O(d (r + 3)); nothing is d x d and nothing has the length of the run.

Random stream.  `state` holds LANES independent xoshiro256++ generators, one a column, words down the rows; make it
with ``seed_sequence.generate_state(4 * LANES, np.uint64).reshape(4, LANES)``.  Every sample of `run_sgd` is ONE call
``fill_normals(state, buffer)`` with ``buffer.size = stream_length(d, n_extra)``: the first d entries are the raw input
z, the next n_extra are the label's normals n, the rest is discarded.

All jitted helpers live in this file: numba's cache knows the file of the caller only.  Arithmetic is IEEE except where
a fast-math set is named: `contract` lets a*b + c become one fused operation, `reassoc` lets a sum run in vector lanes.
Both are fixed when the machine code is made, so results depend on (seed, processor type), never on threads or timing.
"""

import numpy as np
from numba import float64, int64, njit, types

LANES = 16
BLOCK = 2 * LANES  # normals come in pairs: lengths are multiples of this
CHUNK = 256  # words drawn before they are transformed: stays in the first-level cache
REACHED, STOPPED, DIVERGED = 0, 1, 2  # status of run_sgd

VECTOR = float64[::1]
LAW = types.FunctionType(float64(VECTOR, VECTOR, VECTOR, VECTOR))  # law(z_U, n, theta, xi_out) -> y
SLOPE = types.FunctionType(float64(float64, float64))  # g(y, s)

_U = np.uint64
_ONE_BITS = _U(0x3FF0000000000000)  # the double 1.0
_ROOT_HALF_BITS = _U(0x3FE6A09E667F3BCD)  # the double sqrt(1/2)
_MANTISSA = _U(0x000FFFFFFFFFFFFF)
_TWO_52_BITS = _U(0x4330000000000000)  # 2^52 + k has the integer k in its mantissa

_contracted = njit(error_model="numpy", fastmath={"contract"})
_summed = njit(error_model="numpy", fastmath={"contract", "reassoc"})


# --- run ---------------------------------------------------------------------------------------------------------


def stream_length(d, n_extra):
    """Normals consumed by one sample: d + n_extra rounded up to a multiple of BLOCK."""
    return -(-(d + n_extra) // BLOCK) * BLOCK


@njit(error_model="numpy")
def _observe(t, alpha, threshold, stop_mask, record_times, next_record, overlaps_out, escape_out):
    """Record and mark escapes of the state after t samples; returns (next_record, everything asked for escaped)."""
    while next_record < record_times.size and record_times[next_record] <= t:
        overlaps_out[next_record, :] = alpha
        next_record += 1
    asked, waiting = False, False
    for k in range(alpha.size):
        if escape_out[k] < 0 and abs(alpha[k]) >= threshold:
            escape_out[k] = t
        asked |= stop_mask[k]
        waiting |= stop_mask[k] and escape_out[k] < 0
    return next_record, asked and not waiting


_RUN = types.Tuple((int64, int64, int64))(
    LAW, SLOPE, VECTOR, float64[:, ::1], VECTOR, types.uint64[:, ::1], float64, int64, int64, int64, int64, float64,
    types.boolean[::1], int64[::1], int64, float64[:, ::1], int64[::1],
)  # fmt: skip


@njit(_RUN, cache=True, nogil=True, error_model="numpy")
def run_sgd(
    law, g, theta, U, w, state, step, batch, n_extra, t0, t1, threshold, stop_mask, record_times, next_record,
    overlaps_out, escape_out,
):  # fmt: skip
    """Online projected SGD of one neuron, from sample t0 to at most t1.

    w <- w + step * sum_b g(y_b, s_b) (x_b - s_b w), then w <- w / |w|, with s = w.x and
    x = z + U^T (xi - U z), y = law(U z, n, theta, xi): the law sets the r components of x along the spikes.

    Only the ray of w is meant: on return w is the last step BEFORE its normalisation (|w|^2 = 1 + O(delta^2/d)), which
    the next call normalises as this one would have done.  So a run cut into calls is bit-identical to one call.

    Parameters: theta any shape (m,); U (r, d) orthonormal rows; w (d,) and state (4, LANES), both advanced in place;
    step = delta/d; batch B >= 1, and the run advances by whole batches, so t <= t1; record_times (n,) sorted, the
    overlaps after that many samples (the first batch end not before) go to overlaps_out[next_record] (n, r);
    escape_out (r,) is -1 or the first t with |alpha_k| >= threshold; the run stops once every k with stop_mask[k] has
    escaped (never, if none is set).

    Returns (t, next_record, status), status REACHED, STOPPED or DIVERGED (|w| zero or not finite).
    """
    r, d = U.shape
    rows, z, raw = _workspace(U, w, n_extra)
    gradient = z if batch == 1 else np.zeros_like(z)
    dots, coefficients = np.empty(rows.shape[0]), np.zeros(rows.shape[0])
    alpha, xi = np.empty(r), np.empty(r)
    t, status = t0, REACHED
    coefficients[0] = 1.0  # "no step": measures w as a step would have
    _combine(rows, z, 0.0, coefficients, dots)
    while True:
        if not (0.0 < dots[0] < np.inf):
            status = DIVERGED
            break
        scale = 1.0 / np.sqrt(dots[0])
        for k in range(r):
            alpha[k] = scale * dots[1 + k]
        next_record, done = _observe(
            t, alpha, threshold, stop_mask, record_times, next_record, overlaps_out, escape_out
        )
        if done:
            status = STOPPED
        if done or t + batch > t1:
            break
        ...
    w[:] = rows[0, :d]
    return t, next_record, status
