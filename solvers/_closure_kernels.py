"""Compiled loops over a fixed sample of inputs: their labels, and what a two-layer network answers to each of them."""

import numpy as np
from numba import float64, types, void

from theory.jit import kernel

VECTOR, MATRIX = float64[::1], float64[:, ::1]
LAW = types.FunctionType(float64(VECTOR, VECTOR, VECTOR, VECTOR))  # y = law(z, n, theta, xi_out)
ACT = types.FunctionType(void(VECTOR, VECTOR, VECTOR))  # act(z, sigma_out, slope_out)
RESIDUAL = types.FunctionType(float64(float64, float64))  # r(y, f)


@kernel(void(LAW, MATRIX, MATRIX, VECTOR, MATRIX, VECTOR))
def label(law, raw, normals, theta, xi, y):
    """ξ (n, r) and y (n,) of inputs with projections ``raw`` (n, r) of white noise and further ``normals`` (n, m)."""
    for t in range(y.size):
        y[t] = law(raw[t], normals[t], theta, xi[t])


@kernel(void(ACT, RESIDUAL, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR, float64, float64, MATRIX, VECTOR))
def respond(act, residual, H, y, weight, a, b, output, scale, pushes, second):
    """At fields H (n, K): pushes_tk = c_k = r scale a_k σ'(h_k + b_k); second = Σ_t weight_t r (scale σ (K), 1)."""
    n, K = H.shape
    z, sigma, slope = np.empty(K), np.empty(K), np.empty(K)
    second[:] = 0.0
    for t in range(n):
        for k in range(K):
            z[k] = H[t, k] + b[k]
        act(z, sigma, slope)
        f = 0.0
        for k in range(K):
            f += a[k] * sigma[k]
        r = residual(y[t], output + scale * f)
        pull, weighted = r * scale, weight[t] * r
        for k in range(K):
            pushes[t, k] = pull * a[k] * slope[k]
            second[k] += weighted * scale * sigma[k]
        second[K] += weighted
