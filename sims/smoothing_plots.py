"""The smoothing figure: medians with intervals against d, with the fitted powers. Computes no theory."""

from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.smoothing_study import TARGET, Curve, Point, SmoothingStudy
from solvers.plots import COLOURS, FURTHER, GREY
from theory.scaling_laws import ScalingFit

COLOUR = {"He4": COLOURS["v"], "ReLU": COLOURS["u"]}
NAMES = {"He4": r"$\mathrm{He}_4$", "ReLU": "ReLU"}


def plot_smoothing(study: SmoothingStudy, curves: list[Curve]) -> Figure:
    """Escape time against d, log–log: one colour for each activation, open symbols and dashes for the smoothed loss."""
    figure = Figure(figsize=(8.6, 5.0), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        _draw(axes, curve)
    dims = sorted({p.dim for curve in curves for p in curve.points})
    low, high = dims[0] / 1.15, dims[-1] * 1.15
    least = max(25 / study.threshold**2, low)
    axes.axvspan(low, least, color=GREY, alpha=0.12, lw=0, label=r"threshold below $5/\sqrt{d}$: not fitted")
    axes.set(xscale="log", yscale="log", xlabel="input dimension $d$", ylabel="median escape time [samples]")
    axes.set_xlim(low, high)
    axes.set_xticks(dims, [str(d) for d in dims])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(
        rf"$p = 4$, exact chain, {study.runs} runs, $|\alpha_v| \geq {study.threshold:g}$, "
        rf"best learning rate at each $d$; smoothing radius $\lambda = d^{{{study.radius_power:g}}}$",
        fontsize=10,
    )
    return figure


def _draw(axes: Axes, curve: Curve) -> None:
    activation, smoothed = curve.name.partition(",")[0], curve.name.endswith("smoothed")
    alone = curve.name in NAMES or smoothed
    colour = COLOUR[activation] if alone else FURTHER[0]
    points = [p for p in curve.points if isfinite(p.median)]
    beyond = [p for p in curve.points if not isfinite(p.median)]
    label = curve.name.replace(activation, NAMES[activation], 1)
    if curve.fit:
        low, high = curve.fit.interval
        label += f": $d^{{{curve.fit.exponent:.2f}}}$ [{low:.2f}, {high:.2f}]"
        _draw_fit(axes, curve.fit, [p for p in points if p.fitted], "--" if smoothed else "-", colour)
    face = "white" if smoothed else colour
    marker = "s" if smoothed else "o" if alone else "D"
    style: dict[str, Any] = {"fmt": marker, "color": colour, "mfc": face, "ms": 6, "zorder": 5}
    if points:
        x, y = [p.dim for p in points], [p.median for p in points]
        axes.errorbar(x, y, _bars(points), capsize=3, label=label, **style)
    if beyond:
        x, y = [p.dim for p in beyond], [p.escapes.budget for p in beyond]
        axes.errorbar(x, y, [0.5 * b for b in y], lolims=True, label=f"{label}: median beyond the budget", **style)


def _draw_fit(axes: Axes, fit: ScalingFit, fitted: list[Point], style: str, colour: str) -> None:
    """The free power over the points that it was fitted to; fewer than three do not test it."""
    dims = np.geomspace(fitted[0].dim, fitted[-1].dim, 50)
    for law in fit.laws:
        if law.law.k is None:
            axes.plot(dims, law.at(dims), style, color=colour, lw=1.2)


def _bars(points: list[Point]) -> np.ndarray:
    """Distances (2, n) from the median to the ends of its interval, an end beyond the budget at the budget."""
    ends = [np.clip(p.escapes.median_interval(TARGET), 0, p.escapes.budget) for p in points]
    return np.abs(np.array(ends).T - np.array([p.median for p in points]))
