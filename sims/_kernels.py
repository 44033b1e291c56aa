"""Compiled inner loop of high-dimensional SGD: online projected SGD of one neuron.

The engine the low-dimensional views are tested against: it keeps the real vector w in R^d and takes every overlap and
norm from it by dot products. A sample costs O(d (r + 2)), mostly its d normals; memory is O(d (r + 3)), nothing d x d.

Random stream. The generator comes as an argument, ``fill(work, out)`` (theory/normals.py). Every sample is ONE call
``fill(work, z)``, z of at least d + n_extra entries: the first d are the raw input, the next n_extra the label's
normals n, the rest is discarded.

All jitted helpers live in this file (numba's cache knows only the file of the caller), before the kernels that call
them (explicit signatures compile at once). IEEE arithmetic, except where a fast-math set is named: `contract` lets
a*b + c become one fused operation, `reassoc` lets a sum run in vector lanes. Both are fixed in the machine code:
results depend on the seed and the processor type, never on threads or timing.
"""

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

from theory.jit import kernel

REACHED, STOPPED, DIVERGED = 0, 1, 2  # status of run_sgd

VECTOR, WORDS = float64[::1], uint64[::1]
FILL = types.FunctionType(void(WORDS, VECTOR))  # fill(work, normals_out)
LAW = types.FunctionType(float64(VECTOR, VECTOR, VECTOR, VECTOR))  # law(z_U, n, theta, xi_out) -> y
SLOPE = types.FunctionType(float64(float64, float64))  # g(y, s)

_contracted = njit(error_model="numpy", fastmath={"contract"})
_summed = njit(error_model="numpy", fastmath={"contract", "reassoc"})


# Linear algebra on the rows [w, u_1, ..., u_r, 0, ...], zero-padded to 3k rows of the length of z: no remainder loops.


@njit(error_model="numpy")
def _workspace(U, w, width):
    """Rows [w; U; 0] (R, width), R the next multiple of 3."""
    r, d = U.shape
    rows = np.zeros((3 * (r // 3 + 1), width))
    for i in range(d):
        rows[0, i] = w[i]
        for k in range(r):
            rows[1 + k, i] = U[k, i]
    return rows


@_summed
def _dots(rows, z, out):
    """out_k = rows_k . z, for all k; out (R,)."""
    for k in range(0, rows.shape[0], 3):
        a, b, c = rows[k], rows[k + 1], rows[k + 2]
        sum_a, sum_b, sum_c = 0.0, 0.0, 0.0
        for i in range(z.size):
            sum_a += a[i] * z[i]
            sum_b += b[i] * z[i]
            sum_c += c[i] * z[i]
        out[k], out[k + 1], out[k + 2] = sum_a, sum_b, sum_c


@_summed
def _step(rows, z, c_z, c, out):
    """Move w to c_0 w + c_z z + sum_k c_k u_k, then out_k = rows_k . w; c, out (R,)."""
    w, a, b = rows[0], rows[1], rows[2]
    c_w, c_a, c_b = c[0], c[1], c[2]
    for k in range(3, rows.shape[0], 3):
        _add(w, rows[k], rows[k + 1], rows[k + 2], c_w, c[k], c[k + 1], c[k + 2])
        c_w = 1.0
    sum_w, sum_a, sum_b = 0.0, 0.0, 0.0
    for i in range(z.size):
        x = c_w * w[i] + c_z * z[i] + c_a * a[i] + c_b * b[i]
        w[i] = x
        sum_w += x * x
        sum_a += x * a[i]
        sum_b += x * b[i]
    out[0], out[1], out[2] = sum_w, sum_a, sum_b
    if rows.shape[0] > 3:
        _dots(rows[3:], w, out[3:])


@_contracted
def _add(w, x, y, z, c_w, c_x, c_y, c_z):
    for i in range(w.size):
        w[i] = c_w * w[i] + c_x * x[i] + c_y * y[i] + c_z * z[i]


@_contracted
def _accumulate(total, c, z):
    for i in range(total.size):
        total[i] += c * z[i]


@njit(error_model="numpy")
def _observe(t, alpha, threshold, stop_mask, record_times, next_record, overlaps, escapes):
    """Record, and mark escapes of, the state after t samples; returns (next_record, all that was asked escaped)."""
    while next_record < record_times.size and record_times[next_record] <= t:
        for k in range(alpha.size):
            overlaps[next_record, k] = alpha[k]
        next_record += 1
    asked, waiting = False, False
    for k in range(alpha.size):
        if escapes[k] < 0 and abs(alpha[k]) >= threshold:
            escapes[k] = t
        if stop_mask[k]:
            asked = True
            waiting |= escapes[k] < 0
    return next_record, asked and not waiting


_RUN = types.Tuple((int64, int64, int64))(
    FILL, LAW, SLOPE, VECTOR, float64[:, ::1], VECTOR, WORDS, int64, float64, int64, int64, int64, float64,
    boolean[::1], int64[::1], int64, float64[:, ::1], int64[::1],
)  # fmt: skip


@kernel(_RUN)
def run_sgd(
    fill, law, g, theta, U, w, work, n_normals, step, batch, t0, t1, threshold, stop_mask, record_times, next_record,
    overlaps, escapes,
):  # fmt: skip
    """Online projected SGD of one neuron, from sample t0 to at most t1; returns (t, next_record, status).

    w <- w + step * sum_b g(y_b, s_b) (x_b - s_b w), then w <- w / |w|, with s = w.x, x = z + U^T (xi - U z) and
    y = law(U z, n, theta, xi): the law sets the r components of x along the spikes.

    theta (m,); U (r, d) with orthonormal rows; w (d,) and the generators `work` advance in place; every sample draws
    n_normals; step = delta/d. The run goes by whole batches, batch >= 1. The overlaps after record_times[j] samples
    (sorted; the first batch end not before) go to overlaps[j], shape (n, r), from j = next_record on; escapes (r,) is -1
    or the first t with |alpha_k| >= threshold; the run stops when every k with stop_mask[k] has escaped (never, if none
    is set).

    Only the ray of w counts: w returns as the last step left it BEFORE its normalisation (|w|^2 = 1 + O(delta^2/d)),
    and the next call normalises it as this one would have. So a run cut into calls is bit-identical to a single one.
    """
    r, d = U.shape
    z = np.zeros(n_normals)  # allocated here: Numba aligns it
    rows = _workspace(U, w, n_normals)
    gradient = z if batch == 1 else np.zeros(z.size)
    dots, own, c = np.empty(rows.shape[0]), np.empty(rows.shape[0]), np.zeros(rows.shape[0])
    alpha, xi, t, status = np.empty(r), np.empty(r), t0, DIVERGED
    z_U, n = dots[1 : r + 1], z[d:]
    c[0] = 1.0
    _step(rows, z, 0.0, c, own)  # no move: measures w by the operations that measured it after its last step
    while 0.0 < own[0] < np.inf:
        scale = 1.0 / np.sqrt(own[0])  # w = scale * rows[0]
        for k in range(r):
            alpha[k] = scale * own[1 + k]
        next_record, done = _observe(t, alpha, threshold, stop_mask, record_times, next_record, overlaps, escapes)
        if done or t + batch > t1:
            status = STOPPED if done else REACHED
            break
        for k in range(c.size):
            c[k] = 0.0
        c[0], c_z, moved = 1.0, 1.0, False  # w <- c_0 w + c_z gradient + sum_k c_k u_k
        for _ in range(batch):
            fill(work, z)
            _dots(rows, z, dots)
            s = scale * dots[0]
            y = law(z_U, n, theta, xi)
            for i in range(n.size):
                n[i] = 0.0  # n is used up; the padding of w must stay zero
            for k in range(r):
                xi[k] -= z_U[k]
                s += alpha[k] * xi[k]
            h = step * g(y, s)
            moved |= h != 0.0
            c[0] -= h * s
            for k in range(r):
                c[1 + k] += h * xi[k]
            if batch == 1:
                c_z = h
            else:
                _accumulate(gradient, h, z)
        if moved:  # a ReLU that is off leaves w as it is
            c[0] *= scale
            _step(rows, gradient, c_z, c, own)
            if batch > 1:
                gradient[:] = 0.0
        t += batch
    for i in range(d):
        w[i] = rows[0, i]
    return t, next_record, status
