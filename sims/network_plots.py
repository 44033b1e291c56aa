"""The stairs figure: test errors above, overlaps of the best neuron below, a column for each model. Computes no theory."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.network_report import band, column_name
from sims.network_study import Column, NetworkResult
from solvers.plots import COLOURS, GREY, colour_of, mathtext
from theory.network_error import COVARIANCE, MEAN, NULL, STAIRS, TASK
from theory.results import Array, EscapeTimes

LAWS = {
    NULL: (GREY, "null (no information)"),
    MEAN: (COLOURS["m"], "Gaussian, same mean"),
    COVARIANCE: (COLOURS["u"], "Gaussian, same mean and covariance"),
    TASK: (COLOURS["v"], "full task"),
}


def plot_network(result: NetworkResult) -> Figure:
    """Test error (loss where labels are not ±1) and max_k |cos(w_k, spike)| against samples; dashed: the ODE, d → ∞."""
    n = len(result.columns)
    figure = Figure(figsize=(5.2 * n + 0.6, 7.2), layout="constrained")
    axes = figure.subplots(2, n, sharex="col", sharey="row", squeeze=False)
    for k, column in enumerate(result.columns):
        _draw_errors(axes[0, k], column, result.study.seed)
        _draw_overlaps(axes[1, k], column, result.study.threshold)
        times = column.ensemble.trajectory.times
        axes[1, k].set(xscale="log", xlabel="samples $t$ (log scale)", xlim=(times[1], max(times[-1], 2 * times[1])))
        axes[0, k].set_title(_heading(column), fontsize=10)
    axes[0, 0].set_ylabel("test error" if result.columns[0].stairs else "loss")
    if result.columns[0].stairs:
        axes[0, 0].set_ylim(top=0.62)  # the names of the stairs stand above the curves
    axes[1, 0].set_ylabel(r"best neuron, $\max_k |\cos(w_k, \cdot)|$")
    entries = dict(
        entry for row in axes[:, 0] for entry in zip(*reversed(row.get_legend_handles_labels()), strict=True)
    )
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2 * n, frameon=False, fontsize=8)
    figure.suptitle(_title(result), fontsize=9)
    return figure


def _heading(column: Column) -> str:
    name = column_name(column.model)
    if name == "independent":
        return "independent latents"
    if name.startswith("corr "):
        return rf"correlated latents, $E[\lambda\nu]$ = {name.removeprefix('corr ')}"
    return mathtext(name)


def _title(result: NetworkResult) -> str:
    study, learner = result.study, result.study.models[-1].learner
    r = study.rates
    rates = rf"$\delta$ = {r.first:g} ($w$), {r.second:g} ($a$), {r.bias:g} ($b$), {r.output:g} ($a_0$)"
    task = mathtext(study.models[-1].task.describe().partition("; coupling")[0].replace("; ", "\n", 1))
    return (
        f"{task}\n{learner.hidden} neurons, {learner.activation.name}, {learner.loss.name} loss, $d$ = {study.dim}, {rates}, "
        f"{len(result.columns[0].ensemble.replicas)} runs: median and 16–84 %"
    )


def _draw_errors(axes: Axes, column: Column, seed: int) -> None:
    times, errors = column.ensemble.trajectory.times, column.errors
    measured = errors.error if column.stairs else errors.loss
    for law in [law for law in LAWS if law in errors.laws]:
        colour, label = LAWS[law]
        _draw_band(axes, times, measured(law), colour, label, faint=law == NULL)
        if column.theory and law != NULL:
            of = column.theory.errors.error if column.stairs else column.theory.errors.loss
            _draw_theory(axes, column.theory.trajectory.times, of(law)[0], colour)
    if column.theory:
        axes.plot([], [], color="black", ls="--", lw=1.2, label=r"ODE ($d \to \infty$) from one run's start")
    if column.stairs is not None:
        _mark_stairs(axes, column.stairs, float(times[1]), seed)


def _mark_stairs(axes: Axes, stairs: EscapeTimes, first: float, seed: int) -> None:
    """Medians as dotted lines, their intervals as bands, open to the right where the runs ended before."""
    for name, (_, below, _) in STAIRS.items():
        middle, (low, high) = stairs.quantile(name, 0.5), stairs.median_interval(name, seed)
        if np.isinf(low):
            continue
        colour, text = LAWS[below][0], f" {name}" + (", median beyond" if np.isinf(middle) else "")
        if len(stairs.times) > 1:
            axes.axvspan(*np.clip([low, high], first, stairs.budget), color=colour, alpha=0.15, lw=0)
        if np.isfinite(middle):
            axes.axvline(max(middle, first), color=colour, lw=1.2, ls=":")
        place = float(np.clip(middle, first, stairs.budget))
        axes.annotate(
            text, (place, 1.0), xycoords=("data", "axes fraction"), rotation=90, fontsize=8, color=colour,
            ha="right", va="top", zorder=5,
        )  # fmt: skip


def _draw_overlaps(axes: Axes, column: Column, threshold: float) -> None:
    trajectory = column.ensemble.trajectory
    for spike in trajectory.spikes:
        colour = colour_of(spike, trajectory.spikes)
        _draw_band(axes, trajectory.times, trajectory.of(spike), colour, f"overlap with ${spike}$")
        if column.theory:
            theory = column.theory.trajectory
            _draw_theory(axes, theory.times, theory.of(spike)[0], colour)
    axes.axhline(threshold, color=GREY, lw=0.8, ls=":", label=f"threshold {threshold:g}")
    axes.set_ylim(0, 1.02)


def _draw_band(axes: Axes, times: Array, values: Array, colour: str, label: str, faint: bool = False) -> None:
    low, middle, high = band(values)[:, 1:]
    axes.plot(times[1:], middle, color=colour, lw=1 if faint else 2, label=label)
    axes.fill_between(times[1:], low, high, color=colour, alpha=0.2, lw=0)


def _draw_theory(axes: Axes, times: Array, values: Array, colour: str) -> None:
    axes.plot(times[1:], values[1:], color=colour, lw=1.2, ls="--", zorder=4)
