"""The figure of levels: the hierarchy, overlaps along one chain, escape times and overlaps at rest against correlation."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sims.levels_study import LevelsStudy, Point, overlap_at_rest
from solvers.plots import GREY, colour_of, mark_threshold, overlap_label

DARK = "#444444"


def plot_levels(study: LevelsStudy, points: list[Point]) -> Figure:
    """The tree; |α(t)| at the middle correlation; escape time and |α| at rest against the edge correlation."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    tree, left, middle, right = figure.subplots(1, 4, width_ratios=(0.5, 1.1, 1, 1))
    chosen = points[len(points) // 2]
    task: Any = chosen.prediction.model.task
    _draw_tree(tree, task)
    _draw_run(left, study, chosen)
    for spike in task.spikes:
        colour, x = colour_of(spike, task.spikes), [p.label for p in points]
        _draw_times(middle, points, spike, x, colour)
        _draw_rest(right, points, spike, x, colour)
    middle.set(xlabel="correlation along an edge $\\rho$", ylabel="escape time [samples]")
    middle.set_ylim(bottom=0)
    middle.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    middle.set_title("when they are learnt", fontsize=10)
    right.axhline(study.threshold, color=GREY, lw=0.8, ls=":")
    right.set(xlabel="correlation along an edge $\\rho$", ylabel="overlap at rest $|\\alpha_k|$", ylim=(0, 1))
    right.set_title("how much of each is kept", fontsize=10)
    figure.legend(handles=_legend(task.spikes), loc="outside lower center", ncols=12, frameon=False, fontsize=9)
    learner = chosen.prediction.model.learner
    figure.suptitle(
        f"One neuron ({learner.activation.name}, {learner.loss.name} loss) on a hierarchy of binary latents, "
        f"$d$ = {study.dim}, $\\delta$ = {study.lr:g}, {study.runs} runs of the exact chain", fontsize=11,
    )  # fmt: skip
    return figure


def _draw_tree(axes: Axes, task: Any) -> None:
    """Roots on top; filled: visible, ring: hidden, grey: latent only."""
    levels = task.hierarchy.levels
    place = {
        name: ((k + 1) / (len(level) + 1), -depth) for depth, level in enumerate(levels) for k, name in enumerate(level)
    }
    for parent, child in task.hierarchy.graph.edges:
        (x, y), (to_x, to_y) = place[parent], place[child]
        axes.annotate(
            "", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "color": DARK, "shrinkA": 17, "shrinkB": 17}
        )
    for name, (x, y) in place.items():
        colour = colour_of(name, task.spikes) if name in task.spikes else GREY
        filled = name in task.spikes and name not in task.hidden
        axes.plot([x], [y], "o", ms=28, color=colour if filled else "white", mec=colour, mew=2.5, zorder=3)
        axes.text(x, y, name, ha="center", va="center", color="white" if filled else colour, zorder=4, fontsize=12)
    axes.set(xlim=(0, 1), ylim=(0.5 - len(levels), 0.5))
    axes.set_title("hierarchy (filled: visible)", fontsize=10)
    axes.axis("off")


def _draw_run(axes: Axes, study: LevelsStudy, point: Point) -> None:
    """Median and 10 – 90 % of the chain, the SDE's median dashed."""
    spikes = point.chain.trajectory.spikes
    for spike in spikes:
        colour = colour_of(spike, spikes)
        for ensemble, style in ((point.chain, "-"), (point.sde, "--")):
            low, half, high = np.quantile(np.abs(ensemble.trajectory.of(spike)), (0.1, 0.5, 0.9), axis=0)
            colours = colour if style == "-" else "black"
            axes.plot(ensemble.trajectory.times, half, style, color=colours, lw=2 if style == "-" else 1)
            if style == "-":
                axes.fill_between(ensemble.trajectory.times, low, high, color=colour, alpha=0.2, lw=0)
    mark_threshold(axes, study.threshold, named=False)
    axes.annotate(
        f"threshold {study.threshold:g}", (0.98, study.threshold), xycoords=("axes fraction", "data"), xytext=(0, -9),
        textcoords="offset points", ha="right", color=GREY, fontsize=8,
    )  # fmt: skip
    axes.set(xlabel="samples $t$", ylabel="overlap $|\\alpha_k(t)|$", ylim=(0, 1), xlim=(0, point.chain.escapes.budget))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.set_title(f"one neuron at $\\rho$ = {point.label:g}", fontsize=10)


def _draw_times(axes: Axes, points: list[Point], spike: str, x: list[float], colour: str) -> None:
    medians = np.array([p.chain.escapes.quantile(spike, 0.5) for p in points])
    ends = np.array([p.chain.escapes.median_interval(spike) for p in points]).T
    theory = np.array([p.sde.escapes.quantile(spike, 0.5) for p in points])
    axes.plot(x, np.where(np.isfinite(theory), theory, np.nan), color=colour, lw=1.5)
    seen = np.isfinite(medians) & np.isfinite(ends).all(axis=0)
    if seen.any():
        bars = np.abs(ends[:, seen] - medians[seen])
        axes.errorbar(np.array(x)[seen], medians[seen], bars, fmt="o", color=colour, ms=5, capsize=3)


def _draw_rest(axes: Axes, points: list[Point], spike: str, x: list[float], colour: str) -> None:
    directions = [next(d for d in p.prediction.directions if d.spike == spike) for p in points]
    axes.plot(x, [abs(d.fixed_point) for d in directions], color=colour, lw=1.5)
    rest = np.array([overlap_at_rest(p.chain, spike) for p in points])
    axes.errorbar(x, rest[:, 0], 1.96 * rest[:, 1], fmt="o", color=colour, ms=5, capsize=3)


def _legend(spikes: tuple[str, ...]) -> list[Line2D]:
    names = [Line2D([], [], color=colour_of(s, spikes), lw=3, label=overlap_label(s)) for s in spikes]
    return [
        *names,
        Line2D([], [], color="black", lw=1, ls="--", label="SDE: median overlap"),
        Line2D([], [], color=DARK, lw=2, label="chain: median overlap, band 10 – 90 %"),
        Line2D([], [], color=DARK, lw=1.5, label="theory: median of the SDE, fixed point of the ODE"),
        Line2D([], [], color=DARK, ls="", marker="o", label="chain, 95 % interval"),
    ]
