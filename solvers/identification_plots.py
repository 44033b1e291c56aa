"""Figures of recovered hierarchies: scores against samples, graphs, and regions of the digits. Computes no theory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from solvers.digit_blocks import NAMES, SIDE, DigitBlocks
from solvers.identification import Recovered
from solvers.identification_study import RANKS, IdentificationResult
from solvers.leaf_table import sampled
from solvers.plots import FURTHER, GREY

STYLES = (("#0072B2", "o-"), ("#D55E00", "s--"), ("#009E73", "^-."))
OBSERVED, LATENT = "#56B4E9", "#E69F00"
SHOWN = ("f1", "edges right: $F_1$ score"), ("distance", "edges wrong: structural Hamming distance")


def plot_study(result: IdentificationResult) -> Figure:
    """One random graph, truth and recovered at each n; below, F1 and Hamming distance of all graphs with 95 % bands."""
    study = result.study
    figure = Figure(figsize=(12.5, 7.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    upper, lower = parts
    _draw_example(upper, result)
    left, right = lower.subplots(1, 2)
    for axes, (what, label) in zip((left, right), SHOWN, strict=True):
        for method, (colour, line) in zip(result.methods, STYLES, strict=False):
            mean, low, high = result.mean(method, what)
            axes.semilogx(study.samples, mean, line, color=colour, lw=2, label=method)
            axes.fill_between(study.samples, low, high, color=colour, alpha=0.18, lw=0)
        axes.set(xlabel="samples $n$", ylabel=label)
        axes.set_ylim(0, 1.02 if what == "f1" else None)
        axes.grid(alpha=0.25)
    left.legend(frameon=False, loc="lower right")
    what = "latent trees" if study.kind.name == "tree" else "multi-level graphs with mixed children"
    figure.suptitle(
        f"{len(result.scores)} random {what}, {study.leaves} leaves, {study.states} states; rank tests at family-wise level "
        f"{study.level:g}; bands: 95 % for the mean", fontsize=11,
    )  # fmt: skip
    return figure


def _draw_example(figure: Any, result: IdentificationResult) -> None:
    """The first graph, and what at most three of the sample sizes recover of it."""
    study = result.study
    hierarchy, states = study.drawn(0)
    chosen = sorted({0, (len(study.samples) - 1) // 2, len(study.samples) - 1})
    panels = figure.subplots(1, len(chosen) + 1, squeeze=False)[0]
    order = draw_graph(panels[0], study.kind.truth(hierarchy), hierarchy.leaves)
    panels[0].set_title("a true graph", fontsize=10)
    for axes, k in zip(panels[1:], chosen, strict=True):
        found = study.kind.identify(sampled(hierarchy.leaves, states[: study.samples[k]]), study.level)
        draw_graph(axes, found.graph, hierarchy.leaves, order)
        at = result.scores[0][k][RANKS]
        axes.set_title(f"recovered, $n$ = {study.samples[k]}: $F_1$ = {at.f1:.2f}", fontsize=10)


def plot_recovered(found: Recovered, title: str) -> Figure:
    """One recovered graph."""
    figure = Figure(figsize=(max(5.0, 0.7 * len(found.leaves)), 4), layout="constrained")
    axes = figure.subplots()
    draw_graph(axes, found.graph, found.leaves)
    notes = f"{len(found.undetermined)} undecided, {len(found.misfits)} misfits"
    axes.set_title(f"{title}: {len(found.latents)} latents; {notes}", fontsize=10)
    return figure


def draw_graph(axes: Axes, graph: Any, leaves: Sequence[str], order: Sequence[str] = ()) -> list[str]:
    """Latents above their children; an undirected tree hangs from its centre and its lines carry no arrows.

    Leaves stand from left to right in the given ``order``, or one that suits the graph; it is returned.
    """
    import networkx as nx

    rooted = graph if graph.is_directed() else nx.bfs_tree(graph, min(set(nx.center(graph)) - set(leaves)))
    roots = [n for n in rooted if not rooted.in_degree(n)]
    order = order or list(dict.fromkeys(n for r in roots for n in nx.dfs_preorder_nodes(rooted, r) if n in leaves))
    height = _depths(rooted, roots, leaves)
    x = {leaf: float(k) for k, leaf in enumerate(order)}
    for node in reversed(list(nx.topological_sort(rooted))):
        if node not in x:
            x[node] = float(np.mean([x[child] for child in rooted.successors(node)]))
    if graph.is_directed():
        _push_apart(x, height, leaves)
    for a, b in rooted.edges:
        arrow = {"arrowstyle": "-|>" if graph.is_directed() else "-", "color": GREY, "shrinkA": 8, "shrinkB": 8}
        axes.annotate("", (x[b], height[b]), (x[a], height[a]), arrowprops=arrow)
    for node in rooted:
        marker, colour = ("s", OBSERVED) if node in leaves else ("o", LATENT)
        axes.plot(x[node], height[node], marker, color=colour, ms=15, mec="white")
        axes.annotate(str(node)[:8], (x[node], height[node]), ha="center", va="center", fontsize=7)
    axes.set(xlim=(-0.6, len(leaves) - 0.4), ylim=(min(height.values()) - 0.5, max(height.values()) + 0.5))
    axes.axis("off")
    return list(order)


def _depths(rooted: Any, roots: list[str], leaves: Sequence[str]) -> dict[str, float]:
    """Minus the depth in a tree; in a graph with several roots or mixed children the longest way down to a leaf."""
    import networkx as nx

    if len(roots) == 1 and nx.is_arborescence(rooted):
        return {n: -float(d) for n, d in nx.single_source_shortest_path_length(rooted, roots[0]).items()}
    height = dict.fromkeys(leaves, 0.0)
    for node in reversed(list(nx.topological_sort(rooted))):
        if node not in height:
            height[node] = 1 + max(height[child] for child in rooted.successors(node))
    return height


def _push_apart(x: dict[str, float], height: dict[str, float], leaves: Sequence[str]) -> None:
    """Latents of one level at least one leaf apart, around the same middle."""
    for level in {height[n] for n in x if n not in leaves}:
        row = sorted((n for n in x if n not in leaves and height[n] == level), key=lambda n: x[n])
        middle = np.mean([x[n] for n in row])
        for left, right in zip(row, row[1:], strict=False):
            x[right] = max(x[right], x[left] + 1)
        shift = middle - np.mean([x[n] for n in row])
        for n in row:
            x[n] += float(shift)


def plot_digits(blocks: DigitBlocks) -> Figure:
    """The least refuted hierarchy, and its coarsest regions on the image at three cuts."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left, right = parts
    axes = left.subplots()
    dendrogram(blocks.tree, labels=list(NAMES), ax=axes, color_threshold=0, above_threshold_color=STYLES[0][0])
    axes.set_ylabel("share of quartets that pair otherwise")
    axes.tick_params(axis="x", labelrotation=90, labelsize=9)
    gone, quartets = blocks.refuted
    check = blocks.contiguity(blocks.tree)
    axes.set_title(
        f"least refuted hierarchy of 16 blocks of the digits ({gone} of {quartets} quartets\nrefute two-state trees at level "
        f"{blocks.level:g}); {check.share:.0%} of the regions connected, null {check.null:.0%}, p = {check.p_value:.2g}",
        fontsize=9,
    )  # fmt: skip
    palette = [*(colour for colour, _ in STYLES), *FURTHER[:3], "#F0E442", "#999999"]
    for panel, count in zip(right.subplots(1, 3), (2, 4, 8), strict=True):
        for v, part in enumerate(_cut(blocks, count)):
            row, column = divmod(v, SIDE)
            panel.add_patch(_square(column, row, palette[part]))
            panel.annotate(NAMES[v], (column + 0.5, row + 0.5), ha="center", va="center", fontsize=7)
        panel.set(xlim=(0, SIDE), ylim=(SIDE, 0), aspect="equal", title=f"{count} regions")
        panel.axis("off")
    return figure


def _cut(blocks: DigitBlocks, parts: int) -> list[int]:
    """Colours of the blocks when the hierarchy is cut into so many regions."""
    from scipy.cluster.hierarchy import cut_tree

    return [int(part) for part in cut_tree(blocks.tree, n_clusters=parts).ravel()]


def _square(x: float, y: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", lw=2, alpha=0.75)
