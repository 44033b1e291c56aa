"""Where overlaps live, and how they fall at random: the states of the views, seen from the spikes."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Space(Protocol):
    """Overlaps (n,) of some unit vectors with the spikes; ``size`` <= 1 inside."""

    def size(self, alpha: Array) -> float:
        """1 on the boundary."""
        ...

    def random(self, rng: Generator, dim: float) -> Array:
        """Overlaps of unit vectors that are uniform in R^dim."""
        ...


@dataclass(frozen=True)
class Ball:
    """Overlaps (r,) of one unit vector with r orthonormal spikes: |α| <= 1."""

    rank: int

    def size(self, alpha: Array) -> float:
        """|α|."""
        return float(np.linalg.norm(alpha))

    def random(self, rng: Generator, dim: float) -> Array:
        """Those of a uniform point of the sphere S^(d-1): z/√(|z|² + χ²_{d-r})."""
        z = rng.standard_normal(self.rank)
        return np.asarray(z / np.sqrt(z @ z + rng.chisquare(dim - self.rank)))


@dataclass(frozen=True)
class Contractions:
    """M = VᵀX (r, r), row by row, of two orthonormal frames V and X: singular values <= 1."""

    rank: int

    def size(self, alpha: Array) -> float:
        """The largest singular value of M."""
        return float(np.linalg.norm(alpha.reshape(self.rank, self.rank), 2))

    def random(self, rng: Generator, dim: float) -> Array:
        """Those of a uniform point of the Stiefel manifold: A (AᵀA + W)^(-1/2), A normal, W ~ Wishart with d - r degrees."""
        A = rng.standard_normal((self.rank, self.rank))
        root = bartlett(rng, self.rank, dim - self.rank)
        values, vectors = np.linalg.eigh(A.T @ A + root @ root.T)
        return np.asarray(A @ (vectors / np.sqrt(values)) @ vectors.T).ravel()


def bartlett(rng: Generator, rank: int, freedom: float) -> Array:
    """A lower triangle T (r, r) with T Tᵀ ~ Wishart, ``freedom`` >= r degrees, identity scale (Bartlett 1933)."""
    lower = np.tril(rng.standard_normal((rank, rank)), -1)
    return lower + np.diag(np.sqrt(rng.chisquare(freedom - np.arange(rank))))
