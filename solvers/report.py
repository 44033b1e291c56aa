"""A prediction as a table for people, as JSON for programs (schema 1), and as LaTeX for the board."""

import json
from argparse import Namespace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from solvers.prediction import Baseline, Direction, Prediction
from theory.population import Model, Population

if TYPE_CHECKING:
    from solvers.random_start import EscapeLaw

SCHEMA = 1
FEWEST_SAMPLES = 10


def prediction_json(results: list[Prediction]) -> str:
    """One object, or ``{"schema": 1, "results": […]}`` for several dimensions. Times in samples; null = never."""
    objects = [as_dict(result) for result in results]
    payload = objects[0] if len(objects) == 1 else {"schema": SCHEMA, "results": objects}
    return json.dumps(payload, indent=2, allow_nan=False) + "\n"


def as_dict(result: Prediction) -> dict[str, Any]:
    """The documented contract (README, schema 1)."""
    task, order = result.model.task, result.population.order
    base = result.baseline
    return {
        "schema": SCHEMA,
        "model": model_dict(result.model),
        "run": {
            "dim": result.dim,
            "lr": result.lr,
            "lr_critical": result.lr_critical,
            "threshold": result.threshold,
            "init": dict(zip(task.spikes, map(float, result.start), strict=True)),
            "lr_gain": result.lr_gain,
            "random_start": None if result.random is None else {
                "method": result.random.method,
                "runs": result.random.runs,
                "budget": _number(result.random.budget),
            },
            "order": order,
            "tail_bound": _number(result.tail_bound),
            "drift_from": result.method,
            "series_error": _number(result.series_gap),
        },
        "activation_coefficients": [float(c) for c in result.model.learner.activation.coefficients(order)],
        "C": _hermite_moments(result),
        "drift": {spike: result.population.drift_text(spike) for spike in task.spikes},
        "directions": {d.spike: _direction_dict(d) | _law_dict(result.law_of(d.spike)) for d in result.directions},
        "baseline": None if base is None else {
            "threshold_law": str(base.law) if base.law else None,
            "sample_exponent": base.law.exponent if base.law else None,
            "lr": base.lr,
            "escape_samples": _number(base.escape_samples),
            "random_lr": base.random_lr,
            "escape_quantiles": _law_dict(base.random)["escape_quantiles"],
        },
        "speedup": result.speedup,
        "warnings": list(warnings_of(result)),
    }  # fmt: skip


def warnings_of(result: Prediction) -> tuple[str, ...]:
    """The prediction's own, and one where the continuous clock of the theory has no meaning left."""
    times = {d.spike: min(d.escape_samples, _median(result, d.spike)) for d in result.directions}
    early = [f"{spike} after {t:.2g}" for spike, t in times.items() if 0 < t < FEWEST_SAMPLES]
    if not early:
        return result.warnings
    line = (
        f"escape of {', '.join(early)} samples: fewer than the theory of small steps can speak of; use a smaller --lr"
    )
    return (*result.warnings, line)


def _median(result: Prediction, spike: str) -> float:
    law = result.law_of(spike)
    return inf if law is None else law.median


def model_dict(model: Model) -> dict[str, Any]:
    """The model's parameters; keys that a task does not have are null."""
    learner = {"activation": model.learner.activation.name, "loss": model.learner.loss.name}
    return {**model.task.settings(), **learner, "description": model.describe()}


def _direction_dict(d: Direction) -> dict[str, Any]:
    return {
        "information_exponent": d.information_exponent,
        "order_reached": d.order_reached,
        "waits_for": list(d.waits_for),
        "threshold_law": str(d.law) if d.law else None,
        "sample_exponent": d.law.exponent if d.law else None,
        "status": d.status,
        "reason": d.reason,
        "fixed_point": d.fixed_point,
        "escape_samples": _number(d.escape_samples),
    }


def _law_dict(law: "EscapeLaw | None") -> dict[str, Any]:
    if law is None:
        return dict.fromkeys(
            ("escape_quantiles", "escape_quantiles_ci95", "recovery_probability", "recovery_probability_ci95")
        )
    return {
        "escape_quantiles": {str(q): _number(t) for q, t in law.quantiles.items()},
        "escape_quantiles_ci95": {str(q): [_number(t) for t in ends] for q, ends in law.intervals.items()},
        "recovery_probability": law.recovery_probability,
        "recovery_probability_ci95": list(law.probability_interval),
    }


def _hermite_moments(result: Prediction) -> dict[str, float]:
    """C_ij of spikes u, v up to the order of the series, zeros left out: E[He_i He_j | y = +1], or E[y He_i He_j]."""
    task, order = result.model.task, result.population.order
    parameters = task.numbers(order)
    table = {}
    for i in range(order + 1):
        for j in range(order + 1 - i):
            degrees = {"u": i, "v": j}
            if any(n and s not in task.spikes for s, n in degrees.items()):
                continue
            value = task.likelihood_moment(tuple(degrees.get(s, 0) for s in task.spikes), parameters)
            if value != 0:
                table[f"{i},{j}"] = value
    return table


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def format_samples(value: float) -> str:
    """A number of samples to four digits, or ``never``."""
    return "never" if value == inf else f"{value:.4g}"


def prediction_table(results: list[Prediction], words: Namespace) -> str:
    """The table for people; with several dimensions a row for each d follows the first one's answer."""
    first = results[0]
    activation = first.model.learner.activation
    chosen = "" if words.activation else f"activation chosen: {activation.name}; "
    lines = [f"model     {first.model.describe()}", f"          {chosen}c_k from {activation.source}"]
    lines += [f"drift     dα_{s}/dt = {first.population.drift_text(s)}" for s in first.model.spikes]
    lines += ["", *_run_lines(first, words.lr), "", *_direction_lines(first), "", *_baseline_lines(first)]
    if len(results) > 1:
        lines += ["", *_dimension_lines(results)]
    return "\n".join(lines) + "\n"


def _dimension_lines(results: list[Prediction]) -> list[str]:
    """One row for each d: learning rate, escape of every spike (its status where it never happens), baseline, speed-up."""
    spikes = results[0].model.spikes
    kinds = ("ODE",) if all(r.random is None for r in results) else ("ODE", "median")
    rows = [("d", "lr", *(f"{s}: {kind}" for s in spikes for kind in kinds), "v alone", "speed-up")]
    for r in results:
        pairs = [
            (d.status if d.escape_samples == inf else f"{d.escape_samples:.4g}", r.law_of(d.spike))
            for d in r.directions
        ]
        cells = [cell for ode, law in pairs for cell in (ode, (_law_cells(law) or "-")[0])[: len(kinds)]]
        alone = "-" if r.baseline is None else _baseline_time(r.baseline)[2]
        speedup = "-" if r.speedup is None else f"{r.speedup:.4g}"
        rows.append((str(r.dim), f"{r.lr:.4g}", *cells, alone, speedup))
    known = set(warnings_of(results[0]))
    later = [(r.dim, line) for r in results[1:] for line in warnings_of(r) if line not in known]
    return _aligned(rows) + [f"warning   d = {dim}: {line}" for dim, line in later]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _run_lines(result: Prediction, lr_word: str) -> list[str]:
    critical = "none: nothing is driven" if result.lr_critical is None else f"{result.lr_critical:.4g}"
    start = ", ".join(f"α_{s} = {a:.3g}" for s, a in zip(result.model.spikes, result.start, strict=True))
    bound = "not finite" if result.tail_bound == inf else f"{result.tail_bound:.1g}"
    how = f"Hermite series of order {result.population.order}"
    if result.method == "quadrature":
        how = f"quadrature over the latents (the {how} is off by {result.series_gap:.1g} of the largest drift)"
    else:
        how += f", within {max(result.series_gap, 1e-15):.1g} of quadrature along the flow"
    auto = "auto, " if lr_word == "auto" else ""
    if result.lr_gain is not None:
        auto = f"auto: least median, {_times_faster(result.lr_gain)} than the usual half critical; "
    return [
        f"run       d = {result.dim}, lr = {result.lr:.4g} ({auto}critical {critical}), "
        f"threshold {result.threshold:g}, {'ODE from' if result.random else 'start'} {start}",
        f"drift by  {how}; series tail |Φ - Φ_K| <= {bound} at the end of the flow",
        *_random_lines(result),
        *(f"warning   {line}" for line in warnings_of(result)),
    ]


def _times_faster(ratio: float) -> str:
    return f"{ratio:.3g} times faster" if ratio >= 1 else f"{1 / ratio:.3g} times slower"


def _random_lines(result: Prediction) -> list[str]:
    law = result.random
    if law is None:
        return []
    runs = f", {law.runs} trajectories, 95 % intervals in brackets" if law.runs else ""
    until = "" if law.budget == inf else f", up to {format_samples(law.budget)} samples"
    return [f"random w  escape times by the {law.method}{runs}{until}"]


def _direction_lines(result: Prediction) -> list[str]:
    head = (
        "spike",
        "exponent",
        "rank",
        "waits for",
        "threshold law",
        "ODE/samples",
        "ODE/d",
        *(() if result.random is None else ("random start: median", "10 %", "90 %", "P(recovery)")),
        "α at end",
        "status",
    )
    rows = [head]
    for d in result.directions:
        escape = format_samples(d.escape_samples)
        rows.append((
            d.spike,
            "-" if d.information_exponent is None else str(d.information_exponent),
            "-" if d.order_reached is None else str(d.order_reached),
            ", ".join(d.waits_for) or "-",
            str(d.law) if d.law else "-",
            escape,
            escape if d.escape_samples == inf else f"{d.escape_samples / result.dim:.4g}",
            *_law_cells(result.law_of(d.spike)),
            f"{round(d.fixed_point, 3) + 0.0:.3f}",
            d.status,
        ))  # fmt: skip
    return _aligned(rows) + [f"  {d.spike}: {d.reason}" for d in result.directions]


def _law_cells(law: "EscapeLaw | None") -> tuple[str, ...]:
    if law is None:
        return ()

    def seen(value: float) -> str:
        return "beyond" if value == inf else f"{value:.4g}"

    low, high = law.intervals[0.5]
    interval = "" if low == high else f" [{seen(low)}, {seen(high)}]"
    lowest, highest = law.probability_interval
    ends = "" if lowest == highest else f" [{lowest:.4g}, {highest:.4g}]"
    return (seen(law.median) + interval, seen(law.quantiles[0.1]), seen(law.quantiles[0.9]),
            f"{law.recovery_probability:.3g}{ends}")  # fmt: skip


def _baseline_lines(result: Prediction) -> list[str]:
    base = result.baseline
    if base is None:
        return ["baseline  none: v never stands alone in this task"]
    if base.law is None:
        return ["baseline  v alone: never (no attractive term that this activation sees)"]
    rate, samples, text = _baseline_time(base)
    what = "ODE" if base.random is None else "median from a random start"
    text += f" ({what})" if samples == inf else f" samples ({what}) = {samples / result.dim:.4g} d"
    lines = [f"baseline  v alone: {base.law} samples; at lr = {rate:.4g}: {text}"]
    if result.speedup is not None and len(result.model.spikes) > 1:
        words = "times fewer samples than v alone" if result.speedup >= 1 else "times: slower than v alone"
        lines.append(f"speed-up  {result.speedup:.4g} {words}")
    elif result.speedup is None and samples < inf:
        lines.append("speed-up  none: v is not recovered here")
    return lines


def _baseline_time(base: Baseline) -> tuple[float, float, str]:
    """Learning rate and escape time of v alone, and that in words: the median from a random start where it is known."""
    if base.random is None or base.random_lr is None:
        return base.lr, base.escape_samples, format_samples(base.escape_samples)
    median = base.random.median
    return base.random_lr, median, "beyond" if median == inf else f"{median:.4g}"


def latex_document(model: Model) -> str:
    """Φ and the drift with symbols, then the values of the symbols that occur."""
    symbolic = Population(model, model.task.signal_order, symbolic=True)
    text = symbolic.latex()
    used = symbolic.objective.free_symbols_in_domain | symbolic.variance.free_symbols_in_domain
    values = {s: v for s, v in symbolic.values().items() if s in used}
    import sympy as sp

    lines = [f"% {sp.latex(s)} = {float(v):.6g}" for s, v in sorted(values.items(), key=lambda item: str(item[0]))]
    legend = "% kappa_kj = E[He_k(eta) He_j(nu)]; mu_K = E[prod nu_a^K_a] of a hierarchy; "
    legend += "v_nk = E[f_n(z) He_k(z)] with g^2 = sum_n y^n f_n(s)"
    cut = f"% series of order {symbolic.order} in alpha, the order of the signal; O(...) is what is not shown"
    return "\n".join([text, f"% {model.describe()}", cut, legend, *lines])
