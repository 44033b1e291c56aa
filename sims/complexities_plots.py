"""The figure of all sample complexities: n against d on log axes, grouped by criterion. Computes no theory."""

from math import inf, isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sims.complexities_study import (
    ACCURACY,
    BETA,
    BOUND,
    LOW_DEGREE,
    OVERLAP,
    RECOVERY,
    TEST,
    Complexities,
    Curve,
    Point,
)  # fmt: skip
from solvers.plots import COLOURS, FURTHER, GREY
from theory.network_error import MARGIN

STYLES: dict[str, tuple[str, str]] = {  # colour, and marker or dashes
    "statistical": ("black", "-"),
    "D = 4": (FURTHER[2], "--"),
    "D = 8": (FURTHER[2], "-."),
    "likelihood ratio": ("black", "D"),
    "neuron": (COLOURS["v"], "o"),
    "network": (COLOURS["u"], "o"),
    "network, accuracy": (COLOURS["u"], "s"),
    "random features": (COLOURS["m"], "s"),
}
NAMES = {
    "statistical": "any test",
    "D = 4": "polynomials of degree 4",
    "D = 8": "polynomials of degree 8",
    "likelihood ratio": r"likelihood ratio over all $2^d$ spikes",
    "neuron": "single neuron, online SGD",
    "network": "two-layer network, online SGD, best neuron",
    "network, accuracy": "two-layer network, online SGD",
    "random features": "random features, ridge",
}
TITLES = {
    BOUND: r"BOUND: below, every test errs with probability $\geq$ 1/4",
    LOW_DEGREE: "BOUND: below, means shift by less than their deviation",
    TEST: "TEST errs with probability 1/4",
    RECOVERY: rf"RECOVERY: overlap with the spike $\geq$ {OVERLAP:g}, median run",
    ACCURACY: rf"TEST ACCURACY $\geq$ {100 * (0.5 + MARGIN):g} %, median run",
}
HEADROOM = 1.5  # over the highest interval
ASIDE = {"network, accuracy": 1.06, "random features": 0.94}  # symbols of the same d, moved apart


def plot_complexities(result: Complexities) -> Figure:
    """Lines: bounds and theory. Full symbols: medians with 95 % intervals. Arrows: half of the runs had not got there."""
    figure = Figure(figsize=(11.5, 6.4), layout="constrained")
    axes = figure.subplots()
    handles: list[Any] = []
    for criterion, title in TITLES.items():
        curves = [c for c in result.curves if c.criterion == criterion]
        if not curves:
            continue
        handles.append(Line2D([], [], ls="none", label=title))
        handles += [_draw(axes, curve) for curve in curves]
    _shade(axes, result.of("statistical"))
    handles.append(Line2D([], [], ls="none", label="ARROW: half of the runs not there with the last sample"))
    axes.set(xscale="log", yscale="log", xlabel="input dimension $d$")
    axes.set_ylabel("samples $n$\ntests: all of one law; learners: labelled, half of them with the spike", fontsize=9)
    every = sorted({p.dim for c in result.curves for p in c.points})
    axes.set_xlim(every[0] / 1.2, every[-1] * 1.2)
    axes.set_ylim(result.of("statistical").points[0].samples / 1.5, HEADROOM * axes.get_ylim()[1])
    axes.set_xticks([d for d in (8, 16, 32, 64, 128, 256, 512, 1024, 2048) if every[0] <= d <= every[-1]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    legend = figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8.5, handlelength=2.4)
    for text in legend.get_texts():
        if text.get_text() in TITLES.values() or text.get_text().startswith("ARROW"):
            text.set(weight="bold", x=-40, fontsize=8)
    figure.suptitle(
        rf"Samples to detect and to learn one cumulant spike: $p$ = 4, Rademacher latent, $\beta$ = {BETA:g}"
        "\nsame data, different criteria: heights of different groups are different events", fontsize=11,
    )  # fmt: skip
    return figure


def _shade(axes: Axes, bound: Curve) -> None:
    """Where nothing detects the spike."""
    dims, samples = [p.dim for p in bound.points], [p.samples for p in bound.points]
    axes.fill_between(dims, 1, samples, color=GREY, alpha=0.15, lw=0)
    axes.annotate(
        "no test is right more than 3 times in 4", (dims[-1], samples[0]), xytext=(-6, 4), textcoords="offset points",
        ha="right", color=GREY, fontsize=9,
    )  # fmt: skip


def _draw(axes: Axes, curve: Curve) -> Any:
    """One curve; returns its entry in the legend."""
    colour, mark = STYLES[curve.name]
    label = NAMES[curve.name] + _exponent(curve)
    if curve.criterion in (BOUND, LOW_DEGREE):
        (line,) = axes.plot(
            [p.dim for p in curve.points], [p.samples for p in curve.points], mark, color=colour, label=label
        )
        return line
    if curve.predicted:
        axes.plot(*np.array(curve.predicted).T, color=colour, lw=1, ls=":")
    style: dict[str, Any] = {"fmt": mark, "color": colour, "mfc": "white" if mark == "s" else colour, "ms": 6}
    aside = ASIDE.get(curve.name, 1.0)
    seen = [p for p in curve.points if isfinite(p.samples)]
    beyond = [p for p in curve.points if not isfinite(p.samples)]
    if seen:
        axes.errorbar(
            [aside * p.dim for p in seen], [p.samples for p in seen], _bars(seen), capsize=2.5, zorder=5, **style
        )
    if beyond:
        y = np.array([p.budget for p in beyond])
        axes.errorbar([aside * p.dim for p in beyond], y, 0.8 * y, lolims=True, zorder=4, **style)
    return Line2D(
        [], [], color=colour, marker=mark, mfc=style["mfc"], ls=":" if curve.predicted else "none", label=label
    )


def _bars(points: list[Point]) -> np.ndarray:
    """Distances (2, n) from n to the ends of its interval, an end beyond the budget at the budget."""
    ends = [np.clip(p.interval, 0, p.budget if p.budget < inf else None) for p in points]
    return np.abs(np.array(ends).T - np.array([p.samples for p in points]))


def _exponent(curve: Curve) -> str:
    if curve.exponent is None:
        return ""
    if curve.interval is None:
        return f": $d^{{{curve.exponent:.2f}}}$"
    low, high = (f"{x:.2f}" if isfinite(x) else "open" for x in curve.interval)
    return f": $d^{{{curve.exponent:.2f}}}$ [{low}, {high}]"
