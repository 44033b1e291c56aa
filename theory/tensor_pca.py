"""Multi-spiked tensor PCA: the population flow on the Stiefel manifold, as SymPy derives it, and the law of its noise.

Y = W + √N Σ_i λ_i v_i^{⊗p}, W with independent N(0, 1) entries, a fresh Y for each sample; X = [x_1 … x_r] orthonormal;
M = VᵀX. Objective Σ_j λ_j ⟨Y, x_j^{⊗p}⟩, in the mean √N Σ_ij λ_i λ_j m_ij^p (Ben Arous, Gerbelot & Piccolo 2024,
arXiv:2408.06401, 2410.18162; theory §8). Online SGD: Z = (δ/N) · tangent gradient, X <- (X + Z)(I + ZᵀZ)^(-1/2).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.errors import require
from theory.lower import PolynomialMap
from theory.spaces import Contractions

Array = NDArray[np.float64]
MOST_SPIKES = 9


@dataclass(frozen=True)
class SpikedTensor:
    """r orthonormal spikes of order p with signal-to-noise ratios λ_1 >= … >= λ_r > 0, and as many learners.

    The overlaps m_ij = v_i·x_j stand row by row: α = (m_11, m_12, …, m_rr). Raises InputError for p outside 2 … 8, no
    spike or more than nine, λ's that are not decreasing, or that lie outside 1e-3 … 1e3.
    """

    order: int
    snr: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(2 <= self.order <= 8, "p", self.order, "2 … 8")
        shown = ",".join(f"{x:g}" for x in self.snr)
        require(1 <= len(self.snr) <= MOST_SPIKES, "snr", shown, f"1 … {MOST_SPIKES} numbers")
        ok = all(1e-3 <= x <= 1e3 for x in self.snr)
        require(ok, "snr", shown, "numbers from 1e-3 to 1e3")
        require(list(self.snr) == sorted(self.snr, reverse=True), "snr", shown, "decreasing numbers")

    @property
    def rank(self) -> int:
        """r."""
        return len(self.snr)

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the overlaps m_ij: "11", "12", … row by row; i is the spike."""
        return tuple(f"{i}{j}" for i in range(1, self.rank + 1) for j in range(1, self.rank + 1))

    @property
    def space(self) -> Contractions:
        """Where M lives."""
        return Contractions(self.rank)

    def describe(self) -> str:
        """The model in one line."""
        return f"tensor PCA: order p = {self.order}, spikes λ = {', '.join(f'{x:g}' for x in self.snr)}"

    def rate(self, strength: float, dim: float) -> float:
        """δ = δ_0 N^{(3-p)/2}, at which a spike costs N^{p-2} samples whatever N."""
        return float(strength * dim ** ((3 - self.order) / 2))


@dataclass(frozen=True)
class TensorPopulation:
    """Everything SymPy derives for r spikes of order p, with the λ's as symbols; N enters through √N alone."""

    order: int
    rank: int

    @property
    def overlaps(self) -> sp.Matrix:
        """m_ij (r, r)."""
        return sp.Matrix(
            self.rank, self.rank, lambda i, j: sp.Symbol(f"m_{i + 1}{j + 1}" if self.rank > 1 else "m", real=True)
        )

    @property
    def strengths(self) -> tuple[sp.Symbol, ...]:
        """λ_i (r,)."""
        return sp.symbols(f"lambda_1:{self.rank + 1}", positive=True)

    @property
    def objective(self) -> sp.Expr:
        """Σ_ij λ_i λ_j m_ij^p: the population objective per √N."""
        M, λ = self.overlaps, self.strengths
        pairs = [(i, j) for i in range(self.rank) for j in range(self.rank)]
        return sp.Add(*(λ[i] * λ[j] * M[i, j] ** self.order for i, j in pairs))

    @cached_property
    def euclidean_gradient(self) -> sp.Matrix:
        """G = ∂objective/∂M (r, r)."""
        return self.overlaps.applyfunc(lambda m: sp.diff(self.objective, m))

    @cached_property
    def flow(self) -> sp.Matrix:
        """G - ½ M (MᵀG + GᵀM): the mean step of M is (δ/N) √N times this (r, r)."""
        M, G = self.overlaps, self.euclidean_gradient
        return (G - M * (M.T * G + G.T * M) / 2).applyfunc(sp.expand)

    @cached_property
    def normalisation(self) -> sp.Matrix:
        """-½ M diag(p λ_j²): the price of the retraction, per δ²/N, to leading order in N."""
        return -self.overlaps * sp.diag(*(self.order * λ**2 for λ in self.strengths)) / 2

    @cached_property
    def diffusion(self) -> sp.Matrix:
        """Cov(ΔM) per (δ/N)² (r², r²), M row by row: the noise of the tangent gradient, exact at every N.

        Outside the span of X column j has independent entries of variance p λ_j²; in it the r × r block of the noise is
        λ_j √p b_ij, off the diagonal, and p λ_j b_jj on it, b independent normals, for p = 2 with b_ij = b_ji.
        """
        r, p, M, λ = self.rank, self.order, self.overlaps, self.strengths
        b = sp.Matrix(r, r, lambda i, j: sp.Symbol(f"b_{min(i, j)}_{max(i, j)}" if p == 2 else f"b_{i}_{j}"))
        block = sp.Matrix(r, r, lambda i, j: λ[j] * (p if i == j else sp.sqrt(p)) * b[i, j])
        inside = list((M * (block - block.T) / 2).applyfunc(sp.expand))
        factors = sp.Matrix([[entry.coeff(s) for s in sorted(b.free_symbols, key=str)] for entry in inside])
        outside = sp.kronecker_product(sp.eye(r) - M * M.T, sp.diag(*(p * x**2 for x in λ)))
        return (factors * factors.T + outside).applyfunc(sp.expand)

    def lowered(self, part: sp.Matrix, snr: tuple[float, ...]) -> PolynomialMap:
        """``flow``, ``normalisation`` or ``diffusion`` at given λ's as a numeric map of (m_11, m_12, …) (r²,)."""
        numbers, generators = dict(zip(self.strengths, snr, strict=True)), list(self.overlaps)
        return PolynomialMap.from_polys([sp.Poly(e.subs(numbers), *generators, domain=sp.RR) for e in part])

    def latex(self) -> str:
        """Objective and flow as on a board, in LaTeX."""
        lines = [rf"\Phi(M) &= \sqrt{{N}}\left({sp.latex(self.objective)}\right)"]
        for m, f in zip(self.overlaps, self.flow, strict=True):
            lines.append(rf"\dot{{{sp.latex(m)}}} &= \frac{{\delta}}{{\sqrt{{N}}}}\left({sp.latex(f)}\right)")
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


@lru_cache(maxsize=64)
def _lowered(order: int, snr: tuple[float, ...]) -> tuple[PolynomialMap, PolynomialMap, PolynomialMap]:
    population = TensorPopulation(order, len(snr))
    flow, price, noise = population.flow, population.normalisation, population.diffusion
    return population.lowered(flow, snr), population.lowered(price, snr), population.lowered(noise, snr)


@dataclass(frozen=True)
class TensorField:
    """A ``solvers.fields.Field`` for tensor PCA in dimension N: mean and covariance of a step of SGD, per δ/N a sample.

    The price of the retraction is not a multiple of α (its columns weigh p λ_j²), so it stands in the drift: V = 0.
    """

    tensor: SpikedTensor
    dim: float
    lr: float
    resolution: float = 1e-100

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """√N flow + δ normalisation at α (r²,), and 0."""
        flow, price, _ = _lowered(self.tensor.order, self.tensor.snr)
        return np.sqrt(self.dim) * flow(alpha) + self.lr * price(alpha), 0.0

    def diffusion(self, alpha: Array) -> Array:
        """Cov(Δα) per (δ/N)², shape (r², r²)."""
        return _lowered(self.tensor.order, self.tensor.snr)[2](alpha).reshape(len(alpha), len(alpha))


def drift_times(tensor: SpikedTensor, overlaps: Array, dim: float, lr: float, threshold: float) -> Array:
    """Samples (…, r, r) in which the drift alone carries each entry of M (…, r, r), as if it stood alone, to the threshold.

    ṁ = (δ/√N) p λ_i λ_j m^{p-1}; inf where it pushes away from the threshold (odd p, m <= 0), 0 beyond it.
    """
    p, λ = tensor.order, np.array(tensor.snr)
    m = np.abs(overlaps) if p % 2 == 0 else overlaps
    with np.errstate(divide="ignore", invalid="ignore"):
        way = np.log(threshold / m) if p == 2 else (m ** (2.0 - p) - threshold ** (2.0 - p)) / (p - 2)
    way = np.where(m > 0, np.maximum(way, 0), np.inf)
    return np.asarray(way / (lr / np.sqrt(dim) * p * np.outer(λ, λ)))


def elimination(times: Array) -> list[tuple[int, int]]:
    """Sequential elimination: the pairs (spike i, column j) in the order of their times (r, r), each row and column once.

    As m_ij grows it pushes its row and column down, so the next pair is the fastest of those that are left (2408.06401).
    """
    left, pairs = np.array(times, dtype=float), []
    for _ in range(len(left)):
        i, j = np.unravel_index(int(np.argmin(left)), left.shape)
        if np.isinf(left[i, j]):
            break
        pairs.append((int(i), int(j)))
        left[i, :] = left[:, j] = np.inf
    return pairs


OUTCOMES = ("exact", "permutation", "subspace", "partial")


def outcome(overlaps: Array, threshold: float) -> str:
    """What X has recovered at M (r, r).

    ``exact``: |m_ii| >= threshold for every i; ``permutation``: an entry of that size in every row and column;
    ``subspace``: the smallest singular value of M is that large, its entries are not; ``partial``: none of these.
    """
    large = np.abs(overlaps) >= threshold
    if large.diagonal().all():
        return OUTCOMES[0]
    if large.any(axis=0).all() and large.any(axis=1).all():
        return OUTCOMES[1]
    return OUTCOMES[2 if np.linalg.svd(overlaps, compute_uv=False)[-1] >= threshold else 3]
