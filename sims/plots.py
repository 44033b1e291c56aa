"""The comparison figure: simulated runs as thin lines with median and band, the ODE on top. Computes no theory."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sims.comparison import Comparison, measured, predicted_median
from solvers.plots import colour_of, draw_flow, finish, mark_threshold, overlap_label, time_grid, title_of

MAX_THIN_LINES = 60


def plot_comparison(result: Comparison) -> Figure:
    """Overlaps against samples, log and linear time; markers on the threshold: predicted (diamond) and median (dot)."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    budget = result.ensemble.escapes.budget
    for axes, log in zip(figure.subplots(1, 2), (True, False), strict=True):
        _draw_runs(axes, result)
        draw_flow(axes, result.prediction.flow, time_grid(1, budget, log), lw=2, ls=(0, (4, 1.5)), zorder=6)
        mark_threshold(axes, result.prediction.threshold, named=log)
        _mark_escapes(axes, result)
        finish(axes, log, budget, budget / 1e4)
    figure.suptitle(f"{title_of(result.prediction)}, {len(result.ensemble.replicas)} runs", fontsize=10)
    handles = _legend(result)
    figure.legend(handles=handles, loc="outside lower center", ncols=(len(handles) + 1) // 2, frameon=False, fontsize=9)
    return figure


def plot_side_by_side(results: list[Comparison]) -> Figure:
    """Overlaps against samples, log time, for models that differ in the correlation of their latents alone."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, result in zip(figure.subplots(1, len(results), sharey=True), results, strict=True):
        budget, corr = result.ensemble.escapes.budget, result.prediction.model.task.settings()["corr"]
        _draw_runs(axes, result)
        draw_flow(axes, result.prediction.flow, time_grid(1, budget, True), lw=2, ls=(0, (4, 1.5)), zorder=6)
        mark_threshold(axes, result.prediction.threshold, named=True)
        _mark_escapes(axes, result)
        finish(axes, True, budget, budget / 1e3)
        axes.set_title(
            rf"correlated latents, $E[\lambda\nu]$ = {corr:g}" if corr else "independent latents", fontsize=11
        )
    for axes in figure.axes[1:]:
        axes.set_ylabel("")
    p, runs = results[-1].prediction, len(results[-1].ensemble.replicas)
    activation = p.model.learner.activation.name
    figure.suptitle(
        rf"one neuron ({activation}), $d$ = {p.dim}, learning rate $\delta$ = {p.lr:.3g}, {runs} runs", fontsize=10
    )
    handles = _legend(results[-1])
    figure.legend(handles=handles, loc="outside lower center", ncols=(len(handles) + 1) // 2, frameon=False, fontsize=9)
    return figure


def _draw_runs(axes: Axes, result: Comparison) -> None:
    trajectory = result.ensemble.trajectory
    for k, spike in enumerate(trajectory.spikes):
        colour, runs = colour_of(spike, trajectory.spikes), np.abs(trajectory.overlaps[:, :, k])
        axes.plot(trajectory.times, runs[:MAX_THIN_LINES].T, color=colour, lw=0.4, alpha=0.25)
        low, middle, high = np.quantile(runs, (0.1, 0.5, 0.9), axis=0)
        axes.fill_between(trajectory.times, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(trajectory.times, middle, color=colour, lw=1.6)


def _mark_escapes(axes: Axes, result: Comparison) -> None:
    p = result.prediction
    for d in p.directions:
        colour, m = colour_of(d.spike, p.model.spikes), measured(result, d.spike)
        predicted = predicted_median(p, d)
        if 0 < predicted < np.inf:
            axes.plot([predicted], [p.threshold], "D", ms=8, mfc="white", mec=colour, mew=1.6, zorder=7)
        law = p.law_of(d.spike)
        if law is not None and np.isfinite(law.quantiles[0.9]):
            bar = [law.quantiles[0.1], law.quantiles[0.9]]
            axes.plot(bar, [p.threshold] * 2, "|-", color=colour, lw=1.2, ms=11, mew=1.6, zorder=6)
        if np.isfinite(m.median) and m.median > 0:
            ends = np.clip(m.interval, 0, result.ensemble.escapes.budget)
            axes.plot(ends, [p.threshold] * 2, color="black", lw=2.2, zorder=8, solid_capstyle="butt")
            axes.plot([m.median], [p.threshold], "o", color=colour, ms=6, mec="black", zorder=9)


def _legend(result: Comparison) -> list[Line2D | Patch]:
    spikes = result.prediction.model.spikes
    names = [Line2D([], [], color=colour_of(s, spikes), lw=3, label=overlap_label(s)) for s in spikes]
    grey = "#444444"
    return [
        *names,
        Line2D([], [], color=grey, lw=2, ls=(0, (4, 1.5)), label="ODE, typical start"),
        Line2D([], [], color=grey, lw=1.6, label="SGD median"),
        Patch(color=grey, alpha=0.25, label="SGD 10 – 90 %"),
        Line2D([], [], ls="", marker="D", mfc="white", mec=grey, ms=8, label="predicted median (bar: 10 – 90 %)"),
        Line2D([], [], ls="-", marker="o", color="black", mfc=grey, lw=2.2, label="median escape, 95 % interval"),
    ]
