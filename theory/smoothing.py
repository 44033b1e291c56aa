"""The loss averaged over a sphere around w (Damian, Nichani, Ge, Lee 2023), for one sample and for the population.

    F(s, ρ) = E_z σ((w + λz)·x / √(1+λ²)) = E σ((s + λ ρ z_1)/√(1+λ²)),      s = w·x,  ρ² = ‖x‖² - s²,

z uniform on the unit sphere S^{d-2} orthogonal to w, z_1 a coordinate of it. Turning w changes s, and ρ with it, since ‖x‖
stays. The spherical gradient of the averaged loss therefore has the slope at FIXED ‖x‖, and no other direction:

    ∇_sph F = g (x - s w),      g = dF/ds at fixed ‖x‖² = ∂_s F - (s/ρ) ∂_ρ F.

The second term is of relative order 1/√d at most, but without it the step is the gradient of no loss.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from math import comb, factorial, perm

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.activations import Z

Array = NDArray[np.float64]
Slope = Callable[[Array, Array], Array]  # (s, ‖x‖²) -> g
RADIUS, DIM = sp.symbols("lambda d", positive=True)
BEYOND = sp.Symbol("rho_squared", positive=True)  # ρ²
PIECES = 1024  # of the ReLU table, whose error is then 1e-11


def sphere_moment(m: int, dim: sp.Expr) -> sp.Expr:
    """E[z_1^{2m}] = (2m-1)!! / ((d-1)(d+1)…(d+2m-3)) for z uniform on S^{d-2}, a sphere in R^{d-1}."""
    return sp.factorial2(2 * m - 1) / sp.Mul(*(dim - 1 + 2 * i for i in range(m)))


def smoothed(expression: sp.Expr) -> sp.Expr:
    """F(s, ρ²) of a polynomial σ(z), in ``Z`` = s, ``BEYOND`` = ρ², ``RADIUS`` = λ and ``DIM`` = d."""
    total = sp.Integer(0)
    for (k,), c in sp.Poly(expression, Z).terms():
        powers = (
            comb(k, 2 * m) * Z ** (k - 2 * m) * (RADIUS**2 * BEYOND) ** m * sphere_moment(m, DIM)
            for m in range(k // 2 + 1)
        )
        total += c / sp.sqrt(1 + RADIUS**2) ** k * sp.Add(*powers)
    return total


def polynomial_slope(expression: sp.Expr) -> sp.Poly:
    """G = dF/ds at fixed ‖x‖², of a polynomial σ: a polynomial in s and ρ² whose coefficients depend on λ and d."""
    averaged = smoothed(expression)
    slope = sp.diff(averaged, Z) - 2 * Z * sp.diff(averaged, BEYOND)
    return sp.Poly(sp.expand(slope), Z, BEYOND)


def relu_slope(radius: float, dim: int) -> Slope:
    """G of ReLU: with τ = s/(λρ) within ±1, √(1+λ²) G = P(z_1 > -τ) - λ² τ E[z_1; z_1 > -τ].

    P is an incomplete beta function; the density of z_1 is C (1-z²)^{(d-4)/2}, hence
    E[z_1; z_1 > -τ] = C/(d-2) (1-τ²)^{(d-2)/2}.
    """
    from scipy.special import betainc

    half = (dim - 2) / 2
    scale = _density_at_zero(dim) / (dim - 2)

    def slope(s: Array, squares: Array) -> Array:
        reach = radius * np.sqrt(np.maximum(squares - s**2, 1e-300))
        tau = np.clip(s / reach, -1, 1)
        probability = (1 + np.sign(tau) * betainc(0.5, half, tau**2)) / 2
        mean = scale * (1 - tau**2) ** half
        return np.asarray((probability - radius**2 * tau * mean) / np.sqrt(1 + radius**2))

    return slope


def relu_table(radius: float, dim: int) -> Array:
    """``relu_slope`` as a run-time array for ``relu_slope_lanes``: λ, 1/h, middle value, then cubics on PIECES intervals.

    In the angle θ = arcsin τ the slope is smooth up to its ends at every d >= 3: dP/dθ = C cos^{d-3} θ. It is odd about
    its middle value and constant from ``reach`` on, to 1e-16.
    """
    from scipy.interpolate import CubicHermiteSpline

    reach = min(math.pi / 2, 9 / math.sqrt(dim - 2))
    angle = np.linspace(0, reach, PIECES + 1)
    cosine, norm, middle = np.cos(angle), math.sqrt(1 + radius**2), 0.5 / math.sqrt(1 + radius**2)
    values = relu_slope(radius, dim)(np.sin(angle) * radius, np.sin(angle) ** 2 * radius**2 + 1) - middle
    density = _density_at_zero(dim) * np.maximum(cosine, 0) ** (dim - 3)
    # d(τ cos^{d-2} θ)/dθ = cos^{d-1} θ - (d-2) τ² cos^{d-3} θ
    bend = radius**2 * density * (cosine**2 / (dim - 2) - np.sin(angle) ** 2)
    pieces = CubicHermiteSpline(angle, values, (density - bend) / norm).c
    return np.concatenate([[radius, PIECES / reach, middle], pieces[::-1].T.ravel()])


def relu_slope_lanes(labels: Array, fields: Array, squares: Array, theta: Array, out: Array) -> None:
    """out = y G(s, ‖x‖²) from a ``relu_table``, lane by lane. Compiled by theory.lower."""
    radius, per_angle, middle = theta[0], theta[1], theta[2]
    for i in range(out.size):
        s = fields[i]
        reach = radius * math.sqrt(max(squares[i] - s * s, 0.0))
        size = abs(s)
        place = PIECES - 1e-9
        if size < reach:
            place = min(place, math.asin(size / reach) * per_angle)
        k = int(place)
        u, at = (place - k) / per_angle, 3 + 4 * k
        above = theta[at] + u * (theta[at + 1] + u * (theta[at + 2] + u * theta[at + 3]))
        out[i] = labels[i] * (middle + above if s > 0.0 else middle - above)


def spherical_average(poly: sp.Poly, radius: float, dim: int) -> sp.Poly:
    """E_z Φ((α + λ Uᵀz)/√(1+λ²)) for a polynomial Φ of the overlaps α = Uᵀw, |w| = 1: a polynomial again.

    Uᵀz is a vector of covariance C/(d-1), C = I - ααᵀ, and for homogeneous Φ of degree k, as for a Gaussian vector,

        E_z Φ(α + λ Uᵀz) = sum_m λ^{2m} / ((d-1)(d+1)…(d+2m-3)) (½ ∇ᵀC∇)^m/m! Φ.

    ∇ᵀC∇ = Δ - (α·∇)² with α held fixed, and Euler's theorem gives (α·∇)^{2j} Δ^n Φ = (k-2n)!/(k-2n-2j)! Δ^n Φ. The sums
    alternate: they are taken in fractions.
    """
    parts: dict[int, dict[tuple[int, ...], sp.Expr]] = {}
    for index, c in poly.as_dict().items():
        parts.setdefault(sum(index), {})[index] = c
    total = poly.zero
    for k, terms in parts.items():
        laplacian = sp.Poly.from_dict(terms, *poly.gens, domain=poly.domain)
        for n in range(k // 2 + 1):
            total += laplacian * float(_weight(k, n, Fraction(radius) ** 2, dim)) * (1 + radius**2) ** (-k / 2)
            laplacian = sum((laplacian.diff((a, 2)) for a in poly.gens), poly.zero)
    return total


def _weight(k: int, n: int, square: Fraction, dim: int) -> Fraction:
    """What multiplies Δ^n Φ in ``spherical_average``, ``square`` = λ²."""
    total = Fraction(0)
    for j in range(k // 2 - n + 1):
        m = n + j
        moments = math.prod(dim - 1 + 2 * i for i in range(m))
        total += square**m * (-1) ** j * comb(m, j) * perm(k - 2 * n, 2 * j) / (2**m * factorial(m) * moments)
    return total


def _density_at_zero(dim: int) -> float:
    """C = Γ((d-1)/2) / (√π Γ((d-2)/2)), the density of z_1 at 0."""
    return math.exp(math.lgamma((dim - 1) / 2) - math.lgamma((dim - 2) / 2)) / math.sqrt(math.pi)
