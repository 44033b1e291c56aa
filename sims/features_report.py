"""The comparison of network and random features as tables in Markdown and as JSON (schema 1)."""

import json
from math import isfinite

import numpy as np

from sims.features_study import LEVEL, FeaturesResult, Point, mean_interval
from theory.results import Array


def features_table(result: FeaturesResult) -> str:
    """Points, exponent, controls."""
    study = result.study
    widths = "".join(f" features N = {w}d |" for w in study.widths)
    lines = [
        f"| task | d | n/d² | 95 % | runs | network |{widths}",
        "|---|" + "---:|" * (5 + len(study.widths)),
        *(_row(p) for p in result.points),
        "",
        "n: samples after which the median network has found the cumulant, its gain (accuracy above that on Gaussians of the",
        f"same mean and covariance) being {_marks(result)}; in how many of {study.runs} runs it was reached at all.",
        f"Gains at n in per cent: median of the networks; mean of the features with its {100 * LEVEL:g} % interval.",
    ]
    if result.fit:
        low, high = result.fit.interval
        lines += ["", f"Cumulant alone: n ∝ d^{result.fit.exponent:.2f}, 95 % {low:.2f} … {high:.2f}."]
    if result.controls:
        lines += ["", "| control | d | N | n/d² | accuracy of the features |", "|---|---:|---:|---:|---:|"]
        for (name, dim), scores in result.controls.items():
            size = f"{max(study.widths)}d | {scores.times[-1] / dim**2:.3g}"
            lines.append(f"| {name} | {dim} | {size} | {_per_cent(scores.accuracy[:, -1])} |")
    diverged = sum(p.network.diverged for p in result.points)
    lines += ["", f"{diverged} networks diverged and count as chance."] if diverged else []
    lines += ["", "INTERRUPTED: finished points only."] if result.interrupted else []
    return "\n".join(lines) + "\n"


def _row(p: Point) -> str:
    escapes, square = p.successes, p.dim**2
    low, high = escapes.median_interval("v")
    reached = f"{len(escapes.times) - escapes.n_censored('v')}/{len(escapes.times)}"
    last = p.network.times == next(iter(p.features.values())).times[-1]
    network = 100 * float(np.median(p.network.gain[:, last]))
    features = "".join(f" {_per_cent(s.gain[:, -1])} |" for s in p.features.values())
    seen = f"{p.needed / square:.3g}" if isfinite(p.needed) else f"> {p.network.times[-1] / square:.3g}"
    return f"| {p.task} | {p.dim} | {seen} | {low / square:.3g} … {high / square:.3g} | {reached} | {network:.1f} |{features}"


def _per_cent(values: Array) -> str:
    low, high = mean_interval(values)
    return f"{100 * values.mean():.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def _marks(result: FeaturesResult) -> str:
    marks = {p.task: p.success for p in result.points}
    return ", ".join(f"{100 * mark:g} % ({task})" for task, mark in marks.items())


def features_json(result: FeaturesResult) -> str:
    """{"schema": 1, study, "exponent", "ci95", "points", "controls", "interrupted"}; null is infinite or unknown."""
    study, fit = result.study, result.fit
    record = {
        "schema": 1,
        "hidden": study.hidden, "runs": study.runs, "samples_factor": study.samples_factor, "seed": study.seed,
        "exponent": fit.exponent if fit else None,
        "ci95": [_finite(x) for x in fit.interval] if fit else None,
        "points": [_entry(p) for p in result.points],
        "controls": [
            {"task": name, "dim": dim, "width": max(study.widths) * dim, "samples": int(scores.times[-1]),
             "accuracy": float(scores.accuracy[:, -1].mean()), "ci99": mean_interval(scores.accuracy[:, -1])}
            for (name, dim), scores in result.controls.items()
        ],
        "interrupted": result.interrupted,
    }  # fmt: skip
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _entry(p: Point) -> dict[str, object]:
    low, middle, high = np.quantile(p.network.accuracy, (0.16, 0.5, 0.84), axis=0)
    escapes = p.successes
    return {
        "task": p.task, "dim": p.dim, "success_gain": p.success, "samples": _finite(p.needed),
        "ci95": [_finite(x) for x in escapes.median_interval("v")], "censored": escapes.n_censored("v"),
        "network": {
            "times": p.network.times.tolist(), "accuracy": middle.tolist(), "accuracy_16": low.tolist(),
            "accuracy_84": high.tolist(), "gain": np.median(p.network.gain, axis=0).tolist(), "diverged": p.network.diverged,
        },
        "features": [
            {"width": w * p.dim, "times": s.times.tolist(), "accuracy": s.accuracy.mean(axis=0).tolist(),
             "gain": s.gain.mean(axis=0).tolist(), "gain_ci99": [mean_interval(x) for x in s.gain.T]}
            for w, s in p.features.items()
        ],
    }  # fmt: skip


def _finite(x: float) -> float | None:
    return x if isfinite(x) else None
