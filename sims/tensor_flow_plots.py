"""The figure of gradient flow on a fixed sample: shares of recovery against n, and n_half against N. Computes no theory."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.tensor_flow_study import GOALS, FlowResult
from solvers.plots import COLOURS, GREY

DIM_COLOURS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#e69f00")  # dark to light: N grows
GOAL_STYLES = {"first": (COLOURS["u"], "o"), "all": (COLOURS["v"], "s")}
WORDS = {"first": "at least one spike", "all": "all spikes"}


def plot_flow(result: FlowResult) -> Figure:
    """Left and middle: P(first) and P(all) with 95 % intervals; right: n_half, fits and bands, the powers p-2 and p-1."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    *shares, growth = figure.subplots(1, 3)
    for axes, goal in zip(shares, GOALS, strict=True):
        _draw_shares(axes, result, goal)
    shares[0].legend(frameon=False, fontsize=8, loc="lower right")
    _draw_growth(growth, result)
    tensor, study = result.study.tensor, result.study
    figure.suptitle(
        rf"Gradient flow on a fixed sample of $n$ tensors: $p$ = {tensor.order}, "
        rf"$\lambda$ = {', '.join(f'{x:g}' for x in tensor.snr)}, {study.runs} tensors and starts at each $N$, "
        rf"recovery at $|m_{{ij}}| \geq$ {study.threshold:g}", fontsize=10,
    )  # fmt: skip
    return figure


def _power(order: int, less: int) -> str:
    return "N" if order - less == 1 else f"N^{{{order - less}}}"


def _draw_shares(axes: Axes, result: FlowResult, goal: str) -> None:
    order = result.study.tensor.order
    for k, (p, half) in enumerate(zip(result.points, result.halves[goal], strict=True)):
        colour, scale = DIM_COLOURS[k % len(DIM_COLOURS)], float(p.dim) ** (order - 2)
        x, (share, ends) = np.array(p.counts) / scale, p.shares(goal)
        axes.errorbar(
            x * 1.03 ** (k - len(result.points) / 2), share, np.abs(ends.T - share), fmt="o", ms=4, lw=0.8, capsize=2,
            color=colour, label=f"$N$ = {p.dim}",
        )  # fmt: skip
        if half.seen:
            dense = np.geomspace(x[0], x[-1], 200)
            axes.plot(dense, 1 / (1 + (half.n / scale / dense) ** half.slope), color=colour, lw=1.2)
    axes.axhline(0.5, color=GREY, lw=0.8, ls=":")
    axes.set(xscale="log", ylim=(-0.02, 1.02), ylabel=f"share of runs that recover {WORDS[goal]}")
    axes.set_xlabel(f"tensors $n\\,/\\,{_power(order, 2)}$")


def _draw_growth(axes: Axes, result: FlowResult) -> None:
    dims, order = np.array([p.dim for p in result.points], dtype=float), result.study.tensor.order
    for goal in GOALS:
        colour, marker = GOAL_STYLES[goal]
        seen = [(d, h) for d, h in zip(dims, result.halves[goal], strict=True) if h.seen]
        fit, label = result.growth[goal], WORDS[goal]
        if fit:
            axes.plot(dims, fit.at(dims), color=colour, lw=1.4)
            axes.fill_between(dims, *fit.band(dims), color=colour, alpha=0.15, lw=0)
            label += f": $N^{{{fit.exponent:.2f}}}$ [{fit.interval[0]:.2f}, {fit.interval[1]:.2f}]"
        if not seen:
            continue
        x, n = np.array([d for d, _ in seen]), np.array([h.n for _, h in seen])
        ends = np.array([np.clip(h.interval, h.n / 30, h.n * 30) for _, h in seen]).T
        axes.errorbar(x, n, np.abs(ends - n), fmt=marker, color=colour, ms=6, capsize=3, lw=1, label=label)
        for less, line in ((2, "--"), (1, ":")):
            axes.plot(dims, n[0] * (dims / x[0]) ** (order - less), line, color=colour, lw=0.9, alpha=0.6)
    for less, line in ((2, "--"), (1, ":")):
        axes.plot([], [], line, color=GREY, lw=0.9, label=f"${_power(order, less)}$ from the smallest $N$")
    axes.set(xscale="log", yscale="log", xlabel="dimension $N$", ylabel="tensors $n_{1/2}$ at which the share is ½")
    axes.set_xticks(dims, [f"{d:g}" for d in dims])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, loc="upper left")
