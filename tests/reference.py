"""The simulators written once more, plainly: NumPy, one sample a line of algebra. The engines must reproduce them."""

import numpy as np
import sympy as sp

from theory.activations import Z
from theory.learners import Y
from theory.networks import F


def sgd(law, gradient, theta, spikes, w, normals, step, batch=1, n_extra=3):
    """Overlaps after every batch, shape (n_batches, r); ``normals`` (n_samples, >= d + n_extra) is the random stream."""
    r, d = spikes.shape
    overlaps = []
    for block in normals.reshape(-1, batch, normals.shape[1]):
        total = np.zeros(d)
        for row in block:
            z, n, xi = row[:d], np.ascontiguousarray(row[d : d + n_extra]), np.zeros(r)
            y = law(spikes @ z, n, theta, xi)
            x = z + spikes.T @ (xi - spikes @ z)
            s = w @ x
            total += gradient(y, s) * (x - s * w)
        w = w + step * total
        w = w / np.linalg.norm(w)
        overlaps.append(spikes @ w)
    return np.array(overlaps)


def network_sgd(net, rates, X, y, batch, W, a, b, output):
    """SGD of the two-layer network ``net`` on inputs X (n, d), batch by batch: (W, a, b, a_0) after every batch.

    σ, σ' and the residual are SymPy's own NumPy functions, not those that the engines compile.
    """
    d, decay, states = X.shape[1], batch * net.weight_decay, []
    sigma, slope = (sp.lambdify(Z, e, ["scipy", "numpy"]) for e in (net.activation.expression, net.slope))
    residual = sp.lambdify([Y, F], net.residual, "numpy")
    for x, label in zip(X.reshape(-1, batch, d), y.reshape(-1, batch), strict=True):
        h = x @ W.T
        r = residual(label, output + net.output_scale * sigma(h + b) @ a)
        da = net.output_scale * r @ sigma(h + b) - decay * a
        g = net.output_scale * np.outer(r, a) * slope(h + b)
        dW = g.T @ x - decay * W
        if net.spherical:
            dW -= np.sum(g * h, axis=0)[:, None] * W
        W = W + rates.first / d * dW
        if net.spherical:
            W = W / np.linalg.norm(W, axis=1, keepdims=True)
        a, b = a + rates.second / d * da, b + rates.bias / d * g.sum(axis=0)
        output = output + rates.output / d * r.sum()
        states.append((W, a, b, output))
    return states
