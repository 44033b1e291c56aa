"""Where drift and diffusion come from: the lowered Hermite series, or quadrature over the latents."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from theory.population import Model, Population
from theory.quadrature import LatentQuadrature

Array = NDArray[np.float64]


class Field(Protocol):
    """Drift and diffusion as functions of α, and the size below which a drift is only rounding."""

    @property
    def resolution(self) -> float:
        """Drifts smaller than this are rounding."""
        ...

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """(∇Φ - α (α·∇Φ), V(α)): shapes (r,) and ()."""
        ...

    def diffusion(self, alpha: Array) -> Array:
        """D(α), shape (r, r), with Cov(Δα) = (δ/d)² D a sample."""
        ...


@dataclass(frozen=True)
class SeriesField:
    """Drift from the truncated Hermite series: its SymPy polynomials, lowered once.

    Near α = 0 a polynomial without small terms keeps its relative accuracy: order 8 at d = 10^12 is still a drift.
    """

    population: Population
    resolution: float = 1e-100

    def __call__(self, alpha: Array) -> tuple[Array, float]:
        """(∇Φ - α (α·∇Φ), V(α))."""
        values = self.population.lowered(alpha)
        return values[:-1], float(values[-1])

    def diffusion(self, alpha: Array) -> Array:
        """D(α), shape (r, r)."""
        r = len(alpha)
        return self.population.lowered_diffusion(alpha).reshape(r, r)


def exact_field(model: Model) -> Field:
    """Drift by quadrature over the latents, with nodes enough for 1e-7 at a quarter of the cost of its full accuracy."""
    return LatentQuadrature(model, n_nodes=64)
