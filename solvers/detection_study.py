"""Thresholds of detection against d, their exponents, and the critical ratio γ_c: as a table and as JSON."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

import numpy as np
from scipy.optimize import brentq

from theory.detection import MOST_DEGREE, Detection, Prior, RademacherSpike, UniformSphere
from theory.errors import require
from theory.results import Array

STATISTICAL = "statistical"
PRIORS: tuple[Prior, ...] = (UniformSphere(), RademacherSpike())
STRENGTHS = (0.01, 9999.0)  # between which the β with γ_c = 1 is looked for


@dataclass(frozen=True)
class DetectionStudy:
    """``thresholds`` of ‖L_n‖² and its parts of ``degrees`` at every d. Raises InputError for values outside their range."""

    detection: Detection
    dims: tuple[int, ...]
    degrees: tuple[int, ...]
    level: float = 2.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        several = len(self.dims) >= 2 and len(set(self.dims)) == len(self.dims)
        require(several, "dims", ",".join(map(str, self.dims)), "two or more different dimensions")
        require(max(self.dims) <= 10**7, "dims", max(self.dims), "at most 10^7")
        different = len(set(self.degrees)) == len(self.degrees) and max(self.degrees) <= MOST_DEGREE
        require(different, "degrees", ",".join(map(str, self.degrees)), f"different numbers, at most {MOST_DEGREE}")
        require(1 < self.level <= 1e6, "level", self.level, "a number > 1, at most 10^6")

    @cached_property
    def thresholds(self) -> dict[str, Array]:
        """Samples n(d), shape (n_dims,), by name: statistical, and D = … for each degree."""
        found = {STATISTICAL: [self.detection.statistical_threshold(d, self.level) for d in self.dims]}
        for degree in self.degrees:
            found[f"D = {degree}"] = [self.detection.low_degree_threshold(d, degree, self.level) for d in self.dims]
        return {name: np.array(values) for name, values in found.items()}

    def exponents(self, name: str) -> Array:
        """Local exponents d log n/d log d between neighbouring dimensions."""
        return np.asarray(np.diff(np.log(self.thresholds[name])) / np.diff(np.log(self.dims)))

    @cached_property
    def critical(self) -> dict[str, float]:
        """γ_c of every prior at this β."""
        return {prior.name: replace(self.detection, prior=prior).critical_ratio for prior in PRIORS}

    @cached_property
    def critical_strength(self) -> dict[str, float | None]:
        """β at which γ_c = 1, so that n = d samples are just not enough; None if there is none up to 10^4."""
        return {prior.name: self._strength(prior) for prior in PRIORS}

    def _strength(self, prior: Prior) -> float | None:
        def excess(log_beta: float) -> float:
            beta = float(np.exp(log_beta))
            return Detection(self.detection.latent, beta, prior).critical_ratio - 1

        low, high = map(log, STRENGTHS)
        return float(np.exp(brentq(excess, low, high, xtol=1e-6))) if excess(high) < 0 < excess(low) else None


def study_table(study: DetectionStudy) -> str:
    """For people."""
    found, detection = study.thresholds, study.detection
    head = ("d", *(f"n {name}" for name in found), "n/d statistical")
    rows = [head]
    for k, dim in enumerate(study.dims):
        rows.append((
            str(dim), *(f"{values[k]:.4g}" for values in found.values()), f"{found[STATISTICAL][k] / dim:.4g}"
        ))  # fmt: skip
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = [
        f"model      spiked cumulant: β = {detection.beta:g}, latent {detection.latent.name} of order p = "
        f"{detection.latent.order}, spike: {detection.prior.name}",
        f"threshold  n at which the squared norm reaches {study.level:g}, exact at every d",
        "",
        *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows),
        "",
    ]
    for name in found:
        local = study.exponents(name)
        span = f"{local.min():.4f} – {local.max():.4f} in all"
        lines.append(f"exponent   {name}: {local[-1]:.4f} between the last two d, {span}")
    for prior, ratio in study.critical.items():
        at = study.critical_strength[prior]
        beyond = "no β up to 10^4 has γ_c = 1" if at is None else f"γ_c = 1 at β = {at:.4g}"
        lines.append(f"gamma_c    spike {prior}: {ratio:.4g}; {beyond}")
    return "\n".join(lines) + "\n"


def study_json(study: DetectionStudy) -> str:
    """``{"schema": 1, "model", "dims", "thresholds": {name: [n]}, "exponents", "critical_ratio", "critical_strength"}``."""
    detection = study.detection
    return json.dumps({
        "schema": 1,
        "model": {
            "latent": detection.latent.name, "p": detection.latent.order, "beta": detection.beta,
            "prior": detection.prior.name, "level": study.level,
        },
        "dims": list(study.dims),
        "thresholds": {name: values.tolist() for name, values in study.thresholds.items()},
        "exponents": {name: study.exponents(name).tolist() for name in study.thresholds},
        "critical_ratio": study.critical,
        "critical_strength": study.critical_strength,
    }, indent=2, allow_nan=False) + "\n"  # fmt: skip
