"""Figures: colour-blind safe (Okabe & Ito 2008), labelled axes with units. Draws what it is given, computes no theory."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solvers.ode import FlowRun
from solvers.prediction import Prediction
from theory import __version__
from theory.drawing import COLOURS, FURTHER, GREY, colour_of, escaped, mark_threshold, overlap_label
from theory.provenance import Origin

__all__ = [
    "COLOURS", "FURTHER", "GREY", "colour_of", "draw_flow", "finish", "mark_threshold", "mathtext", "overlap_label",
    "plot_prediction", "save", "time_grid", "title_of",
]  # fmt: skip


def save(figure: Figure, path: Path, origin: Origin) -> None:
    """Write the figure whole or not at all; its file says by which command it came and from what."""
    words = {
        "Software": f"downstairs {__version__}",
        "Description": origin.command,
        "Source": f"configuration {origin.hash}",
    }
    names = {
        ".pdf": {"Software": "Creator", "Description": "Subject", "Source": "Keywords"},
        ".svg": {"Software": "Creator"},
    }.get(path.suffix.lower(), {})
    metadata = {names.get(name, name): text for name, text in words.items()}
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        figure.savefig(partial, dpi=160, metadata=metadata)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def time_grid(first: float, last: float, log: bool) -> np.ndarray:
    """Sample times on which a smooth curve is drawn."""
    return np.geomspace(max(first, 1.0), last, 500) if log else np.linspace(0, last, 500)


def draw_flow(axes: Axes, flow: FlowRun, times: np.ndarray, label: str = "", **style: Any) -> None:
    """|α_k(t)| of the population flow."""
    overlaps = np.abs(flow.overlaps_at(times))
    for k, spike in enumerate(flow.spikes):
        text = label + overlap_label(spike)
        axes.plot(times, overlaps[:, k], color=colour_of(spike, flow.spikes), label=text, **style)


def finish(axes: Axes, log: bool, last: float, first: float = 1.0) -> None:
    """Axes' limits and labels common to every overlap plot."""
    if log:
        axes.set_xscale("log")
        axes.set_xlim(max(first, 1.0), last)
    else:
        axes.set_xlim(0, last)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("samples $t$" + (" (log scale)" if log else ""))
    axes.set_ylabel("overlap $|\\alpha_k(t)|$")


def plot_prediction(results: list[Prediction]) -> Figure:
    """Overlaps against samples in log and linear time; for several d, escape time against d."""
    return _plot_flow(results[0]) if len(results) == 1 else _plot_dimensions(results)


def _plot_flow(result: Prediction) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    last = result.flow.horizon
    for axes, log in zip(figure.subplots(1, 2), (True, False), strict=True):
        draw_flow(axes, result.flow, time_grid(last / 1e4, last, log), lw=2)
        mark_threshold(axes, result.threshold, named=log)
        for k, (spike, escape) in enumerate(zip(result.flow.spikes, result.flow.escape_samples, strict=True)):
            if np.isfinite(escape) and escape > 0:
                colour = colour_of(spike, result.flow.spikes)
                axes.plot([escape], [result.threshold], "o", color=colour, ms=7, mec="white", zorder=5 + k)
        finish(axes, log, last, last / 1e4)
    axes.legend(loc="lower right", frameon=False)
    figure.suptitle(title_of(result), fontsize=10)
    return figure


def mathtext(text: str) -> str:
    """Greek letters with an index, moments and powers of d as Matplotlib sets them."""
    greek = {"α": "alpha", "β": "beta", "ν": "nu", "λ": "lambda"}
    text = re.sub(r"([αβ])_(\w)", lambda m: rf"$\{greek[m[1]]}_{m[2]}$", text)
    text = re.sub(r"E\[He_(\d)\(ν\)\]", r"$E[\\mathrm{He}_\1(\\nu)]$", text)
    text = re.sub(r"He_(\d+)\((\w+)\)", lambda m: rf"$\mathrm{{He}}_{{{m[1]}}}({escaped(m[2])})$", text)
    text = text.replace("E[λν]", r"$E[\lambda\nu]$").replace("f*", "$f^*$")
    if re.fullmatch(r"d( log\^2 d|\^\d)?", text):
        return "$" + text.replace(" log", r"\,\log") + "$"
    return text


def title_of(result: Prediction) -> str:
    """Model, d and learning rate."""
    task = mathtext(result.model.task.describe().replace("; ", "\n", 1))
    learner = result.model.learner
    return (
        f"{task}\n{learner.activation.name}, {learner.loss.name} loss, "
        f"$d$ = {result.dim}, learning rate $\\delta$ = {result.lr:.4g}"
    )


def _plot_dimensions(results: list[Prediction]) -> Figure:
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.subplots()
    dims = np.array([r.dim for r in results], dtype=float)
    spikes = results[0].model.spikes
    for k, spike in enumerate(spikes):
        times = np.array([r.directions[k].escape_samples for r in results])
        seen = np.isfinite(times)
        if seen.any():
            axes.loglog(
                dims[seen],
                times[seen],
                "o-",
                color=colour_of(spike, spikes),
                label=f"{spike}: {mathtext(_law(results, k))}",
            )
    alone = np.array([r.baseline.escape_samples if r.baseline else np.inf for r in results])
    if np.isfinite(alone).any():
        seen = np.isfinite(alone)
        law = mathtext(next(str(r.baseline.law) for r in results if r.baseline))
        axes.loglog(dims[seen], alone[seen], "s--", color=GREY, label=f"v alone: {law}")
    axes.set_xlabel("input dimension $d$")
    axes.set_ylabel("escape time [samples]")
    if np.isfinite(alone).any() or any(d.escape_samples < np.inf for r in results for d in r.directions):
        axes.legend(frameon=False)
    axes.set_title(mathtext(results[0].model.task.describe().replace("; ", "\n")), fontsize=9)
    return figure


def _law(results: list[Prediction], k: int) -> str:
    law = results[0].directions[k].law
    return str(law) if law else "never"
