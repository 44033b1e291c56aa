"""How results are drawn: the one file of ``theory`` that draws. Matplotlib is imported when something is to be drawn.

Colours are safe for the colour-blind (Okabe & Ito 2008), the same in every figure of the package.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theory.results import Ensemble, EscapeTimes, Trajectory, wilson_interval

if TYPE_CHECKING:
    from theory.network_results import NetworkEnsemble, NetworkTrajectory

Array = NDArray[np.float64]
COLOURS = {"m": "#009E73", "u": "#0072B2", "v": "#D55E00"}
FURTHER = ("#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "#666666"
BAND = (0.1, 0.5, 0.9)
DECADES = 1e4  # of samples that a logarithmic clock shows


def colour_of(spike: str, spikes: tuple[str, ...]) -> str:
    """Fixed colours for m, u, v; further ones in the order of the spikes."""
    others = [s for s in spikes if s not in COLOURS]
    return COLOURS.get(spike) or FURTHER[others.index(spike) % len(FURTHER)]


def overlap_label(spike: str) -> str:
    """|α_spike| as Matplotlib sets it; in a longer name _ is a letter."""
    name = spike if len(spike) == 1 else rf"\mathrm{{{escaped(spike)}}}"
    return rf"$|\alpha_{{{name}}}|$"


def escaped(name: str) -> str:
    """A name within mathematics."""
    return name.replace("_", r"\_")


def mark_threshold(axes: Any, threshold: float, named: bool) -> None:
    """Draw the overlap of weak recovery, with its name where the curves leave room for it."""
    axes.axhline(threshold, color=GREY, lw=0.8, ls=":")
    if not named:
        return
    axes.annotate(
        f"threshold {threshold:g}", (0.02, threshold), xycoords=("axes fraction", "data"),
        xytext=(0, 2), textcoords="offset points", color=GREY, fontsize=8,
    )  # fmt: skip


def new_axes() -> Any:
    """Axes of a figure of its own, which a notebook shows."""
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def draw_trajectory(trajectory: Trajectory, ax: Any = None, log: bool = False) -> Any:
    """|α_k| of every spike: median over runs and 10–90 % band."""
    axes = _time_axes(ax, trajectory.times, log)
    for spike in trajectory.spikes:
        colour, sizes = colour_of(spike, trajectory.spikes), np.abs(trajectory.of(spike))
        _draw_band(axes, trajectory.times, sizes, {"color": colour, "label": overlap_label(spike)})
    axes.set(xlabel="samples", ylabel=r"overlap $|\alpha_k|$" + _shown(len(trajectory.overlaps)))
    axes.set_ylim(0, 1.02)
    return _legend(axes)


def draw_best_neurons(
    trajectory: "NetworkTrajectory", ax: Any, spikes: tuple[str, ...], log: bool = False, **style: Any
) -> Any:
    """max_k |cos(w_k, spike)|: median over runs and 10–90 % band."""
    axes = _time_axes(ax, trajectory.times, log)
    for spike in spikes:
        label = rf"$\max_k\,|\cos(w_k, {_name(spike)})|$"
        usual = {"color": colour_of(spike, trajectory.spikes), "label": label}
        _draw_band(axes, trajectory.times, trajectory.of(spike), usual | style)
    axes.set(xlabel="samples", ylabel="overlap of the best neuron" + _shown(len(trajectory.output)))
    axes.set_ylim(0, 1.02)
    return _legend(axes)


def draw_ensemble(ensemble: "Ensemble | NetworkEnsemble", ax: Any = None, log: bool = False) -> Any:
    """The overlaps, and on the threshold the median escape of every spike with its 95 % interval."""
    axes, escapes = ensemble.trajectory.plot(ax, log=log), ensemble.escapes
    mark_threshold(axes, escapes.threshold, named=log)
    for spike in escapes.spikes if len(escapes.times) else ():
        median, ends = escapes.quantile(spike, 0.5), np.array(escapes.quantile_interval(spike, 0.5))
        if 0 < median < np.inf:
            colour, known = colour_of(spike, escapes.spikes), np.clip(ends, 0, axes.get_xlim()[1])
            if tuple(ends) != (0.0, np.inf):  # so few runs that nothing is known
                axes.plot(known, [escapes.threshold] * 2, "|-", color=colour, lw=2.2, ms=10, mew=2.2, zorder=8)
            mark_escape(axes, colour, escapes.threshold, median)
    return _legend(axes, {"median escape, 95 % interval": {"marker": "o", "color": GREY, "mec": "white", "lw": 2.2}})


def mark_escape(axes: Any, colour: str, threshold: float, samples: float) -> None:
    """A dot on the threshold at a time of escape; nothing where it is never, or at once."""
    if 0 < samples < np.inf:
        axes.plot([samples], [threshold], "o", color=colour, ms=7, mec="white", zorder=9)


def mark_escapes(axes: Any, escapes: EscapeTimes) -> Any:
    """On the threshold a dot at every escape of one run. Returns the axes."""
    for spike, samples in zip(escapes.spikes, escapes.times[0], strict=True):
        mark_escape(axes, colour_of(spike, escapes.spikes), escapes.threshold, float(samples))
    return axes


def mark_laws(axes: Any, threshold: float, laws: dict[str, dict[float, float]]) -> None:
    """On the threshold the quantiles of each spike's escape time: a diamond at the median, a bar from 10 to 90 %."""
    for spike, quantiles in laws.items():
        colour, (low, middle, high) = colour_of(spike, tuple(laws)), (quantiles[q] for q in BAND)
        if np.isfinite(high):
            axes.plot([low, high], [threshold] * 2, "|-", color=colour, lw=1.2, ms=11, mew=1.6, zorder=6)
        if 0 < middle < np.inf:
            axes.plot([middle], [threshold], "D", ms=8, mfc="white", mec=colour, mew=1.6, zorder=7)
    bar = {"marker": "D", "ms": 8, "mfc": "white", "color": GREY, "lw": 1.2}
    _legend(axes, {"ODE": {"marker": "o", "ls": "", "color": GREY}, "random start: median, 10–90 %": bar})


def draw_escapes(escapes: EscapeTimes, ax: Any = None, log: bool = False) -> Any:
    """The share of runs recovered by t with its 95 % band (Wilson), and those that were not, at the budget."""
    n, seen = len(escapes.times), escapes.times[np.isfinite(escapes.times)]
    last = float(escapes.budget if np.isfinite(escapes.budget) else 1.1 * seen.max(initial=1.0))
    log = log and bool((seen > 0).any())
    axes = _time_axes(ax, np.array([*seen, last]), log)
    for spike in escapes.spikes if n else ():
        colour, times = colour_of(spike, escapes.spikes), np.sort(escapes.of(spike))
        begin = seen[seen > 0].min() / 2 if log else 0.0
        clock = np.array([begin, *times[(times > begin) & (times <= last)], last])
        counts = np.searchsorted(times, clock, side="right")
        low, high = np.array([wilson_interval(int(k), n) for k in counts]).T
        left = n - int(counts[-1])
        label = spike + (f": {left} of {n} not within the budget" if left and np.isfinite(escapes.budget) else "")
        axes.step(clock, counts / n, where="post", color=colour, lw=1.6, label=label)
        axes.fill_between(clock, low, high, step="post", color=colour, alpha=0.18, lw=0)
        if left and np.isfinite(escapes.budget):
            axes.plot([last], [counts[-1] / n], ">", color=colour, ms=7, mec="white", clip_on=False, zorder=9)
    if np.isfinite(escapes.budget):
        axes.axvline(last, color=GREY, lw=0.8, ls=":")
    axes.set(xlabel="escape time [samples]", ylabel=f"share of {n} runs over {escapes.threshold:g} by then, 95 % band")
    axes.set_ylim(-0.02, 1.02)
    return _legend(axes)


def _time_axes(ax: Any, times: Array, log: bool) -> Any:
    """The axes given, or new ones over the times; with ``log`` both get a logarithmic clock."""
    axes = new_axes() if ax is None else ax
    axes.set_xmargin(0)
    later = times[(times > 0) & np.isfinite(times)]
    if log and later.size:
        axes.set_xscale("log")
        if ax is None:
            axes.set_xlim(max(float(later.min()) / 2, float(later.max()) / DECADES), float(later.max()))
    elif ax is None:
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    return axes


def _draw_band(axes: Any, times: Array, sizes: Array, style: dict[str, Any]) -> None:
    """Median of the runs that have a number at each time (nan where none has one), and of several runs the band."""
    levels = np.full((3, len(times)), np.nan)
    known = ~np.isnan(sizes).all(axis=0) if len(sizes) else np.zeros(len(times), dtype=bool)
    if known.any():
        levels[:, known] = np.nanquantile(sizes[:, known], BAND, axis=0)
    axes.plot(times, levels[1], **{"lw": 1.6, **style})
    if len(sizes) > 1:
        axes.fill_between(times, levels[0], levels[2], color=axes.lines[-1].get_color(), alpha=0.18, lw=0)


def _legend(axes: Any, others: Mapping[str, dict[str, Any]] | None = None) -> Any:
    """Name what was drawn, and by grey examples what the ``others`` are."""
    handles = axes.get_legend_handles_labels()[0]
    if handles and others:
        from matplotlib.lines import Line2D

        handles += [Line2D([], [], label=label, **style) for label, style in others.items()]
    if handles:
        axes.legend(handles=handles, frameon=False, loc="best" if axes.get_xscale() == "linear" else "upper left")
    return axes


def _shown(runs: int) -> str:
    return f": median and 10–90 % of {runs} runs" if runs > 1 else ""


def _name(spike: str) -> str:
    return spike if len(spike) == 1 else rf"\mathrm{{{escaped(spike)}}}"
