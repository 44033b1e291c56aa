"""Compiled inner loop of the overlap chain: LANES replicas side by side in the lanes of a vector unit.

A replica is its overlaps A_1 … A_r with the spikes and q = A_{r+1} > 0, the one with the part of w outside them, in the
basis u_1 … u_r, u_⊥ = w_⊥/|w_⊥|: a point on the unit sphere of R^{r+1}. A batch of inputs is known by its components
X = (ξ, a) in that basis, its labels, and one χ² with d - r - 1 degrees of freedom for all that is outside:

    N = A + Σ_b h_b (X_b - s_b A),   h_b = (δ/d) g(y_b, s_b),   s_b = A·X_b,   R² = χ² Σ_b h_b²
    A_k <- N_k / √(|N|² + R²),   q <- √(N_q² + R²) / √(|N|² + R²)

g of the smoothed loss is a function of ‖x‖² = |X|² + χ² too; its theta is not empty, and its batch is one sample.

Arrays are (rows, LANES). Random stream of a lane, a sample: r + n_extra + 3 normals (z, the label's n, a and two for
χ²), rounded up to an even number. Lanes share nothing, so that a replica does not depend on its lane or its neighbours.

Generator, law and gradient are arguments; the jitted helpers live in this file (theory/jit.py says why). `contract` lets
a*b + c become one fused operation; otherwise IEEE arithmetic.
"""

import math

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

from theory.jit import kernel

LANES = 16  # as in theory/normals.py: a literal, because the cache would not see it change there
IDLE, RUNNING, REACHED, STOPPED, DIVERGED = 0, 1, 2, 3, 4  # status of a lane

VECTOR, MATRIX, WORDS = float64[::1], float64[:, ::1], uint64[::1]
FILL = types.FunctionType(void(WORDS, VECTOR))  # fill(work, normals_out)
LAW = types.FunctionType(void(VECTOR, VECTOR, VECTOR, VECTOR))  # law(normals, theta, xi_out, y_out)
SLOPE = types.FunctionType(void(VECTOR, VECTOR, VECTOR, VECTOR, VECTOR))  # g(y, s, ‖x‖², theta, out)

_U = np.uint64
_contracted = njit(error_model="numpy", fastmath={"contract"})


@njit(error_model="numpy")
def _lanes(row):
    """LANES, in a form that is not a constant: LLVM vectorises such loops, and unrolls into scalars those of 16 rounds."""
    return min(_U(row.size), _U(LANES))


@kernel(void(FILL, WORDS, MATRIX, int64, VECTOR))
def draw_chi_squares(fill, work, normals, dof, out):
    """χ² with dof >= 1 degrees of freedom into `out` (LANES,) from normals (2, LANES), and more where they are rejected.

    Marsaglia & Tsang (2000): 2 a v³ with v = 1 + x/√(9a), a = dof/2 - 1/3, is accepted with probability e^{L(x)}; in place
    of a uniform number we compare with erf(|x'|/√2) of the second normal. Two bounds spare nearly all the logarithms:
    e^L >= 1 - 0.0221 x⁴/a (theirs at a = 2/3; e^L is convex in a at fixed v and 1 at a = 0, hence for all larger a) and
    erf(|x'|/√2) >= 0.68 min(|x'|, 1). They fail for one x in 15 a.
    """
    x, other, lanes = normals[0], normals[1], _lanes(out)
    if dof == 1:
        for i in range(lanes):
            out[i] = x[i] * x[i]
        return
    a = 0.5 * dof - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * a)
    doubtful = 0
    for i in range(lanes):
        v = 1.0 + c * x[i]
        out[i] = 2.0 * a * v * v * v
        doubtful += 1 if 0.68 * a * min(abs(other[i]), 1.0) <= 0.0221 * x[i] ** 4 else 0
    if doubtful == 0:
        return
    pair, spare = np.empty(2 * LANES), np.empty_like(work)
    for i in range(LANES):
        if 0.68 * a * min(abs(other[i]), 1.0) <= 0.0221 * x[i] ** 4:
            first, second = x[i], other[i]
            v = 1.0 + c * first
            while v <= 0.0 or math.erf(abs(second) / math.sqrt(2.0)) <= -math.expm1(
                0.5 * first * first + a * (1.0 - v * v * v + 3.0 * math.log(v))
            ):
                spare[:] = work
                fill(spare, pair)
                for k in range(i, 4 * LANES, LANES):  # only this lane has drawn
                    work[k] = spare[k]
                first, second = pair[i], pair[LANES + i]
                v = 1.0 + c * first
            out[i] = 2.0 * a * v * v * v


@_contracted
def _square_lengths(X, chi, out):
    """‖x‖² = |X|² + χ²."""
    lanes = _lanes(out)
    for i in range(lanes):
        out[i] = chi[i]
    for k in range(X.shape[0]):
        x = X[k]
        for i in range(lanes):
            out[i] += x[i] * x[i]


@_contracted
def _absorb(g, shape, A, X, squares, y, step, s, h, outside, N):
    """Add one input to the batch: N += h (X - s A), outside += h², with s = A·X and h = step g(y, s) as scratch.

    `shape` is the theta of g, `squares` ‖x‖², which is read only if theta is not empty.
    """
    lanes = _lanes(s)
    for i in range(lanes):
        s[i] = 0.0
    for k in range(A.shape[0]):
        a, x = A[k], X[k]
        for i in range(lanes):
            s[i] += a[i] * x[i]
    g(y, s, squares, shape, h)
    for i in range(lanes):
        h[i] *= step[i]
        outside[i] += h[i] * h[i]
    for k in range(A.shape[0]):
        a, x, n = A[k], X[k], N[k]
        for i in range(lanes):
            n[i] += h[i] * (x[i] - s[i] * a[i])


@_contracted
def _settle(N, outside, barrier, scale, A):
    """Normalise N, with the squared norm `outside` beyond its rows, into A and N; whether an |A_k| is not < barrier."""
    lanes, last = _lanes(scale), A.shape[0] - 1
    n = N[last]
    for i in range(lanes):
        scale[i] = n[i] * n[i] + outside[i]
        n[i] = math.sqrt(scale[i])
    for k in range(last):
        n = N[k]
        for i in range(lanes):
            scale[i] += n[i] * n[i]
    for i in range(lanes):
        scale[i] = 1.0 / math.sqrt(scale[i])
    hits = 0
    for k in range(A.shape[0]):
        a, n, ceiling = A[k], N[k], barrier[k]
        for i in range(lanes):
            value = n[i] * scale[i]
            a[i] = value
            n[i] = value
            hits += 0 if abs(value) < ceiling[i] else 1  # counts nan
    return hits > 0


@njit(error_model="numpy")
def _advance(fill, law, g, theta, shape, work, A, barrier, step, batch, dof, normals, steps):
    """Up to `steps` batches, fewer if a lane hits its barrier or is not finite; returns how many."""
    r = A.shape[0] - 1
    flat, across = normals.reshape(normals.size), normals[normals.shape[0] - 3]
    X, y, s, h = np.empty((r + 1, LANES)), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    xi, N, outside, chi = X.reshape(X.size), A.copy(), np.empty(LANES), np.empty(LANES)
    squares = np.empty(LANES)
    for t in range(steps):
        for i in range(LANES):
            outside[i] = 0.0
        for b in range(batch):
            fill(work, flat)
            law(flat, theta, xi, y)
            for i in range(LANES):
                X[r, i] = across[i]
            if b == batch - 1:
                draw_chi_squares(fill, work, normals[normals.shape[0] - 2 :], dof, chi)
            if shape.size:
                _square_lengths(X, chi, squares)
            _absorb(g, shape, A, X, squares, y, step, s, h, outside, N)
        for i in range(_lanes(chi)):
            outside[i] *= chi[i]
        if _settle(N, outside, barrier, s, A):
            return t + 1
    return steps


@njit(error_model="numpy")
def _observe(lane, t, A, threshold, stop_mask, barrier, record_times, next_record, overlaps, escapes):
    """Record, and mark escapes of, a lane after t samples; returns whether all that was asked has escaped."""
    while next_record[lane] < record_times.size and record_times[next_record[lane]] <= t:
        for k in range(stop_mask.size):
            overlaps[lane, next_record[lane], k] = A[k, lane]
        next_record[lane] += 1
    asked, waiting = False, False
    for k in range(stop_mask.size):
        if escapes[lane, k] < 0 and abs(A[k, lane]) >= threshold:
            escapes[lane, k] = t
            barrier[k, lane] = np.inf
        if stop_mask[k]:
            asked = True
            waiting |= escapes[lane, k] < 0
    return asked and not waiting


@njit(error_model="numpy")
def _batches_ahead(t, batch, samples, record_times, next_record):
    """Whole batches until the next record or the end; 0 at the end."""
    ahead = (samples - t) // batch
    if next_record < record_times.size:
        ahead = min(ahead, (record_times[next_record] - t + batch - 1) // batch)
    return ahead


_RUN = int64(
    FILL, LAW, SLOPE, VECTOR, VECTOR, WORDS, MATRIX, MATRIX, VECTOR, int64, int64, int64, int64, int64, float64,
    boolean[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[:, :, ::1], int64[:, ::1],
)  # fmt: skip


@kernel(_RUN)
def run_chain(
    fill, law, g, theta, shape, work, A, barrier, step, batch, dof, n_extra, steps, samples, threshold, stop_mask,
    record_times, status, clock, next_record, overlaps, escapes,
):  # fmt: skip
    """Advance the lanes whose status is RUNNING until one of them is done, at most `steps` batches; returns how many.

    theta and shape are the parameters of law and g. A, barrier (r + 1, LANES); step (LANES,) = delta/d, 0 in an idle lane,
    whose state then stays. A lane is done when no whole batch fits into `samples` (REACHED), when every k with stop_mask[k]
    has escaped (STOPPED; never, if none is set), or when its state is not finite (DIVERGED). `clock`, `next_record`,
    `status` (LANES,), `overlaps` (LANES, n, r), filled at the first batch end not before record_times (n,), and `escapes`
    (LANES, r), -1 or the first time with |A_k| >= threshold, belong to the lanes; barrier[k] is the threshold until then,
    afterwards infinite.

    A run cut into calls is bit-identical to a single one.
    """
    r = A.shape[0] - 1
    normals = np.empty(((r + n_extra + 4) // 2 * 2, LANES))
    taken = 0
    while True:
        ahead, done = steps - taken, False
        for lane in range(LANES):
            if status[lane] != RUNNING:
                continue
            t = clock[lane]
            stopped = _observe(lane, t, A, threshold, stop_mask, barrier, record_times, next_record, overlaps, escapes)
            left = _batches_ahead(t, batch, samples, record_times, next_record[lane])
            if not A[r, lane] < np.inf:
                status[lane] = DIVERGED
            elif stopped:
                status[lane] = STOPPED
            elif left <= 0:
                status[lane] = REACHED
            done |= status[lane] != RUNNING
            ahead = min(ahead, left)
        if done or ahead <= 0:
            return taken
        moved = _advance(fill, law, g, theta, shape, work, A, barrier, step, batch, dof, normals, ahead)
        taken += moved
        for lane in range(LANES):
            if status[lane] == RUNNING:
                clock[lane] += moved * batch


_FOLLOW = void(SLOPE, VECTOR, MATRIX, VECTOR, float64[:, :, :, ::1], float64[:, :, ::1], MATRIX, float64[:, :, ::1])


@kernel(_FOLLOW)
def follow_chain(g, shape, A, step, X, y, chi, states):
    """The same step on given data: X (n, B, r + 1, LANES), y (n, B, LANES), chi (n, LANES); states (n, r + 1, LANES) out."""
    h, s, outside, squares = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    N, barrier = A.copy(), np.full(A.shape, np.inf)
    for t in range(X.shape[0]):
        outside[:] = 0.0
        for b in range(X.shape[1]):
            if shape.size:
                _square_lengths(X[t, b], chi[t], squares)
            _absorb(g, shape, A, X[t, b], squares, y[t, b], step, s, h, outside, N)
        for i in range(LANES):
            outside[i] *= chi[t, i]
        _settle(N, outside, barrier, s, A)
        states[t] = A
