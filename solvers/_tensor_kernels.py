"""Compiled inner loop of the tensor chain: LANES replicas of online SGD on the Stiefel manifold, known by M = VᵀX alone.

With F an orthonormal frame of the part of the spikes outside the columns of X, V = X Mᵀ + F Kᵀ, K Kᵀ = I - M Mᵀ; and with
S_ij = √N p λ_i λ_j m_ij^{p-1}, the tangent gradient T has coordinates

    in X: A_kj = ½ ((MᵀS)_kj - (MᵀS)_jk) + b_kj,   b antisymmetric, variance ¼ p (λ_k² + λ_j² - 2c λ_k λ_j)
    in F: T_F = √p a diag(λ) + KᵀS,   a normal (r, r)
    beyond: D L Lᵀ D = its Gram matrix, D = √p diag(λ), L Lᵀ ~ Wishart with N - 2r degrees of freedom [Bartlett 1933]

(c = 1 if p = 2, where the columns of the noise are correlated, else 0; of its part in X all but b is projected away), and
a step is, with ε = δ/N,

    M <- (M + ε (M A + K T_F)) (I + ε² (AᵀA + T_FᵀT_F + D L Lᵀ D))^(-1/2).

All numbers of a step live in one flat array W of rows of LANES, M first: blocks of r² rows, then single rows. Loops run over
the lanes innermost, with unsigned indices into that one array: LLVM then knows the rows apart. `snr`, the λ's, is a tuple:
its length r is known to the compiler, which unrolls the loops over spikes (rectangular ones: triangles are cut out by `if`)
and vectorises those over lanes; so there is one compilation for each r, made when it is asked for.

Random stream of a lane, a sample: r² (a), r(r-1)/2 (b), r(r-1)/2 (below the diagonal of L) and 2r (its diagonal) normals,
rounded up to an even number. Lanes share nothing, so that a replica does not depend on its lane or its neighbours.

Generator and χ² are arguments; the jitted helpers live in this file (theory/jit.py says why).
"""

import math
from functools import lru_cache

import numpy as np
from numba import boolean, float64, int64, njit, types, uint64, void

from theory.jit import kernel

LANES = 16  # as in theory/normals.py: a literal, because the cache would not see it change there
IDLE, RUNNING, REACHED, STOPPED, DIVERGED = 0, 1, 2, 3, 4  # status of a lane, as in solvers/_chain_kernels.py

VECTOR, MATRIX, WORDS = float64[::1], float64[:, ::1], uint64[::1]
FILL = types.FunctionType(void(WORDS, VECTOR))  # fill(work, normals_out)
CHI = types.FunctionType(void(FILL, WORDS, MATRIX, int64, VECTOR))  # χ²(fill, work, normals, dof, out)

_M, _BARRIER, _S, _A, _K, _T, _C, _R, _Z, _Y, _NEW = range(11)  # blocks of r² rows
_BLOCKS = 11
_STEP, _SCALE, _DONE, _CHI = range(4)  # rows behind them; r rows of χ² are the last, before the normals
_CLOSE = 1e-16  # squared distance from I at which one more Newton step is exact to rounding

_U = np.uint64
_contracted = njit(error_model="numpy", fastmath={"contract"})
_plain = njit(error_model="numpy")


@_plain
def _at(block, i, j, r, lane):
    """Entry (i, j) of a block."""
    return _U(((block * r + i) * r + j) * LANES) + lane


@_plain
def _row(k, r, lane):
    """Row k behind the blocks."""
    return _U((_BLOCKS * r * r + k) * LANES) + lane


@_plain
def _first_normal(r):
    """The row where the normals begin."""
    return _BLOCKS * r * r + _CHI + r


@_plain
def _lanes(W):
    """LANES, in a form that is not a constant: LLVM vectorises such loops, and unrolls into scalars those of 16 rounds."""
    return min(_U(W.size), _U(LANES))


@_contracted
def _signal(snr, order, gain, W):
    """S_ij = gain λ_i λ_j m_ij^{p-1}."""
    r = len(snr)
    size = _U(r * r * LANES)
    first = _U(_S) * size
    for q in range(size):
        W[first + q] = W[q]
    for _ in range(order - 2):
        for q in range(size):
            W[first + q] *= W[q]
    for i in range(r):
        for j in range(r):
            factor = gain * snr[i] * snr[j]
            for lane in range(_lanes(W)):
                W[_at(_S, i, j, r, lane)] *= factor


@_contracted
def _cholesky(snr, W):
    """K: lower triangular, K Kᵀ = I - M Mᵀ; a pivot that rounding makes vanish gives a column of zeros."""
    r = len(snr)
    for lane in range(_lanes(W)):
        for j in range(r):
            for i in range(r):
                if i >= j:
                    rest = 1.0 if i == j else 0.0
                    for k in range(r):
                        rest -= W[_at(_M, i, k, r, lane)] * W[_at(_M, j, k, r, lane)]
                    for k in range(r):
                        if k < j:
                            rest -= W[_at(_K, i, k, r, lane)] * W[_at(_K, j, k, r, lane)]
                    if i == j:
                        root = math.sqrt(max(rest, 0.0))
                        W[_at(_K, i, j, r, lane)] = root
                        inverse = 1.0 / root if rest > 1e-14 else 0.0
                    else:
                        W[_at(_K, i, j, r, lane)] = rest * inverse


@_contracted
def _noise(snr, order, W):
    """The draws: b into A above the diagonal, √p a diag(λ) into T, and D L Lᵀ D on and above the diagonal of C."""
    r = len(snr)
    variance, symmetric = float(order), 1.0 if order == 2 else 0.0
    root = math.sqrt(variance)
    normals = _first_normal(r)
    for k in range(r):
        for j in range(r):
            scale = root * snr[j]
            for lane in range(_lanes(W)):
                W[_at(_T, k, j, r, lane)] = scale * W[_U((normals + k * r + j) * LANES) + lane]
    skew, lower = normals + r * r, normals + r * r + r * (r - 1) // 2
    for j in range(r):
        for k in range(j):
            scale = 0.5 * math.sqrt(variance * (snr[k] ** 2 + snr[j] ** 2 - 2.0 * symmetric * snr[k] * snr[j]))
            for lane in range(_lanes(W)):
                W[_at(_A, k, j, r, lane)] = scale * W[_U((skew + j * (j - 1) // 2 + k) * LANES) + lane]
    for i in range(r):
        for j in range(i, r):
            scale = variance * snr[i] * snr[j]
            # (L Lᵀ)_ij = Σ_{k<i} L_ik L_jk + L_ii L_ji, i <= j
            for lane in range(_lanes(W)):
                total = W[_row(_CHI + i, r, lane)]
                if i < j:
                    total = math.sqrt(total) * W[_U((lower + j * (j - 1) // 2 + i) * LANES) + lane]
                W[_at(_C, i, j, r, lane)] = total
            for k in range(i):
                for lane in range(_lanes(W)):
                    W[_at(_C, i, j, r, lane)] += (
                        W[_U((lower + i * (i - 1) // 2 + k) * LANES) + lane]
                        * W[_U((lower + j * (j - 1) // 2 + k) * LANES) + lane]
                    )
            for lane in range(_lanes(W)):
                W[_at(_C, i, j, r, lane)] *= scale


@_contracted
def _tangent(snr, W):
    """A and T_F from their noise."""
    r = len(snr)
    for lane in range(_lanes(W)):
        for j in range(r):
            for k in range(r):
                if k < j:
                    turn = 0.0
                    for i in range(r):
                        turn += W[_at(_M, i, k, r, lane)] * W[_at(_S, i, j, r, lane)]
                        turn -= W[_at(_M, i, j, r, lane)] * W[_at(_S, i, k, r, lane)]
                    turn = W[_at(_A, k, j, r, lane)] + 0.5 * turn
                    W[_at(_A, k, j, r, lane)] = turn
                    W[_at(_A, j, k, r, lane)] = -turn
        for k in range(r):
            W[_at(_A, k, k, r, lane)] = 0.0
    for lane in range(_lanes(W)):
        for k in range(r):
            for j in range(r):
                total = W[_at(_T, k, j, r, lane)]
                for i in range(r):
                    if i >= k:
                        total += W[_at(_K, i, k, r, lane)] * W[_at(_S, i, j, r, lane)]
                W[_at(_T, k, j, r, lane)] = total


@_contracted
def _gram(snr, W):
    """P = C - I = ε² (AᵀA + TᵀT + rest), on and above the diagonal, in the place of the rest; and the scale of C."""
    r = len(snr)
    for lane in range(_lanes(W)):
        step = W[_row(_STEP, r, lane)]
        trace = 0.0
        for i in range(r):
            for j in range(r):
                if i <= j:
                    total = W[_at(_C, i, j, r, lane)]
                    for k in range(r):
                        total += W[_at(_A, k, i, r, lane)] * W[_at(_A, k, j, r, lane)]
                        total += W[_at(_T, k, i, r, lane)] * W[_at(_T, k, j, r, lane)]
                    total *= step * step
                    if i == j:
                        trace += total
                    W[_at(_C, i, j, r, lane)] = total
        # eigenvalues of I + P lie between 1 and 1 + trace P: below twice the scale, so that Newton's method converges
        W[_row(_SCALE, r, lane)] = max(1.0 + trace / r, (1.0 + trace) / 1.9)


@_contracted
def _first_root(snr, W):
    """First step of the iteration; see ``_root``: how many lanes have not converged."""
    r = len(snr)
    pending = 0
    for lane in range(_lanes(W)):
        inverse = 1.0 / W[_row(_SCALE, r, lane)]
        distance = 0.0
        for i in range(r):
            for j in range(r):
                if i <= j:
                    one = 1.0 if i == j else 0.0
                    value = (one + W[_at(_C, i, j, r, lane)]) * inverse
                    change = 0.5 * (one - value)
                    distance += change * change if i == j else 2.0 * change * change
                    W[_at(_Y, i, j, r, lane)] = value
                    W[_at(_Y, j, i, r, lane)] = value
                    W[_at(_R, i, j, r, lane)] = change
                    W[_at(_R, j, i, r, lane)] = change
                    W[_at(_Z, i, j, r, lane)] = one + change
                    W[_at(_Z, j, i, r, lane)] = one + change
        more = 1 if distance >= 0.25 * _CLOSE else 0
        W[_row(_DONE, r, lane)] = 1.0 - more
        pending += more
    return pending


@_contracted
def _change(snr, W):
    """R = ½ (I - Z Y), zero in the lanes that have converged; how many have not after the update with this R."""
    r = len(snr)
    pending = 0
    for lane in range(_lanes(W)):
        going = 1.0 - W[_row(_DONE, r, lane)]
        distance = 0.0
        for i in range(r):
            for j in range(r):
                if i <= j:
                    total = 1.0 if i == j else 0.0
                    for k in range(r):
                        total -= W[_at(_Z, i, k, r, lane)] * W[_at(_Y, k, j, r, lane)]
                    total *= 0.5 * going
                    distance += total * total if i == j else 2.0 * total * total
                    W[_at(_R, i, j, r, lane)] = total
                    W[_at(_R, j, i, r, lane)] = total
        more = 1 if distance >= 0.25 * _CLOSE else 0
        W[_row(_DONE, r, lane)] = 1.0 - more
        pending += more
    return pending


@_contracted
def _correct(block, snr, W):
    """B <- B (I + R), both symmetric and commuting."""
    r = len(snr)
    for lane in range(_lanes(W)):
        for i in range(r):
            for j in range(r):
                if i <= j:
                    total = W[_at(block, i, j, r, lane)]
                    for k in range(r):
                        total += W[_at(block, i, k, r, lane)] * W[_at(_R, k, j, r, lane)]
                    W[_at(_NEW, i, j, r, lane)] = total
        for i in range(r):
            for j in range(r):
                if i <= j:
                    W[_at(block, i, j, r, lane)] = W[_at(_NEW, i, j, r, lane)]
                    W[_at(block, j, i, r, lane)] = W[_at(_NEW, i, j, r, lane)]


@_plain
def _root(snr, W):
    """Z = (C/scale)^(-1/2) by the coupled Newton-Schulz iteration [Higham 2008, ch. 6], C = I + P.

        Y_0 = C/scale, Z_0 = I,   R = ½ (I - Z Y),   Y <- Y (I + R),   Z <- Z (I + R)

    Every lane stops by its own distance from convergence.
    """
    pending = _first_root(snr, W)
    if pending > 0:
        _correct(_Y, snr, W)
    for _ in range(100):
        if pending == 0:
            return
        pending = _change(snr, W)
        _correct(_Z, snr, W)
        if pending > 0:
            _correct(_Y, snr, W)


@_contracted
def _settle(snr, W):
    """M <- (M + ε (M A + K T_F)) C^(-1/2); whether an |m_ij| is not < barrier."""
    r = len(snr)
    for lane in range(_lanes(W)):
        step = W[_row(_STEP, r, lane)]
        for i in range(r):
            for j in range(r):
                total = 0.0
                for k in range(r):
                    total += W[_at(_M, i, k, r, lane)] * W[_at(_A, k, j, r, lane)]
                    if k <= i:
                        total += W[_at(_K, i, k, r, lane)] * W[_at(_T, k, j, r, lane)]
                W[_at(_NEW, i, j, r, lane)] = W[_at(_M, i, j, r, lane)] + step * total
    hits = 0
    for lane in range(_lanes(W)):
        scale = 1.0 / math.sqrt(W[_row(_SCALE, r, lane)]) / W[_row(_DONE, r, lane)]
        for i in range(r):
            for j in range(r):
                total = 0.0
                for k in range(r):
                    total += W[_at(_NEW, i, k, r, lane)] * W[_at(_Z, k, j, r, lane)]
                total *= scale
                W[_at(_M, i, j, r, lane)] = total
                hits += 0 if abs(total) < W[_at(_BARRIER, i, j, r, lane)] else 1  # counts nan
    return hits > 0


@_plain
def _move(snr, W):
    """One step of M from its noise, which stands in A, T and C; as ``_settle``."""
    _tangent(snr, W)
    _gram(snr, W)
    _root(snr, W)
    return _settle(snr, W)


@_plain
def _advance(fill, chi, snr, order, gain, dof, work, W, steps):
    """Up to `steps` samples, fewer if a lane hits its barrier or is not finite; returns how many."""
    r = len(snr)
    rows, first = W.reshape(W.size // LANES, LANES), _first_normal(r)
    flat, last = W[first * LANES :], first + r * r + r * (r - 1)
    for t in range(steps):
        fill(work, flat)
        for j in range(r):
            chi(fill, work, rows[last + 2 * j : last + 2 * j + 2], dof - j, rows[_BLOCKS * r * r + _CHI + j])
        _noise(snr, order, W)
        _signal(snr, order, gain, W)
        _cholesky(snr, W)
        if _move(snr, W):
            return t + 1
    return steps


@_plain
def _observe(lane, t, r, W, threshold, stop_mask, record_times, next_record, overlaps, escapes):
    """Record, and mark escapes of, a lane after t samples; returns whether all rows that were asked for have escaped."""
    while next_record[lane] < record_times.size and record_times[next_record[lane]] <= t:
        for q in range(r * r):
            overlaps[lane, next_record[lane], q] = W[q * LANES + lane]
        next_record[lane] += 1
    asked, waiting = False, False
    for i in range(r):
        escaped = False
        for q in range(i * r, i * r + r):
            if escapes[lane, q] < 0 and abs(W[q * LANES + lane]) >= threshold:
                escapes[lane, q] = t
                W[(_BARRIER * r * r + q) * LANES + lane] = np.inf
            escaped |= escapes[lane, q] >= 0
        asked |= stop_mask[i]
        waiting |= stop_mask[i] and not escaped
    return asked and not waiting


@_plain
def _finite(lane, r, W):
    """Whether M is."""
    total = 0.0
    for q in range(r * r):
        total += 0.0 * W[q * LANES + lane]
    return total == 0.0


@_plain
def _workspace(snr, M, barrier, step):
    """W with M, barrier (r², LANES) and ε (LANES,) in their places."""
    r = len(snr)
    normals = (2 * r * r + r + 1) // 2 * 2
    rows = np.zeros((_first_normal(r) + normals, LANES))
    rows[: r * r] = M
    rows[_BARRIER * r * r : (_BARRIER + 1) * r * r] = barrier
    rows[_BLOCKS * r * r + _STEP] = step
    return rows.reshape(rows.size)


@_plain
def _place(r, inside, toward, gram, lane, W):
    """Given noise XᵀN, VᵀN, NᵀN (r, r) into A, T and C of a lane, in the frame F of its K: FᵀN = K⁻¹ (VᵀN - M XᵀN)."""
    for j in range(r):
        for k in range(r):
            W[_at(_A, k, j, r, lane)] = 0.5 * (inside[k, j] - inside[j, k])
            rest = toward[k, j]
            for i in range(r):
                rest -= W[_at(_M, k, i, r, lane)] * inside[i, j]
            for i in range(k):
                rest -= W[_at(_K, k, i, r, lane)] * W[_at(_T, i, j, r, lane)]
            W[_at(_T, k, j, r, lane)] = rest / W[_at(_K, k, k, r, lane)]
    for i in range(r):
        for j in range(r):
            rest = gram[i, j]
            for k in range(r):
                rest -= inside[k, i] * inside[k, j] + W[_at(_T, k, i, r, lane)] * W[_at(_T, k, j, r, lane)]
            W[_at(_C, i, j, r, lane)] = rest


def _run(
    fill, chi, snr, order, gain, dof, work, M, barrier, step, steps, samples, threshold, stop_mask, record_times, status,
    clock, next_record, overlaps, escapes,
):  # fmt: skip
    """Advance the lanes whose status is RUNNING until one of them is done, at most `steps` samples; returns how many.

    M, barrier (r², LANES), row by row; step (LANES,) = δ/N, 0 in an idle lane, whose state then stays; gain = √N p; dof =
    N - 2r. A lane is done after `samples` samples (REACHED), when for every i with stop_mask[i] (r,) some m_ij has escaped
    (STOPPED; never, if none is set), or when its state is not finite (DIVERGED). `clock`, `next_record`, `status` (LANES,),
    `overlaps` (LANES, n, r²), filled at record_times (n,), and `escapes` (LANES, r²), -1 or the first time with
    |m_ij| >= threshold, belong to the lanes; barrier is the threshold until then, afterwards infinite.

    A run cut into calls is bit-identical to a single one.
    """
    r, W, taken = len(snr), _workspace(snr, M, barrier, step), 0
    while True:
        ahead, done = steps - taken, False
        for lane in range(LANES):
            if status[lane] != RUNNING:
                continue
            t = clock[lane]
            stopped = _observe(lane, t, r, W, threshold, stop_mask, record_times, next_record, overlaps, escapes)
            if not _finite(lane, r, W):
                status[lane] = DIVERGED
            elif stopped:
                status[lane] = STOPPED
            elif t >= samples:
                status[lane] = REACHED
            done |= status[lane] != RUNNING
            until = samples
            if next_record[lane] < record_times.size:
                until = record_times[next_record[lane]]
            ahead = min(ahead, until - t)
        if done or ahead <= 0:
            for q in range(r * r):
                for lane in range(LANES):
                    M[q, lane] = W[q * LANES + lane]
                    barrier[q, lane] = W[(_BARRIER * r * r + q) * LANES + lane]
            return taken
        moved = _advance(fill, chi, snr, order, gain, dof, work, W, ahead)
        taken += moved
        for lane in range(LANES):
            if status[lane] == RUNNING:
                clock[lane] += moved


def _follow(snr, order, gain, step, M, inside, toward, gram, states):
    """The same step on given noise n_j of the gradient: XᵀN, VᵀN, NᵀN (n, r, r); M (r, r) the start, states (n, r, r) out."""
    r = len(snr)
    W = _workspace(snr, np.zeros((r * r, LANES)), np.full((r * r, LANES), np.inf), np.full(LANES, step))
    for i in range(r):
        for j in range(r):
            for lane in range(_lanes(W)):
                W[_at(_M, i, j, r, lane)] = M[i, j]
    for t in range(inside.shape[0]):
        _signal(snr, order, gain, W)
        _cholesky(snr, W)
        for lane in range(_lanes(W)):
            _place(r, inside[t], toward[t], gram[t], lane, W)
        _move(snr, W)
        for i in range(r):
            for j in range(r):
                states[t, i, j] = W[_at(_M, i, j, r, _U(0))]


@lru_cache(maxsize=16)
def run_tensor(r):
    """``_run`` for r spikes, compiled or from the cache: an unrolled loop each."""
    return kernel(
        int64(
            FILL, CHI, types.UniTuple(float64, r), int64, float64, int64, WORDS, MATRIX, MATRIX, VECTOR, int64, int64,
            float64, boolean[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[:, :, ::1], int64[:, ::1],
        )
    )(_run)  # fmt: skip


@lru_cache(maxsize=16)
def follow_tensor(r):
    """``_follow`` for r spikes."""
    cube = float64[:, :, ::1]
    return kernel(void(types.UniTuple(float64, r), int64, float64, float64, MATRIX, cube, cube, cube, cube))(_follow)
