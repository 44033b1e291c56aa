"""The scaling figure: medians with intervals against d, the fitted laws, the theory's line, controls. Computes no theory."""

import re
from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.escape_study import Control, MedianRatio, Point, Scaling, false_alarms, median_ratios
from solvers.plots import FURTHER, GREY, colour_of, mathtext

LAWS = ((FURTHER[0], "-"), (FURTHER[1], "--"), (FURTHER[2], "-."))
Scale = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (times, dims) -> what is drawn


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
    figure.suptitle(f"{mathtext(study.wording.title)}, {study.wording.event_math}", fontsize=10)
    return figure


def plot_arms(results: dict[str, Scaling]) -> Figure:
    """Escape time against d of named studies with their powers A d^k, log–log; of two also the ratio of the medians."""
    figure = Figure(figsize=(6.6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    last = list(results.values())[-1]
    for (name, result), colour in zip(results.items(), (FURTHER[3], FURTHER[0]), strict=False):
        corr = result.study.record["corr"]
        who = name if corr is None else rf"{name}, $E[\lambda\nu]$ = {corr:g}"
        _draw_power(above, result, colour, who)
        _draw_points(above, list(result.points), colour, lambda times, _: times, f"{name}: ")
    _draw_controls(above, [c for result in results.values() for c in result.controls])
    above.set(xscale="log", yscale="log", ylabel="median escape time [samples]")
    above.legend(frameon=False, fontsize=7)
    _label_dims(below, last.study.dims)
    if len(results) == 2:
        _draw_median_ratios(below, median_ratios(*results.values()))
        below.set(ylabel=" ÷\n".join(results))
    else:
        below.set_visible(False)
    figure.suptitle(f"{mathtext(last.study.wording.title)}, {last.study.wording.event_math}", fontsize=10)
    return figure


def plot_tensor(results: dict[str, Scaling], power: int) -> Figure:
    """Samples until the first and until the last spike against N, at every δ_0, with powers and the law of the theory."""
    targets = list(dict.fromkeys(result.study.target for result in results.values()))
    figure = Figure(figsize=(5.6 * len(targets), 4.8), layout="constrained")
    panels = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    colours = ("#0072B2", "#D55E00", "#009E73", *FURTHER)
    for axes, target in zip(panels, targets, strict=True):
        chosen = [result for result in results.values() if result.study.target == target]
        for result, colour in zip(chosen, colours, strict=False):
            _draw_power(axes, result, colour, rf"$\delta_0$ = {result.study.record['strength']:g}", "N")
            _draw_points(axes, list(result.points), colour, lambda times, _: times, None)
        _draw_guide(axes, chosen, power)
        name = f"{target} spike" if target in ("first", "last") else f"spike {target}"
        axes.set(xscale="log", yscale="log", xlabel="dimension $N$", title=f"{name} recovered")
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("median samples, 95 % interval")
    wording = next(iter(results.values())).study.wording
    figure.suptitle(f"{mathtext(wording.title)}, {wording.event_math}", fontsize=10)
    return figure


def _draw_guide(axes: Axes, results: list[Scaling], power: int) -> None:
    """A grey line of the slope that the theory gives, below the points; for power 0 its law is log N."""
    points = [p for result in results for p in result.points if isfinite(p.median)]
    if not points:
        return
    dims = np.array(sorted({float(p.job.dim) for p in points}))
    law = np.log(dims) if power == 0 else dims**power
    below = 0.4 * min(p.median / np.interp(p.job.dim, dims, law) for p in points)
    name = r"$\log N$" if power == 0 else "$N$" if power == 1 else f"$N^{power}$"
    axes.plot(dims, below * law, ":", color=GREY, lw=1.5, label=f"theory: {name}")


def _draw_power(axes: Axes, result: Scaling, colour: str, name: str, dim: str = "d") -> None:
    """A d^k through the fitted points, with the interval of k; ``dim`` is the letter for d."""
    power = next((f for f in result.fit.laws if f.law.k is None), None) if result.fit else None
    if result.fit is None or power is None:
        return
    used = [p.job.dim for p in result.points if p.fitted and isfinite(p.median)]
    dims = np.geomspace(min(used), max(used), 50)
    low, high = result.fit.interval
    label = rf"{name}: ${dim}^k$, $k$ = {result.fit.exponent:.2f} [{low:.2f}, {high:.2f}]"
    axes.plot(dims, power.at(dims), color=colour, lw=1.5, label=label)


def _draw_median_ratios(axes: Axes, ratios: list[MedianRatio]) -> None:
    """Ratios with their intervals; an arrow where the upper end is open, white where the ratio itself is a bound."""
    for r in (r for r in ratios if r.value > 0):
        low, high = r.interval
        seen = isfinite(r.value)
        value, face = (r.value, "black") if seen else (low, "white")
        style: dict[str, Any] = {"fmt": "o", "color": "black", "mfc": face, "capsize": 3}
        axes.errorbar([r.dim], [value], [[value - low], [high - value if isfinite(high) else 0]], **style)
        if not isfinite(high):
            axes.errorbar([r.dim], [value], [value], lolims=True, **style)
    axes.set(yscale="log")


def _draw_times(axes: Axes, result: Scaling, points: list[Point]) -> None:
    _draw_laws(axes, result, lambda times, _: times)
    _draw_theory(axes, result, points, lambda times, _: times)
    _draw_points(axes, points, _colour(result), lambda times, _: times)
    _draw_controls(axes, list(result.controls))
    axes.set(xscale="log", yscale="log", ylabel="median escape time [samples]")
    axes.legend(frameon=False, fontsize=8)
    axes.tick_params(labelbottom=False)


def _draw_controls(axes: Axes, controls: list[Control]) -> None:
    kinds = dict.fromkeys(c.kind for c in controls)
    for kind, marker in zip(kinds, "sv", strict=False):
        chosen = [c for c in controls if c.kind == kind]
        crossed, runs = false_alarms(chosen)
        x, y = [c.job.dim for c in chosen], np.array([c.job.samples for c in chosen])
        name = f"{kind} control, run up to here: {crossed}/{runs} crossed"
        axes.errorbar(x, y, 0.5 * y, lolims=True, fmt=marker, mfc="none", color=GREY, ms=7, lw=1, label=name)


def _draw_ratios(axes: Axes, result: Scaling, points: list[Point]) -> None:
    """The same divided by the preferred law, which a log–log plot cannot tell from its rivals."""
    axes.set(ylabel="÷ preferred law")
    _label_dims(axes, result.study.dims)
    if result.fit is None or not result.fit.laws:
        return
    preferred = result.fit.laws[0]

    def ratio(times: np.ndarray, dims: np.ndarray) -> np.ndarray:
        return np.asarray(times / preferred.at(dims))

    seen = [p for p in points if isfinite(p.median)]
    _draw_points(axes, seen, _colour(result), ratio)
    _draw_theory(axes, result, seen, ratio)
    low, high = axes.get_ylim()
    _draw_laws(axes, result, ratio)
    axes.set_ylim(low, high)


def _label_dims(axes: Axes, dims: tuple[int, ...]) -> None:
    axes.set(xscale="log", xlabel="input dimension $d$")
    if max(dims) < 30 * min(dims):  # decades alone would leave one tick
        axes.set_xticks(dims, [str(d) for d in dims])
        axes.set_xticks([], minor=True)


def _colour(result: Scaling) -> str:
    return colour_of(result.study.target, result.study.spikes)


def _draw_points(axes: Axes, points: list[Point], colour: str, scale: Scale, who: str | None = "") -> None:
    """Medians with their intervals; ``who`` begins their names in the legend, None: they have none."""
    for fitted, name in ((True, "measured median, 95 % interval"), (False, "measured, not fitted")):
        chosen = [p for p in points if isfinite(p.median) and p.fitted is fitted]
        if chosen:
            x = np.array([float(p.job.dim) for p in chosen])
            y, bars = scale(np.array([p.median for p in chosen]), x), scale(_bars(chosen), x)
            face = colour if fitted else "white"
            axes.errorbar(
                x, y, bars, fmt="o", color=colour, mfc=face, ms=6, capsize=3, label=_named(who, name), zorder=5
            )
    beyond = [p for p in points if not isfinite(p.median)]
    if beyond:
        x, y = np.array([float(p.job.dim) for p in beyond]), np.array([p.job.samples for p in beyond])
        axes.errorbar(
            x, y, y / 2, lolims=True, fmt="o", color=colour, mfc="white", label=_named(who, "median beyond the budget")
        )


def _named(who: str | None, what: str) -> str | None:
    return None if who is None else who + what


def _bars(points: list[Point]) -> np.ndarray:
    """Distances (2, n) from the median to the ends of its interval, an end beyond the budget at the budget."""
    ends = [np.clip(p.interval, 0, p.job.samples) if p.job.runs > 1 else (p.median, p.median) for p in points]
    return np.abs(np.array(ends).T - np.array([p.median for p in points]))


def _draw_theory(axes: Axes, result: Scaling, points: list[Point], scale: Scale) -> None:
    known = [p for p in points if isfinite(p.predicted)]
    x, name = np.array([float(p.job.dim) for p in known]), f"{result.study.wording.theory} (theory)"
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
