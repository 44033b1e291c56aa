"""All sample complexities in words: tables for people, one for each criterion, and JSON for programs."""

from math import isfinite, log
from typing import Any

from sims.complexities_study import BETA, CRITERIA, LEVEL, Complexities, Curve, Point
from solvers.tables import columns, finite, json_text


def complexities_table(result: Complexities) -> str:
    """Every curve under its criterion."""
    lines = [f"model      spiked cumulant: β = {BETA:g}, Rademacher latent of order p = 4", "clock      samples", ""]
    for criterion, words in CRITERIA.items():
        curves = [c for c in result.curves if c.criterion == criterion]
        if curves:
            lines += [f"criterion  {words}", *(line for curve in curves for line in ["", *_curve_lines(curve)]), ""]
    if result.interrupted:
        lines += ["INTERRUPTED: finished points only", ""]
    return "\n".join(lines) + "'> x': not in half of the runs within the budget of x samples; not fitted\n"


def _curve_lines(curve: Curve) -> list[str]:
    lines = [f"{curve.name}: {curve.setting}", *columns(_rows(curve)), f"exponent   {exponent_words(curve)}"]
    if curve.predicted:
        lines.append(
            f"theory     exact first-passage law: exponent {predicted_exponent(curve):.3f} between its last two d"
        )
    if curve.control:
        crossed, runs = curve.control
        lines.append(
            f"control    on data without the spike {crossed} of {runs} runs, as long as the slowest, met the criterion"
        )
    return lines


def _rows(curve: Curve) -> list[tuple[str, ...]]:
    """The points, with the columns that the criterion has."""
    head, cells = ["d", "n", "n/d", "n/d²", "by"], [
        [str(p.dim), _samples(p, p.samples), _scaled(p, 1), _scaled(p, 2), p.view] for p in curve.points
    ]  # fmt: skip
    if any(p.runs for p in curve.points):
        head.append("95 % interval")
        cells = [[*row, _interval(p)] for row, p in zip(cells, curve.points, strict=True)]
    if any(isfinite(p.budget) for p in curve.points):
        head.append("censored")
        cells = [[*row, f"{p.censored}/{p.runs}"] for row, p in zip(cells, curve.points, strict=True)]
    if any(p.reached for p in curve.points):
        head.append("accuracy at the last sample, 99 %")
        cells = [[*row, _reached(p)] for row, p in zip(cells, curve.points, strict=True)]
    return [tuple(row) for row in (head, *cells)]


def _samples(p: Point, n: float) -> str:
    return f"{n:.4g}" if isfinite(n) else f"> {p.budget:.4g}"


def _scaled(p: Point, power: int) -> str:
    beyond, n = not isfinite(p.samples), min(p.samples, p.budget)
    return f"{'> ' if beyond else ''}{n / p.dim**power:.3g}"


def _interval(p: Point) -> str:
    low, high = p.interval
    return f"{low:.4g} – {_samples(p, high)}" if isfinite(low) else "beyond"


def _reached(p: Point) -> str:
    return "-" if p.reached is None else "{:.2f} % [{:.2f}, {:.2f}]".format(*(100 * x for x in p.reached))


def exponent_words(curve: Curve) -> str:
    """The exponent with its interval, or why there is none."""
    if curve.exponent is None:
        return "none: fewer than two d within the budget"
    if curve.interval is None:
        return f"{curve.exponent:.3f} between the last two d"
    return "{:.2f}, 95 % {:.2f} – {:.2f} (bootstrap)".format(curve.exponent, *curve.interval)


def predicted_exponent(curve: Curve) -> float:
    """Local exponent of the theory between its last two d."""
    (d, n), (further, more) = curve.predicted[-2:]
    return log(more / n) / log(further / d)


def complexities_json(result: Complexities) -> str:
    """{"schema": 1, "model", "criteria", "runs" …, "curves": {name: {"points", …}}, "interrupted"}; null is not finite."""
    study = result.study
    return json_text({
        "schema": 1,
        "model": {"task": "spiked cumulant", "latent": "rademacher", "p": 4, "beta": BETA, "level": LEVEL},
        "criteria": CRITERIA,
        "runs": study.runs, "seed": study.seed, "samples_factor": study.samples_factor,
        "feature_samples": study.feature_samples, "hidden": study.hidden, "features": study.features,
        "data_sets": study.data_sets,
        "curves": {curve.name: _curve_dict(curve) for curve in result.curves},
        "interrupted": result.interrupted,
    })  # fmt: skip


def _curve_dict(curve: Curve) -> dict[str, Any]:
    return {
        "criterion": curve.criterion,
        "setting": curve.setting,
        "exponent": curve.exponent,
        "ci95": None if curve.interval is None else [finite(x) for x in curve.interval],
        "points": [_point_dict(p) for p in curve.points],
        "predicted": [{"dim": d, "samples": finite(n)} for d, n in curve.predicted],
        "control": None if curve.control is None else dict(zip(("crossed", "runs"), curve.control, strict=True)),
    }


def _point_dict(p: Point) -> dict[str, Any]:
    reached = None if p.reached is None else {"accuracy": p.reached[0], "ci99": list(p.reached[1:])}
    return {
        "dim": p.dim, "samples": finite(p.samples), "ci95": [finite(x) for x in p.interval], "by": p.view, "runs": p.runs,
        "censored": p.censored, "budget": finite(p.budget), "reached": reached,
    }  # fmt: skip
