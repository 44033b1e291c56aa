"""Standard normals from LANES parallel generators that vectorise: about 1.5 ns each.

`work` holds LANES xoshiro256++ generators [Blackman, Vigna 2021], one a column of work[:4 LANES].reshape(4, LANES), and
behind them room for a chunk of their outputs. `make_generator` seeds all of them at once; `seed_lane` seeds one.

    fill_normals(work, out),   out.size a multiple of BLOCK

fills `out` in chunks of CHUNK (the last may be shorter): a chunk of 2h takes 2h words, lane after lane, h for the radii
and h for the angles of Box-Muller, and holds the h sines, then the h cosines. Column i of out.reshape(-1, LANES) depends
on lane i alone, so a lane is also a stream of its own, for callers that run LANES replicas side by side.

All jitted helpers live in this file (numba's cache knows only the file of the caller), before the function that calls
them (an explicit signature compiles at once); other kernels take `fill_normals` as an argument of type void(uint64[::1],
float64[::1]). IEEE arithmetic, except that `contract` lets a*b + c become one fused operation, which is fixed in the
machine code: results depend on the seed and the processor type, never on threads or timing.
"""

import numpy as np
from numba import float64, njit, uint64, void
from numpy.random import SeedSequence
from numpy.typing import NDArray

from theory.jit import kernel

LANES = 16
BLOCK = 2 * LANES  # normals come in pairs: lengths are multiples of this
CHUNK = 1024  # words drawn before they are transformed: both fit the first-level cache

_U = np.uint64
_ONE_BITS = _U(0x3FF0000000000000)  # the double 1.0
_ROOT_HALF_BITS = _U(0x3FE6A09E667F3BCD)  # the double sqrt(1/2)
_MANTISSA = _U(0x000FFFFFFFFFFFFF)
_TWO_52_BITS = _U(0x4330000000000000)  # 2^52 + k has the integer k in its mantissa

_contracted = njit(error_model="numpy", fastmath={"contract"})


def make_generator(seed: SeedSequence) -> NDArray[np.uint64]:
    """Generators seeded with ``seed.generate_state(4 * LANES)``: the array ``work`` of `fill_normals`."""
    work = np.zeros(4 * LANES + CHUNK, np.uint64)
    work[: 4 * LANES] = seed.generate_state(4 * LANES, np.uint64)
    return work


def seed_lane(work: NDArray[np.uint64], lane: int, seed: SeedSequence) -> None:
    """Begin the stream of one lane anew."""
    work[lane : 4 * LANES : LANES] = seed.generate_state(4, np.uint64)


@njit(error_model="numpy")
def _rotl(x, k):
    return (x << _U(k)) | (x >> _U(64 - k))


@njit(error_model="numpy")
def _xoshiro(work, words):
    """Next `words` (a multiple of LANES) outputs of xoshiro256++ [Blackman, Vigna 2021] into work[4 LANES:].

    Unsigned indices into one array: LLVM then sees that state and outputs are apart, and vectorises over the lanes.
    """
    n = _U(LANES)
    for i in range(words // LANES):
        start = (_U(4) + _U(i)) * n
        for lane in range(n):
            s0, s1 = work[lane], work[n + lane]
            s2, s3 = work[_U(2) * n + lane], work[_U(3) * n + lane]
            work[start + lane] = _rotl(s0 + s3, 23) + s0
            t = s1 << _U(17)
            s2, s3 = s2 ^ s0, s3 ^ s1
            work[n + lane] = s1 ^ s2
            work[lane] = s0 ^ s3
            work[_U(2) * n + lane] = s2 ^ t
            work[_U(3) * n + lane] = _rotl(s3, 45)


@_contracted
def _minus_two_log(u):
    """-2 log u, u in (0, 1]: u = 2^e m, m in [sqrt(1/2), sqrt 2), log m = 2 artanh((m - 1)/(m + 1))."""
    k = np.float64(u).view(np.uint64) + (_ONE_BITS - _ROOT_HALF_BITS)
    m = _U((k & _MANTISSA) + _ROOT_HALF_BITS).view(np.float64)
    e = _U((k >> _U(52)) | _TWO_52_BITS).view(np.float64) - (4503599627370496.0 + 1023.0)
    f = (1.0 - m) / (1.0 + m)
    q = f * f
    p = 0.29619735144627 * q + 0.306250262294766  # 4 artanh(f)/f, Chebyshev nodes on f^2 <= 0.0295
    p = (p * q + 0.3636726448323405) * q + 0.4444439441280855
    p = (p * q + 0.5714285752147656) * q + 0.7999999999860382
    p = (p * q + 1.333333333333353) * q + 4.0
    return f * p - 1.3862943611198906 * e


@_contracted
def _sincos_pi(x):
    """sin(pi x), cos(pi x), |x| <= 1/2, errors below 4e-16 (Chebyshev nodes in x^2)."""
    q = x * x
    p = -2.113362735205297e-05 * q + 0.0004659870158043378
    p = (p * q - 0.0073703643265304155) * q + 0.08214587881631043
    p = (p * q - 0.599264528825224) * q + 2.5501640398618677
    p = (p * q - 5.1677127800497855) * q + 3.1415926535897927
    c = 4.149564353942586e-06 * q - 0.00010456655338748738
    c = (c * q + 0.0019295562724817132) * q - 0.025806888737002202
    c = (c * q + 0.23533063012953284) * q - 1.335262768843447
    c = (c * q + 4.058712126416497) * q - 4.934802200544676
    return p * x, c * q + 1.0


@_contracted
def _box_muller(radii, angles, first, second):
    """first, second = r sin(pi x), +-r cos(pi x), with r^2 = -2 log u, u in (0, 1], x in [-1/2, 1/2), a random sign.

    u and x take the top 52 bits of a word, the sign the lowest bit of the word of x; no branch, no table, log u finite.
    """
    for i in range(first.size):
        u = 2.0 - _U((radii[i] >> _U(12)) | _ONE_BITS).view(np.float64)
        x = _U((angles[i] >> _U(12)) | _ONE_BITS).view(np.float64) - 1.5
        r = np.sqrt(_minus_two_log(u))
        sine, cosine = _sincos_pi(x)
        first[i] = r * sine
        second[i] = _U(np.float64(r * cosine).view(np.uint64) ^ (angles[i] << _U(63))).view(np.float64)


@kernel(void(uint64[::1], float64[::1]))
def fill_normals(work, out):
    """Standard normals into `out` (n,), n a multiple of BLOCK; every lane of `work` advances by n / LANES draws."""
    if out.size % BLOCK != 0:
        raise ValueError("fill_normals: out.size must be a multiple of BLOCK; draw more and cut")
    for i in range(0, out.size, CHUNK):
        n = min(CHUNK, out.size - i)
        h = n // 2
        _xoshiro(work, n)
        words = work[4 * LANES :]
        _box_muller(words[:h], words[h:n], out[i : i + h], out[i + h : i + n])


def stream_length(n: int) -> int:
    """Size of the `out` of `fill_normals` that holds ``n`` normals: n rounded up to a multiple of BLOCK."""
    return -(-n // BLOCK) * BLOCK
