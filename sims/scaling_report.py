"""The measured scaling in words: a table for people, JSON for programs."""

import json
from math import inf, isfinite
from typing import Any

from sims.scaling_laws import LawFit
from sims.threshold_scaling import Control, Point, Scaling, false_alarms
from solvers.report import model_dict
from theory.results import wilson_interval

DECISIVE = 6.0  # in AIC: the worse law is exp(3) = 20 times less likely


def scaling_table(result: Scaling) -> str:
    """The table for people."""
    study, subject = result.study, result.study.subject
    finished = "  (INTERRUPTED: finished points only)" if result.interrupted else ""
    lines = [
        f"model      {subject.model.describe()}",
        f"study      |alpha_{subject.target}| >= {subject.threshold:g} {_runs(result)}{finished}",
        *(f"warning    {line}" for line in study.warnings),
        "",
        *_columns(_point_rows(result)),
        "",
        *_fit_lines(result),
        *_control_lines(result),
        "escape times in samples; predicted: "
        + _theory(result)
        + "; '> x': the median lies beyond the budget x, not fitted",
    ]
    return "\n".join(lines) + "\n"


def _runs(result: Scaling) -> str:
    study = result.study
    if not study.random:
        return f"from the typical start, engine {study.engine}"
    return (
        f"from a random start, engine {study.engine}, {study.runs} runs, seed {study.seed}, "
        f"budget {study.budget:g} predicted medians"
    )


def _theory(result: Scaling) -> str:
    return "first-passage law" if len(result.study.subject.model.spikes) == 1 else "ODE from the typical start"


def _point_rows(result: Scaling) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("d", "B", "lr", "median", "95 % interval", "censored", "predicted", "median/predicted", "fitted")
    ]
    for p in result.points:
        seen = isfinite(p.median)
        low, high = (f"{t:.4g}" if isfinite(t) else f"> {p.job.samples:.3g}" for t in p.interval)
        ratio = f"{p.median / p.predicted:.3f}" if seen and 0 < p.predicted < inf else "-"
        rows.append((
            str(p.job.dim), str(p.job.batch), f"{p.job.lr:.4g}", f"{p.median:.4g}" if seen else f"> {p.job.samples:.4g}",
            f"{low} – {high}" if p.job.runs > 1 else "-", f"{p.escapes.n_censored(p.target)}/{p.job.runs}",
            f"{p.predicted:.4g}" if isfinite(p.predicted) else "never", ratio, "yes" if p.fitted and seen else "no",
        ))  # fmt: skip
    return rows


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _fit_lines(result: Scaling) -> list[str]:
    fit = result.fit
    if fit is None:
        return ["no fit: fewer than two usable points, give more or larger --dims"]
    low, high = fit.interval
    error = f"  95 % interval {low:.3f} – {high:.3f} (bootstrap over runs)" if isfinite(low) or isfinite(high) else ""
    lines = [f"exponent   {fit.exponent:.3f}{error}"]
    if not fit.laws:
        return [*lines, "law        no comparison: more points than parameters are needed, give more --dims"]
    first = fit.laws[0]
    rows: list[tuple[str, ...]] = [("law", "AIC difference", "parameters")]
    for other in fit.laws:
        values = ", ".join(f"{name} = {value:.4g}" for name, value in other.parameters.items())
        rows.append((other.law.name, f"{other.aic - first.aic:.1f}", values))
    return [*lines, f"preferred  {first.law.name}{_certainty(fit.laws)}", "", *_columns(rows), ""]


def _certainty(laws: tuple[LawFit, ...]) -> str:
    """How far the best law of the other kind, power or logarithm, lies behind."""
    rival = next((f for f in laws if bool(f.law.m) != bool(laws[0].law.m)), None)
    if rival is None:
        return ""
    kind, gap = "power" if laws[0].law.m else "logarithmic law", rival.aic - laws[0].aic
    return f"  ({'' if gap > DECISIVE else 'not decisive: '}best {kind}, {rival.law.name}, is {gap:.1f} behind in AIC)"


def _control_lines(result: Scaling) -> list[str]:
    lines = []
    for kind, controls in _by_kind(result).items():
        alarms = false_alarms(controls)
        low, high = wilson_interval(*alarms)
        each = ", ".join(f"d = {c.job.dim}: {c.crossed}/{c.job.runs}" for c in controls)
        rate = f"false alarms {alarms[0]}/{alarms[1]} where fitted, 95 % {low:.4f} – {high:.4f}"
        lines += [f"control    {kind} ({controls[0].activation}): {rate}", f"           {each}"]
    return lines


def _by_kind(result: Scaling) -> dict[str, list[Control]]:
    kinds = dict.fromkeys(c.kind for c in result.controls)
    return {kind: [c for c in result.controls if c.kind == kind] for kind in kinds}


def scaling_json(result: Scaling) -> str:
    """The documented JSON, schema 1: ``points`` of the first batch size, ``minibatch`` of the others; null: not finite."""
    study, fit = result.study, result.fit
    laws = fit.laws if fit else ()
    lead = study.batches[0]
    payload = {
        "schema": 1,
        "exponent": fit.exponent if fit else None,
        "ci95": [_number(x) for x in fit.interval] if fit else [None, None],
        "law": laws[0].law.name if laws else None,
        "laws": {f.law.name: {"aic": f.aic, "parameters": _numbers(f.parameters)} for f in laws},
        "points": [_point_dict(p) for p in result.points if p.job.batch == lead],
        "minibatch": [_point_dict(p) for p in result.points if p.job.batch != lead],
        "controls": {kind: _controls_dict(controls) for kind, controls in _by_kind(result).items()},
        "model": model_dict(study.subject.model),
        "engine": study.engine,
        "target": study.subject.target,
        "runs": study.runs if study.random else 1,
        "seed": study.seed,
        "threshold": study.subject.threshold,
        "warnings": list(study.warnings),
        "interrupted": result.interrupted,
    }
    return json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _point_dict(p: Point) -> dict[str, Any]:
    return {
        "dim": p.job.dim,
        "lr": p.job.lr,
        "batch": p.job.batch,
        "median": _number(p.median),
        "ci95": [_number(x) for x in p.interval] if p.job.runs > 1 else [None, None],
        "censored": p.escapes.n_censored(p.target),
        "budget": p.job.samples,
        "predicted": _number(p.predicted),
        "fitted": p.fitted and isfinite(p.median),
        "seed": p.job.seed,
    }


def _controls_dict(controls: list[Control]) -> dict[str, Any]:
    crossed, runs = false_alarms(controls)
    return {
        "activation": controls[0].activation,
        "false_alarm_rate": crossed / runs,
        "ci95": list(wilson_interval(crossed, runs)),
        "points": [
            {
                "dim": c.job.dim,
                "crossed": c.crossed,
                "runs": c.job.runs,
                "ci95": list(c.interval),
                "samples": c.job.samples,
            }
            for c in controls
        ],
    }


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
