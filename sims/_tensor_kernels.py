"""Compiled inner loop of online SGD for tensor PCA in R^N, and the two ways to draw the noise of its gradient.

Frames are rows: X (r, N) holds x_1 ... x_r, V (r, N) the spikes. A noise is a function (z, X, snr, order, G) of normals z
that writes n_j = lambda_j * gradient of <W, x_j^(tensor p)>, summed over the p positions, to G (r, N). It comes as an
argument, as does the generator: ``fill(work, z)``, once a sample (theory/normals.py).

All jitted helpers live in this file (numba's cache knows only the file of the caller), before their callers. `contract` and
`reassoc` let sums run in fused vector lanes; both are fixed in the machine code, so results never depend on threads.
"""

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

from theory.jit import kernel

REACHED, STOPPED, DIVERGED = 0, 1, 2  # status of run_tensor

VECTOR, MATRIX, WORDS = float64[::1], float64[:, ::1], uint64[::1]
FILL = types.FunctionType(void(WORDS, VECTOR))
_NOISE = void(VECTOR, MATRIX, VECTOR, int64, MATRIX)
NOISE = types.FunctionType(_NOISE)

_summed = njit(error_model="numpy", fastmath={"contract", "reassoc"})


@_summed
def _dots(A, B, out):
    """out_ij = A_i . B_j."""
    for i in range(A.shape[0]):
        for j in range(B.shape[0]):
            total = 0.0
            for k in range(A.shape[1]):
                total += A[i, k] * B[j, k]
            out[i, j] = total


@_summed
def _add(c, x, out):
    for k in range(x.size):
        out[k] += c * x[k]


@kernel(_NOISE)
def explicit_noise(z, X, snr, order, G):
    """From the whole tensor W = z (N^p,): every position of it left open in turn, x_j in all others; O(p N^p) a column."""
    r, n = X.shape
    for j in range(r):
        x = X[j]
        G[j, :] = 0.0
        size = n**order
        rest = z[:size]  # W with x in its last positions
        for _ in range(order):
            open_last, left = rest, size
            while left > n:
                left //= n
                open_last = np.dot(x, open_last.reshape(n, left))
            _add(snr[j], open_last, G[j])
            size //= n
            rest = np.dot(rest.reshape(size, n), x)


@kernel(_NOISE)
def tensor_law(z, X, snr, order, G):
    """p >= 3: columns independent, covariance lambda_j^2 (p I + p(p-1) x_j x_j^T); N normals each."""
    r, n = X.shape
    root = np.sqrt(order)
    for j in range(r):
        along = 0.0
        for k in range(n):
            G[j, k] = root * snr[j] * z[j * n + k]
            along += X[j, k] * z[j * n + k]
        _add(root * (root - 1.0) * snr[j] * along, X[j], G[j])


@kernel(_NOISE)
def matrix_law(z, X, snr, order, G):  # noqa: ARG001 - one signature for all
    """p = 2: lambda_j (W + W^T) x_j, whose coordinates in the frame X are lambda_j (a + a^T), a standard normal (r, r)."""
    r, n = X.shape
    normals, a = z[: r * n].reshape(r, n), np.empty((r, r))
    _dots(X, normals, a)
    root = np.sqrt(2.0)
    for j in range(r):
        G[j, :] = 0.0
        _add(root * snr[j], normals[j], G[j])
        for k in range(r):
            _add(snr[j] * (a[k, j] + a[j, k] - root * a[k, j]), X[k], G[j])


@njit(error_model="numpy")
def _observe(t, M, threshold, stop_rows, record_times, next_record, overlaps, escapes):
    """Record, and mark escapes of, the state after t samples; returns (next_record, a member of every stop row escaped)."""
    r = M.shape[0]
    if next_record < record_times.size and record_times[next_record] == t:
        for i in range(r):
            for j in range(r):
                overlaps[next_record, i * r + j] = M[i, j]
        next_record += 1
    asked, waiting = False, False
    for i in range(r):
        found = False
        for j in range(r):
            if escapes[i * r + j] < 0 and abs(M[i, j]) >= threshold:
                escapes[i * r + j] = t
            found |= escapes[i * r + j] >= 0
        if stop_rows[i]:
            asked = True
            waiting |= not found
    return next_record, asked and not waiting


@njit(error_model="numpy")
def _ascend(order, snr, V, X, M, step, G, S):
    """X + step * T in place, T the tangent part of G plus the mean gradient."""
    r, n = X.shape
    for j in range(r):
        for i in range(r):
            _add(np.sqrt(n) * order * snr[i] * snr[j] * M[i, j] ** (order - 1), V[i], G[j])
    _dots(X, G, S)
    for j in range(r):
        for k in range(r):
            _add(-0.5 * (S[k, j] + S[j, k]), X[k], G[j])
    for j in range(r):
        _add(step, G[j], X[j])


@njit(error_model="numpy")
def _retract(X, gram, old):
    """X <- (X X^T)^(-1/2) X; False if it is not finite. X X^T is measured: rounding does not pile up."""
    r = X.shape[0]
    _dots(X, X, gram)
    if not np.all(np.isfinite(gram)):
        return False
    if r == 1:
        X[0] *= 1.0 / np.sqrt(gram[0, 0])
        return True
    values, vectors = np.linalg.eigh(gram)
    if not values[0] > 0.0:
        return False
    old[:] = X
    X[:] = 0.0
    for i in range(r):
        for j in range(r):
            c = 0.0
            for k in range(r):
                c += vectors[i, k] * vectors[j, k] / np.sqrt(values[k])
            _add(c, old[j], X[i])
    return True


_RUN = types.Tuple((int64, int64, int64))(
    FILL, NOISE, int64, VECTOR, MATRIX, MATRIX, WORDS, VECTOR, float64, int64, int64, float64, boolean[::1], int64[::1],
    int64, MATRIX, int64[::1],
)  # fmt: skip


@kernel(_RUN)
def run_tensor(
    fill, noise, order, snr, V, X, work, z, step, t0, t1, threshold, stop_rows, record_times, next_record, overlaps, escapes
):  # fmt: skip
    """Online SGD from sample t0 to at most t1; returns (t, next_record, status).

        X <- polar(X + step * T),   T = G - X^T (X G^T + G X^T)/2  (rows),   G = noise + sqrt(N) * mean gradient

    X (r, N) and the generators `work` advance in place; step = delta/N; z is room for a sample's normals. M = V X^T after
    record_times[k] samples goes row by row to overlaps[k]; escapes (r^2,) is -1 or the first t with |m_ij| >= threshold; the
    run stops when every row i with stop_rows[i] has an escaped member (never, if none is set).
    """
    r = X.shape[0]
    M, S, G, old = np.empty((r, r)), np.empty((r, r)), np.empty_like(X), np.empty_like(X)
    t = t0
    while True:
        _dots(V, X, M)
        next_record, done = _observe(t, M, threshold, stop_rows, record_times, next_record, overlaps, escapes)
        if done or t >= t1:
            return t, next_record, STOPPED if done else REACHED
        fill(work, z)
        noise(z, X, snr, order, G)
        _ascend(order, snr, V, X, M, step, G, S)
        t += 1
        if not _retract(X, S, old):
            return t, next_record, DIVERGED
