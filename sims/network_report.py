"""The stairs as a table for people and as JSON for programs (schema 1)."""

import json
from math import isfinite, isinf
from typing import Any

import numpy as np

from sims.network_study import Column, NetworkResult, Theory, median_ratio
from theory.network_error import STAIRS
from theory.networks import NetworkModel
from theory.results import Array, EscapeTimes

BAND = (0.16, 0.5, 0.84)


def column_name(model: NetworkModel) -> str:
    """What tells the models of a study apart."""
    settings = model.task.settings()
    if not {"u", "v"} <= set(model.spikes) or settings["corr"] is None:
        return str(settings.get("teacher", model.task.name))
    if settings["coupling"] == "even":
        return "coupling even"
    return f"corr {settings['corr']:.4g}" if settings["corr"] else "independent"


def band(values: Array) -> Array:
    """16 %, 50 % and 84 % quantiles over runs (3, n_times) of (n_runs, n_times), runs that have ended left out."""
    alive = np.isfinite(values).any(axis=0)
    quantiles = np.full((3, values.shape[1]), np.nan)
    quantiles[:, alive] = np.nanquantile(values[:, alive], BAND, axis=0)
    return quantiles


def network_table(result: NetworkResult) -> str:
    """The table for people."""
    study, columns = result.study, result.columns
    model, rates = study.models[-1], study.rates
    lines = [
        f"model        {model.describe()}",
        f"run          d = {study.dim}, δ = {rates.first:g} (w), {rates.second:g} (a), {rates.bias:g} (b), "
        f"{rates.output:g} (a_0), batch {study.batch}, threshold {study.threshold:g}, seed {study.seed}",
        *(_run_line(column) for column in columns),
        *(f"warning      {line}" for line in result.warnings),
    ]
    if result.interrupted:
        lines.append("warning      INTERRUPTED: finished runs only")
    stairs = [c.stairs for c in columns if c.stairs]
    if stairs:
        section = _columns("stair", stairs, columns, study.seed)
        if len(stairs) == 2:
            section = _with_ratios(section, stairs[0], stairs[1], study.seed)
        lines += ["", *_aligned(section)]
        margins = ", ".join(f"{name} {margin:g}" for name, (*_, margin) in STAIRS.items())
        lines.append(f"the gap between two test-error curves has reached its margin: {margins}")
    lines += ["", *_aligned(_columns("overlap", [c.ensemble.escapes for c in columns], columns, study.seed))]
    lines.append(f"the best neuron's |cosine| has reached {study.threshold:g}; times are in samples, medians over runs")
    return "\n".join([*lines, "", *_final_lines(columns)]) + "\n"


def _run_line(column: Column) -> str:
    e, name = column.ensemble, column_name(column.model)
    speed = f"{e.seconds:.3g} s, {e.samples / e.seconds:.3g} samples/s"
    return f"{name:<11}  {len(e.replicas)} runs of {e.trajectory.times[-1]:.4g} samples, {speed}"


def _columns(title: str, times: list[EscapeTimes], columns: tuple[Column, ...], seed: int) -> list[list[str]]:
    """A head and one row for each name: for every column its median, interval and censored runs."""
    rows = [[title]]
    for column in columns:
        rows[0] += [column_name(column.model), "95 % interval", "censored"]
    for name in times[0].spikes:
        row = [name]
        for t in times:
            low, high = t.median_interval(name, seed)
            row += [
                _seen(t.quantile(name, 0.5)),
                f"{_seen(low)} – {_seen(high)}",
                f"{t.n_censored(name)}/{len(t.times)}",
            ]
        rows.append(row)
    return rows


def _with_ratios(rows: list[list[str]], above: EscapeTimes, below: EscapeTimes, seed: int) -> list[list[str]]:
    """The same with the ratio of the two medians and its interval."""
    cells = [["ratio", "95 % interval"], *(_ratio_cells(above, below, row[0], seed) for row in rows[1:])]
    return [row + more for row, more in zip(rows, cells, strict=True)]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _seen(value: float) -> str:
    return "> budget" if value == np.inf else f"{value:.4g}"


def _ratio_cells(above: EscapeTimes, below: EscapeTimes, name: str, seed: int) -> list[str]:
    ratio = median_ratio(above, below, name, seed)
    if ratio is None:
        return ["-", "-"]
    sign = "> " if isinf(ratio.high) else "< " if ratio.low == 0 else ""
    return [f"{sign}{ratio.value:.3g}", f"{ratio.low:.3g} – {ratio.high:.3g}"]


def _final_lines(columns: tuple[Column, ...]) -> list[str]:
    """Loss and test errors at the end, medians over runs, with the standard error of one measurement."""
    lines = []
    for c in columns:
        loss = f"loss {np.nanmedian(c.errors.loss()[:, -1]):.4f}"
        errors = [
            f"{law} {np.nanmedian(c.errors.error(law)[:, -1]):.4f} ± {np.nanmedian(c.errors.noise(law)[:, -1]):.4f}"
            for law in (c.errors.laws if c.stairs else ())
        ]
        lines.append(f"at the end, {column_name(c.model)}: " + ", ".join([loss, *(f"error {e}" for e in errors)]))
    return lines


def network_json(result: NetworkResult) -> str:
    """The documented JSON; times are in samples, ``null`` lies beyond the samples that were run.

    schema       1
    model        of the last column, keys as in ``solvers.predict``; hidden, scaling, spherical, weight_decay, initial_scale,
                 bias_scale
    run          dim, batch, samples, runs, seed, threshold, rates {first, second, bias, output}
    columns      [{name, corr, coupling, runs, replicas, seconds, samples, diverged [{replica, samples, name}],
                 stairs {mean, covariance, cumulant: {median, median_ci95, censored}} (null: labels are not ±1),
                 escapes {spike: the same}, curves {samples, error {law}, loss {law}, overlap {spike}: {median, low, high}}
                 with the 16 % and 84 % quantiles over runs, gap_noise (largest standard error of a measured gap) or null,
                 theory {samples, stairs} or null}]
    ratio        {stair: {value, low, high}}, first column to second (a bound where high is null or low is 0), or null
    warnings, interrupted
    """
    study, columns = result.study, result.columns
    ratios = None
    if len(columns) == 2 and columns[0].stairs and columns[1].stairs:
        pair = (columns[0].stairs, columns[1].stairs)
        ratios = {name: _ratio_dict(*pair, name, study.seed) for name in STAIRS}
    payload = {
        "schema": 1,
        "model": _model_dict(study.models[-1]),
        "run": {
            "dim": study.dim, "batch": study.batch, "samples": study.samples, "runs": study.runs, "seed": study.seed,
            "threshold": study.threshold, "rates": vars(study.rates),
        },
        "columns": [_column_dict(column, study.seed) for column in columns],
        "ratio": ratios,
        "warnings": list(result.warnings),
        "interrupted": result.interrupted,
    }  # fmt: skip
    return json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _model_dict(model: NetworkModel) -> dict[str, Any]:
    learner = model.learner
    names = ("hidden", "scaling", "spherical", "weight_decay", "initial_scale", "bias_scale")
    return {
        **model.task.settings(), "activation": learner.activation.name, "loss": learner.loss.name,
        **{name: getattr(learner, name) for name in names}, "description": model.describe(),
    }  # fmt: skip


def _column_dict(column: Column, seed: int) -> dict[str, Any]:
    ensemble, errors, stairs = column.ensemble, column.errors, column.stairs
    trajectory, settings = ensemble.trajectory, column.model.task.settings()
    gaps = [errors.noise(above, below) for above, below, _ in STAIRS.values()] if stairs else []
    return {
        "name": column_name(column.model),
        "corr": settings["corr"],
        "coupling": settings["coupling"],
        "runs": len(ensemble.replicas),
        "replicas": list(ensemble.replicas),
        "seconds": ensemble.seconds,
        "samples": ensemble.samples,
        "diverged": [vars(d) for d in ensemble.diverged],
        "stairs": stairs and _times_dict(stairs, seed),
        "escapes": _times_dict(ensemble.escapes, seed),
        "curves": {
            "samples": trajectory.times.tolist(),
            "error": {law: _band_dict(errors.error(law)) for law in errors.laws} if stairs else {},
            "loss": {law: _band_dict(errors.loss(law)) for law in errors.laws},
            "overlap": {spike: _band_dict(trajectory.of(spike)) for spike in trajectory.spikes},
        },
        "gap_noise": float(np.nanmax(gaps)) if gaps else None,
        "theory": _theory_dict(column.theory),
    }


def _theory_dict(theory: Theory | None) -> dict[str, Any] | None:
    if theory is None:
        return None
    stairs = theory.stairs and {name: _number(theory.stairs.quantile(name, 0.5)) for name in STAIRS}
    return {"samples": float(theory.trajectory.times[-1]), "stairs": stairs}


def _times_dict(times: EscapeTimes, seed: int) -> dict[str, Any]:
    return {
        name: {
            "median": _number(times.quantile(name, 0.5)),
            "median_ci95": [_number(x) for x in times.median_interval(name, seed)],
            "censored": times.n_censored(name),
        }
        for name in times.spikes
    }


def _band_dict(values: Array) -> dict[str, list[float | None]]:
    low, median, high = ([_number(x) for x in row] for row in band(values))
    return {"median": median, "low": low, "high": high}


def _ratio_dict(above: EscapeTimes, below: EscapeTimes, name: str, seed: int) -> dict[str, float | None] | None:
    ratio = median_ratio(above, below, name, seed)
    return None if ratio is None else {key: _number(value) for key, value in vars(ratio).items()}


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
