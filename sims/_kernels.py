"""Compiled inner loops of high-dimensional SGD: a normal generator that vectorises, and online projected SGD.

The engine the low-dimensional views are tested against: it keeps the real vector w in R^d and takes every overlap and
norm from it by dot products. A sample costs O(d (r + 2)), mostly its d normals; memory is O(d (r + 3)), nothing d x d.

Random stream. `state` holds LANES xoshiro256++ generators, one a column; make it with
``seed_sequence.generate_state(4 * LANES, np.uint64).reshape(4, LANES)``. Every sample of `run_sgd` is ONE call
``fill_normals(state, buffer)`` with ``buffer.size = stream_length(d, n_extra)``: the first d entries are the raw input
z, the next n_extra the label's normals n, the rest is discarded.

All jitted helpers live in this file (numba's cache knows only the file of the caller), before the kernels that call
them (explicit signatures compile at once). IEEE arithmetic, except where a fast-math set is named: `contract` lets
a*b + c become one fused operation, `reassoc` lets a sum run in vector lanes. Both are fixed in the machine code:
results depend on the seed and the processor type, never on threads or timing.
"""

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

LANES = 16
BLOCK = 2 * LANES  # normals come in pairs: lengths are multiples of this
CHUNK = 1024  # words drawn before they are transformed: both fit the first-level cache
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


def _kernel(signature):
    """Compile at once and cache on disk; compile anew in each process where no folder can be written."""

    def compiled(function):
        try:
            return njit(signature, cache=True, nogil=True, error_model="numpy")(function)
        except RuntimeError:
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compiled


@njit(error_model="numpy")
def _rotl(x, k):
    return (x << _U(k)) | (x >> _U(64 - k))


@njit(error_model="numpy")
def _xoshiro(work, words):
    """Next `words` (a multiple of LANES) outputs of xoshiro256++ [Blackman, Vigna 2021] into work[4 LANES:].

    Unsigned indices into one array: LLVM then sees that state and outputs are apart, and vectorises over the lanes.
    """
    n = _U(LANES)
    for i in range(words // LANES):
        start = (_U(4) + _U(i)) * n
        for lane in range(n):
            s0, s1 = work[lane], work[n + lane]
            s2, s3 = work[_U(2) * n + lane], work[_U(3) * n + lane]
            work[start + lane] = _rotl(s0 + s3, 23) + s0
            t = s1 << _U(17)
            s2, s3 = s2 ^ s0, s3 ^ s1
            work[n + lane] = s1 ^ s2
            work[lane] = s0 ^ s3
            work[_U(2) * n + lane] = s2 ^ t
            work[_U(3) * n + lane] = _rotl(s3, 45)


@_contracted
def _minus_two_log(u):
    """-2 log u, u in (0, 1]: u = 2^e m, m in [sqrt(1/2), sqrt 2), log m = 2 artanh((m - 1)/(m + 1))."""
    k = np.float64(u).view(np.uint64) + (_ONE_BITS - _ROOT_HALF_BITS)
    m = _U((k & _MANTISSA) + _ROOT_HALF_BITS).view(np.float64)
    e = _U((k >> _U(52)) | _TWO_52_BITS).view(np.float64) - (4503599627370496.0 + 1023.0)
    f = (1.0 - m) / (1.0 + m)
    q = f * f
    p = 0.29619735144627 * q + 0.306250262294766  # 4 artanh(f)/f, Chebyshev nodes on f^2 <= 0.0295
    p = (p * q + 0.3636726448323405) * q + 0.4444439441280855
    p = (p * q + 0.5714285752147656) * q + 0.7999999999860382
    p = (p * q + 1.333333333333353) * q + 4.0
    return f * p - 1.3862943611198906 * e


@_contracted
def _sincos_pi(x):
    """sin(pi x), cos(pi x), |x| <= 1/2, errors below 4e-16 (Chebyshev nodes in x^2)."""
    q = x * x
    p = -2.113362735205297e-05 * q + 0.0004659870158043378
    p = (p * q - 0.0073703643265304155) * q + 0.08214587881631043
    p = (p * q - 0.599264528825224) * q + 2.5501640398618677
    p = (p * q - 5.1677127800497855) * q + 3.1415926535897927
    c = 4.149564353942586e-06 * q - 0.00010456655338748738
    c = (c * q + 0.0019295562724817132) * q - 0.025806888737002202
    c = (c * q + 0.23533063012953284) * q - 1.335262768843447
    c = (c * q + 4.058712126416497) * q - 4.934802200544676
    return p * x, c * q + 1.0


@_contracted
def _box_muller(radii, angles, first, second):
    """first, second = r sin(pi x), +-r cos(pi x), with r^2 = -2 log u, u in (0, 1], x in [-1/2, 1/2), a random sign.

    u and x take the top 52 bits of a word, the sign the lowest bit of the word of x; no branch, no table, log u finite.
    """
    for i in range(first.size):
        u = 2.0 - _U((radii[i] >> _U(12)) | _ONE_BITS).view(np.float64)
        x = _U((angles[i] >> _U(12)) | _ONE_BITS).view(np.float64) - 1.5
        r = np.sqrt(_minus_two_log(u))
        sine, cosine = _sincos_pi(x)
        first[i] = r * sine
        second[i] = _U(np.float64(r * cosine).view(np.uint64) ^ (angles[i] << _U(63))).view(np.float64)


@njit(error_model="numpy")
def _fill(work, out):
    """Normals into `out` (size a multiple of BLOCK), generator state in work[:4 LANES]."""
    for i in range(0, out.size, CHUNK):
        n = min(CHUNK, out.size - i)
        h = n // 2
        _xoshiro(work, n)
        words = work[4 * LANES :]
        _box_muller(words[:h], words[h:n], out[i : i + h], out[i + h : i + n])


@njit(error_model="numpy")
def _load(state):
    work = np.empty(4 * LANES + CHUNK, np.uint64)
    for i in range(4 * LANES):  # here and below loops, not slice assignments: those cost numba 4 s of compilation
        work[i] = state[i // LANES, i % LANES]
    return work


@njit(error_model="numpy")
def _store(work, state):
    for i in range(4 * LANES):
        state[i // LANES, i % LANES] = work[i]


@_kernel(void(uint64[:, ::1], VECTOR))
def fill_normals(state, out):
    """Standard normals into `out` (n,), n a multiple of BLOCK; `state` (4, LANES) advances by n / LANES draws a lane.

    `out` is filled in chunks of CHUNK (the last may be shorter): a chunk of 2h takes 2h words, lane after lane, h for
    the radii and h for the angles of Box-Muller, and holds the h sines, then the h cosines.
    """
    if out.size % BLOCK != 0:
        raise ValueError("fill_normals: out.size must be a multiple of BLOCK; draw more and cut")
    work = _load(state)
    _fill(work, out)
    _store(work, state)


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


def stream_length(d, n_extra):
    """Normals consumed by one sample: d + n_extra rounded up to a multiple of BLOCK."""
    return -(-(d + n_extra) // BLOCK) * BLOCK


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
    LAW, SLOPE, VECTOR, float64[:, ::1], VECTOR, uint64[:, ::1], float64, int64, int64, int64, int64, float64,
    boolean[::1], int64[::1], int64, float64[:, ::1], int64[::1],
)  # fmt: skip


@_kernel(_RUN)
def run_sgd(
    law, g, theta, U, w, state, step, batch, n_extra, t0, t1, threshold, stop_mask, record_times, next_record,
    overlaps, escapes,
):  # fmt: skip
    """Online projected SGD of one neuron, from sample t0 to at most t1; returns (t, next_record, status).

    w <- w + step * sum_b g(y_b, s_b) (x_b - s_b w), then w <- w / |w|, with s = w.x, x = z + U^T (xi - U z) and
    y = law(U z, n, theta, xi): the law sets the r components of x along the spikes.

    theta (m,); U (r, d) with orthonormal rows; w (d,) and state (4, LANES) advance in place; step = delta/d. The run
    goes by whole batches, batch >= 1. The overlaps after record_times[j] samples (sorted; the first batch end not
    before) go to overlaps[j], shape (n, r), from j = next_record on; escapes (r,) is -1 or the first t with
    |alpha_k| >= threshold; the run stops when every k with stop_mask[k] has escaped (never, if none is set).

    Only the ray of w counts: w returns as the last step left it BEFORE its normalisation (|w|^2 = 1 + O(delta^2/d)),
    and the next call normalises it as this one would have. So a run cut into calls is bit-identical to a single one.
    """
    r, d = U.shape
    z = np.zeros(-(-(d + n_extra) // BLOCK) * BLOCK)  # stream_length
    rows, work = _workspace(U, w, z.size), _load(state)
    gradient = z if batch == 1 else np.zeros(z.size)
    dots, own, c = np.empty(rows.shape[0]), np.empty(rows.shape[0]), np.zeros(rows.shape[0])
    alpha, xi, t, status = np.empty(r), np.empty(r), t0, DIVERGED
    z_U, n, padding = dots[1 : r + 1], z[d : d + n_extra], z[d:]
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
            _fill(work, z)
            _dots(rows, z, dots)
            s = scale * dots[0]
            y = law(z_U, n, theta, xi)
            for i in range(padding.size):
                padding[i] = 0.0  # n is used up; the padding of w must stay zero
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
    _store(work, state)
    return t, next_record, status
