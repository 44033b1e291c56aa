"""The outputs of a two-layer network at many inputs, given by their fields alone."""

import numpy as np
from numba import float64, njit, types, void

from theory.jit import kernel

VECTOR, MATRIX = float64[::1], float64[:, ::1]
ACT = types.FunctionType(void(VECTOR, VECTOR, VECTOR))  # act(z, sigma_out, slope_out)


@njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(a, b):
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@kernel(void(ACT, MATRIX, float64[:, :, ::1], MATRIX, VECTOR, VECTOR, float64, MATRIX))
def network_outputs(act, rest, xi, R, a, b, output, out):
    """out[l, i] = a_0 + Σ_k a_k σ(rest_ik + Σ_s R_sk ξ_lis + b_k).

    rest (n, K) is W_⊥ x, common to the laws l of ξ (laws, n, r); R (r, K) has a row for each spike; ``a`` is scaled.
    """
    laws, n, r = xi.shape
    z, sigma, slope = np.empty(a.size), np.empty(a.size), np.empty(a.size)
    for i in range(n):
        for law in range(laws):
            z[:] = rest[i]
            z += b
            for s in range(r):
                x, row = xi[law, i, s], R[s]
                for k in range(a.size):
                    z[k] += x * row[k]
            act(z, sigma, slope)
            out[law, i] = output + _dot(a, sigma)
