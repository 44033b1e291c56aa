"""Compiled inner loop of the Gram chain: a two-layer network in R (K, r) and P = W_⊥ W_⊥ᵀ (K, K), whatever d (theory §5).

A block of n inputs is known by its components in an orthonormal frame: ξ along the spikes, g along the span of W_⊥, where
W_⊥ = L × frame with L Lᵀ = P, and T along n further directions, one opened by each input (Bartlett: T is lower triangular,
its diagonal the root of a χ², what lies below it standard normal). Fields and inner products at the block's start follow,

    H = Ξ Rᵀ + G Lᵀ,   S = Ξ Ξᵀ + G Gᵀ + T Tᵀ,

`step` makes n steps of SGD of them, W' = diag(α) (W + γᵀ X), and so

    R' = diag(α) (R + γᵀ Ξ),   P' = diag(α) (P + Z + Zᵀ) diag(α),   Z = γᵀ (G Lᵀ + ½ (G Gᵀ + T Tᵀ) γ).

Random stream of a block: n (r + n_extra + K) normals (z, the label's n, g), then those of T, rounded up to a full chunk.
Matrix products are BLAS's; the callers keep it to one thread.
"""

import math

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

from theory.jit import kernel

RUNNING, REACHED, STOPPED, DIVERGED = 0, 1, 2, 3

VECTOR, MATRIX, WORDS = float64[::1], float64[:, ::1], uint64[::1]
FILL = types.FunctionType(void(WORDS, VECTOR))  # fill(work, normals_out)
LAW = types.FunctionType(float64(VECTOR, VECTOR, VECTOR, VECTOR))  # y = law(z, n, theta, xi_out)
ACT = types.FunctionType(void(VECTOR, VECTOR, VECTOR))  # act(z, sigma_out, slope_out)
RESIDUAL = types.FunctionType(float64(float64, float64))  # r(y, f)
STEP = types.FunctionType(
    void(ACT, RESIDUAL, MATRIX, MATRIX, VECTOR, int64, VECTOR, float64, int64, VECTOR, MATRIX, VECTOR, VECTOR, VECTOR)
)

_contracted = njit(error_model="numpy", fastmath={"contract"})


@njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(a, b, n):
    total = 0.0
    for k in range(n):
        total += a[k] * b[k]
    return total


@_contracted
def _root(P, L):
    """Cholesky factor of a semidefinite P: a pivot that rounding makes vanish gives a column of zeros."""
    for j in range(P.shape[0]):
        row = L[j]
        pivot = P[j, j] - _dot(row, row, j)
        diagonal = math.sqrt(pivot) if pivot > 1e-14 * P[j, j] else 0.0
        row[j] = diagonal
        scale = 1.0 / diagonal if diagonal > 0.0 else 0.0
        for i in range(j + 1, P.shape[0]):
            L[i, j] = (P[i, j] - _dot(L[i], row, j)) * scale


@_contracted
def _draw(fill, law, theta, work, pool, chi_squares, n_extra, xi, y, G, Y):
    """One block of inputs: ξ (n, r), y (n,), G (n, K) and Y = [G | T] (n, K + m), T's upper triangle being zero already."""
    n, r, K, extra = xi.shape[0], xi.shape[1], G.shape[1], n_extra
    fill(work, pool)
    raw, labels, used = pool[: n * r], pool[n * r : n * (r + extra)], n * (r + extra)
    for t in range(n):
        y[t] = law(raw[t * r : (t + 1) * r], labels[t * extra : (t + 1) * extra], theta, xi[t])
        for k in range(K):
            value = pool[used + t * K + k]
            G[t, k] = value
            Y[t, k] = value
    used += n * K
    for t in range(n):
        for j in range(min(t, chi_squares.size)):
            Y[t, K + j] = pool[used]
            used += 1
        if t < chi_squares.size:
            Y[t, K + t] = math.sqrt(chi_squares[t])


@_contracted
def _complete(xi, R, inner, H, S, fields):
    """H = fields + Ξ Rᵀ and S = inner + Ξ Ξᵀ."""
    n, K = H.shape
    H[:] = fields
    S[:] = inner
    for t in range(n):
        for j in range(R.shape[1]):
            x = xi[t, j]
            for k in range(K):
                H[t, k] += x * R[k, j]
            for s in range(n):
                S[t, s] += x * xi[s, j]


@_contracted
def _absorb(xi, fields, inner, alpha, gamma, R, P, scratch, Z):
    """The block's update of R and P."""
    n, K = gamma.shape
    np.dot(inner, gamma, scratch)
    for t in range(n):
        for k in range(K):
            scratch[t, k] = fields[t, k] + 0.5 * scratch[t, k]
    np.dot(gamma.T, scratch, Z)
    for k in range(K):
        for j in range(K):
            P[k, j] = alpha[k] * alpha[j] * (P[k, j] + (Z[k, j] + Z[j, k]))
    for j in range(R.shape[1]):
        for t in range(n):
            x = xi[t, j]
            for k in range(K):
                R[k, j] += gamma[t, k] * x
        for k in range(K):
            R[k, j] *= alpha[k]


@_contracted
def _observe(t, R, P, threshold, escapes):
    """Note the spikes whose best |cosine| has reached the threshold; False if a number is not finite."""
    sound = 0.0
    for k in range(R.shape[0]):
        square = P[k, k] + _dot(R[k], R[k], R.shape[1])
        sound += square * 0.0
        for j in range(R.shape[1]):
            if escapes[j] < 0 and R[k, j] * R[k, j] >= threshold * threshold * square:
                escapes[j] = t
    return sound == 0.0


@_contracted
def _escaped(escapes, stop_mask):
    some, missing = False, False
    for j in range(escapes.size):
        some |= stop_mask[j]
        missing |= stop_mask[j] and escapes[j] < 0
    return some and not missing


_RUN = types.Tuple((int64, int64))(
    FILL, LAW, STEP, ACT, RESIDUAL, VECTOR, WORDS, int64, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, float64, int64,
    int64, int64, int64, MATRIX, int64, float64, boolean[::1], int64[::1],
)  # fmt: skip


@kernel(_RUN)
def run_gram(
    fill, law, step, act, residual, theta, work, n_extra, R, P, a, b, output, steps, scale, spherical, batch, n, pool_size,
    chi_squares, t, threshold, stop_mask, escapes,
):  # fmt: skip
    """As many blocks of n samples as ``chi_squares`` (blocks, m) has rows, from sample t; returns (t, status).

    R, P, a, b, output (1,) advance in place. escapes (r,) is -1 or the first block end with max_k |R_kj|/√Q_kk >=
    threshold; the run stops when every j with stop_mask[j] has escaped (never, if none is set), or where a state is not
    finite, which is left as it is.
    """
    (K, r), m = R.shape, chi_squares.shape[1]
    pool, y, alpha = np.empty(pool_size), np.empty(n), np.empty(K)
    xi, G, Y, L = np.empty((n, r)), np.empty((n, K)), np.zeros((n, K + m)), np.zeros((K, K))
    fields, H, gamma, scratch = np.empty((n, K)), np.empty((n, K)), np.empty((n, K)), np.empty((n, K))
    inner, S, Z = np.empty((n, n)), np.empty((n, n)), np.empty((K, K))
    for i in range(chi_squares.shape[0]):
        _root(P, L)
        _draw(fill, law, theta, work, pool, chi_squares[i], n_extra, xi, y, G, Y)
        np.dot(G, L.T, fields)
        np.dot(Y, Y.T, inner)
        _complete(xi, R, inner, H, S, fields)
        step(act, residual, H, S, y, batch, steps, scale, spherical, alpha, gamma, a, b, output)
        _absorb(xi, fields, inner, alpha, gamma, R, P, scratch, Z)
        t += n
        if not _observe(t, R, P, threshold, escapes):
            return t, DIVERGED
        if _escaped(escapes, stop_mask):
            return t, STOPPED
    return t, RUNNING


@kernel(
    void(STEP, ACT, RESIDUAL, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, float64, int64, int64, MATRIX, MATRIX,
         MATRIX, VECTOR)
)  # fmt: skip
def follow_block(step, act, residual, R, P, a, b, output, steps, scale, spherical, batch, xi, fields, inner, y):
    """One block with given ξ (n, r), W_⊥ x (n, K), x_⊥·x_⊥ (n, n) and labels instead of random ones."""
    n, K = fields.shape
    H, S, scratch, gamma = np.empty((n, K)), np.empty((n, n)), np.empty((n, K)), np.empty((n, K))
    alpha, Z = np.empty(K), np.empty((K, K))
    _complete(xi, R, inner, H, S, fields)
    step(act, residual, H, S, y, batch, steps, scale, spherical, alpha, gamma, a, b, output)
    _absorb(xi, fields, inner, alpha, gamma, R, P, scratch, Z)
