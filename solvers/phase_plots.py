"""Figures of the phase diagrams, for eyes that see colours differently: viridis, Okabe & Ito, hatches. Computes no theory."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.ndimage import binary_dilation

from solvers.phase_diagram import Array, PhaseDiagram
from solvers.plots import GREY, mathtext

LABELS = {
    "corr": "correlation of the latents $E[\\lambda\\nu]$",
    "dim": "input dimension $d$",
    "beta-u": "strength of the covariance spike $\\beta_u$",
    "lr": "learning rate $\\delta$ (step $\\delta/d$)",
}
TITLES = {
    "corr,dim": "Speed-up of $v$ by correlation with $u$",
    "corr,beta-u": "Speed-up of $v$ by correlation with $u$",
    "lr,dim": "Where online SGD recovers $v$, by its population flow",
}
# Status: face, hatch, and what a slide says of it.
STATUSES = {
    "recovered": ("#56B4E9", "", "$v$ recovered"),
    "below_threshold": ("#E8E8E8", "///", "driven, but settles below the threshold"),
    "repelled": ("#CC79A7", "\\\\\\", "repelled by what is learnt first"),
    "noise_activated": ("#F5C56B", "..", "noise-dominated: the flow falls back, only noise lifts $v$"),
    "lr_too_large": ("#F0A07A", "xx", "noise-dominated: nothing grows out of it"),
    "wrong_sign": ("#DDD0A0", "++", "repulsive sign: never"),
    "blind": ("#BBBBBB", "--", "the activation is blind: never"),
}
INK = "#222222"


def plot_phase_diagram(diagram: PhaseDiagram) -> Figure:
    """Speed-up as colours with labelled contours, or the fates in the plane of rates."""
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axes = figure.subplots()
    handles = _draw_fates(axes, diagram) if diagram.plane == "lr,dim" else _draw_speedup(figure, axes, diagram)
    handles += _mark_noise(axes, diagram)
    x, y = diagram.axes
    axes.set(xlabel=LABELS[x], ylabel=LABELS[y], xscale="linear" if x == "corr" else "log", yscale="log")
    axes.set(xlim=(diagram.x[0], diagram.x[-1]), ylim=(diagram.y[0], diagram.y[-1]))
    if "beta-u" in diagram.axes:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(TITLES[diagram.plane], fontsize=12, loc="left", pad=22)
    axes.text(0, 1.02, mathtext(diagram.describe()), transform=axes.transAxes, fontsize=9, color=GREY)
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=9)
    return figure


def _draw_speedup(figure: Figure, axes: Axes, diagram: PhaseDiagram) -> list[Artist]:
    """Colours and decades of the speed-up, under the region of never."""
    speedup = diagram.speedup
    finite = speedup[np.isfinite(speedup)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size > 1 else (0.1, 10.0)
    mesh = axes.pcolormesh(
        diagram.x,
        diagram.y,
        _continued(speedup),
        norm=LogNorm(least, most),
        cmap="viridis",
        shading="gouraud",
        rasterized=True,
    )
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    bar.set_label("speed-up: samples of $v$ alone / samples of $v$ here (log scale)")
    low, high = np.log10([least, most])
    decades = np.arange(np.ceil(low), np.floor(high - 0.03 * (high - low)) + 1)
    if decades.size and finite.size > 1:
        surface = np.ma.masked_where(
            ~binary_dilation(np.isfinite(speedup), np.ones((3, 3))), np.log10(_continued(speedup))
        )
        lines = axes.contour(diagram.x, diagram.y, surface, decades, colors="white", linewidths=1.2)
        for text in axes.clabel(lines, fmt=lambda k: f"$10^{{{k:.0f}}}$", fontsize=11):
            text.set_visible(_is_clear(diagram, *text.get_position()))
    return _cover_never(axes, diagram)


def _cover_never(axes: Axes, diagram: PhaseDiagram) -> list[Artist]:
    """Where v is never recovered; the edge is where its fixed point crosses the threshold, finer than the grid."""
    margin, status = diagram.matrix("reach") - diagram.threshold, diagram.matrix("status")
    causes = [name for name in STATUSES if name != "recovered" and (status == name).any()]
    if not causes:
        return []
    face, hatch, _ = STATUSES["below_threshold"]
    axes.contourf(diagram.x, diagram.y, margin, [-1, 0], colors=[face], hatches=[hatch], zorder=3)
    if (margin >= 0).any():
        axes.contour(diagram.x, diagram.y, margin, [0], colors=INK, linewidths=2, zorder=4)
    label = f"$v$ is never recovered: it settles at $\\alpha_v^*$ < {diagram.threshold:g}, the threshold $\\eta$"
    if "repelled" in causes and diagram.x[0] == 0:
        label += " (at zero correlation it is repelled)"
    return [Patch(facecolor=face, hatch=hatch, edgecolor=INK, label=label)]


def _draw_fates(axes: Axes, diagram: PhaseDiagram) -> list[Artist]:
    """One colour and hatch for each fate, and the critical rate as a line."""
    status = diagram.matrix("status")
    present = [name for name in STATUSES if (status == name).any()]
    for name in present:
        face, hatch, _ = STATUSES[name]
        share = (status == name).astype(float)
        axes.contourf(diagram.x, diagram.y, share, [0.5, 1.5], colors=[face], hatches=[hatch])
    critical = diagram.matrix("critical")[:, 0]
    handles: list[Artist] = [_patch(name) for name in present]
    if np.isfinite(critical).all():
        power = np.log(critical[-1] / critical[0]) / np.log(diagram.y[-1] / diagram.y[0])
        law = f" $\\propto d^{{{power:.2g}}}$" if abs(power) > 1e-6 else ", whatever $d$"
        label = "critical rate $\\delta_{crit}$" + law
        handles += axes.plot(critical, diagram.y, color=INK, lw=2, label=label, zorder=4)
    return handles


def _patch(status: str) -> Patch:
    face, hatch, words = STATUSES[status]
    return Patch(facecolor=face, hatch=hatch, edgecolor=GREY, label=words)


def _mark_noise(axes: Axes, diagram: PhaseDiagram) -> list[Artist]:
    """Below d = (5/η)² noise alone crosses the threshold in simulations (theory §10)."""
    dim = (5 / diagram.threshold) ** 2
    if "dim" not in diagram.axes or not diagram.y[0] < dim < diagram.y[-1]:
        return []
    words = f"below $d = (5/\\eta)^2$ = {dim:.0f} noise alone reaches $\\eta$ = {diagram.threshold:g}"
    return [axes.axhline(dim, color=INK, lw=1.4, ls=(0, (1, 2)), zorder=5, label=words)]


def _is_clear(diagram: PhaseDiagram, x: float, y: float) -> bool:
    """No point of never near (x, y): a label here is not cut by its edge."""
    i, j = np.abs(np.log(diagram.y / y)).argmin(), np.abs(diagram.x - x).argmin()
    return bool(np.isfinite(diagram.speedup[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]).all())


def _continued(values: Array) -> Array:
    """Gaps filled from the nearest value in their row, then column, so that colours reach under the edge of never."""
    filled = values.copy()
    for table in (filled, filled.T):
        for row in table:
            seen = np.flatnonzero(np.isfinite(row))
            if seen.size:
                gaps = np.flatnonzero(~np.isfinite(row))
                row[gaps] = row[seen[np.abs(gaps[:, None] - seen).argmin(axis=1)]]
    return filled
