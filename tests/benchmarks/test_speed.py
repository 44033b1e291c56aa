"""Speed of the high-dimensional engine as ratios within one run; seconds alone mean nothing on a shared machine.

    pytest -m benchmark -s tests/benchmarks/test_speed.py

The contenders take turns; each figure is the median over turns of the ratio within a turn.
"""

import math
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from numba import cfunc, float64

from sims._kernels import VECTOR, run_sgd
from theory.normals import fill_normals, make_generator, stream_length

pytestmark = pytest.mark.benchmark

D, R, N_EXTRA, DELTA = 1000, 2, 3, 0.1
BETA_U, BETA_V, RHO = 2.0, 5.0, 0.5
REPEATS = 15
SAMPLES = {"fill_normals": 8000, "run_sgd": 8000, "smooth_run_sgd": 8000, "numpy": 1500, "torch": 500}


@cfunc(float64(VECTOR, VECTOR, VECTOR, VECTOR))
def mixed_cumulant(z_U, n, theta, xi):
    """Label +-1 with probability 1/2; planted: a covariance and a (whitened) cumulant spike with correlated latents."""
    beta_u, beta_v, rho = theta
    y = math.copysign(1.0, n[0])
    xi[0], xi[1] = z_U[0], z_U[1]
    if y > 0:
        lam = n[1]
        nu = math.copysign(1.0, rho * lam + math.sqrt(1 - rho**2) * n[2])
        xi[0] += math.sqrt(beta_u) * lam
        xi[1] = (math.sqrt(beta_v) * nu + z_U[1]) / math.sqrt(1 + beta_v)
    return y


@cfunc(float64(float64, float64))
def relu_slope(y, s):
    """g = y sigma'(s) of the correlation loss."""
    return y if s > 0 else 0.0


@cfunc(float64(float64, float64))
def smooth_slope(y, s):
    """A slope that is never zero, so that no step is skipped."""
    return y * s / (1 + abs(s))


def problem():
    rng = np.random.default_rng(0)
    U = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((D, R)))[0].T)
    w = rng.standard_normal(D)
    return U, w / np.linalg.norm(w), make_generator(np.random.SeedSequence(1))


def with_fill_normals(n):
    work, per_call = problem()[2], 20
    buffer = np.empty(per_call * stream_length(D + N_EXTRA))
    for _ in range(n // per_call):
        fill_normals(work, buffer)


def with_run_sgd(n, slope=relu_slope):
    U, w, work = problem()
    t, _, _ = run_sgd(
        fill_normals, mixed_cumulant, slope, np.array([BETA_U, BETA_V, RHO]), U, w, work,
        stream_length(D + N_EXTRA), DELTA / D, 1, 0, n, 2.0, np.zeros(R, bool), np.empty(0, np.int64),
        0, np.empty((0, R)), np.full(R, -1),
    )  # fmt: skip
    assert t == n


def with_smooth_run_sgd(n):
    with_run_sgd(n, smooth_slope)


def planted(n, z_u, z_v):
    nu = math.copysign(1.0, RHO * n[1] + math.sqrt(1 - RHO**2) * n[2])
    return math.sqrt(BETA_U) * n[1] + z_u, (math.sqrt(BETA_V) * nu + z_v) / math.sqrt(1 + BETA_V)


def with_numpy(n):
    U, w, _ = problem()
    rng, step = np.random.default_rng(2), DELTA / D
    for _ in range(n):
        x, latent = rng.standard_normal(D), rng.standard_normal(N_EXTRA)
        if latent[0] > 0:
            z_U = U @ x
            x += (np.array(planted(latent, *z_U)) - z_U) @ U
        y, s = math.copysign(1.0, latent[0]), w @ x
        if s > 0:
            w += step * y * (x - s * w)
            w /= math.sqrt(w @ w)


def with_torch(n):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    U, w, _ = (torch.from_numpy(a) for a in (*problem()[:2], np.zeros(1)))
    step = DELTA / D
    with torch.no_grad():
        for _ in range(n):
            x, latent = torch.randn(D, dtype=torch.float64), torch.randn(N_EXTRA).tolist()
            if latent[0] > 0:
                z_U = U @ x
                x += (torch.tensor(planted(latent, *z_U.tolist()), dtype=torch.float64) - z_U) @ U
            y, s = math.copysign(1.0, latent[0]), (w @ x).item()
            if s > 0:
                w += step * y * (x - s * w)
                w /= torch.linalg.vector_norm(w)


def ratio(slow, fast):
    """Median over turns of the time per sample of `slow` over that of `fast`; prints the row of the table."""
    times = {f: [] for f in (slow, fast)}
    for turn in range(REPEATS + 1):
        for f, taken in times.items():
            n = SAMPLES[f.__name__.removeprefix("with_")]
            start = perf_counter()
            f(n)
            if turn:  # the first turn warms up
                taken.append((perf_counter() - start) / n * 1e6)
    value = median(a / b for a, b in zip(times[slow], times[fast], strict=True))
    cost = [f"{f.__name__[5:]:>14} {median(taken):7.2f} (best {min(taken):6.2f})" for f, taken in times.items()]
    print("\n" + " |".join(cost), f"us a sample | ratio {value:.2f}")
    return value


def test_sgd_costs_little_more_than_its_normals():
    print(f"\nd = {D}: {stream_length(D + N_EXTRA)} normals a sample")
    assert ratio(with_run_sgd, with_fill_normals) <= 1.4


def test_sgd_that_moves_at_every_sample():
    assert ratio(with_smooth_run_sgd, with_fill_normals) <= 1.8


def test_sgd_beats_a_numpy_loop():
    assert ratio(with_numpy, with_run_sgd) >= 8


def test_sgd_beats_torch():
    pytest.importorskip("torch")
    assert ratio(with_torch, with_run_sgd) >= 10
