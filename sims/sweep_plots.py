"""The standard figure of a sweep, from its store alone: medians along an axis, and what a few points did over time."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sims.network_report import band
from sims.sweep_results import SweepResults
from sims.sweep_series import MOST, Arrangement, Dot, Series, arrange, select_curves, survival
from sims.sweep_table import plain
from solvers.phase_plots import LABELS
from solvers.plots import COLOURS, FURTHER, GREY, colour_of, mark_threshold, overlap_label

PALETTE = (COLOURS["u"], COLOURS["v"], COLOURS["m"], *FURTHER, GREY)
MARKERS = "os^Dvph*"
NAMES = {
    **{key.replace("-", "_"): label for key, label in LABELS.items()},
    "beta_m": "strength of the mean spike $\\beta_m$", "beta_v": "strength of the cumulant spike $\\beta_v$",
    "p": "order of the cumulant $p$", "batch": "batch size $B$ [samples]", "hidden": "hidden neurons $K$",
    "samples": "budget [samples]", "threshold": "threshold $\\eta$", "noise": "label noise",
}  # fmt: skip
SYMBOLS = {
    "dim": "$d$", "lr": "$\\delta$", "corr": "$E[\\lambda\\nu]$", "beta_m": "$\\beta_m$", "beta_u": "$\\beta_u$",
    "beta_v": "$\\beta_v$", "p": "$p$", "batch": "$B$", "hidden": "$K$", "threshold": "$\\eta$",
}  # fmt: skip
SPOKEN = ("task", "view", "activation")  # named by their values alone
TITLE = (*SPOKEN, "p", "corr", "beta_u", "beta_v", "hidden", "dim", "lr", "batch", "threshold")
LOGARITHMIC = ("dim", "lr", "batch", "hidden", "samples")
DECADE = 10.0
MANNER = "thick bar: 95 % interval of the median; thin bar: 10–90 % of the runs"
BEYOND = "arrow: fewer than half of the runs had escaped when they ended"


def plot_sweep(
    results: SweepResults, x: str | None = None, spike: str | None = None, where: Mapping[str, Any] | None = None
) -> Figure:
    """Median escape time of a spike (default: the target) along an axis x, a series for each combination of the others.

    Beside it |α(t)| where there are trajectories, otherwise the share of runs that have not escaped: of all series at one x,
    or of one series at a few x. ``where`` selects points. Raises InputError where there is nothing, or too much, to draw.
    """
    arrangement = arrange(results, x, spike, where or {})
    chosen = select_curves(arrangement)
    figure = Figure(figsize=(11 if chosen else 6.6, 5.4), layout="constrained")
    panels = figure.subplots(1, 2 if chosen else 1, squeeze=False)[0]
    _draw_medians(panels[0], arrangement)
    if chosen:
        _draw_curves(panels[1], results, arrangement, chosen)
    entries = panels[0].get_legend_handles_labels()
    if len(arrangement.series) > 1:
        figure.legend(
            *entries, loc="outside lower left", ncols=2 if len(entries[1][0]) > 30 else 4, frameon=False, fontsize=8
        )
    figure.suptitle(_title(arrangement, bool(chosen)), fontsize=10)
    return figure


def _title(arrangement: Arrangement, wide: bool) -> str:
    constant = {key: arrangement.constant.get(key) for key in TITLE}
    spoken = _words({key: constant.pop(key) for key in SPOKEN})
    runs = [len(dot.times) for dot in arrangement.dots]
    number = (
        f"{runs[0]} run{'s' if runs[0] > 1 else ''}" if min(runs) == max(runs) else f"{min(runs)} – {max(runs)} runs"
    )
    notes = [MANNER] if max(runs) > 1 else []
    notes += [] if all(isfinite(_median(dot)) for dot in arrangement.dots) else [BEYOND]
    head = (", " if wide else "\n").join(text for text in (spoken, _words(constant)) if text)
    return "\n".join([f"{head}; {number} a point", *notes])


def _words(values: Mapping[str, Any]) -> str:
    """Values of configurations for people; what has none is left out."""
    return ", ".join(_word(key, value) for key, value in values.items() if value is not None)


def _word(key: str, value: Any) -> str:
    name, text = SYMBOLS.get(key, key.replace("_", " ")), f"{value:.4g}" if isinstance(value, float) else str(value)
    if value is None:
        return "single neuron" if key == "hidden" else f"no {name}"
    return text if key in SPOKEN else f"{name} = {text}"


def _who(spike: str) -> str:
    return f"${spike}$" if len(spike) == 1 else spike


def _median(dot: Dot) -> float:
    """At least one sample: a log axis has no 0, where a run starts beyond the threshold."""
    return max(dot.escapes.quantile(dot.spike, 0.5), 1.0)


def _draw_medians(axes: Axes, arrangement: Arrangement) -> None:
    x = arrangement.x
    values = list(dict.fromkeys(plain(dot.config.get(x)) for dot in arrangement.dots))
    numeric = all(isinstance(value, int | float) for value in values)
    places = {value: float(value) if numeric else float(k) for k, value in enumerate(values)}
    for k, series in enumerate(arrangement.series):
        style = {"color": _colour(arrangement, k), "marker": MARKERS[k], "ls": "-" if numeric else "none"}
        _draw_series(axes, series, [places[plain(dot.config.get(x))] for dot in series.dots], style)
    spikes = dict.fromkeys(dot.spike for dot in arrangement.dots)
    name = _who(next(iter(spikes))) if len(spikes) == 1 else "the target"
    axes.set(xlabel=NAMES.get(x, x.replace("_", " ")), ylabel=f"median escape time of {name} [samples]", yscale="log")
    low, high = axes.get_ylim()
    if high < DECADE * low:  # no narrower than a decade: differences look as small as they are
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / DECADE**0.5, middle * DECADE**0.5)
    if not numeric:
        axes.set_xticks([*places.values()], ["none" if value is None else str(value) for value in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
    else:
        _scale(axes, values, x in LOGARITHMIC and min(values) > 0)


def _scale(axes: Axes, values: list[float], log: bool) -> None:
    """Log or linear scale; few values are the ticks themselves, where decades alone would leave one or two."""
    if log:
        axes.set_xscale("log")
        if len(values) == 1:
            axes.set_xlim(values[0] / 2, values[0] * 2)
        axes.xaxis.set_minor_formatter(NullFormatter())
    if len(values) <= MOST and (max(values) < 30 * min(values) if log else all(isinstance(v, int) for v in values)):
        axes.set_xticks(values, [f"{value:.4g}" for value in values])


def _draw_series(axes: Axes, series: Series, places: list[float], style: dict[str, Any]) -> None:
    """Medians joined by a line, with their intervals and the spread of the runs; single runs as a line alone."""
    colour = style["color"]
    seen = [(place, dot) for place, dot in zip(places, series.dots, strict=True) if isfinite(_median(dot))]
    alone = not any(dot.random for dot in series.dots)
    line = alone and len(seen) > 1 and style["ls"] != "none"
    look = {"color": colour, "lw": 1.6, "ls": "--"} if line else style | {"ms": 5.5, "lw": 1}
    label = ", ".join(map(_word, series.values.keys(), series.values.values()))
    axes.plot([p for p, _ in seen], [_median(dot) for _, dot in seen], label=label, zorder=4, **look)
    for place, dot in zip(places, series.dots, strict=True):
        if dot.random and isfinite(_median(dot)):
            ends = np.clip(dot.interval, 1, dot.escapes.budget)
            spread = np.clip([dot.escapes.quantile(dot.spike, q) for q in (0.1, 0.9)], 1, dot.escapes.budget)
            axes.vlines(place, *spread, color=colour, lw=0.9, alpha=0.7, zorder=2)
            axes.vlines(place, *ends, color=colour, lw=3.5, alpha=0.5, zorder=3)
        elif not isfinite(_median(dot)):
            bound = style | {"mfc": "white", "ls": "none", "ms": 5.5, "capsize": 3}
            axes.errorbar([place], [dot.ended], [0.5 * dot.ended], lolims=True, zorder=4, **bound)


def _colour(arrangement: Arrangement, series: int) -> str:
    if len(arrangement.series) > 1:
        return PALETTE[series % MOST]
    dot = arrangement.dots[0]
    return colour_of(dot.spike, dot.escapes.spikes)


def _draw_curves(axes: Axes, results: SweepResults, arrangement: Arrangement, chosen: list[tuple[int, Dot]]) -> None:
    """|α(t)| or the survival of the chosen dots; colours are those of the series, or shades along x of the only one."""
    several, x = len(arrangement.series) > 1, arrangement.x
    recorded = bool(chosen[0][1].config["records"])
    shades = colormaps["viridis"](np.linspace(0.0, 0.8, len(chosen)))
    for (k, dot), shade in zip(chosen, shades, strict=True):
        label = "" if several else _words({x: dot.config.get(x)})
        colour = _colour(arrangement, k) if several else shade if len(chosen) > 1 else _colour(arrangement, k)
        (_draw_overlaps if recorded else _draw_survival)(axes, results, dot, {"color": colour, "label": label})
    spikes = dict.fromkeys(dot.spike for _, dot in chosen)
    name = next(iter(spikes)) if len(spikes) == 1 else None
    if recorded:
        axes.set(ylabel=f"{overlap_label(name) if name else 'overlap with the target'}: median and 16–84 % of the runs")
        for threshold in {dot.config["threshold"] for _, dot in chosen}:
            mark_threshold(axes, threshold, named=True)
    else:
        axes.set(ylabel=f"share of runs: {_who(name) if name else 'target'} not yet escaped (band: 95 %)")
    axes.set(xscale="log", xlabel="samples $t$ (log scale)", ylim=(0, 1.02))
    first, last = axes.get_xlim()
    if last > DECADE * first:
        axes.xaxis.set_minor_formatter(NullFormatter())
    if several:
        axes.set_title(f"at {_words({x: chosen[0][1].config.get(x)})}", fontsize=9)
    elif len(chosen) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)


def _draw_overlaps(axes: Axes, results: SweepResults, dot: Dot, style: dict[str, Any]) -> None:
    trajectory = results.trajectory(dot.point)
    low, median, high = band(np.abs(trajectory.of(dot.spike)))
    later = trajectory.times > 0
    axes.plot(trajectory.times[later], median[later], lw=1.6, **style)
    axes.fill_between(trajectory.times[later], low[later], high[later], color=style["color"], alpha=0.2, lw=0)


def _draw_survival(axes: Axes, _: SweepResults, dot: Dot, style: dict[str, Any]) -> None:
    times, share, interval = survival(dot)
    first = times[1] / (2 if np.isfinite(dot.times).any() else 100)
    times = np.maximum(times, max(first, 1.0))  # a log axis has no 0
    axes.plot(times, share, drawstyle="steps-post", lw=1.6, **style)
    axes.fill_between(times, interval[:, 0], interval[:, 1], step="post", color=style["color"], alpha=0.2, lw=0)
