"""The figure of tensor PCA: one run and its flow, all runs, and what they recovered. Computes no theory."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from solvers.plots import FURTHER, GREY, mark_threshold, mathtext
from solvers.tensor_study import Share, TensorResult

COLOURS = ("#0072B2", "#D55E00", "#009E73", *FURTHER)
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (2, 2)))


def plot_tensor_pca(result: TensorResult) -> Figure:
    """|m_ij| of the run with the median last recovery, shares of runs against samples, order and outcomes."""
    figure = Figure(figsize=(14, 5), layout="constrained")
    one, all_runs, end = figure.subplots(1, 3, width_ratios=(1.15, 1, 0.9))
    _draw_run(one, result)
    _draw_shares(all_runs, result)
    _draw_bars(end, result)
    study = result.study
    figure.suptitle(
        f"{mathtext(result.tensor.describe())}, $N$ = {study.dim}, $\\delta_0$ = {study.strength:g}, "
        f"{len(result.ensemble.replicas)} runs of the exact chain", fontsize=10,
    )  # fmt: skip
    return figure


def _draw_run(axes: Axes, result: TensorResult) -> None:
    """Every |m_ij| of one run, and the flow from its start; colour by spike i, dashes by column j."""
    last = result.times.of("last")
    k = int(np.argsort(last, kind="stable")[len(last) // 2])
    trajectory, r = result.ensemble.trajectory, result.tensor.rank
    flow = result.flow(k)
    times = np.geomspace(1, trajectory.times[-1], 400)
    path = np.abs(flow.overlaps_at(times))
    for n in range(r * r):
        i, j = divmod(n, r)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            trajectory.times, np.abs(trajectory.overlaps[k, :, n]), color=colour, lw=1.1, ls=DASHES[j % len(DASHES)]
        )
        axes.plot(times, path[:, n], color=colour, lw=2.6, alpha=0.3)
    mark_threshold(axes, result.study.threshold, named=True)
    shown = min(trajectory.times[-1], 6 * last[k])
    axes.set(xscale="log", xlim=(max(shown / 1e3, 1), shown), ylim=(0, 1.03), xlabel="samples (tensors)")
    axes.set(ylabel="overlap $|m_{ij}|$ of spike $i$ and column $j$", title="one run: sequential elimination")
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], lw=2, label=f"spike {i + 1}") for i in range(r)]
    handles += [
        Line2D([], [], color=GREY, lw=1.1, ls=DASHES[j % len(DASHES)], label=f"column {j + 1}") for j in range(r)
    ]
    handles += [Line2D([], [], color=GREY, lw=2.6, alpha=0.4, label="flow, same start")]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)


def _draw_shares(axes: Axes, result: TensorResult) -> None:
    """Share of the runs that have recovered each spike, with its 95 % Wilson band."""
    n, budget = len(result.ensemble.replicas), result.times.budget
    for k in range(result.tensor.rank):
        times = np.sort(result.times.of(str(k + 1)))
        grid = np.unique(np.concatenate([[1.0], times[np.isfinite(times)], [budget]]))
        shares = [Share(int(hits), n) for hits in np.searchsorted(times, grid, side="right")]
        low, high = np.array([share.interval for share in shares]).T
        colour = COLOURS[k % len(COLOURS)]
        axes.fill_between(grid, low, high, step="post", color=colour, alpha=0.2, lw=0)
        label = rf"spike {k + 1}, $\lambda$ = {result.tensor.snr[k]:g}"
        axes.step(grid, [share.value for share in shares], where="post", color=colour, lw=1.8, label=label)
    finite = result.times.times[np.isfinite(result.times.times)]
    first = max(float(finite.min()) / 2, 1) if finite.size else 1.0
    axes.set(xscale="log", xlim=(min(first, budget / 2), budget), ylim=(0, 1.03), xlabel="samples (tensors)")
    axes.set(ylabel="share of runs, 95 % band", title="spikes recovered")
    axes.legend(frameon=False, loc="lower right", fontsize=8)


def _draw_bars(axes: Axes, result: TensorResult) -> None:
    """Probabilities with their 95 % intervals: what a run ends in, and how often its order was foretold."""
    rows = {f"ends {name}": (share, "#0072B2") for name, share in result.outcomes.items()}
    for name, foretold in (("start", result.foretold), (r"$\lambda$ alone", result.by_strength)):
        rows[f"order from {name}"] = (result.score(foretold, False), "#D55E00")
        rows[f"first from {name}"] = (result.score(foretold, True), "#E69F00")
    for y, (share, colour) in enumerate(rows.values()):
        if share.runs:
            low, high = share.interval
            axes.barh(y, share.value, color=colour, alpha=0.75)
            axes.plot([low, high], [y, y], color="black", lw=1.6, solid_capstyle="butt")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="probability, 95 % interval", title="what was recovered, what foretold")
