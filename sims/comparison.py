"""A prediction beside an ensemble of simulated runs of the same model, dimension, learning rate and start."""

import os
from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Any

from sims.ensemble import Ensemble, run_ensemble
from sims.kept_ensemble import kept_ensemble
from sims.sgd import OnlineSGD
from solvers.prediction import Direction, Prediction
from solvers.report import as_dict, format_samples, model_dict, warnings_of
from solvers.tables import columns, finite, json_text
from theory.errors import InputError, require
from theory.store import Store

SECONDS_PER_NORMAL = 3e-9  # a careful guess, for the warning about cost only
LONGEST_AUTO = 3600.0


@dataclass(frozen=True)
class Comparison:
    """Theory and measurement; ``seed`` and ``batch`` complete what is needed to repeat it."""

    prediction: Prediction
    ensemble: Ensemble
    seed: int
    batch: int


@dataclass(frozen=True)
class Measured:
    """Escape time of one spike over the runs, in samples; inf where it lies among the censored runs."""

    median: float
    interval: tuple[float, float]
    q10: float
    q90: float
    censored: int


def compare(
    prediction: Prediction,
    runs: int = 40,
    seed: int = 0,
    batch: int = 1,
    samples: int | None = None,
    threads: int | None = None,
    quiet: bool = True,
    store: Store | None = None,
) -> Comparison:
    """Simulate the predicted model from the same start, random or given. ``samples`` None: enough for nearly all escapes.

    With a ``store`` the runs that it has are taken from there, and the others kept.

    Raises InputError if that would take more than an hour on these threads: the caller then has to say how long to run.
    """
    start = prediction.start if prediction.random is None else None
    engine = OnlineSGD(prediction.model, prediction.dim, prediction.lr, batch, start)
    if samples is None:
        samples = _enough_samples(prediction)
        cost = samples * runs * prediction.dim * SECONDS_PER_NORMAL / (threads or len(os.sched_getaffinity(0)))
        if cost > LONGEST_AUTO:
            raise InputError(
                "samples", f"auto = {samples:.3g} a run (about {cost / 3600:.3g} hours)", "at most one hour on auto",
                "give --samples, a smaller --dim or fewer --runs",
            )  # fmt: skip
    check_batch(batch, samples)
    if store is None:
        ensemble = run_ensemble(engine, runs, samples, seed, prediction.threshold, threads, quiet)
    else:
        record, eta = model_dict(prediction.model), prediction.threshold
        ensemble = kept_ensemble(store, record, engine, runs, samples, seed, eta, threads, quiet)
    return Comparison(prediction, ensemble, seed, batch)


def check_batch(batch: int, samples: int) -> None:
    """Raise InputError if a run would not make a single step."""
    require(
        samples >= batch, "samples", samples, f"at least one batch of {batch}", "more --samples or a smaller --batch"
    )


def _enough_samples(prediction: Prediction) -> int:
    """Twice the last predicted 90 % quantile, or three times the last escape of the ODE from a given start.

    Where nothing escapes, 5 d log² d / lr: the scale on which order 2 would.
    """
    if prediction.random is not None:
        late = [t for law in prediction.random.laws if 0 < (t := law.quantiles[0.9]) < inf]
        if late:
            return int(2 * max(late)) + 1
    escapes = [d.escape_samples for d in prediction.directions if 0 < d.escape_samples < inf]
    if escapes:
        return int(3 * max(escapes)) + 1
    return int(5 * prediction.dim * log(prediction.dim) ** 2 / min(prediction.lr, 1.0))


def measured(result: Comparison, spike: str) -> Measured:
    """Median with its bootstrap 95 % interval, 10 % and 90 % quantiles, number censored."""
    escapes = result.ensemble.escapes
    return Measured(
        escapes.quantile(spike, 0.5),
        escapes.median_interval(spike, result.seed),
        escapes.quantile(spike, 0.1),
        escapes.quantile(spike, 0.9),
        escapes.n_censored(spike),
    )


def comparison_table(result: Comparison) -> str:
    """The table for people."""
    p, ensemble = result.prediction, result.ensemble
    done = len(ensemble.replicas)
    start = "random"
    if p.random is None:
        start = ", ".join(f"α_{s} = {a:.3g}" for s, a in zip(p.model.spikes, p.start, strict=True))
    lines = [
        f"model       {p.model.describe()}",
        f"run         d = {p.dim}, lr = {p.lr:.4g}, batch {result.batch}, threshold {p.threshold:g}, start {start}",
        f"simulation  {done} runs of {ensemble.escapes.budget:.4g} samples, seed {result.seed}, "
        f"{ensemble.seconds:.3g} s, {ensemble.samples / ensemble.seconds:.3g} samples/s"
        + ("  (INTERRUPTED: finished runs only)" if ensemble.interrupted else ""),
        *(f"warning     {line}" for line in warnings_of(p)),
        "",
    ]
    head = (
        "spike",
        "predicted",
        "10 – 90 %",
        "median",
        "95 % interval",
        "10 %",
        "90 %",
        "censored",
        "median/predicted",
        "status",
    )
    rows: list[tuple[str, ...]] = [head]
    for d in p.directions:
        m = measured(result, d.spike)
        rows.append((
            d.spike, *_predicted(p, d), _seen(m.median), f"{_seen(m.interval[0])} – {_seen(m.interval[1])}",
            _seen(m.q10), _seen(m.q90), f"{m.censored}/{done}", _ratio_text(m, predicted_median(p, d)), d.status,
        ))  # fmt: skip
    lines += columns(rows)
    by = "the population flow" if p.random is None else p.random.method
    lines += [
        f"escape times in samples; predicted by the {by.removeprefix('the ')}; '> budget' lies beyond what was run"
    ]
    return "\n".join(lines) + "\n"


def predicted_median(p: Prediction, d: Direction) -> float:
    """Median from a random start, or the escape of the flow from a given one."""
    law = p.law_of(d.spike)
    return d.escape_samples if law is None else law.median


def _predicted(p: Prediction, d: Direction) -> tuple[str, str]:
    law = p.law_of(d.spike)
    if law is None:
        return format_samples(d.escape_samples), "-"
    if law.median == inf:
        return "never" if d.status != "recovered" else "beyond", "-"
    return f"{law.median:.4g}", f"{law.quantiles[0.1]:.4g} – {format_samples(law.quantiles[0.9])}"


def _seen(value: float) -> str:
    return "> budget" if value == inf else f"{value:.4g}"


def _ratio_text(m: Measured, predicted: float) -> str:
    if not (isfinite(predicted) and predicted > 0 and isfinite(m.median)):
        return "-"
    low, high = (x / predicted for x in m.interval)
    return f"{m.median / predicted:.3f} [{low:.3f}, {high:.3f}]"


def comparison_json(result: Comparison, beside: Comparison | None = None) -> str:
    """``{"schema": 1, "prediction": the contract of solvers.predict, "simulation": …}``; null beyond the budget.

    ``beside`` adds the same under that name.
    """
    payload = {"schema": 1, **_comparison_dict(result)}
    return json_text(payload if beside is None else payload | {"beside": _comparison_dict(beside)})


def _comparison_dict(result: Comparison) -> dict[str, Any]:
    ensemble = result.ensemble
    return {
        "prediction": as_dict(result.prediction),
        "simulation": {
            "runs": len(ensemble.replicas),
            "replicas": list(ensemble.replicas),
            "seed": result.seed,
            "batch": result.batch,
            "samples": int(ensemble.escapes.budget),
            "interrupted": ensemble.interrupted,
            "seconds": ensemble.seconds,
            "directions": {s: _measured_dict(measured(result, s)) for s in ensemble.escapes.spikes},
        },
    }


def _measured_dict(m: Measured) -> dict[str, Any]:
    return {
        "median": finite(m.median),
        "median_ci95": [finite(m.interval[0]), finite(m.interval[1])],
        "quantiles": {"0.1": finite(m.q10), "0.5": finite(m.median), "0.9": finite(m.q90)},
        "censored": m.censored,
    }
