"""What tensor PCA recovered, in words: a table for people, JSON for programs."""

from math import isfinite
from typing import Any

from solvers.tables import columns, finite, json_text
from solvers.tensor_study import RECOVERED, Share, TensorResult


def tensor_table(result: TensorResult) -> str:
    """For people."""
    study, tensor = result.study, result.tensor
    finished = f"{len(result.ensemble.replicas)} runs" + (" (INTERRUPTED)" if result.ensemble.interrupted else "")
    rows = [
        ("spike", "λ", "recovered", "95 % interval", "median samples", "95 % interval", "10 %", "90 %"),
        *_rows(result),
    ]
    return "\n".join([
        f"model      {tensor.describe()}; N = {study.dim}",
        f"study      exact chain, {finished} from random frames, seed {study.seed}, {study.budget} samples each; "
        f"δ_0 = {study.strength:g}, δ = {study.lr:.4g}",
        *(f"warning    {line}" for line in study.warnings),
        "",
        *columns(rows),
        "",
        *_order_lines(result),
        *(f"outcome    {name:<12}{_share(share)}" for name, share in result.outcomes.items()),
        f"recovered: max_j |m_ij| >= {study.threshold:g} within the samples of a run; outcome: at its end, entries "
        f"(subspace: singular values) >= {RECOVERED:g}; '>': beyond the budget",
    ]) + "\n"  # fmt: skip


def _rows(result: TensorResult) -> list[tuple[str, ...]]:
    rows = []
    for k, name in enumerate(result.times.spikes):
        share, (low, high) = _recovered(result, name), result.times.median_interval(name)
        quantiles = [_time(result, result.times.quantile(name, q)) for q in (0.5, 0.1, 0.9)]
        strength = f"{result.tensor.snr[k]:g}" if k < result.tensor.rank else "-"
        rows.append((
            name, strength, f"{share.value:.3f}", _interval(share), quantiles[0],
            f"{_time(result, low)} – {_time(result, high)}", *quantiles[1:],
        ))  # fmt: skip
    return rows


def _order_lines(result: TensorResult) -> list[str]:
    lines = [f"order      {len(result.complete)} runs recovered every spike; of these"]
    if not result.complete:
        return ["order      no run recovered every spike"]
    for name, foretold in (("from the start", result.foretold), ("from λ alone", result.by_strength)):
        first, whole = result.score(foretold, True), result.score(foretold, False)
        lines.append(
            f"           foretold {name}: first pair (spike, column) {_share(first)}, whole sequence {_share(whole)}"
        )
    r = result.tensor.rank
    chance = 1.0
    for left in range(r, 0, -1):
        chance /= left * left
    return [*lines, f"           by chance: first pair {1 / r**2:.3g}, whole sequence {chance:.3g}"]


def _recovered(result: TensorResult, name: str) -> Share:
    runs = len(result.ensemble.replicas)
    return Share(runs - result.times.n_censored(name), runs)


def _share(share: Share) -> str:
    return f"{share.value:.3f} [{_interval(share)}]"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{low:.3f} – {high:.3f}"


def _time(result: TensorResult, value: float) -> str:
    return f"{value:.4g}" if isfinite(value) else f"> {result.times.budget:.3g}"


def tensor_json(result: TensorResult) -> str:
    """``{"schema": 1, "model", "run", "spikes": {name: …}, "order", "outcomes"}``; null: beyond the budget."""
    study, tensor = result.study, result.tensor
    forecasts = {"start": result.foretold, "strengths": result.by_strength}
    return json_text({
        "schema": 1,
        "model": {"task": "tensor-pca", "p": tensor.order, "snr": list(tensor.snr), "description": tensor.describe()},
        "run": {
            "dim": study.dim, "lr_0": study.strength, "lr": study.lr, "threshold": study.threshold, "samples": study.budget,
            "runs": len(result.ensemble.replicas), "seed": study.seed, "interrupted": result.ensemble.interrupted,
        },
        "spikes": {name: _spike_dict(result, name) for name in result.times.spikes},
        "order": {
            "complete": len(result.complete),
            "first_pair": {name: _share_dict(result.score(f, True)) for name, f in forecasts.items()},
            "whole": {name: _share_dict(result.score(f, False)) for name, f in forecasts.items()},
        },
        "outcomes": {name: _share_dict(share) for name, share in result.outcomes.items()},
        "warnings": list(study.warnings),
    })  # fmt: skip


def _spike_dict(result: TensorResult, name: str) -> dict[str, Any]:
    times = result.times
    return {
        "recovered": _share_dict(_recovered(result, name)),
        "quantiles": {str(q): finite(times.quantile(name, q)) for q in (0.1, 0.5, 0.9)},
        "median_ci95": [finite(x) for x in times.median_interval(name)],
    }


def _share_dict(share: Share) -> dict[str, Any]:
    return {
        "hits": share.hits,
        "runs": share.runs,
        "share": finite(share.value),
        "ci95": list(share.interval) if share.runs else None,
    }
