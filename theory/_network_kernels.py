"""The learning rule of a two-layer network on a block of inputs, in terms of the block's inner products alone.

With W_0 the first layer at the start of the block, X (n, d) its inputs, H = X W_0ᵀ (n, K) and S = X Xᵀ (n, n), every later
W is diag(α) (W_0 + γᵀ X): SGD in sequence needs no d-dimensional vector. Who calls obtains H and S as he likes (from real
inputs in R^d, or from their exact law), and applies α and γ once at the end of the block.

`contract` lets a*b + c become one fused operation, `reassoc` lets a sum run in several lanes; otherwise IEEE arithmetic.
"""

import math

import numpy as np
from numba import float64, int64, njit, types, void

from theory.jit import kernel

VECTOR, MATRIX = float64[::1], float64[:, ::1]
ACT = types.FunctionType(void(VECTOR, VECTOR, VECTOR))  # act(z, sigma_out, slope_out)
RESIDUAL = types.FunctionType(float64(float64, float64))  # r(y, f)
STEP = void(
    ACT, RESIDUAL, MATRIX, MATRIX, VECTOR, int64, VECTOR, float64, int64, VECTOR, MATRIX, VECTOR, VECTOR, VECTOR
)

_contracted = njit(error_model="numpy", fastmath={"contract"})


@njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(a, b):
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@_contracted
def _fields(H, S, t, start, alpha, gamma, h):
    """h = α (H_t + Σ_{s < start} S_ts γ_s): the inputs' fields in the present W; four rows of γ in one pass."""
    row, inner = H[t], S[t]
    for k in range(h.size):
        h[k] = row[k]
    s = 0
    while s + 4 <= start:
        g0, g1, g2, g3 = gamma[s], gamma[s + 1], gamma[s + 2], gamma[s + 3]
        s0, s1, s2, s3 = inner[s], inner[s + 1], inner[s + 2], inner[s + 3]
        for k in range(h.size):
            h[k] += s0 * g0[k] + s1 * g1[k] + s2 * g2[k] + s3 * g3[k]
        s += 4
    while s < start:
        g0, s0 = gamma[s], inner[s]
        for k in range(h.size):
            h[k] += s0 * g0[k]
        s += 1
    for k in range(h.size):
        h[k] *= alpha[k]


@_contracted
def _lengths(S, gamma, start, stop, keep, lengths):
    """|keep w + Σ_b c_b x_b| of unit rows w: keep² + 2 keep (1 - keep) + Σ_bb' c_b c_b' S_bb', as Σ_b c_b h_b = 1 - keep."""
    for k in range(keep.size):
        lengths[k] = keep[k] * (2.0 - keep[k])
    for t in range(start, stop):
        for s in range(start, stop):
            for k in range(keep.size):
                lengths[k] += S[t, s] * gamma[t, k] * gamma[s, k]
    for k in range(keep.size):
        lengths[k] = math.sqrt(lengths[k])


@kernel(STEP)
def step_block(act, residual, H, S, y, batch, steps, scale, spherical, alpha, gamma, a, b, output):
    """SGD over the n samples of a block in n / batch mini-batches; α (K,) and γ (n, K) are its result, a, b, output advance.

    steps = (δ_1, δ_2, δ_b, δ_0)/d and the weight decay λ; output (1,) is a_0. S is read below its diagonal blocks of one
    batch, and within them only if spherical != 0.
    """
    n, K = H.shape
    h, z, sigma, slope = np.empty(K), np.empty(K), np.empty(K), np.empty(K)
    da, db, keep, lengths = np.empty(K), np.empty(K), np.empty(K), np.ones(K)
    alpha[:] = 1.0
    for start in range(0, n, batch):
        da[:] = 0.0
        db[:] = 0.0
        keep[:] = 1.0 - steps[0] * steps[4] * batch
        d0 = 0.0
        for t in range(start, start + batch):
            _fields(H, S, t, start, alpha, gamma, h)
            for k in range(K):
                z[k] = h[k] + b[k]
            act(z, sigma, slope)
            r = residual(y[t], output[0] + scale * _dot(a, sigma))
            pull, c = r * scale, gamma[t]
            for k in range(K):
                push = pull * a[k] * slope[k]
                c[k] = steps[0] * push
                db[k] += steps[2] * push
                da[k] += steps[1] * pull * sigma[k]
            d0 += steps[3] * r
            if spherical != 0:
                for k in range(K):
                    keep[k] -= c[k] * h[k]
        stop = start + batch
        if spherical != 0:
            _lengths(S, gamma, start, stop, keep, lengths)
        for k in range(K):
            alpha[k] *= keep[k]
        for t in range(start, stop):
            for k in range(K):
                gamma[t, k] /= alpha[k]
        for k in range(K):
            alpha[k] /= lengths[k]
            a[k] += da[k] - steps[1] * steps[4] * batch * a[k]
            b[k] += db[k]
        output[0] += d0
