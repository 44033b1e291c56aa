"""Network against random features: accuracy on the cumulant against n/d and n/d². Computes no theory."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.features_study import CUMULANT, FeaturesResult, Point, mean_interval
from solvers.plots import COLOURS, FURTHER, GREY

DIM_COLOURS = (COLOURS["u"], COLOURS["v"], COLOURS["m"], *FURTHER)
MARKERS = "os^Dv"


def plot_features(result: FeaturesResult) -> Figure:
    """Networks: median and 16–84 % band over runs. Features: mean over runs with its 99 % interval, paler the narrower."""
    figure = Figure(figsize=(9.4, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    points = result.of(CUMULANT)
    for axes, power in zip(panels, (1, 2), strict=True):
        for p, colour in zip(points, DIM_COLOURS * len(points), strict=False):
            _draw(axes, p, power, colour)
        axes.axhline(0.5, color=GREY, lw=0.8, ls=":")
        axes.set(xscale="log", xlabel=f"samples / $d{'^2' if power == 2 else ''}$")
    panels[0].set_ylabel("test accuracy")
    panels[0].annotate("chance", (0.02, 0.497), xycoords=("axes fraction", "data"), va="top", fontsize=8, color=GREY)
    panels[1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    study = result.study
    figure.suptitle(
        rf"Spiked cumulant model, $\beta_v = 10$, Rademacher latent; {study.runs} runs each" + "\n"
        rf"two-layer network ($K = {study.hidden}$, online SGD) and ridge regression on $N$ random features",
        fontsize=10,
    )
    return figure


def _draw(axes: Axes, p: Point, power: int, colour: str) -> None:
    network, scale = p.network, float(p.dim) ** power
    low, middle, high = np.quantile(network.accuracy, (0.16, 0.5, 0.84), axis=0)
    axes.plot(network.times / scale, middle, color=colour, lw=1.6, label=f"network, $d = {p.dim}$")
    axes.fill_between(network.times / scale, low, high, color=colour, alpha=0.18, lw=0)
    for k, (width, scores) in enumerate(p.features.items()):
        ends = np.array([mean_interval(column) for column in scores.accuracy.T]).T
        mean = scores.accuracy.mean(axis=0)
        axes.errorbar(
            scores.times / scale, mean, np.abs(ends - mean), fmt=MARKERS[k % len(MARKERS)] + "--", color=colour, lw=0.8, ms=4,
            mfc="white" if k % 2 == 0 else colour, capsize=2, label=f"features, $N = {width}d$",
        )  # fmt: skip
