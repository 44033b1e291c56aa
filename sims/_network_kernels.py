"""Compiled inner loop of high-dimensional SGD of two-layer networks, in blocks of n inputs so that BLAS does the work in R^d.

One array of `rows` (K + r + n, width) holds W, U and the raw inputs Z of the block, zero beyond column d. A block costs two
matrix products: the inner products Z [W; U; Z]ᵀ before the learning rule runs, W <- diag(α) W + G_Uᵀ U + G_Zᵀ Z after it. The
inputs x = z + Uᵀ(ξ - Uz) are never formed:

    H = X Wᵀ = Z Wᵀ + Δ Rᵀ,     S = X Xᵀ = Z Zᵀ - (Z Uᵀ)(Z Uᵀ)ᵀ + Ξ Ξᵀ,     Δ = Ξ - Z Uᵀ.

The products go over chunks of columns that stay in the cache, in tiles so small that OpenBLAS takes its kernels without
packing: 45-50 GFlop/s on one core where the products of whole matrices, d = 10^4, reach 20-40.

Random stream. Every sample is ONE call ``fill(work, z)`` (theory/normals.py), z of n_normals entries: the first d are the raw
input, the next ones the label's normals, the rest is discarded. So inputs depend neither on the block nor on K.

All jitted helpers live in this file (numba's cache knows only the file of the caller); generator, law, activation, residual,
learning rule and BLAS come as function arguments: `gemm` is Fortran's dgemm, its pointers as addresses.
"""

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

from theory.jit import kernel

REACHED, STOPPED, DIVERGED = 0, 1, 2  # status of run_network
TILE, WIDE_TILE = 8, 96  # a tile of inner products: 8 x 96, below OpenBLAS's limit (1024 entries) for small products
SMALL = 1_000_000  # multiplications: another of its limits

VECTOR, MATRIX, WORDS = float64[::1], float64[:, ::1], uint64[::1]
FILL = types.FunctionType(void(WORDS, VECTOR))  # fill(work, normals_out)
LAW = types.FunctionType(float64(VECTOR, VECTOR, VECTOR, VECTOR))  # law(z_U, n, theta, xi_out) -> y
ACT = types.FunctionType(void(VECTOR, VECTOR, VECTOR))  # act(z, sigma_out, slope_out)
RESIDUAL = types.FunctionType(float64(float64, float64))  # r(y, f)
RULE = types.FunctionType(  # theory/_network_kernels.step_block
    void(ACT, RESIDUAL, MATRIX, MATRIX, VECTOR, int64, VECTOR, float64, int64, VECTOR, MATRIX, VECTOR, VECTOR, VECTOR)
)
GEMM_SIGNATURE = void(*[uint64] * 13)
GEMM = types.FunctionType(GEMM_SIGNATURE)

_U = np.uint64
_plain = njit(error_model="numpy")
_contracted = njit(error_model="numpy", fastmath={"contract"})
_summed = njit(error_model="numpy", fastmath={"contract", "reassoc"})


@_plain
def _call_space():
    """Memory for the arguments of dgemm, which takes all of them by address: 'T' and 'N', sizes, 1 and beta."""
    return np.array([84, 78], np.uint8), np.empty(6, np.int32), np.ones(2)


@_plain
def _product(gemm, space, inner, A, B, beta, C):
    """C = beta C + A Bᵀ if `inner`, else beta C + Aᵀ B; rows contiguous. Fortran reads rows as columns, so it finds Cᵀ."""
    letters, sizes, scalars = space
    sizes[0], sizes[1], sizes[2] = C.shape[1], C.shape[0], A.shape[1] if inner else A.shape[0]
    sizes[3], sizes[4], sizes[5] = B.strides[0] // 8, A.strides[0] // 8, C.strides[0] // 8
    scalars[1] = beta
    t, s, x = letters.ctypes.data, sizes.ctypes.data, scalars.ctypes.data
    on_b, on_a = (t, t + _U(1)) if inner else (t + _U(1), t)
    a, b, c = A.ctypes.data, B.ctypes.data, C.ctypes.data
    gemm(on_b, on_a, s, s + _U(4), s + _U(8), x, b, s + _U(12), a, s + _U(16), x + _U(8), c, s + _U(20))


@_plain
def _inner_products(gemm, space, rows, first, last, pairs, chunk, P):
    """P[t] = rows[first + t] · rows, t < last - first; with other inputs only if `pairs`, and with earlier ones only."""
    m, beta = last - first, 0.0
    for c in range(0, rows.shape[1], chunk):
        for i in range(0, m, TILE):
            e = min(i + TILE, m)
            end = first + e if pairs else first
            for j in range(0, end, WIDE_TILE):
                f = min(j + WIDE_TILE, end)
                A, B = rows[first + i : first + e, c : c + chunk], rows[j:f, c : c + chunk]
                _product(gemm, space, True, A, B, beta, P[i:e, j:f])
        beta = 1.0


@_contracted
def _fields(P, R, xi, delta, pairs, H, S):
    """H and, if `pairs`, the lower triangle of S from the raw inner products P (m, K + r + m); Δ from ξ."""
    K, r = R.shape
    for t in range(H.shape[0]):
        p = P[t, K:]
        for a in range(r):
            delta[t, a] = xi[t, a] - p[a]
        for k in range(K):
            H[t, k] = P[t, k]
            for a in range(r):
                H[t, k] += delta[t, a] * R[k, a]
        for s in range(t + 1 if pairs else 0):
            S[t, s] = p[r + s]
            for a in range(r):
                S[t, s] += xi[t, a] * xi[s, a] - p[a] * P[s, K + a]
            S[s, t] = S[t, s]


@_contracted
def _moves(alpha, gamma, delta, G):
    """G (r + m, K): what each spike and each raw input adds to each row of W: diag(α) γᵀ (Z + Δ U)."""
    m, r = delta.shape
    G[:r] = 0.0
    for t in range(m):
        for k in range(alpha.size):
            move = alpha[k] * gamma[t, k]
            G[r + t, k] = move
            for a in range(r):
                G[a, k] += delta[t, a] * move


@_summed
def _square(w):
    total = 0.0
    for i in range(w.size):
        total += w[i] * w[i]
    return total


@_plain
def _advance(gemm, space, rows, alpha, G, chunk, R, squares):
    """W <- diag(α) W + Gᵀ [U; Z], and its overlaps R (K, r) and squared norms (K,)."""
    K, r = R.shape
    squares[:] = 0.0
    beta = 0.0
    for c in range(0, rows.shape[1], chunk):
        W, U, inputs = rows[:K, c : c + chunk], rows[K : K + r, c : c + chunk], rows[K : K + G.shape[0], c : c + chunk]
        for k in range(K):
            if alpha[k] != 1.0:
                W[k] *= alpha[k]
        _product(gemm, space, False, G, inputs, 1.0, W)
        _product(gemm, space, True, W, U, beta, R)
        for k in range(K):
            squares[k] += _square(W[k])
        beta = 1.0


@_plain
def _observe(t, R, squares, a, b, output, threshold, stop_mask, escapes):
    """Mark escapes after t samples; STOPPED if all that was asked escaped, DIVERGED if a number is not finite."""
    total = output[0] + np.sum(R) + np.sum(squares) + np.sum(a) + np.sum(b)
    if not np.isfinite(total):
        return DIVERGED
    asked, waiting = False, False
    for i in range(escapes.size):
        for k in range(squares.size):
            if escapes[i] < 0 and R[k, i] ** 2 >= threshold**2 * squares[k]:
                escapes[i] = t
        if stop_mask[i]:
            asked = True
            waiting |= escapes[i] < 0
    return STOPPED if asked and not waiting else REACHED


_RUN = types.Tuple((int64, int64))(
    FILL, LAW, ACT, RESIDUAL, RULE, GEMM, VECTOR, MATRIX, int64, WORDS, int64, int64, VECTOR, float64, int64, int64, int64,
    int64, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, float64, boolean[::1], int64[::1],
)  # fmt: skip


@kernel(_RUN)
def run_network(
    fill, law, act, residual, rule, gemm, theta, rows, d, work, n_normals, n_extra, steps, scale, spherical, batch, t0, t1,
    R, squares, a, b, output, threshold, stop_mask, escapes,
):  # fmt: skip
    """Online SGD of a two-layer network from sample t0 to t1 in blocks of at most n; returns (t, status).

    theta (m,) of the law; rows (K + r + n, width >= n_normals) with W, U and room for the inputs; steps, scale, spherical as
    in `rule`; R (K, r) = W Uᵀ, squares (K,) = |w_k|², a, b (K,), output (1,), W and the generators `work` advance in place.
    Blocks end at multiples of n and at t1; t0, t1 and n are multiples of the batch. escapes (r,) is -1 or the first block end
    at which an |R_ka| >= threshold |w_k|; the run stops when every a with stop_mask[a] has escaped (never, if none is set).
    """
    K, r = R.shape
    n, space = rows.shape[0] - K - r, _call_space()
    chunk = max(min(SMALL // (K * n) // 8 * 8, 256), 64)
    pairs = n > batch or spherical != 0
    P, extra = np.empty((n, K + r + (n if pairs else 0))), np.empty((n, n_extra))
    xi, delta, y, gamma, G = np.empty((n, r)), np.empty((n, r)), np.empty(n), np.empty((n, K)), np.empty((r + n, K))
    H, pool, alpha, z_U = np.empty((n, K)), np.empty(n * n if pairs else n), np.empty(K), np.empty(r)
    t = t0
    while True:
        status = _observe(t, R, squares, a, b, output, threshold, stop_mask, escapes)
        if status != REACHED or t >= t1:
            return t, status
        m = min(n - t % n, t1 - t)
        for i in range(m):
            z = rows[K + r + i]
            fill(work, z[:n_normals])
            for j in range(n_extra):
                extra[i, j] = z[d + j]
            z[d:] = 0.0
        _inner_products(gemm, space, rows, K + r, K + r + m, pairs, chunk, P)
        for i in range(m):
            for j in range(r):
                z_U[j] = P[i, K + j]
            y[i] = law(z_U, extra[i], theta, xi[i])
        S = pool[: m * m].reshape(m, m) if pairs else pool[:m].reshape(m, 1)
        _fields(P, R, xi[:m], delta[:m], pairs, H[:m], S)
        rule(act, residual, H[:m], S, y, batch, steps, scale, spherical, alpha, gamma, a, b, output)
        _moves(alpha, gamma, delta[:m], G[: r + m])
        _advance(gemm, space, rows, alpha, G[: r + m], chunk, R, squares)
        t += m
