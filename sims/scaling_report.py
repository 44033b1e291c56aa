"""The measured scaling in words: a table for people, JSON for programs."""

from math import inf, isfinite
from typing import Any

from sims.escape_study import Control, MedianRatio, Point, Scaling, false_alarms, median_ratios
from solvers.tables import columns, finite, json_text
from theory.results import wilson_interval
from theory.scaling_laws import LawFit

DECISIVE = 6.0  # in AIC: the worse law is exp(3) = 20 times less likely


def scaling_table(result: Scaling) -> str:
    """The table for people."""
    words = result.study.wording
    finished = "  (INTERRUPTED: finished points only)" if result.interrupted else ""
    predicted = f" predicted: {words.theory};" if words.theory else ""
    lines = [
        f"model      {words.subject}",
        f"study      {words.event} {words.setting}{finished}",
        *(f"warning    {line}" for line in result.warnings),
        "",
        *columns(_point_rows(result)),
        "",
        *_fit_lines(result),
        *_control_lines(result),
        f"escape times in samples;{predicted} '> x': the median lies beyond the budget x, not fitted",
    ]
    return "\n".join(lines) + "\n"


def arms_table(results: dict[str, Scaling], ratios: bool = True) -> str:
    """The tables of named studies, of two whose noise is independent also the ``ratios`` of their medians."""
    parts = [f"{name}\n{scaling_table(result)}" for name, result in results.items()]
    if ratios and len(results) == 2:
        rows: list[tuple[str, ...]] = [
            ("d", "ratio", "95 % interval"),
            *map(_ratio_row, median_ratios(*results.values())),
        ]
        parts.append("\n".join([f"medians, {' / '.join(results)}", *columns(rows)]) + "\n")
    return "\n".join(parts)


def _ratio_row(r: MedianRatio) -> tuple[str, ...]:
    low, high = r.interval
    bounds = {inf: f"> {low:.3g}", 0.0: f"< {high:.3g}"}
    value = bounds.get(r.value, f"{r.value:.3g}" if isfinite(r.value) else "-")
    return str(r.dim), value, f"{low:.3g} – {high:.3g}" if isfinite(high) else f"{low:.3g} – beyond"


def _point_rows(result: Scaling) -> list[tuple[str, ...]]:
    known = bool(result.study.wording.theory)
    theory = ("predicted", "median/predicted") if known else ()
    rows: list[tuple[str, ...]] = [("d", "B", "lr", "median", "95 % interval", "censored", *theory, "fitted")]
    for p in result.points:
        seen = isfinite(p.median)
        low, high = (f"{t:.4g}" if isfinite(t) else f"> {p.job.samples:.3g}" for t in p.interval)
        ratio = f"{p.median / p.predicted:.3f}" if seen and 0 < p.predicted < inf else "-"
        theory = (f"{p.predicted:.4g}" if isfinite(p.predicted) else "never", ratio) if known else ()
        rows.append((
            str(p.job.dim), str(p.job.batch), f"{p.job.lr:.4g}", f"{p.median:.4g}" if seen else f"> {p.job.samples:.4g}",
            f"{low} – {high}" if p.job.runs > 1 else "-", f"{p.escapes.n_censored(p.target)}/{p.job.runs}",
            *theory, "yes" if p.fitted and seen else "no",
        ))  # fmt: skip
    return rows


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
    return [*lines, f"preferred  {first.law.name}{_certainty(fit.laws)}", "", *columns(rows), ""]


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
    return json_text({"schema": 1, **scaling_dict(result)})


def arms_json(results: dict[str, Scaling], ratios: bool = True) -> str:
    """The same of named studies: ``arms`` by name, ``ratios`` of the medians of two; schema 1."""
    found = median_ratios(*results.values()) if ratios and len(results) == 2 else []
    rows = [{"dim": r.dim, "ratio": finite(r.value), "ci95": [finite(x) for x in r.interval]} for r in found]
    return json_text({"schema": 1, "arms": {n: scaling_dict(r) for n, r in results.items()}, "ratios": rows})


def scaling_dict(result: Scaling) -> dict[str, Any]:
    """One study as plain values."""
    study, fit = result.study, result.fit
    laws = fit.laws if fit else ()
    lead = study.batches[0]
    return {
        "exponent": fit.exponent if fit else None,
        "ci95": [finite(x) for x in fit.interval] if fit else [None, None],
        "law": laws[0].law.name if laws else None,
        "laws": {f.law.name: {"aic": f.aic, "parameters": _numbers(f.parameters)} for f in laws},
        "points": [_point_dict(p) for p in result.points if p.job.batch == lead],
        "minibatch": [_point_dict(p) for p in result.points if p.job.batch != lead],
        "controls": {kind: _controls_dict(controls) for kind, controls in _by_kind(result).items()},
        "model": study.record,
        "engine": study.engine,
        "target": study.target,
        "runs": result.points[0].job.runs,
        "seed": study.seed,
        "threshold": study.threshold,
        "warnings": list(result.warnings),
        "interrupted": result.interrupted,
    }


def _point_dict(p: Point) -> dict[str, Any]:
    return {
        "dim": p.job.dim,
        "lr": p.job.lr,
        "batch": p.job.batch,
        "median": finite(p.median),
        "ci95": [finite(x) for x in p.interval] if p.job.runs > 1 else [None, None],
        "censored": p.escapes.n_censored(p.target),
        "budget": p.job.samples,
        "predicted": finite(p.predicted),
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
    return {name: finite(value) for name, value in values.items()}
