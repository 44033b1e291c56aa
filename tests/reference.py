"""The simulator written once more, plainly: NumPy, one sample a line of algebra. The engine must reproduce it."""

import numpy as np


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
