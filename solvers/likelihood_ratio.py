"""The likelihood-ratio test for a Rademacher spike at small d, by Monte Carlo: what the best of all tests can do.

log L(x¹ … xⁿ) = log mean_u exp Σ_i log ℓ(u·x^i), the mean over all 2^d spikes u ∈ {±1}^d/√d and ℓ the planted density along u
over the Gaussian one. E_null[L] = 1 and E_null[L²] = ‖L_n‖² tie it to ``theory.detection``.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from theory.detection import Detection
from theory.errors import require
from theory.results import Array, replica_seed, stream, wilson_interval

LARGEST = 12  # dimensions: 4096 spikes
NULL, PLANTED = 6, 7  # streams of a replica's seed


@dataclass(frozen=True)
class LikelihoodRatios:
    """log L on ``runs`` data sets of ``samples`` samples each: shapes (runs,), under the null and with a random spike."""

    dim: int
    samples: int
    null: Array
    planted: Array

    @property
    def error(self) -> tuple[float, tuple[float, float]]:
        """Error of the best test, ½ P(L > 1 | null) + ½ P(L <= 1 | planted), and its 95 % interval (Wilson)."""
        wrong = int((self.null > 0).sum() + (self.planted <= 0).sum())
        n = len(self.null) + len(self.planted)
        return wrong / n, wilson_interval(wrong, n)


def likelihood_ratios(detection: Detection, dim: int, samples: int, runs: int, seed: int = 0) -> LikelihoodRatios:
    """Data set i from (seed, i). Raises InputError for d beyond 2 … 12."""
    require(2 <= dim <= LARGEST, "dim", dim, f"2 … {LARGEST}: the mean runs over 2^d spikes")
    require(1 <= samples <= 10**5, "samples", samples, "1 … 10^5")
    require(1 <= runs <= 10**6, "runs", runs, "1 … 10^6")
    spikes = np.array(list(product((1.0, -1.0), repeat=dim))).T / np.sqrt(dim)
    both = [_one(detection, spikes, samples, seed, i) for i in range(runs)]
    null, planted = np.array(both).T
    return LikelihoodRatios(dim, samples, null, planted)


def _one(detection: Detection, spikes: Array, samples: int, seed: int, replica: int) -> tuple[float, float]:
    child = replica_seed(seed, replica)
    null = np.random.default_rng(stream(child, NULL)).standard_normal((samples, len(spikes)))
    rng = np.random.default_rng(stream(child, PLANTED))
    x, u = rng.standard_normal((samples, len(spikes))), spikes[:, rng.integers(spikes.shape[1])]
    nu = rng.choice(detection.latent.nodes, samples, p=detection.latent.weights)
    share = detection.signal
    along = np.sqrt(share) * nu + np.sqrt(1 - share) * rng.standard_normal(samples)
    planted = x + np.outer(along - x @ u, u)
    return _log_ratio(detection, spikes, null), _log_ratio(detection, spikes, planted)


def _log_ratio(detection: Detection, spikes: Array, x: Array) -> float:
    each = detection.log_density_ratio(x @ spikes).sum(axis=0)
    top = each.max()
    return float(top + np.log(np.mean(np.exp(each - top))))
