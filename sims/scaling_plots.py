"""The scaling figure: medians with intervals against d, the fitted laws, the theory's line, controls. Computes no theory."""

import re
from collections.abc import Callable
from math import isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.threshold_scaling import Point, Scaling, false_alarms
from solvers.plots import FURTHER, GREY, colour_of, mathtext

LAWS = ((FURTHER[0], "-"), (FURTHER[1], "--"), (FURTHER[2], "-."))
Scale = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (times, dims) -> what is drawn
MARKERS = {"blind": "s", "wrong-sign": "v"}


def plot_scaling(result: Scaling) -> Figure:
    """Escape time against d, log–log, and its ratio to the preferred law; with several batch sizes also against B."""
    study, lead = result.study, result.study.batches[0]
    several = len(study.batches) > 1
    figure = Figure(figsize=(12 if several else 6.6, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 1 + several, height_ratios=(3, 1))
    points = [p for p in result.points if p.job.batch == lead]
    above = figure.add_subplot(grid[0, 0])
    _draw_times(above, result, points)
    _draw_ratios(figure.add_subplot(grid[1, 0], sharex=above), result, points)
    if several:
        _draw_batches(figure.add_subplot(grid[:, 1]), result)
    target, threshold = study.subject.target, study.subject.threshold
    figure.suptitle(
        mathtext(study.subject.model.task.describe().replace("; ", "\n", 1))
        + f"\n{study.subject.model.learner.activation.name}, {study.engine}"
        + (f", {study.runs} runs, " if study.random else ", ")
        + rf"$|\alpha_{{{target}}}| \geq {threshold:g}$",
        fontsize=10,
    )
    return figure


def _draw_times(axes: Axes, result: Scaling, points: list[Point]) -> None:
    _draw_laws(axes, result, lambda times, _: times)
    _draw_theory(axes, result, points, lambda times, _: times)
    _draw_points(axes, result, points, lambda times, _: times)
    for kind, marker in MARKERS.items():
        controls = [c for c in result.controls if c.kind == kind]
        if controls:
            crossed, runs = false_alarms(controls)
            x, y = [c.job.dim for c in controls], np.array([c.job.samples for c in controls])
            name = f"{kind} control, run up to here: {crossed}/{runs} crossed"
            axes.errorbar(x, y, 0.5 * y, lolims=True, fmt=marker, mfc="none", color=GREY, ms=7, lw=1, label=name)
    axes.set(xscale="log", yscale="log", ylabel="median escape time [samples]")
    axes.legend(frameon=False, fontsize=8)
    axes.tick_params(labelbottom=False)


def _draw_ratios(axes: Axes, result: Scaling, points: list[Point]) -> None:
    """The same divided by the preferred law, which a log–log plot cannot tell from its rivals."""
    axes.set(xscale="log", xlabel="input dimension $d$", ylabel="÷ preferred law")
    dims = result.study.dims
    if max(dims) < 30 * min(dims):  # decades alone would leave one tick
        axes.set_xticks(dims, [str(d) for d in dims])
        axes.set_xticks([], minor=True)
    if result.fit is None or not result.fit.laws:
        return
    preferred = result.fit.laws[0]

    def ratio(times: np.ndarray, dims: np.ndarray) -> np.ndarray:
        return np.asarray(times / preferred.at(dims))

    seen = [p for p in points if isfinite(p.median)]
    _draw_points(axes, result, seen, ratio)
    _draw_theory(axes, result, seen, ratio)
    low, high = axes.get_ylim()
    _draw_laws(axes, result, ratio)
    axes.set_ylim(low, high)


def _draw_points(axes: Axes, result: Scaling, points: list[Point], scale: Scale) -> None:
    colour = colour_of(result.study.subject.target, result.study.subject.model.spikes)
    for fitted, name in ((True, "measured median, 95 % interval"), (False, "measured, not fitted")):
        chosen = [p for p in points if isfinite(p.median) and p.fitted is fitted]
        if chosen:
            x = np.array([float(p.job.dim) for p in chosen])
            y, bars = scale(np.array([p.median for p in chosen]), x), scale(_bars(chosen), x)
            face = colour if fitted else "white"
            axes.errorbar(x, y, bars, fmt="o", color=colour, mfc=face, ms=6, capsize=3, label=name, zorder=5)
    beyond = [p for p in points if not isfinite(p.median)]
    if beyond:
        x, y = np.array([float(p.job.dim) for p in beyond]), np.array([p.job.samples for p in beyond])
        axes.errorbar(x, y, y / 2, lolims=True, fmt="o", color=colour, mfc="white", label="median beyond the budget")


def _bars(points: list[Point]) -> np.ndarray:
    """Distances (2, n) from the median to the ends of its interval, an end beyond the budget at the budget."""
    ends = [np.clip(p.interval, 0, p.job.samples) if p.job.runs > 1 else (p.median, p.median) for p in points]
    return np.abs(np.array(ends).T - np.array([p.median for p in points]))


def _draw_theory(axes: Axes, result: Scaling, points: list[Point], scale: Scale) -> None:
    known = [p for p in points if isfinite(p.predicted)]
    x = np.array([float(p.job.dim) for p in known])
    name = (
        "first-passage law (theory)" if len(result.study.subject.model.spikes) == 1 else "ODE, typical start (theory)"
    )
    axes.plot(x, scale(np.array([p.predicted for p in known]), x), color="black", lw=1.2, ls=":", label=name, zorder=4)


def _draw_laws(axes: Axes, result: Scaling, scale: Scale) -> None:
    """The three best laws; the first is the preferred one."""
    if result.fit is None:
        return
    dims = np.geomspace(min(result.study.dims), max(result.study.dims), 200)
    laws = result.fit.laws[: len(LAWS)]
    for rank, (fit, (colour, dashes)) in enumerate(zip(laws, LAWS, strict=False)):
        behind = "preferred" if rank == 0 else rf"$\Delta$AIC {fit.aic - laws[0].aic:.1f}"
        name = _math(fit.law.name)
        if fit.law.k is None:
            name += f", $k = {fit.parameters['k']:.3f}$"
        with np.errstate(invalid="ignore"):  # log d + b < 0 at a d that was too small to fit
            times = fit.at(dims)
        axes.plot(dims, scale(times, dims), dashes, color=colour, lw=2.2 - 0.5 * rank, label=f"{name} ({behind})")


def _math(name: str) -> str:
    """A law's name as Matplotlib sets it."""
    name = re.sub(r"\^(-?[\w.]+)", r"^{\1}", name).replace("log d", r"\log d").replace("exp", r"\exp")
    return "$" + name.replace(" ", r"\,") + "$"


def _draw_batches(axes: Axes, result: Scaling) -> None:
    styles = [(FURTHER[k % 4], m) for k, m in enumerate("os^Dvp")]
    for dim, (colour, marker) in zip(result.study.dims, styles, strict=False):
        points = [p for p in result.points if p.job.dim == dim and isfinite(p.median)]
        if points:
            x, y = [p.job.batch for p in points], [p.median for p in points]
            axes.errorbar(x, y, _bars(points), fmt=marker + "-", color=colour, capsize=3, lw=1, label=f"$d$ = {dim}")
    axes.set(xscale="log", yscale="log", xlabel="batch size $B$ [samples]", ylabel="median escape time [samples]")
    axes.legend(frameon=False, fontsize=8)
