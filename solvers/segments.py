"""Dense output of an integration as plain numbers, which a file can keep."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import chebpts1, chebvander
from numpy.typing import NDArray

Array = NDArray[np.float64]
DEGREE = 12  # of LSODA's interpolant at most; Radau's is cubic
POINTS = chebpts1(DEGREE + 1)
TO_COEFFICIENTS = np.linalg.inv(chebvander(POINTS, DEGREE))


@dataclass(frozen=True)
class Segment:
    """A part of a flow with a clock of its own: from ``begin`` on, in units of d/δ samples.

    Between times[i] and times[i+1], counted from ``begin``, α = Σ_k coefficients[i, k] T_k(x) with x from -1 to 1; shapes
    (n_steps + 1,) and (n_steps, DEGREE + 1, r).
    """

    begin: float
    times: Array
    coefficients: Array

    @classmethod
    def of(cls, begin: float, solution: Any) -> "Segment":
        """SciPy's dense output, a polynomial on every step, in the basis of Chebyshev."""
        times = np.asarray(solution.sol.ts)
        inside = times[:-1, None] + np.diff(times)[:, None] * (1 + POINTS) / 2
        values = solution.sol(inside.ravel()).reshape(-1, *inside.shape)
        return cls(begin, times, np.einsum("kp,rnp->nkr", TO_COEFFICIENTS, values))

    @property
    def end(self) -> float:
        """When the next part takes over."""
        return float(self.begin + self.times[-1])

    def at(self, local: Array) -> Array:
        """Overlaps (n, r) at times (n,) counted from ``begin``."""
        step = np.clip(np.searchsorted(self.times, local, side="right") - 1, 0, len(self.coefficients) - 1)
        x = 2 * (local - self.times[step]) / np.diff(self.times)[step] - 1
        return np.einsum("nk,nkr->nr", chebvander(x, DEGREE), self.coefficients[step])
